// Nearest-neighbour upsampling by 2, which gives each pixel four times. With PLANES, the source goes channel by channel, as PyTorch
// unflattens it.
// x is (batch, height, width, C), or (batch, C, height, width) with PLANES. y is (batch, 2 height, 2 width, C).
// One invocation copies one element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;
// The sizes of the images are consts, so that a division by them becomes a multiplication.
const HEIGHT: u32 = 2u;
const WIDTH: u32 = 2u;
const CHANNELS: u32 = 2u;
const PLANES: u32 = 0u;

struct Params { batch: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (batch, height, width, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (batch, 2 height, 2 width, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * 4u * HEIGHT * WIDTH * CHANNELS) {
        return;
    }
    let c = n % CHANNELS;
    let s = n / CHANNELS % (2u * WIDTH) / 2u;
    let r = n / CHANNELS / (2u * WIDTH) % (2u * HEIGHT) / 2u;
    let b = n / CHANNELS / (4u * WIDTH * HEIGHT);
    let pixel = ((b * HEIGHT + r) * WIDTH + s) * CHANNELS + c;
    y[n] = x[select(pixel, ((b * CHANNELS + c) * HEIGHT + r) * WIDTH + s, PLANES == 1u)];
}
