// Gradient of moments/value by x, over the n rows that count. The statistics of a column are μ = Σ x / n and σ² = Σ (x − μ)² / (n − 1). As
// Σ (x − μ) = 0, nothing is left of the way through μ in the derivative of σ.
//   ∂μ/∂x = 1 / n;  2 σ ∂σ/∂x = 2 (x − μ) / (n − 1), so ∂σ/∂x = (x − μ) / ((n − 1) σ)
// With MATCH 1, the gradient is (2/C) ((μ − μ') ∂μ/∂x + (σ − σ') ∂σ/∂x). With MATCH 0, it is that of the variance term of VICReg (Bardes et
// al. 2022, eq. 1 and 2, with γ = 1 and ε = 0): −(1/C) ∂σ/∂x where the hinge is open.
//   MATCH 1: scale · weight · 2 / C · ((μ − μ') / n + (σ − σ')(x − μ) / ((n − 1) σ))
//   MATCH 0: −scale · weight / C · (x − μ) / ((n − 1) σ) where σ < 1
// Where σ = 0 its gradient is 0, as in PyTorch.
// x and dx are (rows, C), and stats and other are (2, C). One invocation computes one element. dx is added to with ACCUMULATE, else
// overwritten.
// uses: common/grid, common/state
const WG: u32 = 64u;
const MATCH: u32 = 1u;
const ACCUMULATE: u32 = 0u;

struct Params { rows: u32, width: u32, weight: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, C)
@group(0) @binding(2) var<storage, read> stats: array<f32>;    // (2, C)
@group(0) @binding(3) var<storage, read> other: array<f32>;    // (2, C)
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // (rows, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    if (e >= p.rows * p.width) {
        return;
    }
    let c = e % p.width;
    let n = min(p.rows, state.rows);
    let mean = stats[c];
    let deviation = stats[p.width + c];
    let slope = select(0.0, (x[e] - mean) / (f32(max(n, 2u) - 1u) * deviation), deviation > 0.0);
    var v = select(0.0, -slope, deviation < 1.0);
    if (MATCH == 1u) {
        v = 2.0 * ((mean - other[c]) / f32(n) + (deviation - other[p.width + c]) * slope);
    }
    v = select(0.0, state.scale * p.weight / f32(p.width) * v, e / p.width < n);
    if (ACCUMULATE == 1u) {
        v += dx[e];
    }
    dx[e] = v;
}
