// rope/rotate, with its derivation, four pairs at a time, for heads of a multiple of 8 features.
// x y: (rows, 3, H, D); table: (limit, D/2, 2) cos and sin, from the host in f64.
// Grid: one invocation four pairs. y is `=`.
// uses: common/grid, common/state
const WG: u32 = 64u;

struct Params { rows: u32, length: u32, heads: u32, head_dim: u32, sign: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (rows, 3, H, D)
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;   // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (rows, 3, H, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 8u;
    if (i >= p.rows * 3u * p.heads * half) {
        return;
    }
    let c = i % half;
    let head = i / half;
    let row = head / (3u * p.heads);
    let part = head / p.heads % 3u;
    let at = head * 2u * half + c;
    let a = x[at];
    let b = x[at + half];
    let angle = ((state.position + row % p.length) * half + c) * 2u;
    let first = table[angle];
    let second = table[angle + 1u];
    let cosine = select(vec4<f32>(first.xz, second.xz), vec4<f32>(1.0), part == 2u);
    let sine = select(p.sign * vec4<f32>(first.yw, second.yw), vec4<f32>(0.0), part == 2u);
    y[at] = a * cosine - b * sine;
    y[at + half] = b * cosine + a * sine;
}
