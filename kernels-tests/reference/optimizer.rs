//! One step of Adam, AdamW or SGD with momentum.

use super::Call;
use crate::harness::scalar::Scalar;
use crate::kernels::metrics::{NORM, RECORD, SCALE, SKIPPED, SUMS, UPDATES};

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "update" => update(call),
        _ => return false,
    }
    true
}

/// w, m, v after the step, and the record.
pub fn update<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let state = call.state();
    let [beta1, beta2, keep1, keep2, eps, decay] =
        ["beta1", "beta2", "keep1", "keep2", "eps", "decay"].map(|name| S::constant(e.scalar(name)));
    let lr = S::constant(state.learning_rate.into());
    let mut records = call.floats("records");
    let slots = e.size("slots");
    let updates = records[(state.slot as usize + slots - 1) % slots * RECORD + UPDATES].value();
    let complement = |log: &str| -(e.scalar(log) * (updates + 1.0)).exp_m1();
    let (c1, c2) = (S::constant(1.0 / complement("log1")), S::constant(1.0 / complement("log2").sqrt()));
    let start = state.slot as usize * RECORD;
    let share = if e.constant("SCALED") == 1 { S::constant(1.0) / records[start + SCALE] } else { S::constant(1.0) };
    let norm = S::sum(&call.floats("partials")[..e.size("partials")]).sqrt() * share;
    let fine = norm.value().is_finite() && records[start + SUMS].value().is_finite();
    records[start + NORM] = norm;
    records[start + SKIPPED] = S::constant(f64::from(u8::from(!fine)));
    records[start + UPDATES] = S::constant(updates + f64::from(u8::from(fine)));
    let max_norm = f64::from(state.max_norm);
    let clip = if max_norm > 0.0 { (max_norm / (norm.value() + 1e-6)).min(1.0) } else { 1.0 };
    let (mut w, dw, mut m, mut v) = (call.floats("w"), call.floats("dw"), call.floats("m"), call.floats("v"));
    let decays = call.maybe("decays");
    if fine {
        for i in 0..w.len() {
            let decay = decays.as_ref().map_or(decay, |decays| decay * decays[i / 64]);
            let mut g = dw[i] * share * S::constant(clip);
            let limit = e.scalar("limit");
            if e.constant("BY_VALUE") == 1 && g.value().abs() > limit {
                g = S::constant(limit.copysign(g.value()));
            }
            if e.constant("RULE") == 1 {
                w[i] = w[i] - lr * decay * w[i];
            } else {
                g = g + decay * w[i];
            }
            if e.constant("RULE") == 2 {
                m[i] = beta1 * m[i] + g;
                w[i] = w[i] - lr * m[i];
                continue;
            }
            m[i] = beta1 * m[i] + keep1 * g;
            v[i] = beta2 * v[i] + keep2 * (g * g);
            w[i] = w[i] - lr * c1 * m[i] / (v[i].sqrt() * c2 + eps);
        }
    }
    call.set("w", w);
    call.set("m", m);
    call.set("v", v);
    call.set("records", records);
}
