//! The command line: see `engine help`.

#[cfg(unix)]
mod memory {
    //! Rust ends a process with SIGABRT when the system refuses memory. Nothing is lost by that, and more memory helps: exit code 75.

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicBool, Ordering};

    static REFUSED: AtomicBool = AtomicBool::new(false);

    /// The system's allocator; it remembers that the system has refused memory.
    struct Remembering;

    fn seen(memory: *mut u8) -> *mut u8 {
        if memory.is_null() {
            REFUSED.store(true, Ordering::Relaxed);
        }
        memory
    }

    // SAFETY: every call goes to the system's allocator as it comes.
    unsafe impl GlobalAlloc for Remembering {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller promises.
            seen(unsafe { System.alloc(layout) })
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller promises.
            seen(unsafe { System.alloc_zeroed(layout) })
        }

        unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // SAFETY: as the caller promises.
            seen(unsafe { System.realloc(memory, layout, size) })
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Remembering = Remembering;

    extern "C" fn aborted(_signal: libc::c_int) {
        if REFUSED.load(Ordering::Relaxed) {
            const WHY: &str = "engine: the system refuses memory. Close other programs or raise its limit; a run goes on with --resume\n";
            // SAFETY: both calls may be made in a handler of a signal.
            unsafe {
                libc::write(2, WHY.as_ptr().cast(), WHY.len());
                libc::_exit(75);
            }
        }
    }

    /// Installs the handler: from now on, an abort after refused memory ends with exit code 75.
    pub(crate) fn watch() {
        // SAFETY: the handler does nothing that a handler may not do.
        unsafe {
            libc::signal(libc::SIGABRT, aborted as *const () as libc::sighandler_t);
        }
    }
}

fn main() {
    #[cfg(unix)]
    memory::watch();
    std::process::exit(engine::cli::main());
}
