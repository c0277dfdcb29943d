// What the kernels of a time step of the LSTM cell share (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000). The
// gates are in PyTorch's order.
const FIRST: u32 = 0u;
const OUTPUT: u32 = 1u;
const DROPOUT: u32 = 1u;

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> gx: array<f32>;          // (T, B, 4, H)
@group(0) @binding(4) var<storage, read_write> gates: array<f32>; // (T, B, 4, H)
@group(0) @binding(5) var<storage, read_write> h: array<f32>;     // (T + 1, B, H)
@group(0) @binding(6) var<storage, read_write> c: array<f32>;     // (T + 1, B, H)
@group(0) @binding(7) var<storage, read_write> y: array<f32>;     // (…, B, H)

// Unit j of sequence b, of so many units and elements of a slot, where W_hh h_{t−1} + b_hh is u = (i, f, g, o).
fn advance(b: u32, j: u32, units: u32, slot: u32, u: vec4<f32>) {
    let e = b * units + j;
    let at = (p.t * slot + b * units) * 4u + j;
    let i = sigmoid(gx[at] + u.x);
    let f = sigmoid(gx[at + units] + u.y);
    let g = tanh_accurate(gx[at + 2u * units] + u.z);
    let o = sigmoid(gx[at + 3u * units] + u.w);
    var before = 0.0;
    if (FIRST == 1u) {
        h[p.t * slot + e] = 0.0;
        c[p.t * slot + e] = 0.0;
    } else {
        before = c[p.t * slot + e];
    }
    let after = fma(f, before, i * g);
    let out = o * tanh_accurate(after);
    gates[at] = i;
    gates[at + units] = f;
    gates[at + 2u * units] = g;
    gates[at + 3u * units] = o;
    h[(p.t + 1u) * slot + e] = out;
    c[(p.t + 1u) * slot + e] = after;
    var kept = 1.0;
    if (DROPOUT == 1u) {
        kept = keep(state.seed, p.stream, state.tick, p.y_at + e, p.rate);
    }
    if (OUTPUT == 1u) {
        y[p.y_at + e] = out * kept;
    }
}
