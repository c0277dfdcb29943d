// States at the borders of chunks. Forwards, S_c is the state before chunk c, from what each chunk brings. With REVERSED, R_c is the
// gradient of the state after chunk c, from what each chunk has of the state before it.
//   S_0 = 0, S_{c+1} = exp(α_last of c) S_c + U_c
//   REVERSED: R_last = 0, R_{c−1} = exp(α_last of c) R_c + V_c
// With CARRY, the first state is what the feed before has left (common/carry), if there was one. The state after the last chunk is left for
// the next feed.
// carried is (chunk, head, features, states) = U or V, and border has the same shape, with S or R. decay is (3, chunk, head, position) = α,
// δ, slope. kept is (half, batch, head, features, states), and sources is (batch, limit).
// One invocation computes EACH elements of a state. border is overwritten, and so is one half of kept.
// uses: common/grid, common/ssd, common/math, common/state, common/carry
const WG: u32 = 64u;
// Number of elements that an invocation computes, which are of one row.
const EACH: u32 = 1u;
const REVERSED: u32 = 0u;
const CARRY: u32 = 0u;

@group(0) @binding(0) var<storage, read> carried: array<f32>;      // (chunk, head, features, states)
@group(0) @binding(1) var<storage, read> decay: array<f32>;        // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read_write> border: array<f32>; // (chunk, head, features, states)
@group(0) @binding(3) var<storage, read> state: State;
@group(0) @binding(4) var<storage, read> sources: array<u32>;      // (batch, limit)
@group(0) @binding(5) var<storage, read_write> kept: array<f32>;   // (half, batch, head, features, states)

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
    if (CARRY == 1u) {
        if (state.position > 0u) {
            let at = ((half_before() * p.batch + row_before(b)) * p.heads + head) * size + e % size;
            for (var k = 0u; k < EACH; k++) {
                sum[k] = kept[at + k];
            }
        }
    }
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
    if (CARRY == 1u) {
        let at = state.tick % 2u * p.batch * p.heads * size + e;
        for (var k = 0u; k < EACH; k++) {
            kept[at + k] = sum[k];
        }
    }
}
