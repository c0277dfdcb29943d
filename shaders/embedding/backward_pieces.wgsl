// What embedding/backward_runs leaves of runs that lie in several blocks: each is a sum of pieces, block by block.
//   dtable[v] += pieces[b, 1] + pieces[b + 1, 0] + … for the run of the token v that begins in block b and goes on
// ids is (rows), order is (count), dtable is (vocab, cols), and pieces is (blocks, 2, cols).
// One invocation computes one column of the run that goes on after block b, if one begins there. dtable is added to.
// uses: common/grid
const WG: u32 = 64u;
const BLOCK: u32 = 64u;

struct Params { count: u32, cols: u32, blocks: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;          // (rows)
@group(0) @binding(1) var<storage, read> order: array<u32>;        // (count)
@group(0) @binding(2) var<storage, read> pieces: array<f32>;       // (blocks, 2, cols)
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>; // (vocab, cols)

fn token_at(place: u32) -> u32 {
    return ids[order[place]];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let wide = (p.cols + WG - 1u) / WG;
    let block = flat_group(group, groups) / wide;
    let c = flat_group(group, groups) % wide * WG + local;
    let begin = block * BLOCK;
    if (block + 1u >= p.blocks || c >= p.cols) {
        return;
    }
    let token = token_at(begin + BLOCK - 1u);
    if (token_at(begin + BLOCK) != token) {
        return;
    }
    if (begin > 0u && token_at(max(begin, 1u) - 1u) == token) {
        // It began in a block before.
        return;
    }
    var sum = pieces[(block * 2u + 1u) * p.cols + c];
    for (var other = block + 1u; other < p.blocks; other++) {
        sum += pieces[other * 2u * p.cols + c];
        let next = (other + 1u) * BLOCK;
        if (next >= p.count || token_at(min(next, p.count - 1u)) != token) {
            break;
        }
    }
    dtable[token * p.cols + c] += sum;
}
