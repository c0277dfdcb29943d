// States at the borders of chunks. Forwards the state S_c before chunk c, from what each chunk brings: S_0 = 0, S_{c+1} = exp(α_last of c) S_c + U_c. REVERSED the
// gradient R_c of the state after chunk c, from what each chunk has of the state before it: R_last = 0, R_{c−1} = exp(α_last of c) R_c + V_c.
// carried: (chunk, head, features, states) = U or V; decay: (3, chunk, head, position) = α, δ, slope; border: as carried, S or R.
// Grid: one invocation for EACH elements of a state. border is `=`.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
// Elements of an invocation, which are of one row.
const EACH: u32 = 1u;
const REVERSED: u32 = 0u;

@group(0) @binding(0) var<storage, read> carried: array<f32>;      // (chunk, head, features, states)
@group(0) @binding(1) var<storage, read> decay: array<f32>;        // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read_write> border: array<f32>; // (chunk, head, features, states)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = (flat_group(group, groups) * WG + local) * EACH;
    let size = p.features * p.states;
    if (e >= p.batch * p.heads * size) {
        return;
    }
    let head = e / size % p.heads;
    let b = e / size / p.heads;
    var sum: array<f32, EACH>;
    for (var step = 0u; step < p.chunks; step++) {
        var chunk = b * p.chunks + step;
        if (REVERSED == 1u) {
            chunk = b * p.chunks + p.chunks - 1u - step;
        }
        let at = (chunk * p.heads + head) * size + e % size;
        let left = exp_accurate(decay[by_head(chunk, head, p.size - 1u)]);
        for (var k = 0u; k < EACH; k++) {
            border[at + k] = sum[k];
            sum[k] = fma(left, sum[k], carried[at + k]);
        }
    }
}
