//! What commands print. Standard output carries results, standard error everything else.

use std::io::Write;

use crate::error::{Error, Result};

/// 1.5 GiB, 3.2 MiB, 17 B.
pub(super) fn bytes(value: u64) -> String {
    let v = value as f64;
    match value {
        0..1024 => format!("{value} B"),
        1024..1_048_576 => format!("{:.1} KiB", v / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", v / 1_048_576.0),
        _ => format!("{:.2} GiB", v / 1_073_741_824.0),
    }
}

/// Writes a result to standard output; a closed pipe ends the program quietly.
pub(super) fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Io(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Says what the user should know beside the result, on standard error.
pub(super) fn note(text: &str) {
    // Nobody listens where standard error is closed.
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Says which run folders are left out, and why.
pub(super) fn note_left_out(whys: &[String]) {
    whys.iter().for_each(|why| note(&format!("left out: {why}")));
}

/// Writes a result as JSON.
pub(super) fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print(&serde_json::to_string_pretty(value).map_err(|e| Error::Internal(format!("JSON: {e}")))?)
}
