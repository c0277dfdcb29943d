// Gradients of what a mechanism's tokens are made of, sample by sample. Token t of y is a sum of its parts (tokens/forward), each with the
// derivative 1. Each of these parts is in one token alone, so its gradient is dy of that token.
//   dlatent[b] = dy[b, 0];  dtype[b] = dy[b, 1], by the row of the table that was taken;  djoint[b, j] = dy[b, j + 3]
// dy is (batch, 3 + joints, cols), dlatent and dtype are (batch, cols), and djoint is (batch, joints, cols). One invocation copies one
// element of dy. All outputs are overwritten.
// uses: common/grid
const WG: u32 = 64u;

struct Params { batch: u32, cols: u32, joints: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;            // (batch, 3 + joints, cols)
@group(0) @binding(1) var<storage, read_write> dlatent: array<f32>; // (batch, cols)
@group(0) @binding(2) var<storage, read_write> dtype: array<f32>;   // (batch, cols)
@group(0) @binding(3) var<storage, read_write> djoint: array<f32>;  // (batch, joints, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let length = p.joints + 3u;
    if (i >= p.batch * length * p.cols) {
        return;
    }
    let c = i % p.cols;
    let b = i / p.cols / length;
    let t = i / p.cols % length;
    if (t == 0u) {
        dlatent[b * p.cols + c] = dy[i];
    } else if (t == 1u) {
        dtype[b * p.cols + c] = dy[i];
    } else if (t > 2u) {
        djoint[(b * p.joints + t - 3u) * p.cols + c] = dy[i];
    }
}
