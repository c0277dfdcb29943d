// Gradient of nearest-neighbour upsampling by 2, y[2r + i, 2s + j] = x[r, s] for i, j = 0, 1. Each of the four copies has the derivative 1.
//   dx[r, s] = Σ_ij dy[2r + i, 2s + j]
// dy is (batch, 2 height, 2 width, C). dx is (batch, height, width, C), or (batch, C, height, width) with PLANES.
// One invocation computes one element of dx. dx is overwritten.
// uses: common/grid
const WG: u32 = 64u;
// The sizes of the images are consts, so that a division by them becomes a multiplication.
const HEIGHT: u32 = 2u;
const WIDTH: u32 = 2u;
const CHANNELS: u32 = 2u;
const PLANES: u32 = 0u;

struct Params { batch: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (batch, 2 height, 2 width, C)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (batch, height, width, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * HEIGHT * WIDTH * CHANNELS) {
        return;
    }
    let c = n % CHANNELS;
    let s = n / CHANNELS % WIDTH;
    let r = n / CHANNELS / WIDTH % HEIGHT;
    let b = n / CHANNELS / WIDTH / HEIGHT;
    let first = ((b * 2u * HEIGHT + 2u * r) * 2u * WIDTH + 2u * s) * CHANNELS + c;
    let below = first + 2u * WIDTH * CHANNELS;
    let sum = (dy[first] + dy[first + CHANNELS]) + (dy[below] + dy[below + CHANNELS]);
    dx[select(n, ((b * CHANNELS + c) * HEIGHT + r) * WIDTH + s, PLANES == 1u)] = sum;
}
