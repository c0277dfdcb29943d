// What the matrix products share: Y = f(A·B) for each of `batch` pairs, with an epilogue. Its parts come in this order:
//   v = Σ_k A[m,k] B[k,n];  · scale;  + bias[n];  z ← v;  activate;  dropout;  · activation'(z of the forward pass);  + residual[m,n];  + y[m,n]
// Each part is there when its const is 1. With BIAS 2 the bias is one of each output, bias[m,n]. With SCALED, which excludes BIAS 1 and
// DROPOUT, rate is the scale. ACTIVATION and DERIVATIVE are each a KIND of common/activation. With ROW_SUM, row_sum[m] +=
// Σ_k A[m,k], which in the product dW = dYᵀ·X is the gradient of the bias.
// The gradients of a product are products, too. Let Y = f(Z) ⊙ keep + residual with Z[m,n] = Σ_k X[m,k] W[n,k] + bias[n]. The residual gets
// dY as it is, and DROPOUT and DERIVATIVE give dZ:
//   dZ = dY ⊙ keep ⊙ f'(Z);  dX = dZ·W;  dW = dZᵀ·X;  dbias[n] = Σ_m dZ[m,n]
// A is (batch, M, K), or (batch, K, M) with TRANS_A. B is (batch, K, N), or (batch, N, K) with TRANS_B. y, pre, z and residual
// are (batch, M, N), bias is (N), or as y with BIAS 2, and row_sum is (M). A and B start at elements a_at and b_at of their tensors.
// With PART, which excludes DROPOUT and ACCUMULATE, y and what has its shape start at the element of their tensors that stream says.
// y is overwritten, or added to with ACCUMULATE. row_sum is added to. What is added to may be overwritten instead, as in the first
// micro-step (common/sum).
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // (N), or (batch, M, N)
@group(0) @binding(4) var<storage, read> z: array<f32>;              // (batch, M, N)
@group(0) @binding(5) var<storage, read> residual: array<f32>;       // (batch, M, N)
@group(0) @binding(6) var<storage, read_write> pre: array<f32>;      // (batch, M, N)
@group(0) @binding(7) var<storage, read_write> y: array<f32>;        // (batch, M, N)

// Offset of A[batch, m, k]; m and k are in range.
fn index_a(batch: u32, m: u32, k: u32) -> u32 {
    return p.a_at + batch * p.m * p.k + select(m * p.k + k, k * p.m + m, TRANS_A == 1u);
}

// Offset of B[batch, k, n]; k and n are in range.
fn index_b(batch: u32, k: u32, n: u32) -> u32 {
    return p.b_at + batch * p.k * p.n + select(k * p.n + n, n * p.k + k, TRANS_B == 1u);
}

// Bias of column n, 0 without one.
fn bias_of(n: u32) -> f32 {
    if (BIAS == 1u) {
        return bias[min(n, p.n - 1u)];
    }
    return 0.0;
}

// The epilogue after the bias.
fn store(batch: u32, m: u32, n: u32, sum: f32) {
    if (m >= p.m || n >= p.n) {
        return;
    }
    let i = y_at() + (batch * p.m + m) * p.n + n;
    var v = sum;
    if (SCALED == 1u) {
        v *= p.rate;
    }
    if (BIAS == 2u) {
        v += bias[i];
    }
    if (KEEP_PRE == 1u) {
        pre[i] = v;
    }
    v = activate(ACTIVATION, v);
    if (DROPOUT == 1u) {
        v *= keep(state.seed, p.stream, state.tick, i, p.rate);
    }
    if (DERIVATIVE != 0u) {
        v *= activation_derivative(DERIVATIVE, z[i]);
    }
    if (RESIDUAL == 1u) {
        v += residual[i];
    }
    if (ACCUMULATE == 1u) {
        v += sum_before(i);
    }
    y[i] = v;
}
