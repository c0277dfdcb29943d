// Each pixel four times: nearest-neighbour upsampling by 2. With PLANES the source goes channel by channel, as PyTorch unflattens it.
// x: (batch, height, width, C), or (batch, C, height, width); y: (batch, 2 height, 2 width, C). Grid: one invocation an element of y. y is
// `=`.
// uses: common/grid
const WG: u32 = 64u;
const PLANES: u32 = 0u;

struct Params { batch: u32, height: u32, width: u32, channels: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (batch, height, width, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (batch, 2 height, 2 width, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * 4u * p.height * p.width * p.channels) {
        return;
    }
    let c = n % p.channels;
    let s = n / p.channels % (2u * p.width) / 2u;
    let r = n / p.channels / (2u * p.width) % (2u * p.height) / 2u;
    let b = n / p.channels / (4u * p.width * p.height);
    let pixel = ((b * p.height + r) * p.width + s) * p.channels + c;
    y[n] = x[select(pixel, ((b * p.channels + c) * p.height + r) * p.width + s, PLANES == 1u)];
}
