// Sums and maxima of rows. LANES neighbouring invocations share a row, and WG / LANES rows share a workgroup. All sums are taken in one
// fixed order.
const WG: u32 = 64u;
const LANES: u32 = 64u;

var<workgroup> scratch: array<f32, WG>;

// Sum over the lanes of a row, given to each of them.
fn row_sum(value: f32, local: u32) -> f32 {
    if (LANES == 1u) {
        return value;
    }
    workgroupBarrier();
    scratch[local] = value;
    for (var stride = LANES / 2u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if (local % LANES < stride) {
            scratch[local] += scratch[local + stride];
        }
    }
    workgroupBarrier();
    return scratch[local - local % LANES];
}

// Maximum over the lanes of a row, given to each of them.
fn row_max(value: f32, local: u32) -> f32 {
    if (LANES == 1u) {
        return value;
    }
    workgroupBarrier();
    scratch[local] = value;
    for (var stride = LANES / 2u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if (local % LANES < stride) {
            scratch[local] = max(scratch[local], scratch[local + stride]);
        }
    }
    workgroupBarrier();
    return scratch[local - local % LANES];
}
