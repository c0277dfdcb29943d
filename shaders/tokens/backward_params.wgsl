// Gradients of the positions and of the start token, which all sequences b share. As y[b, t] = … + positions[t − 1] for t ≥ 1 and
// y[b, 2] = sos + …, each has the derivative 1. The sums are over the sequences first … end − 1.
//   dpositions[t − 1] += Σ_b dy[b, t] for t ≥ 1, dsos += Σ_b dy[b, 2]
// dy is (batch, length, cols), dpositions is (n / cols ≥ length − 1, cols), and dsos is (cols).
// One invocation computes one element of dpositions. Both are added to (common/sum). Positions that no token has get nothing.
// uses: common/grid, common/state, common/sum
const WG: u32 = 64u;

struct Params { first: u32, end: u32, length: u32, cols: u32, n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;               // (batch, length, cols)
@group(0) @binding(1) var<storage, read_write> dpositions: array<f32>; // (at least length − 1, cols)
@group(0) @binding(2) var<storage, read_write> dsos: array<f32>;       // (cols)
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    var sum = 0.0;
    let end = select(p.first, p.end, i < (p.length - 1u) * p.cols);
    for (var b = p.first; b < end; b++) {
        sum += dy[b * p.length * p.cols + p.cols + i];
    }
    let start = i / p.cols == 1u;
    if (accumulates()) {
        dpositions[i] += sum;
        if (start) {
            dsos[i - p.cols] += sum;
        }
    } else {
        dpositions[i] = sum;
        if (start) {
            dsos[i - p.cols] = sum;
        }
    }
}
