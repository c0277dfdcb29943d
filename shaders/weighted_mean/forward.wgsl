// Mean of the positions of each sequence by weight. Each head has weights for its own features.
//   y[b, c] = Σ_t a[b, t, h] x[b, t, c], h = ⌊c · heads / cols⌋
// a is (batch, length, heads), x is (batch, length, cols), and y is (batch, cols). cols is a multiple of heads. One invocation computes one
// element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;

struct Params { batch: u32, length: u32, heads: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;       // (batch, length, heads)
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (batch, length, cols)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (batch, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.cols) {
        return;
    }
    let b = i / p.cols;
    let c = i % p.cols;
    let head = c / (p.cols / p.heads);
    var sum = 0.0;
    for (var t = 0u; t < p.length; t++) {
        sum = fma(a[(b * p.length + t) * p.heads + head], x[(b * p.length + t) * p.cols + c], sum);
    }
    y[i] = sum;
}
