// Gradient of an activation, y = f(x) element by element: dx = dy ⊙ f'(x). KIND, of common/activation, chooses f'.
//   1, ReLU (Nair & Hinton 2010): 1 where x > 0, else 0, at 0 too;  4, σ(x): σ(x) (1 − σ(x)) = σ(x) σ(−x)
//   2, GELU x Φ(x) (Hendrycks & Gimpel 2016, section 2): Φ(x) + x Φ'(x), Φ(x) = ½ (1 + erf(x / √2)), Φ'(x) = exp(−x² / 2) / √(2π)
//   3, its tanh form (same section) x s, s = ½ (1 + tanh u) = σ(2u), u = √(2/π) (x + 0.044715 x³): as σ' = σ (1 − σ),
//      s + x s (1 − s) · 2u', 2u' = √(8/π) (1 + 3 · 0.044715 x²)
//   5, SiLU x σ(x) (same paper, section 4): σ(x) (1 + x σ(−x));  6, tanh x: 1 − tanh² x = 4 h / (1 + h)², h = exp(−2 |x|)
// x, dy and dx are (n). One invocation computes one element. dx is overwritten.
// uses: common/grid, common/activation, common/math
const WG: u32 = 64u;
const KIND: u32 = 1u;

struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (n)
@group(0) @binding(1) var<storage, read> dy: array<f32>;       // (n)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // (n)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    dx[i] = dy[i] * activation_derivative(KIND, x[i]);
}
