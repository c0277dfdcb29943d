// Norm of a row by its sum of squares, at least 1e-12. Squares overflow at a norm of 2e19, and a division by an infinite norm would give a
// silent 0. Instead, the norm is then so small that the quotients are infinite, and the step is refused.
fn norm_of(squares: f32) -> f32 {
    return select(max(sqrt(squares), 1e-12), 1e-30, squares > 3.4e38);
}
