// Gradient of the patches (Chellapilla et al. 2006), y[(b, u, v), (c, i, j)] = x[b, u + i − k/2, v + j − k/2, c]. These are copies, so each
// pixel gathers dy from the patches that hold it. They are u = r − i + k/2 and v = s − j + k/2 within the image, in a fixed order.
//   dx[b, r, s, c] = Σ_{i, j} dy[(b, r − i + k/2, s − j + k/2), (c, i, j)]
// dy is (at least batch · height · width, C · k · k), and dx is (at least dx_at / (height · width · C) + batch, height, width, C). One
// invocation computes one element of dx, which is overwritten from element dx_at on.
// uses: common/grid
const WG: u32 = 64u;
// The sizes of the images are consts, so that a division by them becomes a multiplication.
const HEIGHT: u32 = 2u;
const WIDTH: u32 = 2u;
const CHANNELS: u32 = 2u;
const K: u32 = 3u;

struct Params { batch: u32, dx_at: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (at least batch · height · width, C · k · k)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (at least dx_at / (height · width · C) + batch, height, width, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * HEIGHT * WIDTH * CHANNELS) {
        return;
    }
    let c = n % CHANNELS;
    let pixel = n / CHANNELS;
    let inputs = CHANNELS * K * K;
    var sum = 0.0;
    for (var i = 0u; i < K; i++) {
        let row = pixel / WIDTH % HEIGHT + K / 2u - i;
        for (var j = 0u; j < K; j++) {
            let column = pixel % WIDTH + K / 2u - j;
            if (row < HEIGHT && column < WIDTH) {
                let source = (pixel / (WIDTH * HEIGHT) * HEIGHT + row) * WIDTH + column;
                sum += dy[source * inputs + (c * K + i) * K + j];
            }
        }
    }
    dx[p.dx_at + n] = sum;
}
