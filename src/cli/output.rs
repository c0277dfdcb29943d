//! What commands print has in common.

use crate::host::Host;

/// Prints which run folders are left out, with the reasons.
pub(super) fn note_left_out(host: &Host, whys: &[String]) {
    whys.iter().for_each(|why| host.note(&format!("left out: {why}")));
}
