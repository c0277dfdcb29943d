// Keys and values of whole sequences enter the cache, at positions 0 to M − 1.
//   keys[b, h, m] ← k[b, m, h],  values[b, h, m] ← v[b, m, h]
// qkv is (B, M, 3, H, D), keys and values are (B, H, limit, D). One invocation copies one number of each. Positions from M on keep what
// they have.
// uses: common/grid
const WG: u32 = 64u;

struct Params { batch: u32, positions: u32, heads: u32, head_dim: u32, limit: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> qkv: array<f32>;          // (B, M, 3, H, D)
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;   // (B, H, limit, D)
@group(0) @binding(2) var<storage, read_write> values: array<f32>; // (B, H, limit, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let part = p.heads * p.head_dim;
    if (i >= p.batch * p.positions * part) {
        return;
    }
    let row = i / part;
    let c = i % p.head_dim;
    let h = i / p.head_dim % p.heads;
    let own = row * 3u * part + i % part;
    let entry = ((row / p.positions * p.heads + h) * p.limit + row % p.positions) * p.head_dim + c;
    keys[entry] = qkv[own + part];
    values[entry] = qkv[own + 2u * part];
}
