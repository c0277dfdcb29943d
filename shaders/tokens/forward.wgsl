// Tokens of a mechanism's sequence, with t = first + m mod length.
//   t = 0: latent;  1: table[type] + positions[0];  2: sos + positions[1];  t ≥ 3: joint[(t − 3) mod joints] + positions[t − 1]
// latent is (batch, cols), ids is (batch), and table is (types, cols). sos is (cols), positions is (·, cols), joint is (batch, joints,
// cols), and y is (batch, length, cols).
// One invocation computes one element of y. y is overwritten.
// uses: common/grid, common/state
const WG: u32 = 64u;

struct Params { batch: u32, length: u32, cols: u32, joints: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> latent: array<f32>;    // (batch, cols)
@group(0) @binding(2) var<storage, read> ids: array<u32>;       // (batch)
@group(0) @binding(3) var<storage, read> table: array<f32>;     // (types, cols)
@group(0) @binding(4) var<storage, read> sos: array<f32>;       // (cols)
@group(0) @binding(5) var<storage, read> positions: array<f32>; // (·, cols)
@group(0) @binding(6) var<storage, read> joint: array<f32>;     // (batch, joints, cols)
@group(0) @binding(7) var<storage, read_write> y: array<f32>;   // (batch, length, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.cols) {
        return;
    }
    let c = i % p.cols;
    let b = i / p.cols / p.length;
    let t = state.position + i / p.cols % p.length;
    if (t == 0u) {
        y[i] = latent[b * p.cols + c];
        return;
    }
    let position = positions[(t - 1u) * p.cols + c];
    if (t == 1u) {
        y[i] = table[ids[b] * p.cols + c] + position;
    } else if (t == 2u) {
        y[i] = sos[c] + position;
    } else {
        y[i] = joint[(b * p.joints + (t - 3u) % p.joints) * p.cols + c] + position;
    }
}
