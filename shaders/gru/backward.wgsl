// Gradient of one time step of the GRU cell (Cho et al. 2014, eq. 5 to 8, with the reset gate after the product, as in torch.nn.GRU). Time
// steps go from the last to the first. The forward pass was:
//   u = W_hh h_{t−1} + b_hh;  r = σ(gx_r + u_r), z = σ(gx_z + u_z), n = tanh(gx_n + r u_n)
//   h_t = (1 − z) n + z h_{t−1};  y_t = h_t + residual_t
// h_t is used in y_t, and in step t + 1 in u and beside z:
//   dh = dy_t + du W_hh + dh_{t+1} z_{t+1}, with du of step t + 1
// The derivatives of h are ∂h/∂n = 1 − z and ∂h/∂z = h_{t−1} − n. Those of the argument of n, gx_n + r u_n, are ∂/∂r = u_n and ∂/∂u_n = r.
// With tanh' = 1 − tanh² and σ' = σ (1 − σ), the gradients before the activations are:
//   dn = dh (1 − z)(1 − n²), dr = dn u_n r(1 − r), dz = dh (h_{t−1} − n) z(1 − z)
//   of gx: (dr, dz, dn), of u: (dr, dz, dn r)
// gates is (T, B, 4, H), h is (T + 1, B, H), dy is (T, B, H), and dgx and du are (T, B, 3, H). dh and direct are (B, H). With LATER, dh is
// what comes through W_hh from step t + 1, and direct holds dh z of that step.
// One invocation computes FEATURES units of one sequence. Slot t of dgx and du is overwritten, and so is direct, with dh z of this step.
// uses: common/features_4 | common/features_1, common/grid
const WG: u32 = 64u;
const LATER: u32 = 1u;

struct Params { batch: u32, units: u32, t: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> gates: array<Features>;        // (T, B, 4, H)
@group(0) @binding(1) var<storage, read> h: array<Features>;            // (T + 1, B, H)
@group(0) @binding(2) var<storage, read> dy: array<Features>;           // (T, B, H)
@group(0) @binding(3) var<storage, read> dh: array<Features>;           // (B, H)
@group(0) @binding(4) var<storage, read_write> direct: array<Features>; // (B, H)
@group(0) @binding(5) var<storage, read_write> dgx: array<Features>;    // (T, B, 3, H)
@group(0) @binding(6) var<storage, read_write> du: array<Features>;     // (T, B, 3, H)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    let units = p.units / FEATURES;
    let slot = p.batch * units;
    if (e >= slot) {
        return;
    }
    let row = p.t * p.batch + e / units;
    let j = e % units;
    let kept = row * 4u * units + j;
    let r = gates[kept];
    let z = gates[kept + units];
    let n = gates[kept + 2u * units];
    let new_part = gates[kept + 3u * units];
    var d = dy[p.t * slot + e];
    if (LATER == 1u) {
        d += dh[e];
        d += direct[e];
    }
    direct[e] = d * z;
    let dn = d * (1.0 - z) * (1.0 - n * n);
    let dr = dn * new_part * r * (1.0 - r);
    let dz = d * (h[p.t * slot + e] - n) * z * (1.0 - z);
    let at = row * 3u * units + j;
    dgx[at] = dr;
    dgx[at + units] = dz;
    dgx[at + 2u * units] = dn;
    du[at] = dr;
    du[at + units] = dz;
    du[at + 2u * units] = dn * r;
}
