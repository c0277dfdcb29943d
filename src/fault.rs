//! Faults on demand, for the tests of what follows them: with `ENGINE_FAULT=rename:3` the third rename of the process fails.
//!
//! Inside `with("rename:3", …)` it is the third of this thread; with `lost:3+` the third and all that follow. Points are
//! `alloc`, `submit`, `lost` (the device, at a submission), `hang` (at the end of a wait), `map`, `write` (as on a full disk), `sync` and
//! `rename`; of one of several processes also `nan` (its gradient) and `flip` (a bit of the sum that it takes).

use std::cell::RefCell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Fault that is to be injected: occurrence `number` of a point fails.
#[derive(Debug)]
struct Fault {
    point: String,
    number: u64,
    /// Later occurrences fail, too.
    lasts: bool,
    seen: AtomicU64,
}

impl Fault {
    fn parse(text: &str) -> Option<Fault> {
        let (point, number) = text.split_once(':')?;
        let (number, lasts) = number.strip_suffix('+').map_or((number, false), |number| (number, true));
        Some(Fault { point: point.into(), number: number.parse().ok()?, lasts, seen: AtomicU64::new(0) })
    }

    fn fails(&self, point: &str) -> bool {
        self.point == point && {
            let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
            seen == self.number || (self.lasts && seen > self.number)
        }
    }
}

static OF_PROCESS: OnceLock<Option<Fault>> = OnceLock::new();
thread_local!(static OF_THREAD: RefCell<Option<Fault>> = const { RefCell::new(None) });

/// Runs a function with a fault injected in this thread.
pub fn with<T>(fault: &str, run: impl FnOnce() -> T) -> T {
    struct Until;
    impl Drop for Until {
        fn drop(&mut self) {
            OF_THREAD.set(None);
        }
    }
    OF_THREAD.set(Fault::parse(fault));
    let _until = Until;
    run()
}

/// True if this is the occurrence that is to fail.
pub(crate) fn fails(point: &str) -> bool {
    let of_process = OF_PROCESS.get_or_init(|| std::env::var("ENGINE_FAULT").ok().and_then(|text| Fault::parse(&text)));
    of_process.as_ref().is_some_and(|fault| fault.fails(point)) || OF_THREAD.with_borrow(|f| f.as_ref().is_some_and(|f| f.fails(point)))
}

/// Gives a device error if a fault is injected here.
pub(crate) fn device(point: &str) -> Result<()> {
    if fails(point) { Err(Error::TryAgain(format!("the device failed at {point}, as ENGINE_FAULT asks"))) } else { Ok(()) }
}

/// Gives a file-system error if a fault is injected here.
pub(crate) fn file(point: &str) -> io::Result<()> {
    let kind = if point == "write" { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
    if fails(point) { Err(io::Error::new(kind, format!("{point} failed, as ENGINE_FAULT asks"))) } else { Ok(()) }
}
