// Layer normalisation over rows (Ba et al. 2016).
//   x̂ = (x − mean) · rstd, rstd = 1/√(var + eps), y = x̂ ⊙ w + b
// Sums are taken of x − x₀, where x₀ is the first element of the row, so that a large common offset costs no precision. `stats` keeps
// mean − x₀ and rstd.
// Without CENTER it is RMS normalisation (Zhang & Sennrich 2019), y = x / √(mean x² + eps) ⊙ w. Then mean and x₀ are 0, and there is no b.
// x and y are (rows, cols), w and b are (cols), and stats is (rows, 2). LANES invocations share a row, which they read in steps of FEATURES.
// y and stats are overwritten.
// uses: common/features_4 | common/features_1, common/grid, common/reduce
const CENTER: u32 = 1u;

struct Params { rows: u32, cols: u32, eps: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<Features>;      // (rows, cols)
@group(0) @binding(1) var<storage, read> w: array<Features>;      // (cols)
@group(0) @binding(2) var<storage, read> b: array<Features>;      // (cols)
@group(0) @binding(3) var<storage, read_write> y: array<Features>; // (rows, cols)
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;  // (rows, 2)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let steps = p.cols / FEATURES;
    let start = min(row, p.rows - 1u) * steps;
    var pivot = 0.0;
    var offsets = 0.0;
    var mean = 0.0;
    if (CENTER == 1u) {
        pivot = first_of(x[start]);
        for (var c = lane; c < steps; c += LANES) {
            offsets += sum(x[start + c] - pivot);
        }
        mean = row_sum(offsets, local) / f32(p.cols);
    }
    var squares = 0.0;
    for (var c = lane; c < steps; c += LANES) {
        let d = (x[start + c] - pivot) - mean;
        squares += sum(d * d);
    }
    let variance = row_sum(squares, local) / f32(p.cols) + p.eps;
    // Deviations near 2e19 overflow: their results are infinite, and the step is refused, instead of a silent 0.
    let rstd = select(1.0 / sqrt(variance), 3e38, variance > 3.4e38);
    if (row >= p.rows) {
        return;
    }
    for (var c = lane; c < steps; c += LANES) {
        var v = ((x[start + c] - pivot) - mean) * rstd * w[c];
        if (CENTER == 1u) {
            v += b[c];
        }
        y[start + c] = v;
    }
    if (lane == 0u) {
        stats[row * 2u] = mean;
        stats[row * 2u + 1u] = rstd;
    }
}
