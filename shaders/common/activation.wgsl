// Activations by KIND: x itself (0), ReLU (1), GELU x·Φ(x) in its erf form (2), GELU in its tanh form (3; Hendrycks & Gimpel 2016), sigmoid
// (4), SiLU x·σ(x) (5) and tanh (6). The derivatives are explained in activation/backward. The Rust twin is kernels::matmul::Activation.
const IDENTITY: u32 = 0u;
const RELU: u32 = 1u;
const GELU: u32 = 2u;
const GELU_TANH: u32 = 3u;
const SIGMOID: u32 = 4u;
const SILU: u32 = 5u;
const TANH: u32 = 6u;

fn gelu_tanh_gate(x: f32) -> f32 {
    // ½(1 + tanh u) = 1 / (1 + exp(−2u)), u = √(2/π)(x + 0.044715 x³); without the cancellation of 1 + tanh.
    return 1.0 / (1.0 + exp_accurate(-1.59576912 * (x + 0.044715 * x * x * x)));
}

fn activate(kind: u32, x: f32) -> f32 {
    if (kind == RELU) {
        return max(x, 0.0);
    }
    if (kind == GELU) {
        return 0.5 * x * (1.0 + erf(x * 0.707106781));
    }
    if (kind == GELU_TANH) {
        return x * gelu_tanh_gate(x);
    }
    if (kind == SIGMOID) {
        return sigmoid(x);
    }
    if (kind == SILU) {
        return times_sigmoid(x, x);
    }
    if (kind == TANH) {
        return tanh_accurate(x);
    }
    return x;
}

fn activation_derivative(kind: u32, x: f32) -> f32 {
    if (kind == RELU) {
        return select(0.0, 1.0, x > 0.0);
    }
    if (kind == GELU) {
        return 0.5 * (1.0 + erf(x * 0.707106781)) + x * 0.398942280 * exp_accurate(-0.5 * x * x);
    }
    if (kind == GELU_TANH) {
        let gate = gelu_tanh_gate(x);
        return gate + x * gate * (1.0 - gate) * (1.59576912 + 0.214064449 * x * x);
    }
    if (kind == SIGMOID) {
        return sigmoid(x) * sigmoid(-x);
    }
    if (kind == SILU) {
        return sigmoid(x) * (1.0 + x * sigmoid(-x));
    }
    if (kind == TANH) {
        let h = exp_accurate(-2.0 * abs(x));
        return 4.0 * h / ((1.0 + h) * (1.0 + h));
    }
    return 1.0;
}
