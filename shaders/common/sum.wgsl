// Sums over the micro-steps of a step, such as the gradients of weights: `+=`, and with FRESH `=` in the first micro-step, so that nobody clears them.
// FRESH is 2 where the step has no other.
const FRESH: u32 = 0u;

// Whether there is something to add to.
fn begun() -> bool {
    if (FRESH == 2u) {
        return false;
    }
    if (FRESH == 1u) {
        return state.micro > 0u;
    }
    return true;
}
