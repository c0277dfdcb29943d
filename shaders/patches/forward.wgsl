// Patches of images, so that a same-padded convolution is a matrix product with its weights (Cout, C, k, k) as they lie.
//   y[(b, r, s), (c, i, j)] = x[b, r + i − k/2, s + j − k/2, c], 0 outside of the image
// x is (batch, height, width, C), and y is (batch · height · width, C · k · k), where k is odd. One invocation copies one element of y. y
// is overwritten.
// uses: common/grid
const WG: u32 = 64u;
// The sizes of the images are consts, so that a division by them becomes a multiplication.
const HEIGHT: u32 = 2u;
const WIDTH: u32 = 2u;
const CHANNELS: u32 = 2u;
const K: u32 = 3u;

struct Params { batch: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (batch, height, width, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (batch · height · width, C · k · k)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    let inputs = CHANNELS * K * K;
    if (n >= p.batch * HEIGHT * WIDTH * inputs) {
        return;
    }
    let pixel = n / inputs;
    let c = n % inputs / (K * K);
    // Unsigned: rows above the image wrap round and are out of range as those below.
    let row = pixel / WIDTH % HEIGHT + n / K % K - K / 2u;
    let column = pixel % WIDTH + n % K - K / 2u;
    var v = 0.0;
    if (row < HEIGHT && column < WIDTH) {
        v = x[((pixel / (WIDTH * HEIGHT) * HEIGHT + row) * WIDTH + column) * CHANNELS + c];
    }
    y[n] = v;
}
