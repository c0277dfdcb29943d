// Gradient of the largest of 2 × 2 pixels, y = x_m with m = argmax. ∂y/∂x_i is 1 for i = m, else 0, so dx_i = dy where i = m. Where several
// are equal, y has a corner, and the first is m, as in PyTorch.
// x and dx are (batch, height, width, C). dy is (batch, height/2, width/2, C), or (batch, C, height/2, width/2) with PLANES.
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
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (batch, height, width, C)
@group(0) @binding(1) var<storage, read> dy: array<f32>;       // (batch, height/2, width/2, C)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // (batch, height, width, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * HEIGHT * WIDTH * CHANNELS) {
        return;
    }
    let h = HEIGHT / 2u;
    let w = WIDTH / 2u;
    let c = n % CHANNELS;
    let s = n / CHANNELS % WIDTH;
    let r = n / CHANNELS / WIDTH % HEIGHT;
    let b = n / CHANNELS / WIDTH / HEIGHT;
    let first = ((b * HEIGHT + r / 2u * 2u) * WIDTH + s / 2u * 2u) * CHANNELS + c;
    let below = first + WIDTH * CHANNELS;
    let v0 = x[first];
    let v1 = x[first + CHANNELS];
    let v2 = x[below];
    let v3 = x[below + CHANNELS];
    let top = max(max(v0, v1), max(v2, v3));
    let winner = select(select(select(3u, 2u, v2 == top), 1u, v1 == top), 0u, v0 == top);
    let pooled = ((b * h + r / 2u) * w + s / 2u) * CHANNELS + c;
    let plane = ((b * CHANNELS + c) * h + r / 2u) * w + s / 2u;
    dx[n] = select(0.0, dy[select(pooled, plane, PLANES == 1u)], winner == r % 2u * 2u + s % 2u);
}
