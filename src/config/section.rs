//! Tables of a run file.

use super::keys::Table;
use crate::error::out_of_range;

/// A table of a run file.
pub trait Section {
    /// Fails on values out of range, with their key and the range: those that concern one key by `in_range`, and what concerns several by
    /// itself.
    ///
    /// # Errors
    /// A message that says what is wrong.
    fn validate(&self) -> std::result::Result<(), String>;

    /// The tables that this one and those within it are in a run file that calls it `name`. By them a message says where a key belongs; a
    /// configuration without a schema has none.
    fn tables(_name: &str) -> Vec<Table>
    where
        Self: Sized,
    {
        vec![]
    }
}

/// Gives an error with key, value and range unless `fine` is true.
pub(crate) fn within(fine: bool, key: &str, value: f64, range: &str) -> std::result::Result<(), String> {
    if fine { Ok(()) } else { Err(out_of_range(key, value, range)) }
}
