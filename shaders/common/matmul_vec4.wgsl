// common/matmul for kernels that move four columns at a time: N is a multiple of 4.
const TRANS_A: u32 = 0u;
const TRANS_B: u32 = 0u;
const BIAS: u32 = 1u;
const ACTIVATION: u32 = 0u;
const KEEP_PRE: u32 = 1u;
const DROPOUT: u32 = 1u;
const DERIVATIVE: u32 = 1u;
const RESIDUAL: u32 = 1u;
const ACCUMULATE: u32 = 0u;
const ROW_SUM: u32 = 1u;

struct Params { m: u32, n: u32, k: u32, batch: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State; // if DROPOUT
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (N) // if BIAS
@group(0) @binding(4) var<storage, read> z: array<vec4<f32>>;         // (batch, M, N) // if DERIVATIVE
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;  // (batch, M, N) // if RESIDUAL
@group(0) @binding(6) var<storage, read_write> pre: array<vec4<f32>>; // (batch, M, N) // if KEEP_PRE
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;   // (batch, M, N)
@group(0) @binding(8) var<storage, read_write> row_sum: array<f32>;   // (M) // if ROW_SUM

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
    y[i] = v;
}

fn store_row_sum(m: u32, sum: f32) {
    if (m < p.m) {
        row_sum[m] += sum; // if ROW_SUM
    }
}
