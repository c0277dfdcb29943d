// One time step of the LSTM cell together with the product with the state before it, on cards, for a multiple of 4 units. A column of
// vectors of the product has the gates of a unit, so that the invocation that has summed them finishes the unit. The tiles are those of
// common/matmul_block.
//   (i, f, g, o) = gx_t + W_hh h_{t−1} + b_hh;  c_t = σ(f) c_{t−1} + σ(i) tanh(g);  h_t = σ(o) tanh(c_t)
// OUTPUT and DROPOUT mean what they do in lstm/forward. The sizes of the product are m = B, n = 4·H and k = H.
// gx is (T, B, 4, H) with the bias included. b is W_hh, (4, H, H), and bias is (4, H). gates is (T, B, 4, H), after the activations. h and
// c are (T + 1, B, H), of which slot t is read and slot t + 1 is h_t and c_t. y is (at least y_at + B·H).
// One workgroup computes one tile. Slot t of gates, slot t + 1 of h and c, and y from y_at on are overwritten.
// uses: common/across, common/features_1, common/gates, common/grid, common/lstm_cell, common/matmul_block, common/math, common/random, common/state
const TRANS_A: u32 = 0u;
const TRANS_B: u32 = 1u;
const ROW_SUM: u32 = 0u;

struct Params { m: u32, n: u32, k: u32, batch: u32, a_at: u32, b_at: u32, t: u32, y_at: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>; // (4, H)

fn load_a(i: u32) -> vec4<f32> {
    return vec4<f32>(h[i * 4u], h[i * 4u + 1u], h[i * 4u + 2u], h[i * 4u + 3u]);
}

// Row of W_hh for column n: gate n % 4 of unit n / 4.
fn row_of_b(n: u32) -> u32 {
    return n % 4u * p.k + n / 4u;
}

fn store(batch: u32, m: u32, n: u32, sum: vec4<f32>) {
    if (m >= p.m || n >= p.n) {
        return;
    }
    let j = n / 4u;
    let own = sum + vec4<f32>(bias[j], bias[p.k + j], bias[2u * p.k + j], bias[3u * p.k + j]);
    advance(m, j, p.k, p.m * p.k, Gates(own.x, own.y, own.z, own.w));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(flat_group(group, groups));
    if (place.z >= p.batch) {
        return;
    }
    var unused = vec4<f32>(0.0);
    multiply(place, local, &unused);
}
