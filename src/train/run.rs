//! The training loop: replay, validation, early stopping, checkpoints, and the closing report.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::checkpoint::{Checkpoint, Progress, load_weights, save_weights, write_atomically};
use super::logs::{Logs, duration};
use super::plot::{Chart, Curve, draw};
use super::session::{EvalMetrics, RING, Session, memory};
use crate::config::Config;
use crate::datasets::integer_sequences::{Sequence, VALUES, sample, shares};
use crate::datasets::{Split, epoch_order};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::metrics::{RECORD, SUMS};
use crate::plan::{Flat, MemoryReport};

/// Skipped updates in a row after which a run stops.
const SKIPS: u64 = 10;

/// Steps that may wait on the device before the host waits for the oldest.
const IN_FLIGHT: usize = 8;

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Run folder.
    pub out: PathBuf,
    /// Go on from the newest valid checkpoint.
    pub resume: bool,
    /// Weights to start from.
    pub init: Option<PathBuf>,
    /// Memory budget in bytes; the default is 8 GiB, or what the card has free if that is known and less.
    pub budget: Option<u64>,
    /// Adapter by number or name.
    pub device: Option<String>,
    /// End after this many steps, whatever the configuration says; its schedule stays.
    pub steps: Option<u64>,
    /// Say nothing on standard error.
    pub quiet: bool,
    /// Set to the number of a signal that asks for an end.
    pub stop: Arc<AtomicUsize>,
}

impl Options {
    /// Step at which the run ends if nothing ends it before.
    fn end(&self, config: &Config) -> u64 {
        self.steps.unwrap_or(u64::MAX).min(config.total_steps())
    }
}

/// The closing table of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Run folder.
    pub run: String,
    /// Device.
    pub device: String,
    /// Weights.
    pub parameters: usize,
    /// Updates done.
    pub steps: u64,
    /// Step of the weights that are kept.
    pub best_step: u64,
    /// Why it ended.
    pub ended: String,
    /// Time spent in all sessions.
    pub seconds: f64,
    /// Updates skipped because something was not finite.
    pub skipped: u64,
    /// Kept weights on fresh sequences, by phase and on the full mixture.
    pub test: Vec<(String, EvalMetrics)>,
    /// Sequences behind each row of `test`.
    pub test_sequences: usize,
    /// The uniform guess.
    pub baseline: EvalMetrics,
    /// Share of the test sequences of the full mixture that also occurred in training.
    pub seen_in_training: f64,
}

/// A run folder, locked while this lives.
#[derive(Debug)]
pub struct RunFolder {
    /// Where.
    pub path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Creates the folder where needed and locks it.
    ///
    /// # Errors
    /// `CannotCreate` when it is not writable, held by another run, or holds a run that is not to be resumed.
    pub fn open(path: &Path, resume: bool) -> Result<RunFolder> {
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(|e| Error::create(path, &e))?;
        let lock_path = path.join(".lock");
        let lock = File::create(&lock_path).map_err(|e| Error::create(&lock_path, &e))?;
        if lock.try_lock().is_err() {
            return Err(Error::CannotCreate(format!(
                "{} is in use by another run. Wait for it, or choose another folder with --out",
                path.display()
            )));
        }
        if !resume && path.join("config.toml").exists() {
            return Err(Error::CannotCreate(format!(
                "{} already holds a run. Go on with it with --resume, or choose another folder with --out",
                path.display()
            )));
        }
        Ok(RunFolder { path: path.to_path_buf(), _lock: lock })
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    fn best(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    /// Fails unless the disk holds `bytes` more.
    fn expect_space(&self, bytes: u64) -> Result<()> {
        match fs4::available_space(&self.path) {
            Ok(free) if free < bytes => Err(Error::CannotCreate(format!(
                "{}: {free} bytes are free, the checkpoints need {bytes}. Free some space, lower checkpoint.keep, or choose another disk with --out",
                self.path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Compares the configuration of the folder with this one, or saves it.
    fn settle_config(&self, config: &Config) -> Result<()> {
        let path = self.path.join("config.toml");
        let text = config.to_toml()?;
        let Ok(saved) = fs::read_to_string(&path) else {
            return write_atomically(&path, text.as_bytes());
        };
        let (old, new): (HashSet<&str>, HashSet<&str>) = (saved.lines().collect(), text.lines().collect());
        if old == new {
            return Ok(());
        }
        let gone = saved.lines().filter(|l| !new.contains(l)).map(|l| format!("\n  saved: {l}"));
        let come = text.lines().filter(|l| !old.contains(l)).map(|l| format!("\n  given: {l}"));
        Err(Error::Data(format!(
            "{} was started with another configuration:{}\nResume with the saved one, or start in another folder with --out",
            self.path.display(),
            gone.chain(come).collect::<String>()
        )))
    }
}

/// Bytes that a run may allocate on this device.
pub(crate) fn default_budget(gpu: &Gpu) -> u64 {
    (8u64 << 30).min(gpu.free_memory().unwrap_or(u64::MAX))
}

/// Largest batch whose memory stays within the budget, if any does.
pub(crate) fn largest_batch(config: &Config, gpu_target: crate::gpu::Target, budget: u64) -> Option<usize> {
    let fits = |batch: usize| {
        let mut candidate = config.clone();
        candidate.train.batch = batch;
        let largest = |m: &crate::plan::Memory| m.buffers.iter().map(|b| b.bytes).max().unwrap_or(0);
        memory(&candidate, gpu_target).is_ok_and(|m| m.report.total_bytes <= budget && largest(&m) <= gpu_target.max_binding)
    };
    if !fits(1) {
        return None;
    }
    let (mut low, mut high) = (1, 2);
    while high <= 1 << 20 && fits(high) {
        (low, high) = (high, high * 2);
    }
    high = high.min((1 << 20) + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

fn over_budget(config: &Config, gpu: &Gpu, report: &MemoryReport, budget: u64) -> Error {
    let roles = report.bytes_by_role.iter().map(|(role, bytes)| format!("\n  {role:<12}{bytes:>16}")).collect::<String>();
    let fit = match largest_batch(config, gpu.target, budget) {
        Some(batch) => {
            let pieces = config.train.batch.div_ceil(batch);
            format!(
                "train.batch = {batch} would fit; with train.accumulate = {} it takes as many samples a step",
                pieces * config.train.accumulate
            )
        }
        None => "even train.batch = 1 does not fit: make the model smaller".to_string(),
    };
    Error::Config(format!("the plan needs {} bytes, the budget is {budget}:{roles}\n{fit}, or raise --budget", report.total_bytes))
}

/// Trains. See the module.
///
/// # Errors
/// Those of correctness: every class of `Error`.
pub fn train(config: &Config, options: &Options) -> Result<Report> {
    let gpu = Arc::new(Gpu::open(options.device.as_deref())?);
    let report = memory(config, gpu.target)?.report;
    let budget = options.budget.unwrap_or_else(|| default_budget(&gpu));
    if report.total_bytes > budget {
        return Err(over_budget(config, &gpu, &report, budget));
    }
    if options.out.join("config.toml").exists() && options.resume && options.init.is_some() {
        return Err(Error::Config("--init and --resume contradict each other: a resumed run has its weights".into()));
    }
    let folder = RunFolder::open(&options.out, options.resume)?;
    Trainer::new(config, options, gpu, folder)?.run()
}

struct Trainer<'a> {
    config: &'a Config,
    options: &'a Options,
    gpu: Arc<Gpu>,
    folder: RunFolder,
    session: Session,
    logs: Logs,
    progress: Progress,
    started: Instant,
    seconds_before: f64,
    /// First step whose record was not read yet.
    unread: u64,
    train_curve: Vec<(f64, f64)>,
    validation_curves: [Vec<(f64, f64)>; 3],
    order: Option<(u64, Vec<u32>)>,
}

impl<'a> Trainer<'a> {
    fn new(config: &'a Config, options: &'a Options, gpu: Arc<Gpu>, folder: RunFolder) -> Result<Self> {
        let session = Session::training(config, &gpu)?;
        let plan = &session.step()?.0.plan;
        let parameters = plan.parameters();
        let flat_bytes = plan.flat_len() as u64 * 4;
        let found = if options.resume { Checkpoint::newest(&folder.checkpoints(), parameters)? } else { None };
        // Weights, two moments, and the header; best and model hold weights alone.
        let resumed = found.is_some();
        let room = if resumed { 1 } else { config.checkpoint.keep as u64 + 1 };
        folder.expect_space(room * (3 * flat_bytes + 65_536) + 2 * flat_bytes)?;
        folder.settle_config(config)?;
        let (checkpoint, rejected) = found.unwrap_or_default();
        let progress = checkpoint.progress.clone();
        let total = options.end(config);
        let mut logs = Logs::open(&folder.path, progress.step, total, options.quiet)?;
        logs.say(&format!("device      {}", gpu.describe()));
        logs.say(&format!("model       {} parameters, plan of {} dispatches", plan.parameter_count(), plan.entries().len()));
        logs.say(&format!("run folder  {}", folder.path.display()));
        for problem in &rejected {
            logs.say(&format!("not the newest checkpoint: {problem}"));
        }
        if resumed {
            session.arena.write_flat(Flat::Parameters, &checkpoint.weights)?;
            session.arena.write_flat(Flat::FirstMoment, &checkpoint.m)?;
            session.arena.write_flat(Flat::SecondMoment, &checkpoint.v)?;
            logs.say(&format!("resuming    at step {}", progress.step));
            if checkpoint.variants != variants(&gpu, &session)? {
                logs.say("the device or its kernels differ from those of the checkpoint: the run goes on, but not with the same bits");
            }
        } else if options.resume {
            logs.say("resuming    nothing to resume in this folder: starting at step 0");
        }
        if let Some(path) = &options.init {
            session.arena.write_flat(Flat::Parameters, &load_weights(path, parameters)?)?;
            logs.say(&format!("weights     from {}", path.display()));
        }
        let seconds_before = progress.seconds;
        let unread = progress.step;
        let mut trainer = Trainer {
            config,
            options,
            gpu,
            folder,
            session,
            logs,
            progress,
            started: Instant::now(),
            seconds_before,
            unread,
            train_curve: vec![],
            validation_curves: Default::default(),
            order: None,
        };
        trainer.load_curves();
        Ok(trainer)
    }

    /// Curves of the steps before, from the metrics file.
    fn load_curves(&mut self) {
        let text = fs::read_to_string(self.folder.path.join("metrics.jsonl")).unwrap_or_default();
        for value in text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok()) {
            let number = |key: &str| value[key].as_f64().unwrap_or(f64::NAN);
            if value["split"] == "train" {
                self.train_curve.push((number("step"), number("loss")));
            } else {
                let values = [number("loss"), number("accuracy"), number("ninth_accuracy")];
                self.validation_curves.iter_mut().zip(values).for_each(|(c, v)| c.push((number("step"), v)));
            }
        }
    }

    fn batches(&mut self, step: u64) -> Vec<Vec<Sequence>> {
        let t = &self.config.train;
        let data = &self.config.data;
        let (epoch, within) = (step / t.steps_per_epoch, (step % t.steps_per_epoch) as usize);
        let per_step = t.batch * t.accumulate;
        let per_epoch = per_step as u64 * t.steps_per_epoch;
        if t.shuffle && self.order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.order = Some((epoch, epoch_order(t.seed, epoch, per_epoch as usize)));
        }
        let shares = shares(epoch as f64, data.transition_epochs);
        let order = self.order.as_ref();
        let draw = |i: usize| {
            let within_epoch = order.map_or(i as u64, |(_, o)| u64::from(o[i]));
            sample(data.seed, Split::Train, epoch * per_epoch + within_epoch, shares)
        };
        (0..t.accumulate).map(|micro| (0..t.batch).map(|b| draw(within * per_step + micro * t.batch + b)).collect()).collect()
    }

    fn run(mut self) -> Result<Report> {
        let total = self.options.end(self.config);
        let mut in_flight: VecDeque<wgpu::SubmissionIndex> = VecDeque::new();
        let mut last_drain = Instant::now();
        while self.progress.step < total && self.progress.finished.is_none() {
            let signal = self.options.stop.load(Ordering::Relaxed);
            if signal != 0 {
                self.drain()?;
                self.save()?;
                self.logs.close()?;
                return Err(Error::Interrupted(signal as i32));
            }
            let step = self.progress.step;
            let rate = self.config.schedule.learning_rate(self.config.optimizer.learning_rate, step, self.config.total_steps());
            let mut state = State { seed: self.config.train.seed as u32, slot: (step % RING) as u32, ..State::default() };
            self.config.optimizer.fill(&mut state, step, rate);
            let batches = self.batches(step);
            in_flight.push_back(self.session.submit_step(&batches, state, step)?);
            if in_flight.len() > IN_FLIGHT
                && let Some(oldest) = in_flight.pop_front()
            {
                self.gpu.wait(oldest)?;
            }
            self.progress.step += 1;
            let done = self.progress.step;
            let validate = done.is_multiple_of(self.config.validation.every) || done == total;
            let save = done.is_multiple_of(self.config.checkpoint.every) || done == total;
            if validate || save || done - self.unread == RING || last_drain.elapsed() > Duration::from_millis(500) {
                self.drain()?;
                last_drain = Instant::now();
                in_flight.clear();
            }
            if validate {
                self.validate()?;
                self.draw_curves()?;
            }
            if save || self.progress.finished.is_some() {
                self.save()?;
            }
        }
        self.finish()
    }

    fn epoch(&self, step: u64) -> u64 {
        step.saturating_sub(1) / self.config.train.steps_per_epoch
    }

    /// Reads the records of the steps since the last time, logs them, and counts skipped updates.
    fn drain(&mut self) -> Result<()> {
        if self.unread == self.progress.step {
            return Ok(());
        }
        let (program, tensors) = self.session.step()?;
        let records: Vec<f32> = program.read(tensors.records)?;
        let total = self.options.end(self.config);
        let mut message = String::new();
        for step in self.unread..self.progress.step {
            let record = &records[(step % RING) as usize * RECORD..][..RECORD];
            let mean = |column: usize| f64::from(record[SUMS + column]) / f64::from(record[0]);
            let done = step + 1;
            let rate = self.config.schedule.learning_rate(self.config.optimizer.learning_rate, step, self.config.total_steps());
            if record[2] == 0.0 {
                self.progress.skipped_in_a_row = 0;
            } else {
                self.progress.skipped_in_a_row += 1;
                self.progress.skipped += 1;
                self.logs.say(&format!(
                    "step {done}: loss {} or gradient norm {} is not finite: update skipped ({} in a row)",
                    mean(0),
                    record[1],
                    self.progress.skipped_in_a_row
                ));
            }
            if done.is_multiple_of(self.config.train.log_every) {
                let values = [
                    ("loss", mean(0)),
                    ("cross_entropy", mean(1)),
                    ("accuracy", mean(2)),
                    ("distance", mean(3)),
                    ("gradient_norm", f64::from(record[1])),
                    ("learning_rate", rate),
                ];
                self.logs.record("train", done, self.epoch(done), &values)?;
                self.train_curve.push((done as f64, mean(0)));
            }
            message = format!("loss {:.4}  accuracy {:.1} %", mean(0), 100.0 * mean(2));
            if self.progress.skipped_in_a_row >= SKIPS {
                self.logs.close()?;
                return Err(Error::Aborted(format!(
                    "loss or gradient was not finite {SKIPS} steps in a row, up to step {done}; the weights are those before. The best and the \
                     last checkpoints in {} are good. Lower optimizer.learning_rate, or set optimizer.clip_norm",
                    self.folder.checkpoints().display()
                )));
            }
        }
        self.unread = self.progress.step;
        let elapsed = self.started.elapsed().as_secs_f64();
        self.progress.seconds = self.seconds_before + elapsed;
        let speed = self.progress.step as f64 / self.progress.seconds.max(1e-9);
        self.logs.progress(self.progress.step, total, &message, speed);
        self.logs.flush()
    }

    /// Fresh sequences of the full mixture; improvement, patience, best weights.
    fn validate(&mut self) -> Result<()> {
        let config = self.config;
        let (step, count) = (self.progress.step, config.validation.sequences as u64);
        let number = step.div_ceil(config.validation.every);
        let sequences: Vec<Sequence> =
            (0..count).map(|i| sample(config.data.seed, Split::Validation, number * count + i, [1.0 / 3.0; 3])).collect();
        let metrics = self.session.evaluate(&sequences)?;
        let baseline = baseline(config);
        let values = [
            ("loss", metrics.loss, baseline.loss),
            ("cross_entropy", metrics.cross_entropy, baseline.cross_entropy),
            ("accuracy", metrics.accuracy, baseline.accuracy),
            ("distance", metrics.distance, baseline.distance),
            ("ninth_accuracy", metrics.ninth_accuracy, baseline.ninth_accuracy),
            ("ninth_distance", metrics.ninth_distance, baseline.ninth_distance),
        ];
        let epoch = self.epoch(step);
        self.logs.record("validation", step, epoch, &values.map(|(n, v, _)| (n, v)))?;
        self.logs.record("random_guess", step, epoch, &values.map(|(n, _, b)| (n, b)))?;
        let curves = [metrics.loss, metrics.accuracy, metrics.ninth_accuracy];
        self.validation_curves.iter_mut().zip(curves).for_each(|(c, v)| c.push((step as f64, v)));
        let better = self.progress.best_loss.is_none_or(|best| metrics.loss < best - config.validation.min_delta);
        self.logs.say(&format!(
            "step {step:>7}  validation loss {:8.4} (guess {:.2})  accuracy {:5.1} % (0.39)  ninth {:5.1} %  distance {:6.2} (85.33){}",
            metrics.loss,
            baseline.loss,
            100.0 * metrics.accuracy,
            100.0 * metrics.ninth_accuracy,
            metrics.distance,
            if better { "  best" } else { "" }
        ));
        if better && metrics.loss.is_finite() {
            (self.progress.best_loss, self.progress.best_step, self.progress.waiting) = (Some(metrics.loss), step, 0);
            let weights = self.session.arena.read_flat(Flat::Parameters)?;
            save_weights(&self.folder.best(), self.session.evaluate.0.plan.parameters(), &weights, &config.to_toml()?)?;
        } else {
            self.progress.waiting += 1;
            if config.validation.patience > 0 && self.progress.waiting >= config.validation.patience {
                self.progress.finished = Some(format!("early: no improvement in {} validations", self.progress.waiting));
            }
        }
        self.logs.flush()
    }

    fn save(&mut self) -> Result<()> {
        self.progress.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let arena = &self.session.arena;
        let checkpoint = Checkpoint {
            weights: arena.read_flat(Flat::Parameters)?,
            m: arena.read_flat(Flat::FirstMoment)?,
            v: arena.read_flat(Flat::SecondMoment)?,
            progress: self.progress.clone(),
            config: self.config.to_toml()?,
            variants: variants(&self.gpu, &self.session)?,
        };
        let parameters = self.session.evaluate.0.plan.parameters();
        checkpoint.save(&self.folder.checkpoints(), parameters, self.config.checkpoint.keep).map(|_| ())
    }

    fn draw_curves(&self) -> Result<()> {
        let [loss, accuracy, ninth] = &self.validation_curves;
        let curve = |name, points| Curve { name, points };
        let charts = [
            Chart { title: "loss", curves: vec![curve("training", &self.train_curve), curve("validation", loss)] },
            Chart { title: "validation accuracy", curves: vec![curve("all positions", accuracy), curve("ninth number from eight", ninth)] },
        ];
        draw(&self.folder.path.join("curves.svg"), &charts)
    }

    /// Restores the best weights, tests them on fresh sequences, and writes model and report.
    fn finish(mut self) -> Result<Report> {
        let parameters = self.session.evaluate.0.plan.parameters().to_vec();
        if self.progress.best_loss.is_some() {
            self.session.arena.write_flat(Flat::Parameters, &load_weights(&self.folder.best(), &parameters)?)?;
        }
        let weights = self.session.arena.read_flat(Flat::Parameters)?;
        save_weights(&self.folder.path.join("model.safetensors"), &parameters, &weights, &self.config.to_toml()?)?;
        let test_sequences = 1000;
        let (test, mixture) = test(&self.session, self.config, test_sequences)?;
        let report = Report {
            run: self.folder.path.display().to_string(),
            device: self.gpu.describe(),
            parameters: parameters.iter().map(crate::plan::Parameter::len).sum(),
            steps: self.progress.step,
            best_step: self.progress.best_step,
            ended: self.progress.finished.clone().unwrap_or_else(|| "all steps done".into()),
            seconds: self.progress.seconds,
            skipped: self.progress.skipped,
            test,
            test_sequences,
            baseline: baseline(self.config),
            seen_in_training: seen_in_training(self.config, self.progress.step, &mixture),
        };
        self.draw_curves()?;
        let json = serde_json::to_string_pretty(&report).map_err(|e| Error::Internal(format!("report: {e}")))?;
        write_atomically(&self.folder.path.join("report.json"), json.as_bytes())?;
        write_atomically(&self.folder.path.join("report.txt"), report.table().as_bytes())?;
        self.logs.close()?;
        Ok(report)
    }
}

/// What a uniform guess reaches.
fn baseline(config: &Config) -> EvalMetrics {
    let (loss, cross_entropy, distance) = config.loss.uniform_guess(VALUES);
    let accuracy = 1.0 / VALUES as f64;
    EvalMetrics { loss, cross_entropy, accuracy, distance, ninth_accuracy: accuracy, ninth_distance: distance }
}

/// Device and kernels: what must be the same for the same bits.
fn variants(gpu: &Gpu, session: &Session) -> Result<String> {
    let mut kernels: Vec<String> =
        session.step()?.0.plan.entries().iter().map(|e| format!("{}{:?}", e.shader.name, e.shader.consts)).collect();
    kernels.sort();
    kernels.dedup();
    Ok(format!("{}\n{}", gpu.describe(), kernels.join("\n")))
}

/// Rows of metrics by name, and the sequences of the last.
type Tested = (Vec<(String, EvalMetrics)>, Vec<Sequence>);

/// Metrics on `count` fresh sequences of each phase and of the full mixture, with the latter's sequences.
pub(crate) fn test(session: &Session, config: &Config, count: usize) -> Result<Tested> {
    let mut out = Vec::new();
    let mut sequences = Vec::new();
    let third = 1.0 / 3.0;
    for (name, shares) in
        [("phase 1", [1.0, 0.0, 0.0]), ("phase 2", [0.0, 1.0, 0.0]), ("phase 3", [0.0, 0.0, 1.0]), ("full mixture", [third; 3])]
    {
        sequences = (0..count as u64).map(|i| sample(config.data.seed, Split::Test, i, shares)).collect();
        out.push((name.to_string(), session.evaluate(&sequences)?));
    }
    Ok((out, sequences))
}

/// Share of sequences that occurred in the training steps before `step`, of which at most the last four million samples are looked at.
fn seen_in_training(config: &Config, step: u64, sequences: &[Sequence]) -> f64 {
    let wanted: HashSet<&Sequence> = sequences.iter().collect();
    let per_step = (config.train.batch * config.train.accumulate) as u64;
    let per_epoch = per_step * config.train.steps_per_epoch;
    let end = step * per_step;
    let seen: HashSet<Sequence> = (end.saturating_sub(4_000_000)..end)
        .map(|item| sample(config.data.seed, Split::Train, item, shares((item / per_epoch) as f64, config.data.transition_epochs)))
        .filter(|s| wanted.contains(s))
        .collect();
    sequences.iter().filter(|s| seen.contains(*s)).count() as f64 / sequences.len().max(1) as f64
}

impl Report {
    /// The report as an aligned table.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{}: {} parameters, {} steps in {} ({:.0} steps/s), ended {}\nbest weights of step {}; device {}\n\n",
            self.run,
            self.parameters,
            self.steps,
            duration(self.seconds),
            self.steps as f64 / self.seconds.max(1e-9),
            self.ended,
            self.best_step,
            self.device
        );
        if self.skipped > 0 {
            out += &format!("{} updates were skipped because loss or gradient was not finite\n\n", self.skipped);
        }
        out += &format!("{:<16}{:>12}{:>12}{:>12}{:>12}{:>12}\n", "", "ninth acc.", "accuracy", "distance", "CE (nats)", "loss");
        let mut row = |name: &str, m: &EvalMetrics| {
            out += &format!(
                "{name:<16}{:>10.1} %{:>10.1} %{:>12.2}{:>12.3}{:>12.3}\n",
                100.0 * m.ninth_accuracy,
                100.0 * m.accuracy,
                m.distance,
                m.cross_entropy,
                m.loss
            );
        };
        for (name, metrics) in &self.test {
            row(name, metrics);
        }
        row("uniform guess", &self.baseline);
        out += &format!(
            "\n{} fresh sequences a row; ninth acc. predicts the ninth number from eight. {:.0} % of the mixture's also occurred in training.\n",
            self.test_sequences,
            100.0 * self.seen_in_training
        );
        out
    }
}
