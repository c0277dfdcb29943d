// Embedding of tokens. With POSITIONS, that of their positions is added.
//   y[m] = table[ids[m]] + positions[first + m mod length]
// ids is (rows), table is (vocab, cols), positions is (·, cols), and y is (rows, cols). One invocation computes one element. y is
// overwritten.
// uses: common/grid, common/state
const WG: u32 = 64u;
const POSITIONS: u32 = 0u;

struct Params { rows: u32, cols: u32, length: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;       // (rows)
@group(0) @binding(1) var<storage, read> table: array<f32>;     // (vocab, cols)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;   // (rows, cols)
@group(0) @binding(3) var<storage, read> positions: array<f32>; // (at least first + length, cols)
@group(0) @binding(4) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let row = i / p.cols;
    let c = i % p.cols;
    var value = table[ids[row] * p.cols + c];
    if (POSITIONS == 1u) {
        value += positions[(state.position + row % p.length) * p.cols + c];
    }
    y[i] = value;
}
