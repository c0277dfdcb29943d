// Options and parameters of every matrix product. Their meaning is in common/matmul.
const TRANS_A: u32 = 0u;
const TRANS_B: u32 = 0u;
const SCALED: u32 = 0u;
const BIAS: u32 = 1u;
const ACTIVATION: u32 = 0u;
const KEEP_PRE: u32 = 1u;
const DROPOUT: u32 = 1u;
const DERIVATIVE: u32 = 1u;
const RESIDUAL: u32 = 1u;
const ACCUMULATE: u32 = 0u;
const ROW_SUM: u32 = 1u;
const PART: u32 = 0u;

struct Params { m: u32, n: u32, k: u32, batch: u32, a_at: u32, b_at: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(8) var<storage, read_write> row_sum: array<f32>;  // (M)

// First element of y. Two kernels in one launch have 64 bytes of parameters together, so there is none of its own for it.
fn y_at() -> u32 {
    return select(0u, p.stream, PART == 1u);
}

fn store_row_sum(m: u32, sum: f32) {
    if (m < p.m) {
        row_sum[m] = sum + select(0.0, row_sum[m], accumulates());
    }
}
