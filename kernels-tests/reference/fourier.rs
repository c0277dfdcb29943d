//! Sines and cosines of phases, reduced exactly in f64.

use std::f64::consts::PI;

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "features" => features(call),
        _ => return false,
    }
    true
}

/// Features of points, which carry no gradient.
pub fn features<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (kind, count) = (e.constant("KIND"), e.size("count"));
    let (x, b) = (call.floats("x"), call.maybe("b"));
    let mut y = Vec::new();
    for point in x.chunks(2) {
        let (v, w) = (point[0].value(), point[1].value());
        // An f32 times a power of two, and the remainder by 2, are exact in f64.
        let turn = |half_turns: f64| PI * (half_turns % 2.0);
        let phases = |v: f64| -> Vec<f64> {
            match kind {
                1 => (0..count).map(|k| turn(v * 2f64.powi(k as i32))).collect(),
                2 => (1..=count).map(|k| turn(v * k as f64)).collect(),
                _ => (1..=count).map(|k| v * k as f64).collect(),
            }
        };
        let blocks = match &b {
            Some(b) => vec![(0..count).map(|k| turn(2.0 * (v * b[k].value() + w * b[count + k].value()))).collect()],
            None => vec![phases(v), phases(w)],
        };
        for block in blocks {
            y.extend(block.iter().map(|a| S::constant(a.sin())));
            y.extend(block.iter().map(|a| S::constant(a.cos())));
        }
    }
    call.set("y", y);
}
