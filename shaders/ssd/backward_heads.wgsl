// Gradients of the numbers of a head, which all its positions share. They are in a = δ A with A = −exp(A_log), in d + dt_bias, and in
// y = … + D x. The sums are over all positions.
//   dA_log = A Σ δ da;  d dt_bias = Σ dd;  dD = Σ ȳ · x
// With STEPS, dd also goes to the last `heads` columns of dzx, (batch, length, width), whose other columns are left as they are.
// terms is (2, chunk, head, position) = δ da, dd. dots has from `at` on (chunk, head, position) = ȳ · x. a_log, da_log, ddt_bias and
// dd_skip are (heads).
// LANES invocations share a row, which is a head. Their sums are added in a fixed order. da_log, ddt_bias and dd_skip are added to
// (common/sum).
// uses: common/grid, common/reduce, common/ssd, common/math, common/state, common/sum
const STEPS: u32 = 0u;

@group(0) @binding(0) var<storage, read> terms: array<f32>;         // (2, chunk, head, position)
@group(0) @binding(1) var<storage, read> dots: array<f32>;          // at + (chunk, head, position)
@group(0) @binding(2) var<storage, read> a_log: array<f32>;         // (heads)
@group(0) @binding(3) var<storage, read_write> da_log: array<f32>;  // (heads)
@group(0) @binding(4) var<storage, read_write> ddt_bias: array<f32>; // (heads)
@group(0) @binding(5) var<storage, read_write> dd_skip: array<f32>; // (heads)
@group(0) @binding(6) var<storage, read> state: State;
@group(0) @binding(7) var<storage, read_write> dzx: array<f32>;     // (batch, length, width)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(head, p.heads - 1u);
    var sum = vec3<f32>(0.0);
    for (var e = lane; e < p.batch * p.chunks * p.size; e += LANES) {
        let row = by_head(e / p.size, safe, e % p.size);
        sum += vec3<f32>(terms[row], terms[rows() + row], dots[p.at + row]);
        if (STEPS == 1u) {
            let t = e / p.size % p.chunks * p.size + e % p.size;
            if (head < p.heads && t < p.length) {
                dzx[(e / p.size / p.chunks * p.length + t + 1u) * p.width - p.heads + head] = terms[rows() + row];
            }
        }
    }
    sum = vec3<f32>(row_sum(sum.x, local), row_sum(sum.y, local), row_sum(sum.z, local));
    if (head < p.heads && lane == 0u) {
        sum.x *= -exp_accurate(a_log[head]);
        if (accumulates()) {
            sum += vec3<f32>(da_log[head], ddt_bias[head], dd_skip[head]);
        }
        da_log[head] = sum.x;
        ddt_bias[head] = sum.y;
        dd_skip[head] = sum.z;
    }
}
