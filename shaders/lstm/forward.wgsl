// One time step of the LSTM cell (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), gates in PyTorch's order:
//   (i, f, g, o) = gx_t + u,  u = W_hh h_{t−1} + b_hh;  c_t = σ(f) c_{t−1} + σ(i) tanh(g);  h_t = σ(o) tanh(c_t)
// With FIRST h and c before are 0 and u is the bias alone. OUTPUT: y = h_t · keep, inverted dropout with DROPOUT.
// gx: (T, B, 4, H), bias included; u: (B, 4, H), or (4, H) with FIRST; gates: (T, B, 4, H) after their activations; h c: (T + 1, B, H), of
// which slot t + 1 is h_t; y: (at least y_at + B·H). Grid: one invocation a unit (b, j). Slot t of gates, t + 1 of h and c (FIRST: and 0),
// and y from y_at are `=`.
// uses: common/grid, common/math, common/random, common/state
const WG: u32 = 64u;
const FIRST: u32 = 0u;
const OUTPUT: u32 = 1u;
const DROPOUT: u32 = 1u;

struct Params { batch: u32, units: u32, t: u32, y_at: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> gx: array<f32>;          // (T, B, 4, H)
@group(0) @binding(2) var<storage, read> u: array<f32>;           // (B, 4, H)
@group(0) @binding(3) var<storage, read_write> gates: array<f32>; // (T, B, 4, H)
@group(0) @binding(4) var<storage, read_write> h: array<f32>;     // (T + 1, B, H)
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // (T + 1, B, H)
@group(0) @binding(6) var<storage, read_write> y: array<f32>;     // (…, B, H)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    let slot = p.batch * p.units;
    if (e >= slot) {
        return;
    }
    let b = e / p.units;
    let j = e % p.units;
    let at = (p.t * p.batch + b) * 4u * p.units + j;
    let own = select(b, 0u, FIRST == 1u) * 4u * p.units + j;
    let i = sigmoid(gx[at] + u[own]);
    let f = sigmoid(gx[at + p.units] + u[own + p.units]);
    let g = tanh_accurate(gx[at + 2u * p.units] + u[own + 2u * p.units]);
    let o = sigmoid(gx[at + 3u * p.units] + u[own + 3u * p.units]);
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
    gates[at + p.units] = f;
    gates[at + 2u * p.units] = g;
    gates[at + 3u * p.units] = o;
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
