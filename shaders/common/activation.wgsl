// Activations by KIND: 0 identity, 1 ReLU, 2 GELU x·Φ(x) (erf form), 3 GELU in its tanh form (Hendrycks & Gimpel 2016),
// 4 sigmoid, 5 SiLU x·σ(x), 6 tanh. The derivatives are explained in activation/backward.
fn gelu_tanh_gate(x: f32) -> f32 {
    // ½(1 + tanh u) = 1 / (1 + exp(−2u)), u = √(2/π)(x + 0.044715 x³); without the cancellation of 1 + tanh.
    return 1.0 / (1.0 + exp_accurate(-1.59576912 * (x + 0.044715 * x * x * x)));
}

fn activate(kind: u32, x: f32) -> f32 {
    if (kind == 1u) {
        return max(x, 0.0);
    }
    if (kind == 2u) {
        return 0.5 * x * (1.0 + erf(x * 0.707106781));
    }
    if (kind == 3u) {
        return x * gelu_tanh_gate(x);
    }
    if (kind == 4u) {
        return sigmoid(x);
    }
    if (kind == 5u) {
        return times_sigmoid(x, x);
    }
    if (kind == 6u) {
        return tanh_accurate(x);
    }
    return x;
}

fn activation_derivative(kind: u32, x: f32) -> f32 {
    if (kind == 1u) {
        return select(0.0, 1.0, x > 0.0);
    }
    if (kind == 2u) {
        return 0.5 * (1.0 + erf(x * 0.707106781)) + x * 0.398942280 * exp_accurate(-0.5 * x * x);
    }
    if (kind == 3u) {
        let gate = gelu_tanh_gate(x);
        return gate + x * gate * (1.0 - gate) * (1.59576912 + 0.214064449 * x * x);
    }
    if (kind == 4u) {
        return sigmoid(x) * sigmoid(-x);
    }
    if (kind == 5u) {
        return sigmoid(x) * (1.0 + x * sigmoid(-x));
    }
    if (kind == 6u) {
        let h = exp_accurate(-2.0 * abs(x));
        return 4.0 * h / ((1.0 + h) * (1.0 + h));
    }
    return 1.0;
}
