// Losses of predicted numbers, a row of C of them at a time, with the gradient in the same pass. PENALTY chooses the loss h of the
// difference d = x − t.
//   PENALTY 0: h(d) = d²;  1: |d|;  2: ½ d² for |d| ≤ δ, else δ (|d| − ½ δ) (Huber 1964)
//   loss = Σ_c h(d_c) / C;  mse = Σ_c d_c² / C;  mae = Σ_c |d_c| / C
//   dx = scale / count · h'(d) / C for rows that count, 0 for the rest
// h'(d) is 2 d, or sign d (0 at 0, a subgradient), or d held within ±δ.
// With MASKED, a row counts where mask is above ½. state.rows is the number of rows that may count, and state.count that of those that do.
// state.scale is a factor of the gradient.
// x, t and dx are (rows, C), and mask is (rows). y is (rows, 3) = loss, mse, mae, 0 in rows that do not count.
// LANES invocations share a row. y and dx are overwritten.
// uses: common/grid, common/reduce, common/state
const PENALTY: u32 = 0u;
const GRADIENT: u32 = 1u;
const MASKED: u32 = 1u;

struct Params { rows: u32, width: u32, delta: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, C)
@group(0) @binding(2) var<storage, read> t: array<f32>;        // (rows, C)
@group(0) @binding(3) var<storage, read> mask: array<f32>;     // (rows)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (rows, 3)
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // (rows, C)

fn slope(d: f32) -> f32 {
    if (PENALTY == 0u) {
        return 2.0 * d;
    }
    if (PENALTY == 1u) {
        return sign(d);
    }
    return clamp(d, -p.delta, p.delta);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    let start = safe * p.width;
    var counts = row < state.rows;
    if (MASKED == 1u) {
        counts = counts && mask[safe] > 0.5;
    }
    // Sums of squares, absolute values and penalties. Blocks keep the rounding errors of a long row from adding up.
    var sums = vec3<f32>(0.0);
    for (var block = lane; block < p.width; block += LANES * 32u) {
        var part = vec3<f32>(0.0);
        for (var c = block; c < min(block + LANES * 32u, p.width); c += LANES) {
            let d = x[start + c] - t[start + c];
            part = fma(vec3<f32>(d, 1.0, 1.0), vec3<f32>(d, abs(d), 0.0), part);
            if (PENALTY == 2u) {
                let within = min(abs(d), p.delta);
                part.z += within * (abs(d) - 0.5 * within);
            }
        }
        sums += part;
    }
    let mse = row_sum(sums.x, local) / f32(p.width);
    let mae = row_sum(sums.y, local) / f32(p.width);
    var loss = mse;
    if (PENALTY == 1u) {
        loss = mae;
    }
    if (PENALTY == 2u) {
        loss = row_sum(sums.z, local) / f32(p.width);
    }
    if (row >= p.rows) {
        return;
    }
    if (lane == 0u) {
        y[row * 3u] = select(0.0, loss, counts);
        y[row * 3u + 1u] = select(0.0, mse, counts);
        y[row * 3u + 2u] = select(0.0, mae, counts);
    }
    if (GRADIENT == 1u) {
        let factor = select(0.0, state.scale / f32(state.count) / f32(p.width), counts);
        for (var c = lane; c < p.width; c += LANES) {
            dx[start + c] = factor * slope(x[start + c] - t[start + c]);
        }
    }
}
