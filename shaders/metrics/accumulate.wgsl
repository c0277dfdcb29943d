// Sums of the columns of per-row results, which go into the record of this step with the number that means are taken over.
//   records[slot, SUMS_AT + j] = Σ_rows x[row, j]
// Rows from state.rows on are padding and do not count. x is (rows, COLS), and records is (slots, RECORD).
// There is one workgroup. In the first micro-step the record is overwritten. When state.micro_step > 0, it is added to.
// uses: common/record, common/reduce, common/state
const COLS: u32 = 4u;

struct Params { rows: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // (rows, COLS)
@group(0) @binding(2) var<storage, read_write> records: array<f32>; // (slots, RECORD)

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) local: u32) {
    let rows = min(p.rows, state.rows);
    let start = state.slot * RECORD;
    var sums: array<f32, COLS + 1u>;
    for (var row = local; row < rows; row += WG) {
        for (var j = 0u; j < COLS; j++) {
            sums[j] += x[row * COLS + j];
        }
    }
    for (var j = 0u; j <= COLS; j++) {
        let total = select(row_sum(sums[j], local), f32(min(rows, state.count)), j == COLS);
        if (local == 0u) {
            let at = start + select(SUMS_AT + j, COUNT_AT, j == COLS);
            if (state.micro_step > 0u) {
                records[at] += total;
            } else {
                records[at] = total;
            }
        }
    }
}
