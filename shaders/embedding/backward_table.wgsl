// Gradient of the token table, a scatter without atomics. Row m is y[m] = table[ids[m]] + …, a product with one-hot rows, so
// ∂y[m]/∂table[v] = 1 where ids[m] = v, else 0: dtable[v] = Σ over m with ids[m] = v of dy[m], in the order of m, m = first … end − 1.
// ids: (rows); dy: (rows, cols); dtable: (vocab, cols). Grid: one workgroup a token v, each of which looks through all ids; with BY_COLUMN
// one invocation a column, each of which goes through all rows. The sums are the same, bit for bit. dtable is `+=` (common/sum).
// uses: common/grid, common/state, common/sum
const WG: u32 = 64u;
const BY_COLUMN: u32 = 0u;

struct Params { first: u32, end: u32, cols: u32, vocab: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;          // (rows)
@group(0) @binding(1) var<storage, read> dy: array<f32>;           // (rows, cols)
@group(0) @binding(2) var<storage, read_write> dtable: array<f32>; // (vocab, cols)
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if (BY_COLUMN == 1u) {
        let c = flat_group(group, groups) * WG + local;
        if (c < p.cols) {
            if (!begun()) {
                for (var v = 0u; v < p.vocab; v++) {
                    dtable[v * p.cols + c] = 0.0;
                }
            }
            for (var row = p.first; row < p.end; row++) {
                dtable[ids[row] * p.cols + c] += dy[row * p.cols + c];
            }
        }
        return;
    }
    let v = flat_group(group, groups);
    if (v >= p.vocab) {
        return;
    }
    if (!begun()) {
        for (var c = local; c < p.cols; c += WG) {
            dtable[v * p.cols + c] = 0.0;
        }
    }
    for (var row = p.first; row < p.end; row++) {
        if (ids[row] == v) {
            for (var c = local; c < p.cols; c += WG) {
                dtable[v * p.cols + c] += dy[row * p.cols + c];
            }
        }
    }
}
