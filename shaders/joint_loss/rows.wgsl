// Loss of predicted joints with the gradient in the same pass. Token first + j of a sample predicts joint j by 3 numbers, (x, y, stop).
//   coordinate = ½ Σ_axis (x − t)², or with HUBER ½ Σ_axis h(x − t), h(d) = ½ d² for |d| ≤ δ, else δ (|d| − ½ δ)
//   stop = max(z, 0) − z s + ln(1 + exp(−|z|)), s = 1 at the last valid joint, else 0 (Bishop 2006, eq. 4.90, from logits)
//   loss = coordinate + w · stop, without STOP coordinate;  distance = ‖(x − t) ⊙ deviation‖, in the unit of the data;
//   right = 1 where σ(z) > ½ as s says
// stop is ln(1 + exp z) − z s, written so that nothing overflows. The gradient follows from (ln(1 + exp z))' = σ(z), and from h' being d
// held within ±δ (Huber 1964).
//   by x of an axis: x − t, or with HUBER ½ clamp(x − t, −δ, δ);  by z: w (σ(z) − s) (Bishop 2006, eq. 4.91), σ(z) − 1 = −σ(−z)
//   dx = scale / count · ∂loss/∂x, 0 for joints that are masked and for other tokens
// x and dx are (batch, length, 3), t is (batch, joints, 2), and deviation is (2). mask is (batch, joints), with the valid joints first. y
// is (batch · joints, cols). Its columns are loss, coordinate and distance, and with STOP also stop and right.
// state.rows is the number of rows of y that count, and state.count that of the valid joints among them. state.scale is a factor of the
// gradient.
// One invocation computes one token. All outputs are overwritten. Rows that do not count are 0.
// uses: common/grid, common/math, common/state
const WG: u32 = 64u;
const GRADIENT: u32 = 1u;
const HUBER: u32 = 1u;
const STOP: u32 = 1u;

struct Params { batch: u32, length: u32, joints: u32, first: u32, cols: u32, delta: f32, weight: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (batch, length, 3)
@group(0) @binding(2) var<storage, read> t: array<f32>;         // (batch, joints, 2)
@group(0) @binding(3) var<storage, read> mask: array<f32>;      // (batch, joints)
@group(0) @binding(4) var<storage, read> deviation: array<f32>; // (2)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;   // (batch · joints, cols)
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;  // (batch, length, 3)

fn penalty(d: f32) -> f32 {
    if (HUBER == 1u && abs(d) > p.delta) {
        return 0.5 * p.delta * (abs(d) - 0.5 * p.delta);
    }
    return select(0.5, 0.25, HUBER == 1u) * d * d;
}

fn slope(d: f32) -> f32 {
    return select(d, 0.5 * clamp(d, -p.delta, p.delta), HUBER == 1u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let token = flat_group(group, groups) * WG + local;
    if (token >= p.batch * p.length) {
        return;
    }
    let b = token / p.length;
    let j = token % p.length - p.first;
    let predicts = token % p.length >= p.first && j < p.joints;
    let row = b * p.joints + select(0u, j, predicts);
    let valid = predicts && row < state.rows && mask[row] > 0.5;
    let last = valid && (j + 1u == p.joints || mask[min(row + 1u, p.batch * p.joints - 1u)] < 0.5);
    let z = x[token * 3u + 2u];
    let target_stop = select(0.0, 1.0, last);
    let a = x[token * 3u] - t[row * 2u];
    let c = x[token * 3u + 1u] - t[row * 2u + 1u];
    if (predicts) {
        let coordinate = penalty(a) + penalty(c);
        let da = a * deviation[0];
        let dc = c * deviation[1];
        let counted = select(0.0, 1.0, valid);
        let at = row * p.cols;
        y[at] = counted * coordinate;
        y[at + 1u] = counted * coordinate;
        y[at + 2u] = counted * sqrt(da * da + dc * dc);
        if (STOP > 0u) {
            let e = exp_accurate(-abs(z));
            // ln(1 + e), which loses its digits for a small e unless the rounding of 1 + e is made good.
            let u = 1.0 + e;
            let softplus = select(log_accurate(u) * (e / (u - 1.0)), e, u == 1.0);
            let stop = max(z, 0.0) - z * target_stop + softplus;
            y[at] = counted * (coordinate + p.weight * stop);
            y[at + 3u] = counted * stop;
            y[at + 4u] = select(0.0, counted, (z > 0.0) == last);
        }
    }
    if (GRADIENT == 1u) {
        let factor = select(0.0, state.scale / f32(state.count), valid);
        dx[token * 3u] = factor * slope(a);
        dx[token * 3u + 1u] = factor * slope(c);
        dx[token * 3u + 2u] = factor * p.weight * select(sigmoid(z), -sigmoid(-z), last);
    }
}
