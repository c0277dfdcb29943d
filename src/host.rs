//! What commands and runs have of their process: the streams that they write to, and the devices that are open. Several of them in one process each
//! have a host of their own, as the tests do.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Failure, Result, json, visible};
use crate::gpu::{Devices, Gpu};

type Stream = Arc<Mutex<dyn Write + Send>>;

/// Output streams and open devices of a command. Results go to the first stream, everything else to the second. A clone is the same host.
#[derive(Clone)]
pub struct Host {
    out: Stream,
    err: Stream,
    terminal: bool,
    process: bool,
    devices: Devices,
    closed: Arc<AtomicBool>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("terminal", &self.terminal).field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Default for Host {
    /// The host of the process itself: its standard output and standard error.
    fn default() -> Self {
        Host {
            out: Arc::new(Mutex::new(io::stdout())),
            err: Arc::new(Mutex::new(io::stderr())),
            terminal: io::stderr().is_terminal(),
            process: true,
            devices: Devices::default(),
            closed: Arc::default(),
        }
    }
}

impl Host {
    /// A host with these streams, none of them a terminal, and these devices.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static, devices: Devices) -> Self {
        let (out, err) = (Arc::new(Mutex::new(out)), Arc::new(Mutex::new(err)));
        Host { out, err, terminal: false, process: false, devices, closed: Arc::default() }
    }

    /// Opens an adapter, as `Gpu::open` does; an adapter that is already open keeps its compiled kernels.
    ///
    /// # Errors
    /// As `Gpu::open`.
    pub fn open(&self, wanted: Option<&str>) -> Result<Gpu> {
        self.devices.open(wanted)
    }

    /// True if the process runs this command alone, which may then handle its signals.
    pub fn is_process(&self) -> bool {
        self.process
    }

    /// Path of this program, for starting it again; none inside of another program.
    pub fn program(&self) -> Option<PathBuf> {
        if self.process { std::env::current_exe().ok() } else { None }
    }

    /// True if the second stream is a terminal.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a result; a closed pipe is no error.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub fn print(&self, text: &str) -> Result<()> {
        match writeln!(lock(&self.out), "{}", visible(text.trim_end())) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(Error::Io(Failure::new(format!("standard output: {e}"), e))),
            Ok(()) => Ok(()),
        }
    }

    /// True if the reader of the results has closed the pipe.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Writes a result as JSON.
    ///
    /// # Errors
    /// As `print`.
    pub fn print_json<T: serde::Serialize>(&self, value: &T) -> Result<()> {
        self.print(&json(value)?)
    }

    /// Writes a line to the second stream; errors are ignored.
    pub fn say(&self, line: &str) {
        let _ = writeln!(lock(&self.err), "{}", visible(line));
    }

    /// Writes a note for the user to the second stream.
    pub fn note(&self, text: &str) {
        self.say(&format!("note: {text}"));
    }
}

fn lock(stream: &Mutex<dyn Write + Send>) -> std::sync::MutexGuard<'_, dyn Write + Send + 'static> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_noticed_and_no_error() {
        let host = Host::new(Closed, Vec::new(), Devices::default());
        assert!(!host.closed());
        host.print("a table").unwrap();
        assert!(host.closed());
        assert!(!Host::new(Vec::new(), Vec::new(), Devices::default()).closed());
    }
}
