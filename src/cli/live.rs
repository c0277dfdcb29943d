//! The live view: runs drawn in the terminal from what their folders hold, for `train --live` and `status --watch` alike. Training does not
//! know of it.

use std::io::{self, BufWriter, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::style::force_color_output;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{ExecutableCommand, execute};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::{emulate_default_handler, raise};

use super::live_draw::{Picture, Shown, draw};
use super::signals::stop_on_signals;
use crate::error::{Error, Failure, Result};
use crate::host::Host;
use crate::runs::{follow, is_live, members, short_names};
use crate::train::Options;

/// Time between two pictures.
const PAUSE: Duration = Duration::from_millis(250);

/// Part of the time, as one in this number, that reading run folders may take, so that training has the processor.
const READING: u32 = 50;

/// Longest time between two looks into the folders.
const LONGEST: Duration = Duration::from_secs(10);

/// True if the second stream is a terminal that this process may draw in: one in the background would be stopped.
pub(super) fn has_terminal(host: &Host) -> bool {
    #[cfg(unix)]
    // SAFETY: both calls take and give numbers alone.
    let in_front = unsafe { libc::tcgetpgrp(libc::STDERR_FILENO) == libc::getpgrp() };
    #[cfg(not(unix))]
    let in_front = true;
    host.terminal() && in_front && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Gives the terminal back, as it was before the view; without a view it does nothing.
pub(super) fn leave(host: &Host) {
    if host.screen_is_taken() {
        // There is no other terminal to say an error on.
        let _ = disable_raw_mode();
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
    }
    host.give_back_screen();
}

/// A live view of runs that this process trains, in a thread of its own. It ends with this value.
pub(super) struct View {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl View {
    /// Opens a view of the runs in these folders, which begins when one of them does. Where there is no terminal it says so.
    pub(super) fn open(options: &Options, folders: Vec<PathBuf>) -> Option<View> {
        let (host, stop, over) = (options.host.clone(), options.stop.clone(), Arc::new(AtomicBool::new(false)));
        if !has_terminal(&host) {
            host.note("--live needs a terminal in the foreground: training goes on without it");
            return None;
        }
        host.keep_screen();
        let told = over.clone();
        let body = move || {
            let ends = || told.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) != 0;
            while !ends() && !folders.iter().any(|folder| is_live(folder)) {
                std::thread::sleep(PAUSE);
            }
            let shown =
                if ends() { Ok(()) } else { show(&host, "q leave, training goes on   Ctrl-C save and stop", || folders.clone(), ends) };
            leave(&host);
            if let Err(error) = shown {
                host.note(&format!("the live view has ended, and training goes on: {error}"));
            }
        };
        let thread = std::thread::Builder::new().name("live view".into()).spawn(body);
        if let Err(error) = &thread {
            options.host.give_back_screen();
            options.host.note(&format!("no live view, as the system refuses a thread: {error}"));
        }
        Some(View { over, thread: Some(thread.ok()?) })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // A panic of the thread has been reported, and is no fault of the run.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Shows runs until `q`; a signal ends the process as ever, with the terminal as it was.
///
/// # Errors
/// `Io` when the terminal cannot be read or drawn in.
pub(super) fn watch(host: &Host, paths: &[PathBuf]) -> Result<()> {
    let stop = stop_on_signals(host)?;
    // A sweep that is under way gets more of them.
    let shown = show(host, "q leave", || members(paths), || stop.load(Ordering::Relaxed) != 0);
    leave(host);
    if let signal @ 1.. = stop.load(Ordering::Relaxed) {
        emulate_default_handler(signal as i32).map_err(|e| Error::Internal(format!("signal {signal}: {e}")))?;
    }
    shown.map_err(|e| Error::Io(Failure::new(format!("terminal: {e}"), e)))
}

/// Draws the runs in `folders` until `q`, or until it `ends`. The caller leaves the view.
fn show(host: &Host, keys: &'static str, folders: impl Fn() -> Vec<PathBuf>, ends: impl Fn() -> bool) -> io::Result<()> {
    force_color_output(host.says_in_colours());
    enable_raw_mode()?;
    host.take_screen();
    stderr().execute(EnterAlternateScreen)?.execute(Hide)?;
    let mut terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(stderr())))?;
    let mut picture = Picture { runs: vec![], chosen: 0, colours: host.says_in_colours(), keys };
    let (mut chosen, mut again) = (None, Instant::now());
    while !ends() && host.screen_is_taken() {
        if Instant::now() >= again {
            let start = Instant::now();
            picture.runs = read(folders(), std::mem::take(&mut picture.runs));
            again = Instant::now() + (READING * start.elapsed()).clamp(PAUSE, LONGEST);
        }
        picture.chosen = place(&picture.runs, chosen.as_deref());
        terminal.draw(|frame| draw(frame, &picture))?;
        if !key_waits()? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        let next = match key.code {
            _ if key.kind == KeyEventKind::Release => continue,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                raise(SIGINT)?;
                continue;
            }
            KeyCode::Char('q') => return Ok(()),
            KeyCode::Up | KeyCode::Left => picture.chosen.checked_sub(1),
            KeyCode::Down | KeyCode::Right => Some(picture.chosen + 1),
            _ => continue,
        };
        chosen = next.and_then(|next| picture.runs.get(next)).map(|run| run.folder.clone()).or(chosen);
    }
    Ok(())
}

/// Waits for a key, and no longer than `PAUSE`.
///
/// # Errors
/// When the terminal has gone: crossterm would read from it for ever.
#[cfg(unix)]
fn key_waits() -> io::Result<bool> {
    let ready = |wait: Duration| {
        let mut terminal = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLIN, revents: 0 };
        // SAFETY: the call writes to this one structure alone.
        let found = unsafe { libc::poll(&mut terminal, 1, wait.as_millis() as i32) };
        match found > 0 && terminal.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            true => Err(io::Error::new(io::ErrorKind::BrokenPipe, "it has gone")),
            false => Ok(found > 0),
        }
    };
    // Keys that came together have been read together.
    ready(Duration::ZERO)?;
    Ok(event::poll(Duration::ZERO)? || (ready(PAUSE)? && event::poll(Duration::ZERO)?))
}

#[cfg(not(unix))]
fn key_waits() -> io::Result<bool> {
    event::poll(PAUSE)
}

/// Reads the runs in these folders; one that had ended, and that no process has taken up, is as it was `before`.
fn read(folders: Vec<PathBuf>, before: Vec<Shown>) -> Vec<Shown> {
    let paths: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let names = short_names(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let mut before: std::collections::HashMap<PathBuf, Shown> = before.into_iter().map(|run| (run.folder.clone(), run)).collect();
    let read = |(folder, name): (PathBuf, String)| match before.remove(&folder) {
        Some(known) if known.run.as_ref().is_ok_and(|run| run.status.state != "live") && !is_live(&folder) => Shown { name, ..known },
        _ => {
            let run = follow(&folder).map_err(|error| match error {
                Error::MissingInput(_) => "waiting: it has not started".to_string(),
                error => format!("unreadable: {error}"),
            });
            Shown { folder, name, run }
        }
    };
    folders.into_iter().zip(names).map(read).collect()
}

/// Place of the chosen run; without a choice that of the live one, else of the last that has begun.
fn place(runs: &[Shown], chosen: Option<&Path>) -> usize {
    let of_choice = chosen.and_then(|chosen| runs.iter().position(|run| run.folder == chosen));
    let live = || runs.iter().position(|run| run.run.as_ref().is_ok_and(|run| run.status.state == "live"));
    of_choice.or_else(live).or_else(|| runs.iter().rposition(|run| run.run.is_ok())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_follows_the_newest_run_until_one_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        for path in &paths[..2] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("metrics.jsonl"), "").unwrap();
        }
        let runs = read(paths.to_vec(), vec![]);
        assert_eq!(runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((place(&runs, None), place(&runs, Some(&paths[2])), place(&[], None)), (1, 2, 0));
        // One that is live comes before those that have begun.
        let lock = std::fs::File::create(paths[0].join(".lock")).unwrap();
        lock.lock().unwrap();
        assert_eq!(place(&read(paths.to_vec(), runs), None), 0);
    }
}
