// Patches of images, so that a same-padded convolution is a matrix product with its weights (Cout, C, k, k) as they lie.
//   y[(b, r, s), (c, i, j)] = x[b, r + i − k/2, s + j − k/2, c], 0 outside of the image
// x is (at least x_at / (height · width · C) + batch, height, width, C), of which the images from element x_at on are taken. y is (at least
// batch · height · width, C · k · k), where k is odd. One invocation copies EACH elements of a row of y, of which there are a multiple. The
// first batch · height · width rows of y are overwritten.
// uses: common/grid
const WG: u32 = 64u;
// The sizes of the images are consts, so that a division by them becomes a multiplication.
const HEIGHT: u32 = 2u;
const WIDTH: u32 = 2u;
const CHANNELS: u32 = 2u;
const K: u32 = 3u;
const INPUTS: u32 = CHANNELS * K * K;
const EACH: u32 = 1u;

struct Params { batch: u32, x_at: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (at least x_at / (height · width · C) + batch, height, width, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (at least batch · height · width, C · k · k)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = (flat_group(group, groups) * WG + local) * EACH;
    if (n >= p.batch * HEIGHT * WIDTH * INPUTS) {
        return;
    }
    let pixel = n / INPUTS;
    let top = pixel / WIDTH % HEIGHT;
    let left = pixel % WIDTH;
    let image = p.x_at + pixel / (WIDTH * HEIGHT) * (HEIGHT * WIDTH * CHANNELS);
    for (var e = 0u; e < EACH; e++) {
        let input = n % INPUTS + e;
        // Unsigned: rows above the image wrap round and are out of range as those below.
        let row = top + input / K % K - K / 2u;
        let column = left + input % K - K / 2u;
        let inside = row < HEIGHT && column < WIDTH;
        let v = x[image + select(0u, (row * WIDTH + column) * CHANNELS + input / (K * K), inside)];
        y[n + e] = select(0.0, v, inside);
    }
}
