// Outputs of all heads, position after position: y_t = within_i + D x_i, and with STATES + exp(α_i) before_i, where within is what comes from the chunk itself and
// before = S C_i what comes from the state before it.
// within x: (chunk, head, position, features); before: (chunk, group, position, head in the group, features); decay: (3, chunk, head, position) = α, δ, slope;
// d: (heads); y: (batch, length, heads, features). Grid: one invocation an element of y. y is `=`.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
const STATES: u32 = 1u;

@group(0) @binding(0) var<storage, read> within: array<f32>;  // (chunk, head, position, features)
@group(0) @binding(1) var<storage, read> before: array<f32>;  // (chunk, group, position, head in the group, features)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (chunk, head, position, features)
@group(0) @binding(3) var<storage, read> decay: array<f32>;   // (3, chunk, head, position)
@group(0) @binding(4) var<storage, read> d: array<f32>;       // (heads)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // (batch, length, heads, features)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    let columns = p.heads * p.features;
    if (e >= p.batch * p.length * columns) {
        return;
    }
    let t = e / columns % p.length;
    let head = e % columns / p.features;
    let feature = e % p.features;
    let chunk = e / columns / p.length * p.chunks + t / p.size;
    let i = t % p.size;
    let row = by_head(chunk, head, i);
    var sum = fma(d[head], x[row * p.features + feature], within[row * p.features + feature]);
    if (STATES == 1u) {
        sum = fma(exp_accurate(decay[row]), before[by_group(chunk, head, i) * p.features + feature], sum);
    }
    y[e] = sum;
}
