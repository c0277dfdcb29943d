// Rows of a table by index: y[b, t] = x[index[b], t]. With TIME_MAJOR, y[t, b] = x[index[b], t]. The table has 32-bit floats, or with HALF
// 16-bit floats in pairs.
// x is (N, length, cols), and index is (batch). y is (batch, length, cols), or (length, batch, cols) with TIME_MAJOR. One invocation copies
// one element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const HALF: u32 = 0u;
const TIME_MAJOR: u32 = 0u;

struct Params { batch: u32, length: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<u32>;       // (N, length, cols)
@group(0) @binding(1) var<storage, read> index: array<u32>;   // (batch)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.cols) {
        return;
    }
    let row = i / p.cols;
    let b = select(row / p.length, row % p.batch, TIME_MAJOR == 1u);
    let t = select(row % p.length, row / p.batch, TIME_MAJOR == 1u);
    let at = (index[b] * p.length + t) * p.cols + i % p.cols;
    if (HALF == 1u) {
        let pair = unpack2x16float(x[at / 2u]);
        y[i] = select(pair.x, pair.y, at % 2u == 1u);
    } else {
        y[i] = bitcast<f32>(x[at]);
    }
}
