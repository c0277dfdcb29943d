// Sums the columns of per-row results into the record of this step: records[slot, 4 + j] = Σ_rows x[row, j], and the number that means are taken over.
// Rows from state.rows on are padding and do not count. Micro-steps after the first add to the record.
// x: (rows, COLS); records: (slots, 16), 0 the number, from 4 the sums. Grid: one workgroup. `=`, or `+=` when state.micro > 0.
// uses: common/reduce, common/state
const COLS: u32 = 4u;

struct Params { rows: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // (rows, COLS)
@group(0) @binding(2) var<storage, read_write> records: array<f32>; // (slots, 16)

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) local: u32) {
    let rows = min(p.rows, state.rows);
    let start = state.slot * 16u;
    var sums: array<f32, COLS + 1u>;
    for (var row = local; row < rows; row += WG) {
        for (var j = 0u; j < COLS; j++) {
            sums[j] += x[row * COLS + j];
        }
    }
    for (var j = 0u; j <= COLS; j++) {
        let total = select(row_sum(sums[j], local), f32(min(rows, state.count)), j == COLS);
        if (local == 0u) {
            let at = start + select(4u + j, 0u, j == COLS);
            if (state.micro > 0u) {
                records[at] += total;
            } else {
                records[at] = total;
            }
        }
    }
}
