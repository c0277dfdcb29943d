//! Signals that ask a command to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crate::error::{Error, Result};
use crate::host::Host;

/// True if this process was started to ignore a signal, as by `nohup`, or by scripts for processes in the background.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    // SAFETY: the call only writes what is set for the signal, to a place of that type, of which all bits may be 0.
    unsafe {
        let mut set: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut set) == 0 && set.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn ignored(_signal: i32) -> bool {
    false
}

/// The host's number of a signal that asks the command to end. Where the process runs this command alone, it is set to that of the first
/// SIGINT, SIGTERM or SIGHUP; a second signal ends the process at once.
pub(super) fn stop_on_signals(host: &Host) -> Result<Arc<AtomicUsize>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let (stop, armed) = (host.stop().clone(), Arc::new(AtomicBool::new(false)));
    if !host.is_process() {
        return Ok(stop);
    }
    let signals = [
        SIGINT,
        SIGTERM,
        #[cfg(unix)]
        signal_hook::consts::SIGHUP,
    ];
    for signal in signals.into_iter().filter(|signal| !ignored(*signal)) {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, armed.clone())
            .and_then(|_| signal_hook::flag::register(signal, armed.clone()))
            .and_then(|_| signal_hook::flag::register_usize(signal, stop.clone(), signal as usize))
            .map_err(|e| Error::Internal(format!("signal handler: {e}")))?;
    }
    Ok(stop)
}
