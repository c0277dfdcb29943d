// Rows in the other order of their two axes: y[b, a] = x[a, b], each a row of cols numbers. With REVERSE, one axis is time, and goes
// backwards in y.
//   REVERSE 1: y[rev(b), a] = x[a, b];  2: y[b, rev(a)] = x[a, b];  rev(t) = n − 1 − t for t < n, else t
// n is the length of the axis, or with LENGTHS that of the sequence, lengths[a] or lengths[b]. rev is its own inverse, so the gradient is
// the same pass with the axes exchanged. It is dx[a, b] = dy[b, a], with REVERSE 1 for 2 and 2 for 1.
// x is (first, second, cols), lengths is (batch), and y is (second, first, cols). One invocation copies one element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const REVERSE: u32 = 0u;
const LENGTHS: u32 = 0u;

struct Params { first: u32, second: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (first, second, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (second, first, cols)
@group(0) @binding(2) var<storage, read> lengths: array<u32>; // (batch)

// The place of position t of `count` when the sequence with this number goes backwards.
fn reversed(t: u32, count: u32, sequence: u32) -> u32 {
    var n = count;
    if (LENGTHS == 1u) {
        n = clamp(lengths[sequence], 1u, count);
    }
    return select(t, n - 1u - t, t < n);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.first * p.second * p.cols) {
        return;
    }
    let row = i / p.cols;
    var a = row % p.first;
    var b = row / p.first;
    if (REVERSE == 1u) {
        b = reversed(b, p.second, a);
    }
    if (REVERSE == 2u) {
        a = reversed(a, p.first, b);
    }
    let source = a * p.second + b;
    y[i] = x[source * p.cols + i % p.cols];
}
