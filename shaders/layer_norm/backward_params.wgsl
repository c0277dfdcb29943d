// Gradients of layer normalisation by its weights. Every row has y = x̂ ⊙ w + b (Ba et al. 2016, eq. 4) with the same w and b. So
// ∂y/∂w = x̂ and ∂y/∂b = 1 add up over the rows.
//   dw = Σ_rows dy ⊙ x̂;  db = Σ_rows dy
// Without CENTER it is RMS normalisation (Zhang & Sennrich 2019, eq. 4). Then x̂ = x · rstd, and there is no db.
// The rows first … end − 1 are summed. x and dy are (rows, cols), stats is (rows, 2), and dw and db are (cols).
// A workgroup computes COLS columns. The WG / COLS invocations of a column stride over the rows, and their sums are added in a fixed order.
// dw and db are added to (common/sum).
// uses: common/grid, common/columns, common/state, common/sum
const CENTER: u32 = 1u;
alias Sum = vec2<f32>;

struct Params { first: u32, end: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (rows, cols)
@group(0) @binding(1) var<storage, read> stats: array<f32>;    // (rows, 2)
@group(0) @binding(2) var<storage, read> dy: array<f32>;       // (rows, cols)
@group(0) @binding(3) var<storage, read_write> dw: array<f32>; // (cols)
@group(0) @binding(4) var<storage, read_write> db: array<f32>; // (cols)
@group(0) @binding(5) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col = flat_group(group, groups) * COLS + local % COLS;
    let safe = min(col, p.cols - 1u);
    var sum = vec2<f32>(0.0);
    for (var row = p.first + local / COLS; row < p.end; row += WG / COLS) {
        let start = row * p.cols;
        let g = dy[start + safe];
        var pivot = 0.0;
        if (CENTER == 1u) {
            pivot = x[start];
        }
        let hat = ((x[start + safe] - pivot) - stats[row * 2u]) * stats[row * 2u + 1u];
        sum += vec2<f32>(g * hat, g);
    }
    sum = column_sum(sum, local);
    if (local < COLS && col < p.cols) {
        if (accumulates()) {
            sum.x += dw[col];
            if (CENTER == 1u) {
                sum.y += db[col];
            }
        }
        dw[col] = sum.x;
        if (CENTER == 1u) {
            db[col] = sum.y;
        }
    }
}
