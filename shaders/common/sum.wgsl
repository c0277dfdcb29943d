// Sums over the micro-steps of a step, such as the gradients of weights. A result is added to what is stored, or overwrites it where
// OVERWRITE says so, so that nobody clears the sums. OVERWRITE is 0 for never, 1 for in the first micro-step, and 2 for always.
const OVERWRITE: u32 = 0u;

// Whether a result is added to what is stored.
fn accumulates() -> bool {
    if (OVERWRITE == 2u) {
        return false;
    }
    if (OVERWRITE == 1u) {
        return state.micro_step > 0u;
    }
    return true;
}
