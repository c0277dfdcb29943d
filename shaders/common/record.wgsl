// The record of a step, by words. A ring of records lies in one tensor (slots, 16). The Rust twin is kernels::metrics.
const RECORD: u32 = 16u;      // words of a record
const COUNT_AT: u32 = 0u;     // number that means are taken over
const NORM_AT: u32 = 1u;      // norm of the whole gradient, before it is clipped
const SKIPPED_AT: u32 = 2u;   // 1 where the update was skipped, else 0
const SCALE_AT: u32 = 3u;     // what the gradients were multiplied with, of a run in 16 bits
const SUMS_AT: u32 = 4u;      // sums of the columns of the loss, the loss first
const UPDATES_AT: u32 = 15u;  // updates that the moments of the optimiser have had; those that were skipped do not count
