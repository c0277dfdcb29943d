// One time step of the LSTM cell (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000). The gates are in PyTorch's
// order.
//   (i, f, g, o) = gx_t + u,  u = W_hh h_{t−1} + b_hh;  c_t = σ(f) c_{t−1} + σ(i) tanh(g);  h_t = σ(o) tanh(c_t)
// With FIRST, h and c before this step are 0 and u is the bias alone. With OUTPUT, h_t is also written to y. With DROPOUT, that is
// y = h_t · keep, by inverted dropout.
// gx is (T, B, 4, H) with the bias included. u is (B, 4, H), or (4, H) with FIRST. gates is (T, B, 4, H), after the activations. h and c
// are (T + 1, B, H), of which slot t + 1 is h_t and c_t. y is (at least y_at + B·H).
// One invocation computes FEATURES units from j on of one sequence b. Slot t of gates, slot t + 1 of h and c, and y from y_at on are
// overwritten. With FIRST, slot 0 of h and c is overwritten, too.
// uses: common/features_4 | common/features_1, common/gates, common/grid, common/lstm_cell, common/math, common/random, common/state
const WG: u32 = 64u;

struct Params { batch: u32, units: u32, t: u32, y_at: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> u: array<Features>; // (B, 4, H)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    let units = p.units / FEATURES;
    let slot = p.batch * units;
    if (e >= slot) {
        return;
    }
    let b = e / units;
    let j = e % units;
    let own = select(b, 0u, FIRST == 1u) * 4u * units + j;
    advance(b, j, units, slot, Gates(u[own], u[own + units], u[own + 2u * units], u[own + 3u * units]));
}
