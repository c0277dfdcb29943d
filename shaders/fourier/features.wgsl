// Fourier features of points (Tancik et al. 2020): sines, then cosines, of the phases f · v. The block of x comes first, then that of y.
// KIND chooses the frequencies f.
//   1: f = 2^k π, k = 0 … count − 1;  2: f = k π, k = 1 … count;  3: f = k;  4: one block with the phases 2π x·B
// Whole turns are taken off before π comes in, exactly. Products with powers of two are exact, and others are taken of halves with 12 bits.
// So 2^31 π gives the same features on every device, although it is beyond what sin of an f32 resolves.
// x is (rows, 2), and b is (2, count). y is (rows, 4 count), or (rows, 2 count) with KIND 4. There is no gradient, as x is data.
// One invocation computes one phase. y is overwritten.
// uses: common/grid, common/math
const WG: u32 = 64u;
const KIND: u32 = 1u;
const RANDOM: u32 = 1u;

struct Params { rows: u32, count: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (rows, 2)
@group(0) @binding(1) var<storage, read> b: array<f32>;       // (2, count)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (rows, 4 count) or (rows, 2 count)

// The number with the first 12 bits of its mantissa. What is left of it has 12 bits, too.
fn head(v: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(v) & 0xfffff000u);
}

// Takes whole turns of 2 off, which is exact.
fn reduced(v: f32) -> f32 {
    return v - 2.0 * round(0.5 * v);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let axes = select(2u, 1u, KIND == 4u);
    if (i >= p.rows * p.count * axes) {
        return;
    }
    let k = i % p.count;
    let axis = i / p.count % axes;
    let row = i / (p.count * axes);
    let v = x[row * 2u + axis];
    let high = head(v);
    let low = v - high;
    var wave = vec2<f32>(0.0);
    if (KIND == 1u) {
        wave = sin_cos_pi(reduced(v * bitcast<f32>((127u + k) << 23u)));
    } else if (KIND == 2u) {
        wave = sin_cos_pi(reduced(f32(k + 1u) * high) + f32(k + 1u) * low);
    } else if (KIND == 3u) {
        wave = sin_cos_of(f32(k + 1u) * high, f32(k + 1u) * low);
    }
    if (RANDOM == 1u) {
        let b0 = 2.0 * b[k];
        let b1 = 2.0 * b[p.count + k];
        let w = x[row * 2u + 1u];
        let rest = fma(high, b0 - head(b0), low * b0) + fma(head(w), b1 - head(b1), (w - head(w)) * b1);
        wave = sin_cos_pi(reduced(reduced(high * head(b0)) + reduced(head(w) * head(b1))) + rest);
    }
    let at = row * axes * 2u * p.count + axis * 2u * p.count + k;
    y[at] = wave.x;
    y[at + p.count] = wave.y;
}
