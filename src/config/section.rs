//! Tables of a run file.

use crate::error::out_of_range;

/// A table of a run file.
pub trait Section {
    /// Fails on values out of range, with their key and the range.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn validate(&self) -> std::result::Result<(), String>;
}

/// Fails with key, value and range unless the value is fine.
pub(crate) fn within(fine: bool, key: &str, value: f64, range: &str) -> std::result::Result<(), String> {
    if fine { Ok(()) } else { Err(out_of_range(key, value, range)) }
}
