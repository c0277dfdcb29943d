// One step of the optimiser over all weights, after clipping by the global norm (Pascanu et al. 2013, algorithm 1). RULE chooses the
// optimiser. RULE 0 is Adam (Kingma & Ba 2015, algorithm 1). RULE 1 is AdamW (Loshchilov & Hutter 2019, algorithm 2), whose η λ is
// lr · decay here. RULE 2 is stochastic gradient descent with momentum β₁ (Sutskever et al. 2013, as in torch.optim.SGD).
//   norm = √Σ partials, c = min(1, max_norm / (norm + 1e-6)), g ← c · g   (max_norm 0: c = 1);  BY_VALUE: g ← min(max(g, −limit), limit)
//   AdamW: w ← w · (1 − lr · decay);   Adam, SGD: g ← g + decay · w
//   m ← m + (1 − β₁)(g − m);  v ← β₂ v + (1 − β₂) g²;  w ← w − lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)
//   SGD: m ← β₁ m + g;  w ← w − lr · m, and v stays
// With SCALED, the gradient is records[slot, SCALE_AT] times too large (loss_scale/apply), and is divided by that first. With BY_VALUE,
// each number of the gradient is also held within ±limit. With BY_BLOCK, each block of 64 weights, which are of one tensor, has the decay
// of all times decays of the block.
// t is the number of updates of the moments, this one included. It is one more than that of the record before, and
// records[slot, UPDATES_AT] = t. A norm or a loss (records[slot, SUMS_AT]) that is not finite leaves w, m, v and t as they are.
// w, dw, m and v are (n) as vectors of 4, where n is a multiple of 4. partials is (at least G), records is (slots, RECORD), and decays is
// (n / 64).
// One invocation updates EACH vectors. w, m and v are updated in place, and so are norm, skipped and updates of the record. With BEFORE,
// what w, m and v hold before the launch is read from bindings of their own, so that a driver may have it in another form.
// uses: common/grid, common/math, common/record, common/state
const WG: u32 = 64u;
const RULE: u32 = 1u;
const BY_VALUE: u32 = 0u;
const BY_BLOCK: u32 = 0u;
const SCALED: u32 = 0u;
const EIGHT: u32 = 0u; // p.partials is 8.
const EACH: u32 = 1u; // Vectors of an invocation.
const BEFORE: u32 = 0u; // w, m and v are read by w_before, m_before and v_before.

struct Params { n: u32, partials: u32, beta1: f32, beta2: f32, eps: f32, decay: f32, keep1: f32, keep2: f32, limit: f32, slots: u32, log1: f32, log2: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> partials: array<f32>;       // (G)
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>;  // (n)
@group(0) @binding(3) var<storage, read> dw: array<vec4<f32>>;       // (n)
@group(0) @binding(4) var<storage, read_write> m: array<vec4<f32>>;  // (n)
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>;  // (n)
@group(0) @binding(6) var<storage, read_write> records: array<f32>;  // (slots, RECORD)
@group(0) @binding(7) var<storage, read> decays: array<f32>;         // (n / 64)
@group(0) @binding(8) var<storage, read> w_before: array<vec4<f32>>; // (n)
@group(0) @binding(9) var<storage, read> m_before: array<vec4<f32>>; // (n)
@group(0) @binding(10) var<storage, read> v_before: array<vec4<f32>>; // (n)

// Looks at the bits, as a compiler may assume that floats are finite.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

// 1 − exp(x) for x ≤ 0, exact to rounding. Near 0 it is taken from its series up to x⁸.
fn complement_exp(x: f32) -> f32 {
    let series = 1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.008333334 + x * (0.0013888889 + x * (1.9841270e-4 + x * 2.4801588e-5))))));
    return select(1.0 - exp_accurate(x), -x * series, x > -0.5);
}

// 1 / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ)
fn corrections(t: f32) -> vec2<f32> {
    return vec2<f32>(1.0 / complement_exp(t * p.log1), 1.0 / sqrt(complement_exp(t * p.log2)));
}

fn update(i: u32, rate: f32, clip: f32, correction: vec2<f32>) {
    if (i * 4u >= p.n) {
        return;
    }
    var weight: vec4<f32>;
    var m0: vec4<f32>;
    var v0: vec4<f32>;
    if (BEFORE == 1u) {
        weight = w_before[i];
        m0 = m_before[i];
        v0 = v_before[i];
    } else {
        weight = w[i];
        m0 = m[i];
        v0 = v[i];
    }
    var g = dw[i] * clip;
    if (BY_VALUE == 1u) {
        g = clamp(g, vec4<f32>(-p.limit), vec4<f32>(p.limit));
    }
    var decay = p.decay;
    if (BY_BLOCK == 1u) {
        decay *= decays[i / 16u];
    }
    if (RULE == 1u) {
        weight -= rate * decay * weight;
    } else {
        g += decay * weight;
    }
    if (RULE == 2u) {
        let velocity = p.beta1 * m0 + g;
        m[i] = velocity;
        w[i] = weight - rate * velocity;
        return;
    }
    let m1 = p.beta1 * m0 + p.keep1 * g;
    let v1 = p.beta2 * v0 + p.keep2 * (g * g);
    m[i] = m1;
    v[i] = v1;
    w[i] = weight - rate * correction.x * m1 / (sqrt(v1) * correction.y + p.eps);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    // At most 128 sums: adding them up everywhere costs less than a dispatch. Outside loops and branches a software driver loads once what
    // is the same for all invocations.
    var sum = 0.0;
    if (EIGHT == 1u) {
        sum = partials[0] + partials[1] + partials[2] + partials[3] + partials[4] + partials[5] + partials[6] + partials[7];
    } else {
        for (var j = 0u; j < p.partials; j++) {
            sum += partials[j];
        }
    }
    let rate = state.learning_rate;
    let start = state.slot * RECORD;
    var share = 1.0;
    if (SCALED == 1u) {
        share = 1.0 / records[start + SCALE_AT];
    }
    let norm = sqrt(sum) * share;
    let fine = is_finite(norm) && is_finite(records[start + SUMS_AT]);
    let updates = records[(state.slot + p.slots - 1u) % p.slots * RECORD + UPDATES_AT];
    let first = flat_group(group, groups) * WG * EACH + local;
    if (first == 0u) {
        records[start + NORM_AT] = norm;
        records[start + SKIPPED_AT] = select(1.0, 0.0, fine);
        records[start + UPDATES_AT] = select(updates, updates + 1.0, fine);
    }
    if (!fine) {
        return;
    }
    var clip = share;
    if (state.max_norm > 0.0) {
        clip = share * min(1.0, state.max_norm / (norm + 1e-6));
    }
    let correction = corrections(updates + 1.0);
    if (EACH == 1u) {
        update(first, rate, clip, correction);
    } else {
        for (var k = 0u; k < EACH; k++) {
            update(first + k * WG, rate, clip, correction);
        }
    }
}
