// Gradient of the token table, a scatter without atomics. Row m is y[m] = table[ids[m]] + …, a product with one-hot rows. So
// ∂y[m]/∂table[v] is 1 where ids[m] = v, else 0.
//   dtable[v] = Σ over m with ids[m] = v of dy[m], in the order of m, m = first … end − 1
// ids is (rows), dy is (rows, cols), and dtable is (vocab, cols).
// This is for few tokens: one workgroup computes WG columns of a token v, loads all rows and leaves out those of other tokens. With
// BY_COLUMN, which is for processors, one invocation computes one column and goes through all rows. The sums are the same, bit for bit.
// Large tables have embedding/backward_runs. dtable is added to (common/sum).
// uses: common/grid, common/state, common/sum
const WG: u32 = 64u;
const BY_COLUMN: u32 = 0u;
// Number of ids whose loads are under way together.
const AT_ONCE: u32 = 16u;

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
            if (!accumulates()) {
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
    let blocks = (p.cols + WG - 1u) / WG;
    let v = flat_group(group, groups) / blocks;
    let c = flat_group(group, groups) % blocks * WG + local;
    if (v >= p.vocab || c >= p.cols) {
        return;
    }
    var sum = 0.0;
    if (accumulates()) {
        sum = dtable[v * p.cols + c];
    }
    for (var row = p.first; row < p.end; row += AT_ONCE) {
        var found = 0u;
        for (var i = 0u; i < AT_ONCE; i++) {
            found |= select(0u, 1u << i, ids[min(row + i, p.end - 1u)] == v && row + i < p.end);
        }
        for (var i = 0u; i < AT_ONCE; i++) {
            sum += select(0.0, dy[min(row + i, p.end - 1u) * p.cols + c], (found >> i & 1u) == 1u);
        }
    }
    dtable[v * p.cols + c] = sum;
}
