//! Faults on demand, for the tests of what follows them: with `ENGINE_FAULT=rename:3` the third rename of the process fails. Points are
//! `alloc`, `submit`, `lost` (the device, at a submission), `map`, `write` (as on a full disk), `sync` and `rename`;
//! of one of several processes also `nan` (its gradient) and `flip` (a bit of the sum that it takes).

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Whether this is the occurrence that is to fail.
pub(crate) fn fails(point: &str) -> bool {
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("ENGINE_FAULT").ok()?;
        let (point, number) = text.split_once(':')?;
        Some((point.to_string(), number.parse().ok()?))
    });
    let Some((_, number)) = wanted.as_ref().filter(|(wanted, _)| wanted == point) else { return false };
    SEEN.fetch_add(1, Ordering::Relaxed) + 1 == *number
}

/// Fails a call to the device here.
pub(crate) fn device(point: &str) -> Result<()> {
    if fails(point) { Err(Error::TryAgain(format!("the device failed at {point}, as ENGINE_FAULT asks"))) } else { Ok(()) }
}

/// Fails a call to the file system here.
pub(crate) fn file(point: &str) -> io::Result<()> {
    let kind = if point == "write" { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
    if fails(point) { Err(io::Error::new(kind, format!("{point} failed, as ENGINE_FAULT asks"))) } else { Ok(()) }
}
