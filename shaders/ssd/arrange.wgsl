// Sequences cut into chunks, with what the products take side by side. A row of xbc is x (heads, features), and with KEYS B and C (groups,
// states) behind it. The columns from `at` on are taken: all of them, or B and C alone. Rows after the end of a sequence are 0.
// xbc is (batch, length, width), and x is (chunk, head, position, features). keys and queries are B and C, (chunk, group, position,
// states).
// One invocation copies EACH of these elements of the rows, with the rows after the end. All outputs are overwritten.
// uses: common/grid, common/ssd
const WG: u32 = 64u;
// Number of elements that an invocation copies, which are of one row.
const EACH: u32 = 1u;
const VALUES: u32 = 1u;
const KEYS: u32 = 1u;

@group(0) @binding(0) var<storage, read> xbc: array<f32>;           // (batch, length, width)
@group(0) @binding(1) var<storage, read_write> x: array<f32>;       // (chunk, head, position, features)
@group(0) @binding(2) var<storage, read_write> keys: array<f32>;    // (chunk, group, position, states)
@group(0) @binding(3) var<storage, read_write> queries: array<f32>; // (chunk, group, position, states)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = (flat_group(group, groups) * WG + local) * EACH;
    let columns = p.width - p.at;
    if (e >= p.batch * p.chunks * p.size * columns) {
        return;
    }
    let chunk = e / columns / p.size;
    let i = e / columns % p.size;
    let column = p.at + e % columns;
    let t = chunk % p.chunks * p.size + i;
    let there = t < p.length;
    let from_row = (chunk / p.chunks * p.length + min(t, p.length - 1u)) * p.width + column;
    let features = p.heads * p.features;
    if (column < features) {
        if (VALUES == 0u) {
            return;
        }
        let at = by_head(chunk, column / p.features, i) * p.features + column % p.features;
        for (var k = 0u; k < EACH; k++) {
            x[at + k] = select(0.0, xbc[from_row + k], there);
        }
    } else if (KEYS == 1u) {
        let n = (column - features) % (p.groups * p.states);
        let at = ((chunk * p.groups + n / p.states) * p.size + i) * p.states + n % p.states;
        for (var k = 0u; k < EACH; k++) {
            let v = select(0.0, xbc[from_row + k], there);
            if (column - features < p.groups * p.states) {
                keys[at + k] = v;
            } else {
                queries[at + k] = v;
            }
        }
    }
}
