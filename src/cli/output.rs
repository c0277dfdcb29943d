//! What commands print has in common.

use crate::host::Host;

/// Formats a number of bytes, as in 1.5 GiB, 3.2 MiB or 17 B.
pub(super) fn bytes(value: u64) -> String {
    let v = value as f64;
    match value {
        0..1024 => format!("{value} B"),
        1024..1_048_576 => format!("{:.1} KiB", v / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", v / 1_048_576.0),
        _ => format!("{:.2} GiB", v / 1_073_741_824.0),
    }
}

/// Prints which run folders are left out, with the reasons.
pub(super) fn note_left_out(host: &Host, whys: &[String]) {
    whys.iter().for_each(|why| host.note(&format!("left out: {why}")));
}
