// Steps and decay of each head. The steps are clamped to low … high, and 0 after the end of a sequence. The slope is 0 where δ is clamped.
// The decay is summed within the chunk.
//   δ_t = softplus(d_t + dt_bias);  α_i = Σ_{t ≤ i} δ_t A, A = −exp(A_log);  slope = ∂δ/∂d = σ(d + dt_bias)
//   softplus x = max(x, 0) + ln(1 + u), u = exp(−|x|);  ln(1 + u) = 2 artanh s, s = u / (2 + u) ≤ ⅓,
//   a series in s² that keeps the digits of small u
// zx is (batch, length, width), whose last `heads` columns are d. dt_bias and a_log are (heads), and decay is (3, chunk, head,
// position) = α, δ, slope.
// One invocation computes one head of a chunk. decay is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> zx: array<f32>;          // (batch, length, width)
@group(0) @binding(1) var<storage, read> dt_bias: array<f32>;     // (heads)
@group(0) @binding(2) var<storage, read> a_log: array<f32>;       // (heads)
@group(0) @binding(3) var<storage, read_write> decay: array<f32>; // (3, chunk, head, position)

fn softplus(x: f32) -> f32 {
    let u = exp_accurate(-abs(x));
    let s = u / (2.0 + u);
    let z = s * s;
    let series = 1.0 + z * (0.333333333 + z * (0.2 + z * (0.142857143 + z * (0.111111111 + z * (0.0909090909 + z * 0.0769230769)))));
    return max(x, 0.0) + 2.0 * s * series;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    if (e >= p.batch * p.chunks * p.heads) {
        return;
    }
    let chunk = e / p.heads;
    let head = e % p.heads;
    let a = -exp_accurate(a_log[head]);
    var sum = 0.0;
    for (var i = 0u; i < p.size; i++) {
        let t = chunk % p.chunks * p.size + i;
        var delta = 0.0;
        var slope = 0.0;
        if (t < p.length) {
            let d = zx[(chunk / p.chunks * p.length + t + 1u) * p.width - p.heads + head] + dt_bias[head];
            let step = softplus(d);
            delta = clamp(step, p.low, p.high);
            if (step >= p.low && step <= p.high) {
                slope = sigmoid(d);
            }
        }
        sum = fma(delta, a, sum);
        let at = by_head(chunk, head, i);
        decay[at] = sum;
        decay[rows() + at] = delta;
        decay[2u * rows() + at] = slope;
    }
}
