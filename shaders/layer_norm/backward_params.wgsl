// Gradients of layer normalisation by its weights. Every row has y = x̂ ⊙ w + b (Ba et al. 2016, eq. 4) with the same w and b. So
// ∂y/∂w = x̂ and ∂y/∂b = 1 add up over the rows.
//   dw = Σ_rows dy ⊙ x̂;  db = Σ_rows dy
// Without CENTER it is RMS normalisation (Zhang & Sennrich 2019, eq. 4). Then x̂ = x · rstd, and there is no db.
// The rows first … end − 1 are summed. x and dy are (rows, cols), stats is (rows, 2), and dw and db are (cols).
// A workgroup computes COLS · FEATURES columns. The WG / COLS invocations of FEATURES columns stride over the rows, and their sums are
// added in a fixed order. dw and db are added to (common/sum).
// uses: common/features_4 | common/features_1, common/grid, common/columns, common/state, common/sum
const CENTER: u32 = 1u;
alias Sum = Pair;

struct Params { first: u32, end: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<Features>;   // (rows, cols)
@group(0) @binding(1) var<storage, read> stats: array<f32>;    // (rows, 2)
@group(0) @binding(2) var<storage, read> dy: array<Features>;  // (rows, cols)
@group(0) @binding(3) var<storage, read_write> dw: array<Features>; // (cols)
@group(0) @binding(4) var<storage, read_write> db: array<Features>; // (cols)
@group(0) @binding(5) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col = flat_group(group, groups) * COLS + local % COLS;
    let steps = p.cols / FEATURES;
    let safe = min(col, steps - 1u);
    var total = Pair();
    for (var row = p.first + local / COLS; row < p.end; row += WG / COLS) {
        let start = row * steps;
        let g = dy[start + safe];
        var pivot = 0.0;
        if (CENTER == 1u) {
            pivot = first_of(x[start]);
        }
        let hat = ((x[start + safe] - pivot) - stats[row * 2u]) * stats[row * 2u + 1u];
        total += Pair(g * hat, g);
    }
    total = column_sum(total, local);
    if (local < COLS && col < steps) {
        if (accumulates()) {
            total[0] += dw[col];
            if (CENTER == 1u) {
                total[1] += db[col];
            }
        }
        dw[col] = total[0];
        if (CENTER == 1u) {
            db[col] = total[1];
        }
    }
}
