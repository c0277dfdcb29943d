// A loss of column statistics (μ, σ), the same for each of the n rows that count. With MATCH 1, it compares them with other statistics.
//   MATCH 1: Σ_d ((μ_d − μ'_d)² + (σ_d − σ'_d)²) / C;  MATCH 0: Σ_d max(1 − σ_d, 0) / C
// stats and other are (2, C), and y is (rows, cols). There is one workgroup.
// y[column] is overwritten with the loss, and weight · loss is added to y[0]. In rows that do not count the loss is 0.
// uses: common/reduce, common/state
const MATCH: u32 = 1u;

struct Params { rows: u32, width: u32, cols: u32, column: u32, weight: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> stats: array<f32>;   // (2, C)
@group(0) @binding(2) var<storage, read> other: array<f32>;   // (2, C)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var c = local; c < p.width; c += WG) {
        var part = max(1.0 - stats[p.width + c], 0.0);
        if (MATCH == 1u) {
            let dm = stats[c] - other[c];
            let ds = stats[p.width + c] - other[p.width + c];
            part = dm * dm + ds * ds;
        }
        sum += part;
    }
    let loss = row_sum(sum, local) / f32(p.width);
    for (var r = local; r < p.rows; r += WG) {
        let counted = select(0.0, loss, r < state.rows);
        y[r * p.cols + p.column] = counted;
        y[r * p.cols] += p.weight * counted;
    }
}
