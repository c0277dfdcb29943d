// Gradient of nearest-neighbour upsampling by 2, y[2r + i, 2s + j] = x[r, s] for i, j = 0, 1: each of the four copies has derivative 1, so
// dx[r, s] = Σ_ij dy[2r + i, 2s + j].
// dy: (batch, 2 height, 2 width, C); dx: (batch, height, width, C), or with PLANES (batch, C, height, width).
// Grid: one invocation an element of dx. dx is `=`.
// uses: common/grid
const WG: u32 = 64u;
const PLANES: u32 = 0u;

struct Params { batch: u32, height: u32, width: u32, channels: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (batch, 2 height, 2 width, C)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (batch, height, width, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * p.height * p.width * p.channels) {
        return;
    }
    let c = n % p.channels;
    let s = n / p.channels % p.width;
    let r = n / p.channels / p.width % p.height;
    let b = n / p.channels / p.width / p.height;
    let first = ((b * 2u * p.height + 2u * r) * 2u * p.width + 2u * s) * p.channels + c;
    let below = first + 2u * p.width * p.channels;
    let sum = (dy[first] + dy[first + p.channels]) + (dy[below] + dy[below + p.channels]);
    dx[select(n, ((b * p.channels + c) * p.height + r) * p.width + s, PLANES == 1u)] = sum;
}
