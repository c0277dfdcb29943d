// Attention of one new position over a cache of the earlier ones. The new key and value enter the cache, at t = state.position.
//   keys[b, g, t] ← k, values[b, g, t] ← v;  y = Σ_{j ≤ t} softmax_j(q · k_j / √D) v_j
// Row r of the batch finds its earlier position j in row sources[r, j] of the cache, so that a beam that splits copies nothing.
// Head g of the cache serves H / KV heads of queries (Ainslie et al. 2023), which have its new key and value in qkv, each its own copy.
// qkv is (B, 3, H, D), keys and values are (B, KV, limit, D), sources is (B, limit), and y is (B, H, D).
// One invocation computes one (b, h), and the first of a group writes the cache. y and position t of the cache are overwritten.
// uses: common/grid, common/math, common/state
const WG: u32 = 8u;
const D: u32 = 16u;

struct Params { batch: u32, heads: u32, kv_heads: u32, limit: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;          // (B, 3, H, D)
@group(0) @binding(2) var<storage, read> sources: array<u32>;      // (B, limit)
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;   // (B, KV, limit, D)
@group(0) @binding(4) var<storage, read_write> values: array<f32>; // (B, KV, limit, D)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;      // (B, H, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = flat_group(group, groups) * WG + local;
    if (head >= p.batch * p.heads || state.position >= p.limit) {
        return;
    }
    let b = head / p.heads;
    let h = head % p.heads;
    let served = p.heads / p.kv_heads;
    let scale = 1.0 / sqrt(f32(D));
    let own = (b * 3u * p.heads + h) * D;
    let part = p.heads * D;
    var q: array<f32, D>;
    var o: array<f32, D>;
    // The softmax begins with the new position, which is not read from the cache: another invocation may be writing it.
    var best = 0.0;
    for (var c = 0u; c < D; c++) {
        q[c] = qkv[own + c] * scale;
        o[c] = qkv[own + 2u * part + c];
        best = fma(q[c], qkv[own + part + c], best);
    }
    if (h % served == 0u) {
        let to = ((b * p.kv_heads + h / served) * p.limit + state.position) * D;
        for (var c = 0u; c < D; c++) {
            keys[to + c] = qkv[own + part + c];
            values[to + c] = qkv[own + 2u * part + c];
        }
    }
    var total = 1.0;
    for (var j = 0u; j < min(state.position, p.limit); j++) {
        let at = ((sources[b * p.limit + j] * p.kv_heads + h / served) * p.limit + j) * D;
        var s = 0.0;
        for (var c = 0u; c < D; c++) {
            s = fma(q[c], keys[at + c], s);
        }
        let top = max(best, s);
        let shrink = exp_accurate(best - top);
        let e = exp_accurate(s - top);
        best = top;
        total = fma(total, shrink, e);
        for (var c = 0u; c < D; c++) {
            o[c] = fma(e, values[at + c], o[c] * shrink);
        }
    }
    for (var c = 0u; c < D; c++) {
        y[head * D + c] = o[c] / total;
    }
}
