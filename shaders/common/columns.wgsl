// Sums over the rows of columns. A workgroup has COLS columns, and a column has WG / COLS invocations. What they add up is of the type Sum,
// which each shader names. All sums are taken in one fixed order.
const WG: u32 = 256u;
const COLS: u32 = 16u;

var<workgroup> sums: array<Sum, WG>;

// Sum over the invocations of a column, given to the first of them, which are those below COLS.
fn column_sum(value: Sum, local: u32) -> Sum {
    if (WG == COLS) {
        return value;
    }
    workgroupBarrier();
    sums[local] = value;
    for (var stride = WG / 2u; stride >= COLS; stride >>= 1u) {
        workgroupBarrier();
        if (local < stride) {
            sums[local] += sums[local + stride];
        }
    }
    return sums[local];
}
