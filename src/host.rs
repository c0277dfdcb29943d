//! What commands and runs have of their process: the streams that they write to, and the devices that are open. Several of them in one
//! process each have a host of their own, as the tests do.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Failure, Result, json, visible};
use crate::gpu::{Devices, Gpu};
use crate::metrics::folded_at;

type Stream = Arc<Mutex<dyn Write + Send>>;

/// Who has the terminal of the second stream. Without the command line nothing draws there.
#[derive(Debug)]
#[cfg_attr(not(feature = "cli"), expect(dead_code))]
enum Screen {
    /// Lines and progress bars.
    Free,
    /// Lines alone: a picture is about to take it.
    Kept,
    /// A picture that fills it, until which these lines wait.
    Taken(Vec<String>),
}

/// Output streams and open devices of a command. Results go to the first stream, everything else to the second. A clone is the same host.
#[derive(Clone)]
pub struct Host {
    out: Stream,
    err: Stream,
    /// True for the first stream and for the second if it is a terminal.
    terminals: [bool; 2],
    /// Colours on the first stream, and on the second.
    colours: [bool; 2],
    process: bool,
    devices: Devices,
    closed: Arc<AtomicBool>,
    stop: Arc<AtomicUsize>,
    screen: Arc<Mutex<Screen>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("terminals", &self.terminals).field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Default for Host {
    /// The host of the process itself: its standard output and standard error.
    fn default() -> Self {
        // https://no-color.org
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminals = [io::stdout().is_terminal(), io::stderr().is_terminal()];
        Host {
            colours: terminals.map(|terminal| terminal && !plain),
            out: Arc::new(Mutex::new(io::stdout())),
            err: Arc::new(Mutex::new(io::stderr())),
            terminals,
            process: true,
            devices: Devices::default(),
            closed: Arc::default(),
            stop: Arc::default(),
            screen: Arc::new(Mutex::new(Screen::Free)),
        }
    }
}

impl Host {
    /// A host with these streams, none of them a terminal, and these devices.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static, devices: Devices) -> Self {
        let (out, err) = (Arc::new(Mutex::new(out)), Arc::new(Mutex::new(err)));
        let screen = Arc::new(Mutex::new(Screen::Free));
        let (closed, stop) = (Arc::default(), Arc::default());
        Host { out, err, terminals: [false; 2], colours: [false; 2], process: false, devices, closed, stop, screen }
    }

    /// The same host with colours on both streams, or with none.
    pub fn coloured(self, on: bool) -> Self {
        Host { colours: [on; 2], ..self }
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

    /// The number of the signal that asks the command to end, such as 15; 0 as long as it may go on. A program that runs a command in a
    /// thread of its own ends it by writing a number, as SIGTERM ends a process: what is under way is finished.
    pub fn stop(&self) -> &Arc<AtomicUsize> {
        &self.stop
    }

    /// Path of this program, for starting it again; none inside of another program.
    pub fn program(&self) -> Option<PathBuf> {
        if self.process { std::env::current_exe().ok() } else { None }
    }

    /// True if the second stream is a terminal.
    pub fn terminal(&self) -> bool {
        self.terminals[1]
    }

    /// True if the first stream, that of results, is a terminal.
    pub fn prints_to_terminal(&self) -> bool {
        self.terminals[0]
    }

    /// True if the second stream has colours.
    pub fn says_in_colours(&self) -> bool {
        self.colours[1]
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, line: &str) {
        let _ = writeln!(lock(&self.err), "{line}");
    }

    /// Writes a result; a closed pipe is no error.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub fn print(&self, text: &str) -> Result<()> {
        match writeln!(lock(&self.out), "{}", painted(&visible(text.trim_end()), self.colours[0])) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(Error::Io(Failure::new(format!("standard output: {e}"), e))),
            Ok(()) => Ok(()),
        }
    }

    /// Writes a part of a result, which a reader sees at once; a closed pipe is no error.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub fn stream(&self, text: &str) -> Result<()> {
        let mut out = lock(&self.out);
        match write!(out, "{}", visible(text)).and_then(|()| out.flush()) {
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

    /// Writes lines to the second stream, which a terminal has in its width; errors are ignored.
    pub fn say(&self, text: &str) {
        let text = match self.columns() {
            Some(columns) => in_columns(&visible(text), columns).into(),
            None => visible(text),
        };
        let text = painted(&text, self.colours[1]);
        match &mut *self.screen() {
            Screen::Taken(lines) => lines.push(text.into_owned()),
            Screen::Free | Screen::Kept => self.write(&text),
        }
    }

    /// Width of the terminal that the second stream is.
    #[cfg(feature = "cli")]
    fn columns(&self) -> Option<usize> {
        let (width, _) = terminal_size::terminal_size_of(io::stderr()).filter(|_| self.terminal())?;
        Some(width.0.into())
    }

    /// Without the command line lines stay whole.
    #[cfg(not(feature = "cli"))]
    fn columns(&self) -> Option<usize> {
        None
    }

    /// Writes a note for the user to the second stream.
    pub fn note(&self, text: &str) {
        self.say(&format!("note: {text}"));
    }
}

#[cfg(feature = "cli")]
impl Host {
    /// True if a progress bar may be drawn: it has a terminal, which no picture has or is about to take.
    pub(crate) fn has_room_for_bars(&self) -> bool {
        self.terminal() && matches!(*self.screen(), Screen::Free)
    }

    /// Draws no more progress bars, as a picture will take the terminal.
    pub(crate) fn keep_screen(&self) {
        *self.screen() = Screen::Kept;
    }

    /// Lets a picture have the terminal: lines of the second stream wait until it is given back.
    pub(crate) fn take_screen(&self) {
        *self.screen() = Screen::Taken(Vec::new());
    }

    /// True while a picture has the terminal.
    pub(crate) fn screen_is_taken(&self) -> bool {
        matches!(*self.screen(), Screen::Taken(_))
    }

    /// Takes the terminal back, and writes the lines that have waited.
    pub(crate) fn give_back_screen(&self) {
        let mut screen = self.screen();
        if let Screen::Taken(lines) = std::mem::replace(&mut *screen, Screen::Free) {
            lines.iter().for_each(|line| self.write(line));
        }
    }
}

/// A text in lines of so many characters, broken at spaces. A command, which is there to be copied, stays whole.
fn in_columns(text: &str, columns: usize) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("engine ") { line.to_string() } else { folded_at(line, indent + 2, columns) }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

// Codes of a terminal for colours, and the one that ends them.
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const END: &str = "\x1b[0m";

/// Words with which a line or its last part begins, and its colour: what went wrong, what warns, and what is good.
const PAINT: [(&str, bool, &str); 9] = [
    ("engine: ", false, RED),
    ("MISSED", false, RED),
    ("WRONG ", false, RED),
    ("WARNING", false, YELLOW),
    ("LEAKAGE", false, YELLOW),
    ("LOOK ", false, YELLOW),
    ("finished: ", false, GREEN),
    ("met ", false, GREEN),
    ("best", true, GREEN),
];

/// A text in colours, line by line: a line of good or bad news is coloured as a whole, and the mark at the end of a line alone.
fn painted(text: &str, on: bool) -> Cow<'_, str> {
    if !on {
        return text.into();
    }
    let line = |line: &str| {
        let (before, last) = line.rsplit_once("  ").unwrap_or((line, ""));
        match PAINT.iter().find(|(word, is_last, _)| if *is_last { last } else { line }.starts_with(word)) {
            Some((_, true, colour)) => format!("{before}  {colour}{last}{END}"),
            Some((_, false, colour)) => format!("{colour}{line}{END}"),
            None => line.to_string(),
        }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n").into()
}

fn lock(stream: &Mutex<dyn Write + Send>) -> MutexGuard<'_, dyn Write + Send + 'static> {
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
    fn news_are_coloured_where_colours_are_on() {
        for (text, want) in [
            ("engine: no\n  why", "\x1b[31mengine: no\x1b[0m\n  why"),
            ("step 1  loss 2  best by loss", "step 1  loss 2  \x1b[32mbest by loss\x1b[0m"),
            ("plain", "plain"),
        ] {
            assert_eq!((painted(text, true), painted(text, false)), (want.into(), text.into()));
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn lines_wait_while_a_picture_has_the_terminal() {
        let shared = Shared::default();
        let host = Host::new(Vec::new(), shared.clone(), Devices::default());
        let text = || String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        host.keep_screen();
        host.say("a");
        host.take_screen();
        host.clone().say("b");
        assert!(host.screen_is_taken() && text() == "a\n");
        host.give_back_screen();
        host.say("c");
        assert!(!host.screen_is_taken() && text() == "a\nb\nc\n");
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_folded_and_commands_are_not() {
        let text = "engine: one two three four\nits way:\n  engine train a b c d e f g";
        assert_eq!(in_columns(text, 15), "engine: one two\n  three four\nits way:\n  engine train a b c d e f g");
        assert_eq!(in_columns(text, 200), text);
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
