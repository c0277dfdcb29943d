//! Rows of tables.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        "fixed" => fixed(call),
        "add_positions" => add_positions(call),
        "order" => order(call),
        _ => return false,
    }
    true
}

/// Token row, plus position row.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (rows, cols, length) = (call.entry.size("rows"), call.entry.size("cols"), call.entry.size("length"));
    let (ids, table, positions) = (call.ints("ids"), call.floats("table"), call.maybe("positions"));
    let first = call.state().position as usize;
    let position = |i: usize| positions.as_ref().map_or(S::constant(0.0), |v| v[(first + i / cols % length) * cols + i % cols]);
    let y = (0..rows * cols).map(|i| table[ids[i / cols] as usize * cols + i % cols] + position(i)).collect();
    call.set("y", y);
}

/// Rows sorted by their tokens; those of one token as they come.
pub fn order<S: Scalar>(call: &mut Call<'_, S>) {
    let ids = call.ints("ids");
    let mut rows: Vec<u32> = (call.entry.size("first") as u32..call.entry.size("end") as u32).collect();
    rows.sort_by_key(|row| ids[*row as usize]);
    call.set_ints("order", rows);
}

/// Vector plus position row.
pub fn add_positions<S: Scalar>(call: &mut Call<'_, S>) {
    let (x, positions) = (call.floats("x"), call.floats("positions"));
    let y = x.iter().enumerate().map(|(i, v)| *v + positions[i % positions.len()]).collect();
    call.set("y", y);
}

/// (token / max_value, position / max_position).
pub fn fixed<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (ids, first) = (call.ints("ids"), call.state().position as usize);
    let y = (0..e.size("rows"))
        .flat_map(|row| [f64::from(ids[row]) / e.scalar("max_value"), (first + row % e.size("length")) as f64 / e.scalar("max_position")])
        .map(S::constant)
        .collect();
    call.set("y", y);
}
