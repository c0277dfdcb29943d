// common/matmul for kernels that move four columns at a time. N is a multiple of 4.
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (N), or (batch, M, N)
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;         // (batch, M, N)
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;  // (batch, M, N)
@group(0) @binding(6) var<storage, read_write> pre: array<vec4<f32>>; // (batch, M, N)
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;   // (batch, M, N)

// The epilogue of columns n … n + 3.
fn store(batch: u32, m: u32, n: u32, sum: vec4<f32>) {
    if (m >= p.m || n >= p.n) {
        return;
    }
    let first = (batch * p.m + m) * p.n + n;
    let i = (y_at() + first) / 4u;
    var v = sum;
    if (SCALED == 1u) {
        v *= p.rate;
    }
    if (BIAS == 1u) {
        v += bias[n / 4u];
    }
    if (BIAS == 2u) {
        v += bias[i];
    }
    if (KEEP_PRE == 1u) {
        pre[i] = v;
    }
    v = vec4<f32>(activate(ACTIVATION, v.x), activate(ACTIVATION, v.y), activate(ACTIVATION, v.z), activate(ACTIVATION, v.w));
    if (DROPOUT == 1u) {
        for (var c = 0u; c < 4u; c++) {
            v[c] *= keep(state.seed, p.stream, state.tick, first + c, p.rate);
        }
    }
    if (DERIVATIVE != 0u) {
        let at = z[i];
        v *= vec4<f32>(activation_derivative(DERIVATIVE, at.x), activation_derivative(DERIVATIVE, at.y), activation_derivative(DERIVATIVE, at.z), activation_derivative(DERIVATIVE, at.w));
    }
    if (RESIDUAL == 1u) {
        v += residual[i];
    }
    if (ACCUMULATE == 1u) {
        v += sum_before(i);
    }
    y[i] = v;
}
