// The beginning of the sums of embedding/backward_runs where nothing was added to them before: tokens that no row has get none.
//   dtable = 0 in the first micro-step; later it stays (common/sum)
// dtable is (n) numbers. One invocation clears one of them.
// uses: common/grid, common/state, common/sum
const WG: u32 = 64u;

struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> dtable: array<f32>; // (n)
@group(0) @binding(1) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i < p.n && !accumulates()) {
        dtable[i] = 0.0;
    }
}
