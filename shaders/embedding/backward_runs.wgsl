// Gradient of a large token table, a scatter without atomics that touches only the tokens that there are. Row m is y[m] = table[ids[m]] +
// …, a product with one-hot rows. So ∂y[m]/∂table[v] is 1 where ids[m] = v, else 0.
//   dtable[v] += Σ over m with ids[m] = v of dy[m]
// order has the rows sorted by their tokens (embedding/order), so that those of a token are a run. A block is BLOCK places of it.
// What begins and ends in a block is added to dtable here. What a block has of a run that comes from the block before goes to
// pieces[block, 0], and of one that begins here and goes on in the next to pieces[block, 1], for embedding/backward_pieces; 0 where there
// is none.
// ids is (rows), order is (count), dy is (rows, cols), dtable is (vocab, cols), and pieces is (blocks, 2, cols).
// One invocation adds up a block for one column. dtable is added to, and pieces are overwritten.
// uses: common/grid
const WG: u32 = 64u;
const BLOCK: u32 = 64u;
// Number of rows whose loads are under way together; it divides BLOCK.
const AT_ONCE: u32 = 16u;

struct Params { count: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;          // (rows)
@group(0) @binding(1) var<storage, read> order: array<u32>;        // (count)
@group(0) @binding(2) var<storage, read> dy: array<f32>;           // (rows, cols)
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>; // (vocab, cols)
@group(0) @binding(4) var<storage, read_write> pieces: array<f32>; // (blocks, 2, cols)

// Token at a place of the order; past the last one, that of the last.
fn token_at(place: u32) -> u32 {
    return ids[order[min(place, p.count - 1u)]];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let wide = (p.cols + WG - 1u) / WG;
    let block = flat_group(group, groups) / wide;
    let c = flat_group(group, groups) % wide * WG + local;
    let begin = block * BLOCK;
    if (begin >= p.count || c >= p.cols) {
        return;
    }
    let end = min(begin + BLOCK, p.count);
    // Whether the run at hand comes from the block before.
    var continued = begin > 0u && token_at(max(begin, 1u) - 1u) == token_at(begin);
    var sum = 0.0;
    var from_before = 0.0;
    var goes_on = 0.0;
    for (var at = 0u; at < BLOCK; at += AT_ONCE) {
        var tokens: array<u32, AT_ONCE>;
        var values: array<f32, AT_ONCE>;
        for (var i = 0u; i < AT_ONCE; i++) {
            let row = order[min(begin + at + i, p.count - 1u)];
            tokens[i] = ids[row];
            values[i] = dy[row * p.cols + c];
        }
        let after = token_at(begin + at + AT_ONCE);
        for (var i = 0u; i < AT_ONCE; i++) {
            let next = begin + at + i + 1u;
            if (next <= end) {
                sum += values[i];
                let ends = next == p.count || select(tokens[min(i + 1u, AT_ONCE - 1u)], after, i == AT_ONCE - 1u) != tokens[i];
                if (ends && !continued) {
                    dtable[tokens[i] * p.cols + c] += sum;
                } else if (continued && (ends || next == end)) {
                    from_before = sum;
                } else if (next == end) {
                    goes_on = sum;
                }
                if (ends) {
                    continued = false;
                    sum = 0.0;
                }
            }
        }
    }
    pieces[block * 2u * p.cols + c] = from_before;
    pieces[(block * 2u + 1u) * p.cols + c] = goes_on;
}
