//! The tokens of a mechanism's sequence, one by one.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// Latent, type, start, joints.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, length, cols, joints) = (e.size("batch"), e.size("length"), e.size("cols"), e.size("joints"));
    let (latent, table, sos) = (call.floats("latent"), call.floats("table"), call.floats("sos"));
    let (ids, positions, joint) = (call.ints("ids"), call.floats("positions"), call.floats("joint"));
    let first = call.state().position as usize;
    let mut y = Vec::with_capacity(batch * length * cols);
    for b in 0..batch {
        for t in first..first + length {
            let own = match t {
                0 => &latent[b * cols..],
                1 => &table[ids[b] as usize * cols..],
                2 => &sos[..],
                _ => &joint[(b * joints + (t - 3) % joints) * cols..],
            };
            let position = |c: usize| if t == 0 { S::constant(0.0) } else { positions[(t - 1) * cols + c] };
            y.extend((0..cols).map(|c| own[c] + position(c)));
        }
    }
    call.set("y", y);
}
