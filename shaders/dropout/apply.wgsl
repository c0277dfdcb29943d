// Inverted dropout (Srivastava et al. 2014).
//   y_i = x_i · keep_i / (1 − rate);  dx_i = dy_i · keep_i / (1 − rate), as keep does not depend on x
// The backward pass is thus the same function of dy, with the same (seed, stream, tick, index), so no mask is stored.
// x and y are (n). One invocation computes one element. y is overwritten.
// uses: common/grid, common/random, common/state
const WG: u32 = 64u;

struct Params { n: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (n)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (n)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    y[i] = x[i] * keep(state.seed, p.stream, state.tick, i, p.rate);
}
