// Gradients of x, B and C, position after position, in a row of xbc (ssd/arrange). Position i is in the outputs of its chunk, in the state
// after it, and in its own output by D.
//   dx_i = within_i + D ȳ_i, and with STATES + exp(α_last − α_i) δ_i after_i
//   within_i = Σ_{i' ≥ i} m_i'i ȳ_i' and after_i = R B_i, R the gradient of the state after the chunk
// dB and dC are taken as they are.
// within and dy are (chunk, head, position, features), and after is (chunk, group, position, head in the group, features). decay is (3,
// chunk, head, position) = α, δ, slope, and d is (heads). dkeys and dqueries are (chunk, group, position, states), and dxbc is (batch,
// length, width).
// One invocation computes EACH elements of dxbc. dxbc is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
// Number of elements that an invocation computes, which are of one row.
const EACH: u32 = 1u;
const STATES: u32 = 1u;

@group(0) @binding(0) var<storage, read> within: array<f32>;     // (chunk, head, position, features)
@group(0) @binding(1) var<storage, read> after: array<f32>;      // (chunk, group, position, head in the group, features)
@group(0) @binding(2) var<storage, read> dy: array<f32>;         // (chunk, head, position, features)
@group(0) @binding(3) var<storage, read> decay: array<f32>;      // (3, chunk, head, position)
@group(0) @binding(4) var<storage, read> d: array<f32>;          // (heads)
@group(0) @binding(5) var<storage, read> dkeys: array<f32>;      // (chunk, group, position, states)
@group(0) @binding(6) var<storage, read> dqueries: array<f32>;   // (chunk, group, position, states)
@group(0) @binding(7) var<storage, read_write> dxbc: array<f32>; // (batch, length, width)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = (flat_group(group, groups) * WG + local) * EACH;
    if (e >= p.batch * p.length * p.width) {
        return;
    }
    let t = e / p.width % p.length;
    let column = e % p.width;
    let chunk = e / p.width / p.length * p.chunks + t / p.size;
    let i = t % p.size;
    let features = p.heads * p.features;
    if (column >= features) {
        let n = (column - features) % (p.groups * p.states);
        let at = ((chunk * p.groups + n / p.states) * p.size + i) * p.states + n % p.states;
        for (var k = 0u; k < EACH; k++) {
            if (column - features < p.groups * p.states) {
                dxbc[e + k] = dkeys[at + k];
            } else {
                dxbc[e + k] = dqueries[at + k];
            }
        }
        return;
    }
    let head = column / p.features;
    let row = by_head(chunk, head, i);
    let at = row * p.features + column % p.features;
    let skip = d[head];
    var weight = 0.0;
    var after_at = 0u;
    if (STATES == 1u) {
        weight = exp_accurate(decay[row - i + p.size - 1u] - decay[row]) * decay[rows() + row];
        after_at = by_group(chunk, head, i) * p.features + column % p.features;
    }
    for (var k = 0u; k < EACH; k++) {
        var sum = fma(skip, dy[at + k], within[at + k]);
        if (STATES == 1u) {
            sum = fma(weight, after[after_at + k], sum);
        }
        dxbc[e + k] = sum;
    }
}
