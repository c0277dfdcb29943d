// Keys and values of whole sequences enter the cache, at positions 0 to M − 1.
//   keys[b, g, m] ← k[b, m, h],  values[b, g, m] ← v[b, m, h],  h = g H / KV, the first of the heads that g serves
// qkv is (B, M, 3, H, D), keys and values are (B, KV, limit, D). One invocation copies one number of each. Positions from M on keep
// what they have.
// uses: common/grid
const WG: u32 = 64u;

struct Params { batch: u32, positions: u32, heads: u32, kv_heads: u32, head_dim: u32, limit: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> qkv: array<f32>;          // (B, M, 3, H, D)
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;   // (B, KV, limit, D)
@group(0) @binding(2) var<storage, read_write> values: array<f32>; // (B, KV, limit, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let kept = p.kv_heads * p.head_dim;
    if (i >= p.batch * p.positions * kept) {
        return;
    }
    let row = i / kept;
    let c = i % p.head_dim;
    let g = i / p.head_dim % p.kv_heads;
    let part = p.heads * p.head_dim;
    let own = row * 3u * part + g * (p.heads / p.kv_heads) * p.head_dim + c;
    let entry = ((row / p.positions * p.kv_heads + g) * p.limit + row % p.positions) * p.head_dim + c;
    keys[entry] = qkv[own + part];
    values[entry] = qkv[own + 2u * part];
}
