// Gradient of attention pooling, by query and keys. The vectors x and b are data and get none. The forward pass was:
//   s_t = q · k_t / √H, a = softmax(s), w = Σ_t a_t x_t
// It is the attention of one query (Vaswani et al. 2017, eq. 1; its gradient: Dao et al. 2022, appendix B.2).
//   da_t = dw · x_t;  ∂a_t/∂s_r = a_t (δ_tr − a_r) (Bishop 2006, eq. 4.106) makes a_t (da_t − Σ_r a_r da_r) by s_t, and by q · k_t
//   ds_t = a_t (da_t − Σ_r a_r da_r) / √H;  dq = Σ_t ds_t k_t;  dk_t = ds_t q
// q and dq are (rows, H), k and dk are (rows, T, H), x is (rows, T, C), and a is (rows, T). dy is (rows, 2, C), of which the second half is
// dw.
// LANES invocations share a row. dq and dk are overwritten.
// uses: common/grid, common/reduce
const T: u32 = 5u;

struct Params { rows: u32, features: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;        // (rows, H)
@group(0) @binding(1) var<storage, read> k: array<f32>;        // (rows, T, H)
@group(0) @binding(2) var<storage, read> x: array<f32>;        // (rows, T, C)
@group(0) @binding(3) var<storage, read> a: array<f32>;        // (rows, T)
@group(0) @binding(4) var<storage, read> dy: array<f32>;       // (rows, 2, C)
@group(0) @binding(5) var<storage, read_write> dq: array<f32>; // (rows, H)
@group(0) @binding(6) var<storage, read_write> dk: array<f32>; // (rows, T, H)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    var ds: array<f32, T>;
    var mean = 0.0;
    for (var t = 0u; t < T; t++) {
        var sum = 0.0;
        for (var c = lane; c < p.cols; c += LANES) {
            sum = fma(dy[(safe * 2u + 1u) * p.cols + c], x[(safe * T + t) * p.cols + c], sum);
        }
        ds[t] = row_sum(sum, local);
        mean = fma(a[safe * T + t], ds[t], mean);
    }
    if (row >= p.rows) {
        return;
    }
    for (var t = 0u; t < T; t++) {
        ds[t] = a[row * T + t] * (ds[t] - mean) / sqrt(f32(p.features));
    }
    for (var c = lane; c < p.features; c += LANES) {
        let query = q[row * p.features + c];
        var sum = 0.0;
        for (var t = 0u; t < T; t++) {
            let at = (row * T + t) * p.features + c;
            sum = fma(ds[t], k[at], sum);
            dk[at] = ds[t] * query;
        }
        dq[row * p.features + c] = sum;
    }
}
