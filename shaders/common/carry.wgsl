// What earlier positions have left for those to come, in two halves. Each feed of new positions reads the half that the feed before wrote,
// and writes the other. So no row of the batch reads what another is writing. Row r continues what row sources[r, j] has left, j being the
// position before, so that a beam that splits copies nothing. The Rust twin is kernels::Carry.

// Row of the batch that holds what the position before has left for row r.
fn row_before(r: u32) -> u32 {
    return sources[r * p.limit + (state.position + p.limit - 1u) % p.limit];
}

// Number of the half that the feed before wrote.
fn half_before() -> u32 {
    return (state.tick + 1u) % 2u;
}
