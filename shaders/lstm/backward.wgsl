// Gradient of one time step of the LSTM cell (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, as in
// torch.nn.LSTM). Time steps go from the last to the first. The forward pass was, with the gates after their activations:
//   c_t = f c_{t−1} + i g;  h_t = o tanh(c_t);  y_t = h_t · keep
// Here u = W_hh h_{t−1} + b_hh was added to the gates' inputs. h_t is used in y_t and in u of step t + 1:
//   dh = keep · dy_t + du W_hh, with du of step t + 1
// c_t is used in h_t, where tanh' = 1 − tanh², and in c_{t+1}:
//   dc = dh · o (1 − tanh²c_t) + dc_{t+1} f_{t+1}
// The derivatives by the gates are ∂c/∂i = g, ∂c/∂f = c_{t−1}, ∂c/∂g = i and ∂h/∂o = tanh(c_t). With σ' = σ (1 − σ), the gradients before
// the activations are:
//   di = dc g i(1 − i), df = dc c_{t−1} f(1 − f), dg = dc i (1 − g²), do = dh tanh(c_t) o(1 − o)
// gates and dgates are (T, B, 4, H), and c is (T + 1, B, H). dh and dc are (B, H). With OUTPUT there is dy, which is (at least
// dy_at + B·H). With LATER, dh is what comes from step t + 1, and dc holds dc_{t+1} f_{t+1}.
// One invocation computes FEATURES units of one sequence. Slot t of dgates is overwritten, and so is dc, with dc_t f_t.
// uses: common/features_4 | common/features_1, common/gates, common/grid, common/math, common/random, common/state
const WG: u32 = 64u;
const OUTPUT: u32 = 1u;
const DROPOUT: u32 = 1u;
const LATER: u32 = 1u;

struct Params { batch: u32, units: u32, t: u32, dy_at: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> gates: array<Features>;        // (T, B, 4, H)
@group(0) @binding(2) var<storage, read> c: array<Features>;            // (T + 1, B, H)
@group(0) @binding(3) var<storage, read> dy: array<Features>;           // (…, B, H)
@group(0) @binding(4) var<storage, read> dh: array<Features>;           // (B, H)
@group(0) @binding(5) var<storage, read_write> dc: array<Features>;     // (B, H)
@group(0) @binding(6) var<storage, read_write> dgates: array<Features>; // (T, B, 4, H)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    let units = p.units / FEATURES;
    let slot = p.batch * units;
    if (e >= slot) {
        return;
    }
    let at = (p.t * p.batch + e / units) * 4u * units + e % units;
    let i = gates[at];
    let f = gates[at + units];
    let g = gates[at + 2u * units];
    let o = gates[at + 3u * units];
    let before = c[p.t * slot + e];
    let squashed = tanhs(c[(p.t + 1u) * slot + e]);
    var d = Features();
    if (OUTPUT == 1u) {
        d = dy[p.dy_at / FEATURES + e];
    }
    if (DROPOUT == 1u) {
        for (var k = 0u; k < FEATURES; k++) {
            d = put(d, k, component(d, k) * keep(state.seed, p.stream, state.tick, p.dy_at + e * FEATURES + k, p.rate));
        }
    }
    var carried = Features();
    if (LATER == 1u) {
        d += dh[e];
        carried = dc[e];
    }
    let dcell = fma(d * o, 1.0 - squashed * squashed, carried);
    dc[e] = dcell * f;
    dgates[at] = dcell * g * i * (1.0 - i);
    dgates[at + units] = dcell * before * f * (1.0 - f);
    dgates[at + 2u * units] = dcell * i * (1.0 - g * g);
    dgates[at + 3u * units] = d * squashed * o * (1.0 - o);
}
