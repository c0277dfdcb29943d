// One time step of the GRU cell (Cho et al. 2014). The gates are in PyTorch's order, and the reset gate comes after the product, as in
// torch.nn.GRU.
//   u = W_hh h_{t−1} + b_hh;  r = σ(gx_r + u_r), z = σ(gx_z + u_z), n = tanh(gx_n + r u_n);  h_t = (1 − z) n + z h_{t−1}
// With FIRST, the state before this step is 0 and u is the bias alone. y_t is h_t. With RESIDUAL, it is h_t + residual_t.
// gx is (T, B, 3, H) with the bias included. u is (B, 3, H), or (3, H) with FIRST. gates is (T, B, 4, H) = r, z, n, u_n. h is (T + 1, B,
// H), of which slot t + 1 is h_t. residual and y are (T, B, H).
// One invocation computes FEATURES units from j on of one sequence b. Slot t of gates and y and slot t + 1 of h are overwritten. With
// FIRST, slot 0 of h is overwritten, too.
// uses: common/features_4 | common/features_1, common/gates, common/grid, common/math
const WG: u32 = 64u;
const FIRST: u32 = 0u;
const RESIDUAL: u32 = 1u;

struct Params { batch: u32, units: u32, t: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> gx: array<Features>;          // (T, B, 3, H)
@group(0) @binding(1) var<storage, read> u: array<Features>;           // (B, 3, H)
@group(0) @binding(2) var<storage, read> residual: array<Features>;    // (T, B, H)
@group(0) @binding(3) var<storage, read_write> gates: array<Features>; // (T, B, 4, H)
@group(0) @binding(4) var<storage, read_write> h: array<Features>;     // (T + 1, B, H)
@group(0) @binding(5) var<storage, read_write> y: array<Features>;     // (T, B, H)

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
    let row = p.t * p.batch + b;
    let at = row * 3u * units + j;
    let own = select(b, 0u, FIRST == 1u) * 3u * units + j;
    let new_part = u[own + 2u * units];
    let r = sigmoids(gx[at] + u[own]);
    let z = sigmoids(gx[at + units] + u[own + units]);
    let n = tanhs(fma(r, new_part, gx[at + 2u * units]));
    var before = Features();
    if (FIRST == 1u) {
        h[p.t * slot + e] = Features();
    } else {
        before = h[p.t * slot + e];
    }
    let out = fma(z, before - n, n);
    let kept = row * 4u * units + j;
    gates[kept] = r;
    gates[kept + units] = z;
    gates[kept + 2u * units] = n;
    gates[kept + 3u * units] = new_part;
    h[(p.t + 1u) * slot + e] = out;
    var sum = out;
    if (RESIDUAL == 1u) {
        sum += residual[p.t * slot + e];
    }
    y[p.t * slot + e] = sum;
}
