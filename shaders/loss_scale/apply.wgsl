// Loss scaling for gradients that are stored in 16 bits (Micikevicius et al. 2018, section 3.2). The gradient of the model's output is
// multiplied by S. Everything behind it is linear in it, so each gradient of a weight is S times too large, and the optimiser divides by S.
// S follows from the record of the step before.
//   S = max(S₋₁ / 2, 1) where that step was skipped, else min(S₋₁ · 2^(1/2000), 2^24)
// x is (n), and records is (slots, RECORD), of which SCALE_AT is S. One invocation computes one element. x is updated in place.
// uses: common/grid, common/record, common/state
const WG: u32 = 64u;

struct Params { n: u32, slots: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;       // (n)
@group(0) @binding(2) var<storage, read_write> records: array<f32>; // (slots, RECORD)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    let before = (state.slot + p.slots - 1u) % p.slots * RECORD;
    let last = records[before + SCALE_AT];
    let scale = select(min(last * 1.0003467, 16777216.0), max(last * 0.5, 1.0), records[before + SKIPPED_AT] != 0.0);
    x[i] *= scale;
    if (i == 0u) {
        records[state.slot * RECORD + SCALE_AT] = scale;
    }
}
