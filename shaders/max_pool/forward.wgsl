// Largest of each 2 × 2 pixels. With PLANES the result goes channel by channel, as PyTorch flattens it.
// x: (batch, height, width, C), height and width even; y: (batch, height/2, width/2, C), or (batch, C, height/2, width/2).
// Grid: one invocation an element of y. y is `=`.
// uses: common/grid
const WG: u32 = 64u;
const PLANES: u32 = 0u;

struct Params { batch: u32, height: u32, width: u32, channels: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (batch, height, width, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (batch, height/2, width/2, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    let h = p.height / 2u;
    let w = p.width / 2u;
    if (n >= p.batch * h * w * p.channels) {
        return;
    }
    let c = n % p.channels;
    let s = n / p.channels % w;
    let r = n / p.channels / w % h;
    let b = n / p.channels / w / h;
    let first = ((b * p.height + 2u * r) * p.width + 2u * s) * p.channels + c;
    let below = first + p.width * p.channels;
    let top = max(max(x[first], x[first + p.channels]), max(x[below], x[below + p.channels]));
    y[select(n, ((b * p.channels + c) * h + r) * w + s, PLANES == 1u)] = top;
}
