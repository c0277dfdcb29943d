//! The program as tests run it: in this process, with a device that stays open from test to test, or in a process of its own where a test
//! is about processes: kills, signals, a missing driver, several ranks. And the devices of the tests.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::gpu::{Devices, Gpu};
use engine::host::Host;

/// Devices that tests may hold. A software driver compiles in the one thread that a device has for launches, so each thread of the tests
/// takes its own, up to a few; each keeps hundreds of compiled kernels. Of cards there is one.
static OPEN: Mutex<Vec<Arc<Devices>>> = Mutex::new(Vec::new());

const MOST: usize = 4;

fn taken() -> Arc<Devices> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(free) = open.iter().min_by_key(|devices| Arc::strong_count(devices)).cloned() {
        let software = free.open(wanted().as_deref()).is_ok_and(|gpu| gpu.target.software);
        if Arc::strong_count(&free) == 2 || !software || open.len() >= MOST {
            return free;
        }
    }
    open.push(Arc::default());
    open[open.len() - 1].clone()
}

thread_local!(static DEVICES: Arc<Devices> = taken());

/// The adapter that tests run on.
fn wanted() -> Option<String> {
    std::env::var("ENGINE_DEVICE").ok()
}

/// The devices of this test as runs of the program have them.
fn devices() -> Devices {
    DEVICES.with(|devices| Devices::clone(devices))
}

/// The same, but all arrays are bound as storage buffers: where a software adapter reads arrays from uniform buffers and images, kernels
/// depend on the sizes of tensors, and every model of other sizes compiles its own.
fn plain_devices() -> Devices {
    devices().plain()
}

/// The device of this test as it is: for tests of kernels, and of what one takes of memory.
pub(crate) fn gpu() -> Arc<Gpu> {
    Arc::new(devices().open(wanted().as_deref()).expect("an adapter"))
}

/// The device of this test with kernels that are the same for tensors of all sizes: for everything else.
pub(crate) fn plain_gpu() -> Arc<Gpu> {
    Arc::new(plain_devices().open(wanted().as_deref()).expect("an adapter"))
}

/// A stream that is read afterwards.
#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    fn taken(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// What a run of the program gives: exit code, standard output and standard error.
pub(crate) type Ended = (i32, String, String);

/// What a run in this process has, on `plain_gpu`; nobody listens.
pub(crate) fn host() -> Host {
    Host::new(io::sink(), io::sink(), plain_devices())
}

/// The command line in this process, on `plain_gpu`.
pub(crate) fn run(args: &[&str]) -> Ended {
    run_on(args, plain_devices())
}

/// The same on `gpu`.
pub(crate) fn run_as_it_is(args: &[&str]) -> Ended {
    run_on(args, devices())
}

fn run_on(args: &[&str], devices: Devices) -> Ended {
    let (out, err) = (Text::default(), Text::default());
    let host = Host::new(out.clone(), err.clone(), devices);
    let code = engine::cli::run(["engine"].iter().chain(args), &host);
    (code, out.taken(), err.taken())
}

/// A command in a thread of this process, on `plain_gpu` of the test that started it.
#[cfg(all(unix, feature = "serve"))]
pub(crate) struct Running {
    host: Host,
    said: Text,
    thread: std::thread::JoinHandle<i32>,
}

#[cfg(all(unix, feature = "serve"))]
impl Running {
    pub(crate) fn start(args: &[&str]) -> Running {
        let said = Text::default();
        let host = Host::new(io::sink(), said.clone(), plain_devices());
        let args: Vec<String> = ["engine"].iter().chain(args).map(ToString::to_string).collect();
        let of_thread = host.clone();
        Running { host, said, thread: std::thread::spawn(move || engine::cli::run(args, &of_thread)) }
    }

    /// Its standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.taken()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks it to end, as SIGTERM asks a process.
    pub(crate) fn stop(&self) {
        self.host.stop().store(libc::SIGTERM as usize, std::sync::atomic::Ordering::Relaxed);
    }

    /// Its exit code and its standard error, once it has ended.
    pub(crate) fn ended(self) -> (i32, String) {
        let code = self.thread.join().expect("no panic of the command");
        (code, self.said.taken())
    }
}

thread_local!(static STARTS: Cell<u64> = const { Cell::new(0) });

/// Starts of processes by this thread since the last call.
pub(crate) fn take_starts() -> u64 {
    STARTS.take()
}

fn count() {
    STARTS.set(STARTS.get() + 1);
}

/// The path of the program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_engine");

/// The command line in a process of its own, which `set` prepares.
pub(crate) fn process_with(args: &[&str], set: impl FnOnce(&mut Command) -> &mut Command) -> Ended {
    count();
    ended(set(Command::new(PROGRAM).args(args)).output().expect("the program"))
}

/// The command line in a process of its own with these paths in its environment.
pub(crate) fn process(args: &[&str], paths: &[(&str, &Path)]) -> Ended {
    process_with(args, |command| command.envs(paths.iter().copied()))
}

/// A process that is left to itself, without output.
#[cfg(unix)]
pub(crate) fn spawn(args: &[&str]) -> Child {
    use std::process::Stdio;
    started(Command::new(PROGRAM).args(args).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// Starts a command. Signals that this process ignores, as what a script leaves in the background does, do something again.
pub(crate) fn started(command: &mut Command) -> Child {
    count();
    #[cfg(unix)]
    // SAFETY: nothing but calls that are allowed between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    command.spawn().expect("a process")
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Ended {
    count();
    ended(command.output().expect("a process"))
}

/// What a process has left.
pub(crate) fn ended(output: Output) -> Ended {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Waits until something holds; the bound is against a wait without end, and not a time that it should take.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(1800), "after half an hour it still does not hold that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
