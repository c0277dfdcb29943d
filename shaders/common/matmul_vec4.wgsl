// common/matmul for kernels that move four columns at a time: N is a multiple of 4.
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (N) // if BIAS
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;         // (batch, M, N) // if DERIVATIVE
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;  // (batch, M, N) // if RESIDUAL
@group(0) @binding(6) var<storage, read_write> pre: array<vec4<f32>>; // (batch, M, N) // if KEEP_PRE
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;   // (batch, M, N)
@group(0) @binding(9) var<storage, read> old_y: array<vec4<f32>>;     // (batch, M, N) // if COPY

// The epilogue of columns n … n + 3.
fn store(batch: u32, m: u32, n: u32, sum: vec4<f32>) {
    if (m >= p.m || n >= p.n) {
        return;
    }
    let first = (batch * p.m + m) * p.n + n;
    let i = first / 4u;
    var v = sum;
    v += bias[n / 4u]; // if BIAS
    pre[i] = v; // if KEEP_PRE
    v = vec4<f32>(activate(ACTIVATION, v.x), activate(ACTIVATION, v.y), activate(ACTIVATION, v.z), activate(ACTIVATION, v.w));
    for (var c = 0u; c < 4u; c++) { // if DROPOUT
        v[c] *= keep(state.seed, p.stream, state.tick, first + c, p.rate); // if DROPOUT
    } // if DROPOUT
    let at = z[i]; // if DERIVATIVE
    v *= vec4<f32>(activation_derivative(DERIVATIVE, at.x), activation_derivative(DERIVATIVE, at.y), activation_derivative(DERIVATIVE, at.z), activation_derivative(DERIVATIVE, at.w)); // if DERIVATIVE
    v += residual[i]; // if RESIDUAL
    v += y[i]; // if ACCUMULATE
    v += old_y[i]; // if COPY
    y[i] = v;
}
