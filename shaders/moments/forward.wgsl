// Mean and unbiased standard deviation of each column over the n rows that count. The σ of a single row is 0.
//   stats[0, d] = μ_d, stats[1, d] = √(Σ (x − μ)² / (n − 1))
// x is (rows, C), and stats is (2, C). One invocation computes one column. stats is overwritten.
// uses: common/grid, common/state
const WG: u32 = 64u;

struct Params { rows: u32, width: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // (rows, C)
@group(0) @binding(2) var<storage, read_write> stats: array<f32>; // (2, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = flat_group(group, groups) * WG + local;
    if (c >= p.width) {
        return;
    }
    let n = min(p.rows, state.rows);
    var sum = 0.0;
    for (var r = 0u; r < n; r++) {
        sum += x[r * p.width + c];
    }
    let mean = sum / f32(n);
    var squares = 0.0;
    for (var r = 0u; r < n; r++) {
        let d = x[r * p.width + c] - mean;
        squares = fma(d, d, squares);
    }
    stats[c] = mean;
    stats[p.width + c] = sqrt(squares / f32(max(n, 2u) - 1u));
}
