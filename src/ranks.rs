//! The processes of a run that `mpirun` has started together, each of which computes some micro-batches of every step. Without the feature
//! `mpi`, and without `mpirun`, a run is one process and nothing here does anything.

#[cfg(feature = "cli")]
use std::sync::Arc;
use std::sync::OnceLock;
#[cfg(feature = "cli")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "cli")]
use std::time::Duration;
use std::time::Instant;

#[cfg(feature = "mpi")]
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use crate::error::{Error, Result};

/// Signals with which a launcher ends what it has started. Open MPI sends SIGCONT, a second later SIGTERM and then SIGKILL
/// (`odls_base_sigkill_timeout` is that second).
#[cfg(all(feature = "cli", unix))]
pub(crate) const ENDING: &[i32] = &[signal_hook::consts::SIGTERM, signal_hook::consts::SIGCONT];
#[cfg(all(feature = "cli", not(unix)))]
pub(crate) const ENDING: &[i32] = &[signal_hook::consts::SIGTERM];

/// One of the processes (ranks) of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// Number of this process; rank 0 leads: it alone writes to the run folder and to the terminal.
    pub rank: usize,
    /// Number of processes.
    pub count: usize,
    /// Number of this process among those on the same machine.
    pub local: usize,
    /// Number of processes on this machine.
    pub local_count: usize,
}

impl Default for Ranks {
    fn default() -> Self {
        Ranks { rank: 0, count: 1, local: 0, local_count: 1 }
    }
}

/// Guard that ends MPI when it is dropped; a process that fails ends all others with `Ranks::abort` before.
pub struct Joined {
    #[cfg(feature = "mpi")]
    _universe: mpi::environment::Universe,
}

/// Scratch buffers of `Ranks::sum`.
#[derive(Debug, Default)]
pub struct Sums {
    padded: Vec<f32>,
    received: Vec<f32>,
    own: Vec<f32>,
}

/// Time at which the process began to wait for the others, in milliseconds since the first use of the clock, plus 1; 0 while it does not
/// wait.
static WAITING: AtomicU64 = AtomicU64::new(0);
/// Longest wait that has ended, in milliseconds.
static LONGEST: AtomicU64 = AtomicU64::new(0);

fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

/// Number of processes that a launcher says it has started, by the variables that Open MPI, MPICH, Intel MPI and Slurm's PMI set.
fn launched() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let slurm = || std::env::var_os("PMIX_RANK").and_then(|_| number("SLURM_NTASKS"));
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().find_map(number).or_else(slurm).unwrap_or(1)
}

#[cfg(not(feature = "mpi"))]
impl Ranks {
    /// Gives this process as the only rank.
    ///
    /// # Errors
    /// `Config` where `mpirun` has started several: each would train the same run.
    pub fn join() -> Result<(Ranks, Option<Joined>)> {
        match launched() {
            0 | 1 => Ok((Ranks::default(), None)),
            count => Err(Error::Config(format!(
                "{count} processes were started together, and this engine was built without MPI: each would train the whole run. Build it with \
                 `cargo build --release --features mpi`, start it without mpirun, or unset OMPI_COMM_WORLD_SIZE, PMI_SIZE and PMIX_RANK for runs of their own"
            ))),
        }
    }

    fn deal(self, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn collect(self, own: &[f32], all: &mut [f32]) {
        all.copy_from_slice(own);
    }

    fn gathered(self, word: u64) -> Vec<u64> {
        vec![word]
    }

    fn sent(self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    /// Ends every process of the run with this exit code.
    pub fn abort(self, code: i32) -> ! {
        std::process::exit(code)
    }
}

#[cfg(feature = "mpi")]
impl Ranks {
    /// Joins this process with those that were started with it.
    ///
    /// # Errors
    /// `Internal` when MPI does not start.
    pub fn join() -> Result<(Ranks, Option<Joined>)> {
        if launched() <= 1 {
            return Ok((Ranks::default(), None));
        }
        // Kernels are waited for by other threads; only this one calls MPI.
        let started = mpi::initialize_with_threading(mpi::Threading::Funneled);
        let (universe, _) = started.ok_or_else(|| Error::Internal("MPI does not start a second time".into()))?;
        let world = universe.world();
        let local = world.split_shared(world.rank());
        if world.size() as usize != launched() {
            return Err(Error::Config(format!(
                "{} processes were started together, and MPI knows of {}: mpirun is of another MPI library than the one that engine was built with",
                launched(),
                world.size()
            )));
        }
        let [rank, count, local, local_count] = [world.rank(), world.size(), local.rank(), local.size()].map(|n| n as usize);
        Ok((Ranks { rank, count, local, local_count }, Some(Joined { _universe: universe })))
    }

    fn world() -> mpi::topology::SimpleCommunicator {
        mpi::topology::SimpleCommunicator::world()
    }

    fn deal(self, from: &[f32], to: &mut [f32]) {
        Self::world().all_to_all_into(from, to);
    }

    fn collect(self, own: &[f32], all: &mut [f32]) {
        Self::world().all_gather_into(own, all);
    }

    fn gathered(self, word: u64) -> Vec<u64> {
        let mut words = vec![0u64; self.count];
        Self::world().all_gather_into(&word, &mut words[..]);
        words
    }

    fn sent(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let world = Self::world();
        let root = world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        // MPI counts with 31 bits.
        for piece in bytes.chunks_mut(1 << 30) {
            root.broadcast_into(piece);
        }
        bytes
    }

    /// Ends every process of the run with this exit code.
    pub fn abort(self, code: i32) -> ! {
        if self.count > 1 {
            Self::world().abort(code);
        }
        std::process::exit(code)
    }
}

/// Runs an exchange that waits for the other processes, and records how long it took.
fn waiting<T>(exchange: impl FnOnce() -> T) -> T {
    let start = clock();
    WAITING.store(start, Ordering::Relaxed);
    let result = exchange();
    WAITING.store(0, Ordering::Relaxed);
    LONGEST.fetch_max(clock() - start, Ordering::Relaxed);
    result
}

/// Time after a signal for which one wait may last until it is taken for endless.
#[cfg(feature = "cli")]
fn patience() -> Duration {
    if std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some() {
        // Open MPI kills so many seconds after the signal.
        let seconds = std::env::var("OMPI_MCA_odls_base_sigkill_timeout").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        return Duration::from_millis((1000 * u64::min(seconds, 60)).saturating_sub(300).max(500));
    }
    Duration::from_millis(5_000 + 2 * LONGEST.load(Ordering::Relaxed).min(5_000))
}

impl Ranks {
    /// True for the process that writes and prints for all.
    pub fn leads(self) -> bool {
        self.rank == 0
    }

    /// True if there are several processes.
    pub fn shared(self) -> bool {
        self.count > 1
    }

    /// Σ over the first `of` ranks, ((x₀ + x₁) + x₂) + …, the same bits on every rank. Each rank adds up one part of the numbers and sends
    /// it to all: twice (R − 1)/R of them go in and out of every rank.
    pub fn sum(self, values: &mut [f32], of: usize, Sums { padded, received, own }: &mut Sums) {
        if !self.shared() || values.is_empty() {
            return;
        }
        let part = values.len().div_ceil(self.count);
        padded.clear();
        padded.extend_from_slice(values);
        padded.resize(part * self.count, 0.0);
        received.resize(part * self.count, 0.0);
        waiting(|| self.deal(padded, received));
        own.clear();
        own.extend_from_slice(&received[..part]);
        for other in received.chunks(part).take(of).skip(1) {
            own.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        waiting(|| self.collect(own, padded));
        values.copy_from_slice(&padded[..values.len()]);
    }

    /// Words of all ranks, in their order.
    pub fn gather(self, word: u64) -> Vec<u64> {
        if self.shared() { waiting(|| self.gathered(word)) } else { vec![word] }
    }

    /// The bytes of rank 0 on every rank.
    pub fn broadcast(self, bytes: Vec<u8>) -> Vec<u8> {
        if self.shared() { waiting(|| self.sent(bytes)) } else { bytes }
    }

    /// Fails on every rank unless all have the same word, such as a checksum of their weights.
    ///
    /// # Errors
    /// `Internal`, naming the ranks that differ.
    pub fn expect_same(self, what: &str, word: u64) -> Result<()> {
        match self.others(word) {
            None => Ok(()),
            Some(others) => Err(Error::Internal(format!(
                "{what} of rank {others} are not those of the other ranks: its device or its memory computes other bits. Checkpoints hold the state from before; \
                 look for errors of that machine, use the same card and driver on all, and go on with --resume"
            ))),
        }
    }

    /// Ranks whose word differs from that of most ranks, as a list; none if all agree.
    pub fn others(self, word: u64) -> Option<String> {
        let words = self.gather(word);
        // Of two ranks nobody can say which is wrong; of more, those in the minority.
        let votes = |word: &u64| words.iter().filter(|other| *other == word).count();
        let usual = words.iter().max_by_key(|word| (votes(word), **word == words[0]))?;
        let others: Vec<String> = (0..words.len()).filter(|r| words[*r] != *usual).map(|r| r.to_string()).collect();
        (!others.is_empty()).then(|| others.join(", "))
    }

    /// Fails on every rank unless all were started with the same options, before any exchange that would otherwise wait for ever.
    ///
    /// # Errors
    /// `Config`, naming what differs and the ranks.
    #[cfg(feature = "cli")]
    pub(crate) fn expect_same_start(self, options: &[(&str, String)]) -> Result<()> {
        for (what, value) in options {
            if let Some(others) = self.others(crc32c::crc32c(value.as_bytes()).into()) {
                let own = match value.len() {
                    0 => format!(". Rank {} has none", self.rank),
                    1..=200 => format!(". Rank {} has {value}", self.rank),
                    _ => String::new(),
                };
                return Err(Error::Config(format!(
                    "rank {others} was started with another {what} than the other ranks: give all the same{own}"
                )));
            }
        }
        Ok(())
    }

    /// Waits until all ranks have arrived, for as long as it takes, such as while one of them writes files.
    pub fn meet(self) {
        if self.leads() {
            // Rank 0 writes the files and has done so: what the others still have to do is short.
            self.gather(0);
        } else {
            self.gathered(0);
        }
    }

    /// Waits as `meet` does, before the first step. Waits so far say nothing about the time of a step, so the longest one is forgotten.
    pub fn begin(self) {
        self.meet();
        LONGEST.store(0, Ordering::Relaxed);
    }

    /// Smallest of the numbers that the ranks give.
    pub fn least(self, number: u64) -> u64 {
        self.gather(number).into_iter().min().unwrap_or(number)
    }

    /// Range of the micro-steps that this rank computes, out of `accumulate` that all ranks compute together.
    pub fn micro_steps(self, accumulate: usize) -> std::ops::Range<usize> {
        let own = accumulate / self.count;
        self.rank * own..(self.rank + 1) * own
    }

    /// Adapter that this rank uses on its machine: its own of a list such as `0,2`; without a list, one card for each rank if there are
    /// cards.
    ///
    /// # Errors
    /// `Config` where there are fewer cards than ranks.
    pub fn device(self, wanted: Option<&str>, cards: &[usize]) -> Result<Option<String>> {
        let (listed, own): (Vec<String>, _) = match wanted {
            Some(text) if !text.contains(',') => return Ok(Some(text.into())),
            Some(text) => (text.split(',').map(|part| part.trim().to_string()).collect(), "--device names"),
            None => (cards.iter().map(ToString::to_string).collect(), "this machine has"),
        };
        match listed.get(self.local) {
            Some(card) => Ok(Some(card.clone())),
            // Software, or none at all: the device says so when it is opened.
            None if listed.is_empty() => Ok(None),
            None => Err(Error::Config(format!(
                "{} ranks were started on this machine, and {own} cards for {} of them: start one rank a card, as in mpirun -n {}, or let ranks share one with \
                 --device {}",
                self.local_count,
                listed.len(),
                listed.len(),
                listed[0]
            ))),
        }
    }

    /// Ends this process with code 75 if the launcher ends the run (SIGTERM) while this rank waits for one that does not answer, as after a
    /// crash of that one. Rank 0 prints a message after 0.4 s, as Open MPI kills a process a second after the signal. The folder `scratch`
    /// is deleted. While ranks wait for rank 0, which validates or writes, the launcher ends them.
    #[cfg(feature = "cli")]
    pub(crate) fn watch(self, scratch: Option<std::path::PathBuf>) {
        if !self.shared() {
            return;
        }
        let told = Arc::new(AtomicBool::new(false));
        // Not SIGCONT, which also comes where a run goes on after it was suspended.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, told.clone());
        std::thread::spawn(move || {
            let tick = Duration::from_millis(50);
            // Time of one and the same wait since the signal, by this thread, which stands still where the process is suspended.
            let (mut wait, mut stuck, mut said) = (0, Duration::ZERO, false);
            loop {
                std::thread::sleep(tick);
                let since = WAITING.load(Ordering::Relaxed);
                // 0 is no wait: it computes or writes.
                stuck = if told.load(Ordering::Relaxed) && since != 0 && since == wait { stuck + tick } else { Duration::ZERO };
                wait = since;
                if stuck >= Duration::from_millis(400) && self.leads() && !said {
                    said = true;
                    eprintln!(
                        "engine: this run is being ended, and another rank does not answer: it may have died. The newest checkpoint is whole: the same command \
                         with --resume goes on"
                    );
                }
                if stuck > patience() {
                    let _ = scratch.as_ref().map(std::fs::remove_dir_all);
                    std::process::exit(75);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_take_a_card_each() {
        let rank = |local| Ranks { rank: local, count: 3, local, local_count: 3 };
        assert_eq!(rank(1).device(None, &[4, 7, 9]).unwrap().as_deref(), Some("7"));
        assert_eq!(rank(2).device(Some("0,3,5"), &[]).unwrap().as_deref(), Some("5"));
        assert_eq!(rank(2).device(Some("llvmpipe"), &[0]).unwrap().as_deref(), Some("llvmpipe"));
        assert_eq!(rank(2).device(None, &[]).unwrap(), None);
        let error = rank(2).device(None, &[0, 1]).unwrap_err().to_string();
        assert!(error.contains("mpirun -n 2") && error.contains("--device 0"), "{error}");
    }

    #[test]
    fn micro_steps_are_dealt_out_in_order() {
        let own = |rank| Ranks { rank, count: 3, local: rank, local_count: 3 }.micro_steps(6);
        assert_eq!([own(0), own(1), own(2)], [0..2, 2..4, 4..6]);
    }

    #[test]
    fn a_process_alone_exchanges_nothing() {
        let (alone, mut values) = (Ranks::default(), vec![1.0, 2.0]);
        alone.sum(&mut values, 1, &mut Sums::default());
        assert_eq!((values, alone.gather(7)), (vec![1.0, 2.0], vec![7]));
        alone.expect_same("weights", 3).unwrap();
    }
}
