//! What a thread asks of devices, whatever these have compiled before: the cost of a test in numbers that are the same on every machine.

use std::cell::RefCell;
use std::collections::HashSet;

/// Kernels and launches.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Different kernels, by the addresses of their shaders, with and without bounds checks.
    kernels: HashSet<(usize, bool)>,
    /// Launches of kernels.
    pub launches: u64,
}

impl Usage {
    /// Different kernels.
    pub fn kernels(&self) -> usize {
        self.kernels.len()
    }

    /// Use by this thread since the last call.
    pub fn take() -> Usage {
        OF_THREAD.take()
    }
}

thread_local!(static OF_THREAD: RefCell<Usage> = RefCell::default());

pub(super) fn kernel(key: (usize, bool)) {
    OF_THREAD.with_borrow_mut(|usage| usage.kernels.insert(key));
}

pub(crate) fn launched(count: usize) {
    OF_THREAD.with_borrow_mut(|usage| usage.launches += count as u64);
}
