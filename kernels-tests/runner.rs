//! How tests are listed, run and counted. A file lists its tests by name; one that is not listed is unused code, which clippy refuses.
//!
//! A test may take so many starts of processes, kernels and launches, which are the same on every machine; it fails beyond that unless it
//! stands in
//! `EXCEPTIONS` with a reason. Seconds are only printed: no test fails because a machine is slow.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use engine::gpu::Usage;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::program;

/// A test by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// The tests of a file, each with `#[cfg(…)]` where not every system has it.
macro_rules! tests {
    ($($(#[$on:meta])* $name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::runner::Test] =
            &[$($(#[$on])* crate::runner::Test { name: concat!(module_path!(), "::", stringify!($name)), run: $name }),*];
    };
}

pub(crate) use tests;

/// What a test asks of a machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Starts of processes.
    pub(crate) processes: u64,
    /// Different kernels, each of which a software driver may take seconds to compile.
    pub(crate) kernels: usize,
    /// Launches of kernels in this process.
    pub(crate) launches: u64,
}

/// What every test may ask.
const USUAL: Budget = Budget { processes: 6, kernels: 150, launches: 20_000 };

/// Why a test ended without a result.
struct Skipped(String);

thread_local! {
    /// What the test of this thread has noted, and where it panicked.
    static NOTES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Says something that is shown if the test fails, or with `ENGINE_NOTES=1`.
pub(crate) fn remember(text: String) {
    NOTES.with_borrow_mut(|notes| notes.push(text));
}

/// `remember` as `println!` has it.
macro_rules! note {
    ($($text:tt)*) => { $crate::runner::remember(format!($($text)*)) };
}

pub(crate) use note;

/// Whether tests do all that they can: `make test-all`, before a release.
pub(crate) fn all() -> bool {
    std::env::var("ENGINE_TESTS").is_ok_and(|what| what == "all")
}

/// Ends the test: what it needs is not here.
pub(crate) fn skip(what: &str) -> ! {
    panic::panic_any(Skipped(what.into()))
}

fn over(budget: Budget, used: Budget) -> Option<String> {
    let pairs = [
        ("processes", used.processes, budget.processes),
        ("kernels", used.kernels as u64, budget.kernels as u64),
        ("launches", used.launches, budget.launches),
    ];
    let over: Vec<String> =
        pairs.iter().filter(|(_, n, most)| n > most).map(|(what, n, most)| format!("{n} {what}, at most {most}")).collect();
    (!over.is_empty()).then(|| {
        format!("it asks more of a machine than a test may: {}. Ask less, or give it a row in EXCEPTIONS with the reason", over.join("; "))
    })
}

/// A test with its seconds and what it asked.
type Ran = (f64, &'static str, Budget);

/// What ended, and how long it took.
static RAN: Mutex<Vec<Ran>> = Mutex::new(Vec::new());

fn run(Test { name, run }: Test) -> Result<Completion, Failed> {
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    NOTES.take();
    Usage::take();
    program::take_starts();
    let started = Instant::now();
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    let usage = Usage::take();
    let used = Budget { processes: program::take_starts(), kernels: usage.kernels(), launches: usage.launches };
    RAN.lock().unwrap_or_else(PoisonError::into_inner).push((started.elapsed().as_secs_f64(), name, used));
    let notes = NOTES.take().join("\n");
    if std::env::var_os("ENGINE_NOTES").is_some() {
        println!("{name}\n{notes}");
    }
    match result {
        Ok(()) => {
            let of = |row: &&(&str, _, _)| row.0 == name || row.0.ends_with("::") && name.starts_with(row.0);
            let budget = EXCEPTIONS.iter().find(of).map_or(USUAL, |(_, budget, _)| *budget);
            let more_cases = std::env::var_os("ENGINE_TESTS").is_some();
            over(budget, used).filter(|_| !more_cases).map_or(Ok(Completion::Completed), |why| Err(why.into()))
        }
        Err(payload) => match payload.downcast::<Skipped>() {
            Ok(skipped) => Ok(Completion::ignored_with(skipped.0)),
            Err(_) => Err(notes.into()),
        },
    }
}

/// The slowest tests with what they asked.
fn slowest() -> String {
    let mut ran = RAN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ran.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rows = ran
        .iter()
        .take(20)
        .map(|(seconds, name, used)| format!("{seconds:>9.1}{:>11}{:>9}{:>10}  {name}\n", used.processes, used.kernels, used.launches));
    format!(
        "\n{:>9}{:>11}{:>9}{:>10}  the slowest of {} tests\n{}",
        "seconds",
        "processes",
        "kernels",
        "launches",
        ran.len(),
        rows.collect::<String>()
    )
}

/// Runs the tests that the command line asks for. With `ENGINE_SKIPS=fail` a skipped test is a failure.
pub(crate) fn main(files: &[&[Test]]) -> ExitCode {
    panic::set_hook(Box::new(|info| {
        if info.payload().is::<Skipped>() {
            return;
        }
        remember(info.to_string());
    }));
    let trials = files.iter().flat_map(|tests| *tests).map(|test| {
        let test = *test;
        let name = test.name.split_once("::").map_or(test.name, |(_, rest)| rest);
        Trial::ignorable_test(name, move || run(test))
    });
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    if conclusion.num_passed + conclusion.num_failed > 1 {
        print!("{}", slowest());
    }
    if conclusion.num_ignored > 0 && std::env::var("ENGINE_SKIPS").is_ok_and(|what| what == "fail") {
        println!("\n{} tests were skipped, and ENGINE_SKIPS=fail wants all of them", conclusion.num_ignored);
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}

/// Tests, or all of a file, that ask more, and why. With `ENGINE_TESTS`, which asks for more cases, there is no limit.
const EXCEPTIONS: &[(&str, Budget, &str)] = &[
    ("kernels::", Budget { kernels: 1000, ..USUAL }, "a family that has changed is checked with each pair of its options"),
    ("options::text_alone_and_in_pairs", Budget { kernels: 200, ..USUAL }, "three models of text, with adapters and without"),
    ("options::vectors_alone_and_in_pairs", Budget { kernels: 240, ..USUAL }, "all models of vectors, with all terms of their losses"),
    ("models::pytorch_agrees_on_next_vector_models", Budget { kernels: 220, ..USUAL }, "all models of vectors"),
    ("ranks::ranks_have_the_bits_of_accumulation", Budget { processes: 8, kernels: 300, ..USUAL }, "an mpirun for each kind of run"),
    ("faults::a_device_that_is_lost_is_opened_again", Budget { processes: 30, ..USUAL }, "a device is lost with its process"),
    (
        "export::other_programs_and_the_server_give_the_same_numbers",
        Budget { kernels: 360, ..USUAL },
        "all models are trained, and leave the engine",
    ),
    ("guide::", Budget { processes: 40, ..USUAL }, "a command of a page is a process: its paths are relative, as a user types them"),
    ("tune::what_was_measured_is_used_recorded_and_resumed", Budget { processes: 12, ..USUAL }, "a process reads what was measured once"),
];
