//! Y = f(A·B), element by element.

use super::Call;
use crate::harness::scalar::{Scalar, erf};
use crate::kernels::State;
use crate::plan::Entry;
use crate::random::keep;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "block" | "tile" | "thin" | "lanes" | "lanes_odd" | "register" => forward(call),
        _ => return false,
    }
    true
}

/// Activation by the number of its kind in `shaders/common/activation.wgsl`.
pub fn activate<S: Scalar>(kind: u32, x: S) -> S {
    let half = S::constant(0.5);
    let one = S::constant(1.0);
    match kind {
        1 => x.relu(),
        2 => half * x * (one + (x * S::constant(std::f64::consts::FRAC_1_SQRT_2)).erf()),
        3 => {
            let u = S::constant((2.0 / std::f64::consts::PI).sqrt()) * (x + S::constant(0.044715) * x * x * x);
            half * x * (one + u.tanh())
        }
        4 if x.value() > 0.0 => one / (one + (-x).exp()),
        4 => x.exp() / (one + x.exp()),
        5 => x * activate(4, x),
        6 => x.tanh(),
        _ => x,
    }
}

/// Derivative of the activation at a plain value, by its closed form. It comes as terms, which may cancel, so that a product with it has
/// the magnitude that rounding errors scale with.
fn derivative(kind: u32, x: f64) -> [f64; 3] {
    let pdf = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    match kind {
        1 => [f64::from(u8::from(x > 0.0)), 0.0, 0.0],
        2 => [0.5, 0.5 * erf(x * std::f64::consts::FRAC_1_SQRT_2), x * pdf],
        3 => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let t = (c * (x + 0.044715 * x * x * x)).tanh();
            [0.5, 0.5 * t, 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)]
        }
        4 => [1.0 / ((1.0 + x.exp()) * (1.0 + (-x).exp())), 0.0, 0.0],
        5 => [1.0 / (1.0 + (-x).exp()), x / ((1.0 + x.exp()) * (1.0 + (-x).exp())), 0.0],
        6 => [1.0 / x.cosh().powi(2), 0.0, 0.0],
        _ => [1.0, 0.0, 0.0],
    }
}

/// What becomes of the sum of column j at element `at` of Y: the value before the activation, and after all. `given` looks up an element of
/// `bias`, `z`, `residual` or the old `y`, where they are bound.
pub fn epilogue<S: Scalar>(
    e: &Entry,
    state: State,
    sum: S,
    j: usize,
    at: usize,
    given: &dyn Fn(&'static str, usize) -> Option<S>,
) -> (S, S) {
    let sum = if e.constant("SCALED") == 1 { sum * S::constant(e.scalar("rate")) } else { sum };
    let before = given("bias", if e.constant("BIAS") == 2 { at } else { j }).map_or(sum, |bias| sum + bias);
    let mut v = activate(e.constant("ACTIVATION"), before);
    if e.constant("DROPOUT") == 1 {
        let kept = keep(state.seed, e.size("stream") as u32, state.tick, at as u32, e.scalar("rate") as f32);
        v = v * S::constant(kept.into());
    }
    if let Some(z) = given("z", at) {
        let terms = derivative(e.constant("DERIVATIVE"), z.value()).map(|term| v * S::constant(term));
        v = terms[0] + terms[1] + terms[2];
    }
    if let Some(residual) = given("residual", at) {
        v = v + residual;
    }
    if e.constant("ACCUMULATE") == 1 && accumulates(e, state) {
        v = v + given("y", at).expect("a value to add to");
    }
    (before, v)
}

/// Whether a sum has terms of this step already.
fn accumulates(e: &Entry, state: State) -> bool {
    match e.constant("OVERWRITE") {
        0 => true,
        1 => state.micro_step > 0,
        _ => false,
    }
}

/// Element of y that the product starts at.
pub fn first_of_y(e: &Entry) -> usize {
    if e.constant("PART") == 1 { e.size("stream") } else { 0 }
}

/// The product with its whole epilogue.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [a_at, b_at] = ["a_at", "b_at"].map(|name| e.size(name));
    let y_at = first_of_y(e);
    let (m, n, k, batch) = (e.size("m"), e.size("n"), e.size("k"), e.size("batch"));
    let (a, b) = (call.floats("a"), call.floats("b"));
    let (bias, z, residual, old) = (call.maybe("bias"), call.maybe("z"), call.maybe("residual"), call.maybe("y"));
    let old_sum = call.maybe("row_sum");
    // Of a longer tensor other parts may be there already.
    let mut y = old.clone().unwrap_or_else(|| vec![S::constant(0.0); call.output_len("y")]);
    let mut pre = call.maybe("pre").unwrap_or_else(|| vec![S::constant(0.0); call.output_len("pre")]);
    let mut row_sum = match accumulates(e, call.state()) {
        true => old_sum.unwrap_or_default(),
        false => vec![S::constant(0.0); m * e.constant("ROW_SUM") as usize],
    };
    for g in 0..batch {
        let row = |i: usize| -> Vec<S> {
            (0..k).map(|j| a[a_at + g * m * k + if e.constant("TRANS_A") == 1 { j * m + i } else { i * k + j }]).collect()
        };
        let columns: Vec<Vec<S>> = (0..n)
            .map(|i| (0..k).map(|j| b[b_at + g * k * n + if e.constant("TRANS_B") == 1 { i * k + j } else { j * n + i }]).collect())
            .collect();
        for i in 0..m {
            let row = row(i);
            for (j, column) in columns.iter().enumerate() {
                let at = (g * m + i) * n + j;
                let (before, v) = epilogue(e, call.state(), S::dot(&row, column), j, at, &|name, i| match name {
                    "bias" => bias.as_ref().map(|v| v[i]),
                    "z" => z.as_ref().map(|v| v[y_at + i]),
                    "residual" => residual.as_ref().map(|v| v[y_at + i]),
                    _ => old.as_ref().map(|v| v[y_at + i]),
                });
                if let Some(kept) = pre.get_mut(y_at + at) {
                    *kept = before;
                }
                y[y_at + at] = v;
            }
            if let Some(sum) = row_sum.get_mut(i) {
                *sum = *sum + S::sum(&row);
            }
        }
    }
    call.set("y", y);
    call.set("pre", pre);
    call.set("row_sum", row_sum);
}
