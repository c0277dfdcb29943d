// Largest of each 2 × 2 pixels. With PLANES, the result goes channel by channel, as PyTorch flattens it.
// x is (batch, height, width, C), where height and width are even. y is (batch, height/2, width/2, C), or (batch, C, height/2, width/2)
// with PLANES.
// One invocation computes one element of y. y is overwritten.
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
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (batch, height/2, width/2, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    let h = HEIGHT / 2u;
    let w = WIDTH / 2u;
    if (n >= p.batch * h * w * CHANNELS) {
        return;
    }
    let c = n % CHANNELS;
    let s = n / CHANNELS % w;
    let r = n / CHANNELS / w % h;
    let b = n / CHANNELS / w / h;
    let first = ((b * HEIGHT + 2u * r) * WIDTH + 2u * s) * CHANNELS + c;
    let below = first + WIDTH * CHANNELS;
    let top = max(max(x[first], x[first + CHANNELS]), max(x[below], x[below + CHANNELS]));
    y[select(n, ((b * CHANNELS + c) * h + r) * w + s, PLANES == 1u)] = top;
}
