// The embedding of a number at a position without parameters.
//   y[m] = (ids[m] / max_value, (first + m mod length) / max_position)
// ids is (rows), and y is (rows, 2). One invocation computes one row. y is overwritten.
// uses: common/grid, common/state
const WG: u32 = 64u;

struct Params { rows: u32, length: u32, max_value: f32, max_position: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> ids: array<u32>;     // (rows)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (rows, 2)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * WG + local;
    if (row >= p.rows) {
        return;
    }
    y[row * 2u] = f32(ids[row]) / p.max_value;
    y[row * 2u + 1u] = f32(state.position + row % p.length) / p.max_position;
}
