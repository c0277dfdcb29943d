// What the kernels of a time step of the LSTM cell share (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000). The
// gates are in PyTorch's order.
const FIRST: u32 = 0u;
const OUTPUT: u32 = 1u;
const DROPOUT: u32 = 1u;

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> gx: array<Features>;          // (T, B, 4, H)
@group(0) @binding(4) var<storage, read_write> gates: array<Features>; // (T, B, 4, H)
@group(0) @binding(5) var<storage, read_write> h: array<Features>;     // (T + 1, B, H)
@group(0) @binding(6) var<storage, read_write> c: array<Features>;     // (T + 1, B, H)
@group(0) @binding(7) var<storage, read_write> y: array<Features>;     // (…, B, H)

// What W_hh h_{t−1} + b_hh has for each gate.
struct Gates { i: Features, f: Features, g: Features, o: Features }

// Unit j of sequence b, of so many units and elements of a slot; all of them count in steps of FEATURES.
fn advance(b: u32, j: u32, units: u32, slot: u32, u: Gates) {
    let e = b * units + j;
    let at = (p.t * slot + b * units) * 4u + j;
    let i = sigmoids(gx[at] + u.i);
    let f = sigmoids(gx[at + units] + u.f);
    let g = tanhs(gx[at + 2u * units] + u.g);
    let o = sigmoids(gx[at + 3u * units] + u.o);
    var before = Features();
    if (FIRST == 1u) {
        h[p.t * slot + e] = Features();
        c[p.t * slot + e] = Features();
    } else {
        before = c[p.t * slot + e];
    }
    let after = fma(f, before, i * g);
    let out = o * tanhs(after);
    gates[at] = i;
    gates[at + units] = f;
    gates[at + 2u * units] = g;
    gates[at + 3u * units] = o;
    h[(p.t + 1u) * slot + e] = out;
    c[(p.t + 1u) * slot + e] = after;
    var passed = out;
    if (DROPOUT == 1u) {
        for (var k = 0u; k < FEATURES; k++) {
            passed = put(passed, k, component(out, k) * keep(state.seed, p.stream, state.tick, p.y_at + e * FEATURES + k, p.rate));
        }
    }
    if (OUTPUT == 1u) {
        y[p.y_at / FEATURES + e] = passed;
    }
}
