// Rows in the order of their tokens, and of the rows themselves where the tokens are the same, for embedding/backward_runs. A row comes
// after as many others as have a smaller token, or the same one and a smaller number.
//   order[#{n : (ids[n], n) < (ids[m], m)}] = m,   m, n = first … end − 1
// ids is (rows), and order is (end − first). One invocation places one row and looks at all. order is overwritten.
// uses: common/grid
const WG: u32 = 64u;
// Number of ids whose loads are under way together.
const AT_ONCE: u32 = 16u;

struct Params { first: u32, end: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;         // (rows)
@group(0) @binding(1) var<storage, read_write> order: array<u32>; // (end − first)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = p.first + flat_group(group, groups) * WG + local;
    let id = ids[min(row, p.end - 1u)];
    var place = 0u;
    for (var start = p.first; start < p.end; start += AT_ONCE) {
        for (var i = 0u; i < AT_ONCE; i++) {
            let other = start + i;
            let token = ids[min(other, p.end - 1u)];
            place += select(0u, 1u, other < p.end && (token < id || (token == id && other < row)));
        }
    }
    if (row < p.end) {
        order[place] = row;
    }
}
