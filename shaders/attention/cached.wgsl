// Attention of one new position over a cache of the earlier ones. The new key and value enter the cache, at t = state.position.
//   keys[b, g, t] ← k, values[b, g, t] ← v;  y = Σ_{j ≤ t} softmax_j(q · k_j / √D) v_j
// Row b of the batch finds its earlier position j in row sources[b, j] of the cache, so that a beam that splits copies nothing. The new
// key and value themselves are read from qkv, as another invocation may still be writing them.
// Head g of the cache serves H / KV heads of queries (Ainslie et al. 2023), which have its new key and value in qkv, each its own copy. The
// first of them writes the cache.
// qkv is (B, 3, H, D), keys and values are (B, KV, limit, D), sources is (B, limit), and y is (B, H, D).
// A workgroup computes one (b, h): its invocations have one position j each for the scores of a tile of WG positions, and one column, or
// COLS of them, of one of SLICES parts of the tile for the sum of the values. y and position t of the cache are overwritten.
// uses: common/grid, common/math, common/state
const WG: u32 = 64u;
const D: u32 = 16u;
const SLICES: u32 = max(1u, WG / D);
const COLS: u32 = (D + WG - 1u) / WG;

struct Params { batch: u32, heads: u32, kv_heads: u32, limit: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;          // (B, 3, H, D)
@group(0) @binding(2) var<storage, read> sources: array<u32>;      // (B, limit)
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;   // (B, KV, limit, D)
@group(0) @binding(4) var<storage, read_write> values: array<f32>; // (B, KV, limit, D)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;      // (B, H, D)

var<workgroup> query: array<f32, D>;
// Scores of a tile, then their exponentials; at the end a column of each slice.
var<workgroup> tile: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = flat_group(group, groups);
    let t = state.position;
    if (head >= p.batch * p.heads || t >= p.limit) {
        return;
    }
    let b = head / p.heads;
    let h = head % p.heads;
    let part = p.heads * D;
    let own = (b * 3u * p.heads + h) * D;
    let served = p.heads / p.kv_heads;
    let entry = ((b * p.kv_heads + h / served) * p.limit + t) * D;
    for (var c = local; c < D; c += WG) {
        query[c] = qkv[own + c] / sqrt(f32(D));
        if (h % served == 0u) {
            keys[entry + c] = qkv[own + part + c];
            values[entry + c] = qkv[own + 2u * part + c];
        }
    }
    let slice = local / D;
    let column = local % D;
    var o: array<f32, COLS>;
    var best = -3.0e38;
    var total = 0.0;
    for (var first = 0u; first < min(t + 1u, p.limit); first += WG) {
        let count = min(WG, t + 1u - first);
        workgroupBarrier();
        var s = -3.0e38;
        let j = first + local;
        if (local < count) {
            s = 0.0;
            if (j < t) {
                let at = ((sources[b * p.limit + j] * p.kv_heads + h / served) * p.limit + j) * D;
                for (var c = 0u; c < D; c++) {
                    s = fma(query[c], keys[at + c], s);
                }
            } else {
                for (var c = 0u; c < D; c++) {
                    s = fma(query[c], qkv[own + part + c], s);
                }
            }
        }
        tile[local] = s;
        workgroupBarrier();
        var top = best;
        for (var k = 0u; k < count; k++) {
            top = max(top, tile[k]);
        }
        workgroupBarrier();
        tile[local] = exp_accurate(s - top);
        workgroupBarrier();
        let shrink = exp_accurate(best - top);
        best = top;
        total *= shrink;
        for (var k = 0u; k < count; k++) {
            total += tile[k];
        }
        for (var i = 0u; i < COLS; i++) {
            o[i] *= shrink;
        }
        if (slice < SLICES) {
            for (var k = slice; k < count; k += SLICES) {
                let j = first + k;
                let e = tile[k];
                if (j < t) {
                    let at = ((sources[b * p.limit + j] * p.kv_heads + h / served) * p.limit + j) * D;
                    for (var c = column; c < D; c += WG) {
                        o[c / WG] = fma(e, values[at + c], o[c / WG]);
                    }
                } else {
                    for (var c = column; c < D; c += WG) {
                        o[c / WG] = fma(e, qkv[own + 2u * part + c], o[c / WG]);
                    }
                }
            }
        }
    }
    workgroupBarrier();
    tile[local] = o[0];
    workgroupBarrier();
    if (slice == 0u) {
        for (var k = 1u; k < SLICES; k++) {
            o[0] += tile[local + k * D];
        }
        for (var c = column; c < D; c += WG) {
            y[head * D + c] = o[c / WG] / total;
        }
    }
}
