//! x ⊙ keep / (1 − rate).

use super::Call;
use crate::harness::scalar::Scalar;
use crate::random::keep;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "apply" => apply(call),
        _ => return false,
    }
    true
}

/// Each element by its index.
pub fn apply<S: Scalar>(call: &mut Call<'_, S>) {
    let (stream, rate, state) = (call.entry.size("stream") as u32, call.entry.scalar("rate") as f32, call.state());
    let x = call.floats("x");
    let kept = |i: usize| S::constant(keep(state.seed, stream, state.tick, i as u32, rate).into());
    let y = x.iter().enumerate().map(|(i, v)| *v * kept(i)).collect();
    call.set("y", y);
}
