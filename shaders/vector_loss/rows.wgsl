// Losses of predicted vectors that are sums over rows, with the gradient in the same pass. The vectors are p = x / ‖x‖, t̂ = t / ‖t‖ and
// ĉ = c / ‖c‖, and norms are at least 1e-12.
//   cos = p · t̂;  mse = Σ (x − t)² / C (MSE 1), or Σ (p − t)² / C (MSE 2);  cosine = 1 − cos;  cycle = 1 − p · ĉ
//   loss = w_mse mse + w_cosine cosine + w_cycle cycle;  dx = scale / n · ∂loss/∂x for the n rows that count, 0 for the rest
// The gradient by p is d. c, the nearest row of the data, is bound as `nearest` and gets none.
//   d = w_mse · 2 (p − t) / C (MSE 2) − w_cosine t̂ − w_cycle ĉ
// ‖x‖ has the gradient p, so ∂p_i/∂x_j = (δ_ij − p_i p_j) / ‖x‖ takes the part along p off d (as in normalize/backward). The gradient of
// the squared error of x itself is added.
//   ∂loss/∂x = (d − p (p · d)) / ‖x‖ + w_mse · 2 (x − t) / C (MSE 1)
// x, t, c and dx are (rows, C). y is (rows, cols), with loss, cos, and each term in its column.
// state.rows is the number of rows that count, and state.scale is a factor of the gradient. state.drawn is 1 where the batch takes part in
// the cycle term, else 0.
// LANES invocations share a row. dx is overwritten, and so are columns 0 and 1 of y and those of the terms.
// uses: common/grid, common/norm, common/reduce, common/state
const GRADIENT: u32 = 1u;
const MSE: u32 = 1u;
const COSINE: u32 = 1u;
const CYCLE: u32 = 1u;

struct Params { rows: u32, width: u32, cols: u32, mse: f32, mse_column: u32, cosine: f32, cosine_column: u32, cycle: f32, cycle_column: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, C)
@group(0) @binding(2) var<storage, read> t: array<f32>;        // (rows, C)
@group(0) @binding(3) var<storage, read> nearest: array<f32>;  // (rows, C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (rows, cols)
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // (rows, C)

// Element e of c, the nearest vectors, or 0 without them.
fn nearest_at(e: u32) -> f32 {
    if (CYCLE == 1u) {
        return nearest[e];
    }
    return 0.0;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    let start = safe * p.width;
    // All sums are taken in blocks, so that the rounding errors of a long row do not add up: of x², t², x t and (x − t)², of c² and x c.
    var sums = vec4<f32>(0.0);
    var sums_c = vec2<f32>(0.0);
    for (var block = lane; block < p.width; block += LANES * 32u) {
        var part = vec4<f32>(0.0);
        var part_c = vec2<f32>(0.0);
        for (var c = block; c < min(block + LANES * 32u, p.width); c += LANES) {
            let a = x[start + c];
            let b = t[start + c];
            part = fma(vec4<f32>(a, b, a, a - b), vec4<f32>(a, b, b, a - b), part);
            if (CYCLE == 1u) {
                let n = nearest_at(start + c);
                part_c = fma(vec2<f32>(n, a), vec2<f32>(n), part_c);
            }
        }
        sums += part;
        sums_c += part_c;
    }
    let norm = norm_of(row_sum(sums.x, local));
    let norm_t = norm_of(row_sum(sums.y, local));
    let cos = row_sum(sums.z, local) / norm / norm_t;
    var error = row_sum(sums.w, local);
    var cos_c = 0.0;
    var norm_c = 1.0;
    if (CYCLE == 1u) {
        norm_c = norm_of(row_sum(sums_c.x, local));
        cos_c = row_sum(sums_c.y, local) / norm / norm_c;
    }
    let valid = min(p.rows, state.rows);
    let factor = state.scale / f32(valid);
    let cycle = p.cycle * select(0.0, 1.0, state.drawn > 0.0);
    // Gradient by p without its part along p, which normalisation removes; that of the raw error goes to x directly.
    let pull_t = p.cosine / norm_t;
    let pull_c = cycle / norm_c;
    let push = select(0.0, p.mse, MSE == 2u) * 2.0 / f32(p.width);
    var along = 0.0;
    var square = 0.0;
    for (var block = lane; block < p.width; block += LANES * 32u) {
        var part_along = 0.0;
        var part_square = 0.0;
        for (var c = block; c < min(block + LANES * 32u, p.width); c += LANES) {
            let a = x[start + c] / norm;
            let b = t[start + c];
            part_square = fma(a - b, a - b, part_square);
            let d = -pull_t * b + push * (a - b) - pull_c * nearest_at(start + c);
            part_along = fma(a, d, part_along);
        }
        along += part_along;
        square += part_square;
    }
    if (MSE == 2u) {
        error = row_sum(square, local);
    }
    along = row_sum(along, local);
    if (row >= p.rows) {
        return;
    }
    if (lane == 0u) {
        let at = row * p.cols;
        var loss = 0.0;
        if (MSE > 0u) {
            y[at + p.mse_column] = error / f32(p.width);
            loss += p.mse * error / f32(p.width);
        }
        if (COSINE > 0u) {
            y[at + p.cosine_column] = 1.0 - cos;
            loss += p.cosine * (1.0 - cos);
        }
        if (CYCLE > 0u) {
            let part = select(0.0, 1.0 - cos_c, state.drawn > 0.0);
            y[at + p.cycle_column] = part;
            loss += p.cycle * part;
        }
        y[at] = loss;
        y[at + 1u] = cos;
    }
    if (GRADIENT == 1u) {
        for (var c = lane; c < p.width; c += LANES) {
            let a = x[start + c] / norm;
            let b = t[start + c];
            var d = -pull_t * b + push * (a - b) - pull_c * nearest_at(start + c);
            d = fma(-a, along, d) / norm;
            d += select(0.0, p.mse, MSE == 1u) * 2.0 / f32(p.width) * (x[start + c] - b);
            dx[start + c] = select(0.0, factor * d, row < valid);
        }
    }
}
