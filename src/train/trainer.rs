//! The training loop: replay, validation, early stopping, checkpoints, and the closing report.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Found, Origin, Progress, Warning, load_best, save_weights};
use super::folder::{Beat, DIVERGED, RunFolder};
use super::logs::Logs;
use super::report::Report;
use super::rules::Watch;
use super::tensor_file::{Best, write_atomically};
use crate::config::{Precision, Settings};
use crate::datasets::Watched;
use crate::error::{Error, Result, argument, json, visible};
use crate::files;
use crate::gpu::{Gpu, Role, Target, Tuning};
use crate::host::Host;
use crate::kernels::loss_scale::{INITIAL, SMALLEST};
use crate::kernels::metrics::StepRecord;
use crate::kernels::{State, key};
use crate::losses::Columns;
use crate::metrics::{Column, Metrics, improves, less_is_better};
use crate::plan::{Entry, Exchange, Flat, Parameter};
#[cfg(feature = "cli")]
use crate::plots::{charts_of, draw};
use crate::problem::Loaded;
use crate::ranks::Ranks;
use crate::session::{Carried, RING, Session};
use crate::tasks::{Card, ClosingScores, Scorecard};

/// Skipped updates in a row after which a run stops.
const SKIPS: u64 = 10;

/// Steps after which the processes of a run compare their weights at the latest.
const SAME: u64 = 500;

/// How what patience ended is told.
const EARLY: &str = "early";

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
    /// The processes that train the run together. All but the first have a folder of their own in `out`, which is nobody's result.
    pub ranks: Ranks,
    /// Where it speaks, and the devices that are open.
    pub host: Host,
}

impl Options {
    /// A line on standard error, of the first rank.
    pub(crate) fn say(&self, line: &str) {
        if self.ranks.leads() {
            self.host.say(line);
        }
    }
}

/// Learning rate of step `step` (from 0).
fn learning_rate(settings: &Settings, progress: &Progress, step: u64, steps: u64) -> f64 {
    settings.schedule.learning_rate(settings.optimizer.learning_rate, step, steps, settings.train.epochs) * progress.plateau.factor
}

/// What a run starts with, all of it looked at.
pub(super) struct Start {
    pub(super) problem: Loaded,
    pub(super) gpu: Arc<Gpu>,
    pub(super) folder: RunFolder,
    pub(super) origin: Origin,
    pub(super) watched: Watched,
    pub(super) found: Option<Found>,
    pub(super) init: Option<Vec<f32>>,
    pub(super) notes: Vec<String>,
}

/// Steps between events that happen once an epoch unless the configuration says otherwise.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    epoch: u64,
    validate: u64,
    save: u64,
    /// Step after which patience counts.
    patience_after: u64,
    /// Step at which the schedule ends.
    total: u64,
    /// Step at which the run ends if nothing ends it before.
    end: u64,
}

pub(super) struct Trainer<'a> {
    options: &'a Options,
    problem: Loaded,
    scorecard: Box<dyn Scorecard>,
    columns: Columns,
    card: Card,
    gpu: Arc<Gpu>,
    folder: RunFolder,
    origin: Origin,
    watched: Watched,
    session: Session,
    /// Of a run of several processes.
    exchange: Option<Exchange>,
    rhythm: Rhythm,
    logs: Logs,
    progress: Progress,
    started: Instant,
    seconds_before: f64,
    /// First step whose record was not read yet.
    unread: u64,
    /// Points by curve: split and metric.
    curves: BTreeMap<(String, String), Vec<(f64, f64)>>,
    /// First step of this session.
    first: u64,
    /// When the folder was last told how far the run is.
    beaten: Option<Instant>,
    /// When curves may be drawn again.
    redraw_after: Option<Instant>,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(options: &'a Options, start: Start) -> Result<Self> {
        let Start { problem, gpu, mut folder, origin, watched, found, init, notes } = start;
        let config = &problem.settings;
        let session = problem.training(&gpu)?;
        let plan = &session.step()?.0.plan;
        let parameters = plan.parameters();
        let flat_bytes = plan.flat_len() as u64 * 4;
        let epoch = problem.data.steps_per_epoch();
        let total = config.train.epochs.saturating_mul(epoch);
        let rhythm = Rhythm {
            epoch,
            validate: config.validation.every.unwrap_or(epoch),
            save: config.checkpoint.every.unwrap_or(epoch),
            // Until warm-up and curriculum are over, a validation without improvement says little.
            patience_after: config.validation.patience_after.unwrap_or_else(|| {
                let curriculum = (problem.curriculum_epochs * epoch as f64).ceil() as u64;
                config.schedule.warmup(epoch, config.train.epochs).max(curriculum)
            }),
            total,
            end: options.steps.unwrap_or(u64::MAX).min(total),
        };
        // Weights, two moments, and the header; best and model hold weights alone.
        let resumed = found.is_some();
        let room = match (options.ranks.leads(), resumed) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => config.checkpoint.keep as u64 + 1,
        };
        folder.expect_space(room * (3 * flat_bytes + 65_536) + 2 * flat_bytes)?;
        let Found { checkpoint, rejected, .. } = found.unwrap_or_default();
        let mut sentences = folder.check_best(&checkpoint.progress, &origin, parameters, problem.buffers(), rhythm.end)?;
        if let Some(weights) = &init {
            session.arena.write_flat(Flat::Parameters, weights)?;
        }
        if resumed {
            session.arena.write_flat(Flat::Parameters, &checkpoint.weights)?;
            session.arena.write_flat(Flat::FirstMoment, &checkpoint.m)?;
            session.arena.write_flat(Flat::SecondMoment, &checkpoint.v)?;
            let Progress { step, skipped: without, loss_scale, .. } = checkpoint.progress;
            let (skipped, loss_scale) = loss_scale.map_or((false, INITIAL), |(skipped, bits)| (skipped, f32::from_bits(bits)));
            session.carry_on(step, Carried { skipped, loss_scale, updates: step - without.min(step) })?;
            if checkpoint.variants != variants(&gpu, &session)? {
                sentences.push(
                    "the device, the number of ranks or the kernels differ from those of the checkpoint: the run goes on, but not with the same bits".into(),
                );
            }
        }
        let mut progress = checkpoint.progress;
        let epochs = config.train.epochs;
        if let Some(before) = Origin::epochs(&checkpoint.origin.config).filter(|before| resumed && *before < epochs) {
            let step = progress.step;
            let rate = |step: u64, epochs: u64| {
                let steps = epochs.saturating_mul(epoch);
                config.schedule.learning_rate(config.optimizer.learning_rate, step, steps, epochs) * progress.plateau.factor
            };
            let (then, now) = (rate(step.saturating_sub(1), before), rate(step, epochs));
            sentences.push(format!(
                "epochs      {epochs} instead of {before}: the learning rate goes from {then:.3e} to {now:.3e} after step {step}"
            ));
            // Patience has ended it; more epochs are asked for.
            if progress.finished.as_ref().is_some_and(|how| how.starts_with(EARLY)) {
                (progress.finished, progress.waiting) = (None, 0);
            }
        }
        progress.watches.resize(config.abort_if.len(), Watch::default());
        progress.expectations.resize(config.expect.len(), None);
        let exchange = if options.ranks.shared() { Some(session.exchange(options.ranks)?) } else { None };
        if let Some(exchange) = &exchange {
            let sum = |text: &str| u64::from(crc32c::crc32c(text.as_bytes()));
            let run = format!("{}\n{:?}\n{}\n{}", origin.config, origin.data, env!("CARGO_PKG_VERSION"), exchange.layout());
            if let Some(others) = options.ranks.others(sum(&run)) {
                return Err(Error::Config(format!(
                    "rank {others} has another configuration, other data, another version of engine or kernels for another kind of device than the other \
                     ranks: give all the same files and the same kind of card"
                )));
            }
            if options.ranks.others(sum(&variants(&gpu, &session)?)).is_some() {
                sentences.push(
                    "WARNING: the ranks have different devices, drivers or ways to launch kernels: where these round differently, the run ends with exit \
                     code 70"
                        .into(),
                );
            }
        }
        folder.create()?;
        // It comes again if the run does.
        let _ = fs::remove_file(folder.path.join(DIVERGED));
        let checkpoints = folder.checkpoints();
        let tuned = tuned(&gpu, &session);
        if options.ranks.leads() && (init.is_some() || !resumed && !tuned.is_empty()) {
            // Before anything else is there: a run that is killed at its start must not go on from other weights, or with other
            // kernels.
            let parameters = parameters.to_vec();
            checkpoint_of(&session, &gpu, &problem, &origin, progress.clone())?.save(&checkpoints, &parameters, config.checkpoint.keep)?;
        }
        sentences.extend(folder.write_config(&origin, resumed)?);
        let mut logs = Logs::open(&folder.path, progress.step, rhythm.end, (!options.quiet).then_some(&options.host))?;
        logs.say(&format!("device      {}", gpu.describe()));
        logs.say(&format!("model       {} parameters, plan of {} dispatches", plan.parameter_count(), plan.launches().count()));
        let ledger = gpu.ledger();
        let roles = Role::ALL.into_iter().filter(|role| ledger.of(*role) > 0).map(|role| format!("{role} {}", ledger.of(role)));
        logs.say(&format!("memory      {} bytes: {}", ledger.total(), roles.collect::<Vec<_>>().join(", ")));
        for note in notes {
            logs.say(&note);
        }
        if !tuned.is_empty() {
            let whence = if resumed { "as its checkpoint has them" } else { "as measured on this device" };
            logs.say(&format!("tuned       choices of ways to launch kernels, {whence}: {}", tuned.0.len()));
        }
        if let (Some(why), false) = (&gpu.untuned, resumed) {
            logs.say(&format!("WARNING: what `engine tune` measured is left aside: {why}. Measure again with `engine tune`"));
        }
        logs.say(&format!("run folder  {}", folder.path.display()));
        let warmup = config.schedule.warmup(epoch, config.train.epochs);
        if warmup >= total {
            logs.say(&format!(
                "WARNING: the warm-up takes {warmup} steps and the run {total}: the learning rate never reaches its peak. Lower \
                 schedule.warmup_steps, schedule.warmup_epochs or schedule.warmup_share, or choose schedule.kind = \"constant\""
            ));
        }
        for problem in &rejected {
            logs.say(&format!("not the newest checkpoint: {problem}"));
        }
        if resumed {
            logs.say(&format!("resuming    at step {}", progress.step));
            if progress.step > rhythm.end {
                logs.say(&format!("the run is past step {}, where --steps ends it: there is nothing to train", rhythm.end));
            }
        } else if options.resume {
            logs.say("resuming    nothing to resume in this folder: starting at step 0");
        }
        for sentence in sentences {
            logs.say(&sentence);
        }
        match &options.init {
            Some(path) if init.is_some() => logs.say(&format!("weights     from {}", path.display())),
            Some(_) => logs.say("weights     its own: the run was started before, and --init is left aside"),
            None => {}
        }
        if exchange.is_some() {
            let (count, samples) = (options.ranks.count, config.train.samples());
            logs.say(&format!("ranks       {count}, each with {} of the {samples} samples of a step", samples / count));
        }
        let seconds_before = progress.seconds;
        let unread = progress.step;
        let mut trainer = Trainer {
            options,
            scorecard: problem.scorecard(),
            columns: problem.loss().columns(),
            card: problem.card(),
            problem,
            gpu,
            folder,
            origin,
            watched,
            session,
            exchange,
            rhythm,
            logs,
            progress,
            started: Instant::now(),
            seconds_before,
            unread,
            curves: BTreeMap::new(),
            first: unread,
            beaten: None,
            redraw_after: None,
        };
        trainer.load_curves();
        trainer.expect_same_weights()?;
        Ok(trainer)
    }

    /// Curves of the steps before, from the metrics file.
    fn load_curves(&mut self) {
        let text = files::text(&self.folder.path.join("metrics.jsonl"), files::LARGE).unwrap_or_default();
        for line in text.lines().filter_map(|l| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(l).ok()) {
            let (Some(split), Some(step)) = (line.get("split").and_then(|s| s.as_str()), line.get("step").and_then(|s| s.as_f64())) else {
                continue;
            };
            for (name, value) in line.iter().filter_map(|(n, v)| Some((n, v.as_f64()?))) {
                self.curves.entry((split.into(), name.clone())).or_default().push((step, value));
            }
        }
    }

    /// A line of the metrics, and points of the curves.
    fn record(&mut self, split: &str, step: u64, values: &[(&str, f64)]) -> Result<()> {
        for (name, value) in values {
            self.curves.entry((split.into(), (*name).into())).or_default().push((step as f64, *value));
        }
        self.logs.record(split, step, self.epoch(step), values)
    }

    pub(super) fn run(mut self) -> Result<Report> {
        let end = self.rhythm.end;
        self.options.ranks.begin();
        let mut in_flight: VecDeque<wgpu::SubmissionIndex> = VecDeque::new();
        let mut last_drain = Instant::now();
        while self.progress.step < end && self.progress.finished.is_none() {
            let (signal, mut drain) = self.agreed(last_drain.elapsed() > Duration::from_millis(500))?;
            if signal != 0 {
                self.drain()?;
                self.save()?;
                self.draw_curves()?;
                self.logs.close()?;
                let newest = Checkpoint::list(&self.folder.checkpoints())?.pop();
                let state = match newest {
                    Some(path) => format!("{} holds the state. Continue with --resume", path.display()),
                    None => "no checkpoint was written, as no update was good so far".into(),
                };
                return Err(Error::Interrupted(signal as i32, state));
            }
            let step = self.progress.step;
            let mut state = State { seed: key(self.problem.settings.train.seed), slot: (step % RING) as u32, ..State::default() };
            let rate = learning_rate(&self.problem.settings, &self.progress, step, self.rhythm.total);
            self.problem.settings.optimizer.fill(&mut state, rate);
            in_flight.push_back(self.submit(state, step)?);
            self.session.bound(&mut in_flight)?;
            self.progress.step += 1;
            let done = self.progress.step;
            // Not where --steps cuts a run short: a validation changes what the rest of the run does.
            let validate = done.is_multiple_of(self.rhythm.validate) || done == self.rhythm.total;
            let save = done.is_multiple_of(self.rhythm.save) || done == end;
            let epoch_ends = done.is_multiple_of(self.rhythm.epoch);
            drain |= validate || save || epoch_ends || done - self.unread == RING;
            if drain {
                self.drain()?;
                last_drain = Instant::now();
                in_flight.clear();
            }
            if done.is_multiple_of(SAME) {
                self.expect_same_weights()?;
            }
            if validate {
                self.validate()?;
            }
            if epoch_ends {
                self.end_epoch()?;
            }
            if validate {
                self.redraw_curves()?;
            }
            if save || self.progress.finished.is_some() {
                self.save()?;
            }
        }
        if self.progress.skipped > 0 && self.progress.skipped == self.progress.step {
            self.logs.close()?;
            return Err(self.diverged(&format!("all {} updates were skipped, as loss or gradient was not finite", self.progress.step))?);
        }
        self.finish()
    }

    /// Queues a step.
    fn submit(&mut self, state: State, step: u64) -> Result<wgpu::SubmissionIndex> {
        let accumulate = self.problem.settings.train.accumulate;
        let Some(exchange) = &mut self.exchange else {
            return self.session.submit_step(&self.problem.batches(step)?, state, step, accumulate);
        };
        let own = self.options.ranks.micro_steps(accumulate);
        let batches = self.problem.batches_of(step, own.clone())?;
        self.session.submit_shared_step(&batches, state, step, own, exchange)
    }

    /// The signal that asks for an end, 0 for none, and whether records are to be read now: the same on all ranks, as soon as one of them says so.
    fn agreed(&self, drain: bool) -> Result<(usize, bool)> {
        let signal = self.options.stop.load(Ordering::Relaxed);
        let said = self.options.ranks.gather((signal as u64) << 1 | u64::from(drain));
        Ok((said.iter().map(|word| word >> 1).max().unwrap_or(0) as usize, said.iter().any(|word| word & 1 == 1)))
    }

    /// What the first rank measures, on all ranks: what follows from it must be the same everywhere.
    fn first_ranks(&self, measure: impl FnOnce(&Self) -> Result<Metrics>) -> Result<Metrics> {
        let ranks = self.options.ranks;
        if !ranks.shared() {
            return measure(self);
        }
        let line = |(name, value): &(String, f64)| format!("{name}\t{:x}\n", value.to_bits());
        let own = if ranks.leads() { measure(self)?.0.iter().map(line).collect() } else { String::new() };
        ranks.meet();
        let first = ranks.broadcast(own.into_bytes());
        let parsed = |line: &str| {
            let (name, bits) = line.split_once('\t')?;
            Some((name.to_string(), f64::from_bits(u64::from_str_radix(bits, 16).ok()?)))
        };
        Ok(Metrics(String::from_utf8_lossy(&first).lines().filter_map(parsed).collect()))
    }

    /// Fails where the ranks no longer have the same weights.
    fn expect_same_weights(&self) -> Result<()> {
        if self.exchange.is_none() {
            return Ok(());
        }
        let weights = self.session.arena.read_flat(Flat::Parameters)?;
        let sum = crc32c::crc32c(bytemuck::cast_slice(&weights));
        self.options.ranks.expect_same(&format!("after step {} the weights", self.progress.step), sum.into())
    }

    /// Epoch of a step that was done, from 1.
    fn epoch(&self, step: u64) -> u64 {
        step.saturating_sub(1) / self.rhythm.epoch + 1
    }

    /// Reads the records of the steps since the last time, logs them, and counts skipped updates.
    fn drain(&mut self) -> Result<()> {
        if self.unread == self.progress.step {
            return Ok(());
        }
        let records = self.session.records()?;
        let names = self.columns.names.clone();
        let half = self.problem.settings.train.precision == Precision::F16;
        let mut last = vec![];
        for step in self.unread..self.progress.step {
            let record = StepRecord::of(&records, (step % RING) as usize);
            let means: Vec<f64> = (0..names.len()).map(|column| record.mean(column)).collect();
            let done = step + 1;
            self.progress.loss_scale = half.then(|| (record.skipped(), record.loss_scale().to_bits()));
            if !record.skipped() {
                self.progress.skipped_in_a_row = 0;
                self.progress.epoch_sums.resize(names.len(), 0.0);
                self.progress.epoch_sums.iter_mut().zip(&means).for_each(|(sum, mean)| *sum += mean * record.count());
                self.progress.epoch_rows += record.count();
            } else {
                self.progress.skipped += 1;
                let (loss, norm, scale) = (means[0], record.gradient_norm(), record.loss_scale());
                // Numbers of 16 bits overflow: that is how a scale that is too large shows, and no fault of the run.
                let said = if half && scale > SMALLEST && loss.is_finite() {
                    format!("the gradient is too large for 16 bits: update skipped, the loss scale of {scale:.0} is halved")
                } else {
                    self.progress.skipped_in_a_row += 1;
                    let row = self.progress.skipped_in_a_row;
                    format!("loss {loss} or gradient norm {norm} is not finite: update skipped ({row} in a row)")
                };
                self.logs.say(&format!("step {done}: {said}"));
            }
            if done.is_multiple_of(self.problem.settings.train.log_every) {
                let rate = learning_rate(&self.problem.settings, &self.progress, step, self.rhythm.total);
                let mut values: Vec<(&str, f64)> = names.iter().copied().zip(means.iter().copied()).collect();
                values.extend([("gradient_norm", record.gradient_norm()), ("learning_rate", rate)]);
                values.extend(half.then(|| ("loss_scale", f64::from(record.loss_scale()))));
                self.record("train", done, &values)?;
            }
            if done.is_multiple_of(self.problem.settings.train.log_every) || done.is_multiple_of(self.rhythm.epoch) {
                self.warn_of_dominance(&means, done);
            }
            last = means;
            if self.progress.skipped_in_a_row >= SKIPS {
                self.logs.close()?;
                return Err(self.diverged(&format!("loss or gradient was not finite {SKIPS} steps in a row, up to step {done}"))?);
            }
        }
        self.unread = self.progress.step;
        let elapsed = self.started.elapsed().as_secs_f64();
        self.progress.seconds = self.seconds_before + elapsed;
        let speed = self.progress.step as f64 / self.progress.seconds.max(1e-9);
        let metrics = Metrics::new(names.into_iter().zip(last));
        let message = self.line(&Metrics(metrics.0.into_iter().take(3).collect()));
        self.logs.progress(self.progress.step, self.rhythm.end, &message, speed);
        if self.beaten.is_none_or(|last| last.elapsed() > Duration::from_secs(2)) {
            self.beaten = Some(Instant::now());
            let rate = (self.progress.step - self.first) as f64 / elapsed.max(1e-9);
            let (step, end, process, score) = (self.progress.step, self.rhythm.end, std::process::id(), self.score());
            self.folder.beat(&Beat { step, end, rate, process, score });
        }
        self.logs.flush()
    }

    /// The end of a run that learns no more, and a command that goes on from what is good of it.
    fn diverged(&self, what: &str) -> Result<Error> {
        let folder = &self.folder.path;
        let newest = Checkpoint::list(&self.folder.checkpoints())?.pop();
        let best = Some(self.folder.best()).filter(|path| path.exists());
        let (good, init) = match newest.or(best) {
            Some(path) => (format!("The newest good weights are {0}", path.display()), format!(" --init {}", argument(&path))),
            None => ("No update was good, and there are no weights to go on from".into(), String::new()),
        };
        let rate = self.problem.settings.optimizer.learning_rate / 10.0;
        let message = format!(
            "{what}. {good}. Go on with a lower learning rate, or clip gradients with optimizer.clip_norm:\n  \
             engine train {}{init} --out {} --set optimizer.learning_rate={rate:e}",
            argument(&folder.join("config.toml")),
            argument(&PathBuf::from(format!("{}-again", folder.display())))
        );
        write_atomically(&folder.join(DIVERGED), visible(&message).as_bytes())?;
        self.options.ranks.meet();
        Ok(Error::Aborted(message))
    }

    /// A term a hundred times larger than all others together is what is trained, whatever the weights were meant to say.
    fn warn_of_dominance(&mut self, means: &[f64], step: u64) {
        let terms = self.columns.terms.clone();
        if terms.len() < 2 || means.len() < terms.len() {
            return;
        }
        let sizes: Vec<f64> = terms.iter().zip(&means[means.len() - terms.len()..]).map(|((_, w), v)| (w * v).abs()).collect();
        let Some(largest) = (0..sizes.len()).max_by(|a, b| sizes[*a].total_cmp(&sizes[*b])) else { return };
        // A term that is left out of some batches, or has reached its least, is 0.
        for small in (0..sizes.len()).filter(|i| *i != largest && sizes[*i] > 0.0 && sizes[*i] * 100.0 < sizes[largest]) {
            let (large, small_name) = (terms[largest].0, terms[small].0);
            self.warn(
                format!("{large} dominates {small_name}"),
                format!(
                    "at step {step} the {large} term contributed {:.3} to the loss, more than a hundred times as much as {small_name} ({:.1e}), which hardly \
                     trains. Change their weights",
                    sizes[largest], sizes[small]
                ),
            );
        }
    }

    /// Says what goes wrong, once, and again in the report.
    fn warn(&mut self, issue: String, text: String) {
        if self.progress.warnings.iter().all(|known| known.issue != issue) {
            self.logs.say(&format!("WARNING: {text}"));
            self.progress.warnings.push(Warning { issue, text });
        }
    }

    /// The metric by which runs are compared.
    fn score(&self) -> String {
        self.card.table_columns.first().map_or(String::new(), |column| column.name.to_string())
    }

    /// Metrics as they are shown, in one line.
    fn line(&self, metrics: &Metrics) -> String {
        let parts = self.card.table_columns.iter().filter_map(|c| Some(format!("{} {}", c.title, c.show(metrics.get(c.name)?))));
        parts.collect::<Vec<_>>().join("  ")
    }

    /// Validation samples; improvement, patience, best weights, rules.
    fn validate(&mut self) -> Result<()> {
        self.watched.check()?;
        self.expect_same_weights()?;
        let config = self.problem.settings.clone();
        let step = self.progress.step;
        let metrics =
            self.first_ranks(|trainer| trainer.scorecard.validate(&trainer.session, step, step.div_ceil(trainer.rhythm.validate)))?;
        let baselines = self.scorecard.baselines();
        let values: Vec<(&str, f64)> = metrics.0.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.record("validation", step, &values)?;
        if let Some((_, baseline)) = baselines.first() {
            let of_baseline: Vec<(&str, f64)> = baseline.0.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            self.record("baseline", step, &of_baseline)?;
        }
        let select = config.validation.select.as_str();
        let value = metrics.get(select).unwrap_or(f64::NAN);
        // A model that gives NaN is not good, whatever another metric makes of it.
        let sound = !metrics.get("loss").is_some_and(f64::is_nan);
        let best = self.progress.best.as_ref().map(|b| b.value);
        let better = sound && improves(select, best, value, 0.0);
        let improved = sound && improves(select, self.progress.improved.or(best), value, config.validation.min_delta);
        let epoch = step.div_ceil(self.rhythm.epoch);
        let train = match self.progress.epoch_rows {
            0.0 => String::new(),
            rows => {
                let means = self.progress.epoch_sums.iter().map(|s| s / rows);
                let shown = self.card.table_columns.iter().find(|c| self.columns.names.contains(&c.name));
                let means = Metrics::new(self.columns.names.iter().copied().zip(means));
                shown.and_then(|c| Some(format!("train {} {}  ", c.title, c.show(means.get(c.name)?)))).unwrap_or_default()
            }
        };
        let theirs = baselines.iter().map(|(name, baseline)| {
            let gap = |c: &Column| Some(format!(", gap {:+.4}", metrics.get(c.name)? - baseline.get(c.name)?));
            let gap = self.card.table_columns.iter().find_map(gap).unwrap_or_default();
            format!("  ({name}: {}{gap})", self.line(baseline))
        });
        let theirs: String = theirs.collect();
        self.logs.say(&format!(
            "step {step:>7}  epoch {epoch:>3}/{}  {train}validation {}{}{theirs}",
            config.train.epochs,
            self.line(&metrics),
            if better { "  best" } else { "" }
        ));
        self.progress.plateau.step(&config.schedule, config.optimizer.learning_rate, value, less_is_better(select));
        if config.validation.patience > 0 && better && less_is_better(select) && value.abs() < 10.0 * config.validation.min_delta {
            self.warn(
                "large min_delta".into(),
                format!(
                    "validation.min_delta = {} is large for {select} = {value:.3e}: patience takes smaller improvements for none. Set validation.min_delta \
                     lower",
                    config.validation.min_delta
                ),
            );
        }
        if better {
            let best = self.progress.best.insert(Best { value, step, metrics: metrics.0.clone() });
            let weights = self.session.arena.read_flat(Flat::Parameters)?;
            let parameters = self.session.evaluate.0.plan.parameters();
            save_weights(&self.folder.best(), parameters, &weights, self.problem.buffers(), &self.origin, step, Some(best))?;
        }
        if improved {
            self.progress.improved = Some(value);
            self.progress.waiting = 0;
        } else if step > self.rhythm.patience_after {
            self.progress.waiting += 1;
            if config.validation.patience > 0 && self.progress.waiting >= config.validation.patience {
                self.progress.finished = Some(format!("{EARLY}: no better {select} in {} validations", self.progress.waiting));
            }
        }
        self.progress.validated = metrics.0;
        self.logs.flush()?;
        self.options.ranks.meet();
        Ok(())
    }

    /// Means over the epoch, and the rules that look at them.
    fn end_epoch(&mut self) -> Result<()> {
        let validation = Metrics(std::mem::take(&mut self.progress.validated));
        let epoch = self.progress.step / self.rhythm.epoch;
        let rows = std::mem::take(&mut self.progress.epoch_rows);
        let sums = std::mem::take(&mut self.progress.epoch_sums);
        let names = self.columns.names.clone();
        let means: Vec<(&str, f64)> = names.into_iter().zip(sums.iter().map(|s| s / rows)).collect();
        if !means.is_empty() {
            self.record("epoch", self.progress.step, &means)?;
        }
        let value = |metric: &str| match metric.split_once('_') {
            Some(("train", name)) => means.iter().find(|(n, _)| *n == name).map(|(_, v)| *v),
            Some(("validation", name)) => validation.get(name),
            _ => None,
        };
        for (wish, met) in self.problem.settings.expect.iter().zip(&mut self.progress.expectations) {
            if wish.epoch == Some(epoch) {
                *met = value(&wish.metric);
            }
        }
        for (rule, watch) in self.problem.settings.abort_if.iter().zip(&mut self.progress.watches) {
            if let Some(why) = value(&rule.metric).and_then(|v| watch.look(rule, epoch, v)) {
                self.progress.aborted = true;
                self.progress.finished = Some(format!("aborted: {why}"));
            }
        }
        Ok(())
    }

    /// Writes a checkpoint. Not inside a streak of skipped updates: one that goes on from there comes to the same end.
    fn save(&mut self) -> Result<()> {
        if self.progress.skipped_in_a_row > 0 {
            self.logs.say(&format!("no checkpoint of step {}: its update was skipped", self.progress.step));
            return Ok(());
        }
        self.progress.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        self.expect_same_weights()?;
        // A run that is killed after the checkpoint does not come by these lines again.
        self.logs.flush()?;
        if !self.options.ranks.leads() {
            // As the first rank finds it below.
            if !self.session.arena.read_flat(Flat::Parameters)?.iter().all(|w| w.is_finite()) {
                return Err(self.weights_diverged()?);
            }
        } else {
            let checkpoint = checkpoint_of(&self.session, &self.gpu, &self.problem, &self.origin, self.progress.clone())?;
            if checkpoint.weights.iter().any(|w| !w.is_finite()) {
                return Err(self.weights_diverged()?);
            }
            let parameters = self.session.evaluate.0.plan.parameters();
            checkpoint.save(&self.folder.checkpoints(), parameters, self.problem.settings.checkpoint.keep)?;
        }
        self.options.ranks.meet();
        Ok(())
    }

    fn weights_diverged(&mut self) -> Result<Error> {
        self.logs.close()?;
        self.diverged(&format!("weights are no longer finite after the update of step {}", self.progress.step))
    }

    /// Without the command line there are no pictures; `metrics.jsonl` has the numbers.
    #[cfg(not(feature = "cli"))]
    fn draw_curves(&self) -> Result<()> {
        Ok(())
    }

    #[cfg(feature = "cli")]
    fn draw_curves(&self) -> Result<()> {
        let baseline = self.scorecard.baselines().first().map(|(name, _)| *name);
        let charts = charts_of(&self.curves, &self.card.chart, baseline);
        draw(&self.folder.path.join("curves.svg"), &charts)
    }

    /// The same after a validation, unless the last drawing was so short ago that drawing would be most of what the run does.
    fn redraw_curves(&mut self) -> Result<()> {
        let start = Instant::now();
        if self.redraw_after.is_some_and(|after| start < after) {
            return Ok(());
        }
        self.draw_curves()?;
        self.redraw_after = Some(Instant::now() + 20 * start.elapsed());
        Ok(())
    }

    /// What was expected, and whether it came.
    fn expectations(&self, judgement: &ClosingScores) -> Vec<(String, Option<f64>, bool)> {
        let kept = judgement.rows.first().map(|(_, m)| m);
        let check = |(wish, seen): (&crate::config::Expectation, &Option<f64>)| {
            let value = match (wish.epoch, wish.metric.split_once('_')) {
                (Some(_), _) => *seen,
                (None, Some(("validation", name))) => {
                    let best = self.progress.best.iter().flat_map(|b| &b.metrics);
                    best.clone().find(|(n, _)| n == name).map(|(_, v)| *v)
                }
                (None, _) => kept.and_then(|m| m.get(&wish.metric)),
            };
            let when = wish.epoch.map_or("of the kept weights".to_string(), |e| format!("after epoch {e}"));
            let (sign, limit) = match (wish.at_least, wish.at_most) {
                (Some(limit), _) => ("≥", limit),
                (_, limit) => ("≤", limit.unwrap_or(f64::NAN)),
            };
            let met = value.is_some_and(|v| if sign == "≥" { v >= limit } else { v <= limit });
            (format!("{} {sign} {limit} {when}", wish.metric), value, met)
        };
        self.problem.settings.expect.iter().zip(&self.progress.expectations).map(check).collect()
    }

    /// Restores the best weights, judges them, and writes model and report.
    fn finish(mut self) -> Result<Report> {
        self.watched.check()?;
        let parameters = self.session.evaluate.0.plan.parameters().to_vec();
        if let Some(expected) = &self.progress.best {
            let (weights, best, _) = load_best(&self.folder.best(), &parameters)?;
            if best != *expected {
                // A newer checkpoint was lost, and this time another way was taken: the file tells what it holds.
                self.logs.say(&format!("the best weights are those of step {}, from before the run was resumed", best.step));
                self.progress.best = Some(best);
            }
            self.session.arena.write_flat(Flat::Parameters, &weights)?;
        }
        let weights = self.session.arena.read_flat(Flat::Parameters)?;
        if weights.iter().any(|w| !w.is_finite()) {
            self.logs.close()?;
            return Err(self.diverged(&format!("the weights are not finite after {} steps, and no validation was", self.progress.step))?);
        }
        if let Some(spent) = self.exchange.as_ref().map(Exchange::spent) {
            let (all, summed) = (self.started.elapsed().as_secs_f64(), spent.summed.as_secs_f64());
            self.logs.say(&format!(
                "exchange    {summed:.2} s among the ranks, {:.1} % of {all:.2} s; {:.2} s for the device and copies",
                100.0 * summed / all,
                (spent.ready + spent.returned).as_secs_f64()
            ));
        }
        let best = self.progress.best.clone();
        let step = best.as_ref().map_or(self.progress.step, |b| b.step);
        let file = self.folder.path.join("model.safetensors");
        save_weights(&file, &parameters, &weights, self.problem.buffers(), &self.origin, step, best.as_ref())?;
        let judgement = match self.options.ranks.leads() {
            true => self.scorecard.closing_scores(&self.session, self.progress.step)?,
            false => ClosingScores::default(),
        };
        let expectations = self.expectations(&judgement);
        let ClosingScores { rows, mut notes, issues } = judgement;
        for (wish, (what, _, met)) in self.problem.settings.expect.iter().zip(&expectations) {
            let (next, how) = if *met { (&wish.if_met, "met") } else { (&wish.if_missed, "missed") };
            notes.extend(next.as_ref().map(|next| format!("{what} is {how}: {next}")));
        }
        let report = Report {
            run: self.folder.path.display().to_string(),
            device: self.gpu.describe(),
            parameters: parameters.iter().map(Parameter::len).sum(),
            steps: self.progress.step,
            score: self.score(),
            select: self.problem.settings.validation.select.clone(),
            selected: best.as_ref().map(|b| b.value),
            best_step: best.as_ref().map_or(0, |b| b.step),
            best_epoch: best.as_ref().map_or(0, |b| b.step).div_ceil(self.rhythm.epoch),
            ended: self.progress.finished.clone().unwrap_or_else(|| match self.rhythm.total {
                total if self.progress.step < total => format!("cut by --steps, {total} in all: --resume goes on"),
                _ => "all steps done".into(),
            }),
            seconds: self.progress.seconds,
            skipped: self.progress.skipped,
            best: Metrics(best.map(|b| b.metrics).unwrap_or_default()),
            test: rows.iter().cloned().collect(),
            notes,
            issues: self.progress.warnings.iter().map(|warning| warning.issue.clone()).chain(issues).collect(),
            warnings: self.progress.warnings.iter().map(|warning| warning.text.clone()).collect(),
            expectations,
            rows,
            columns: self.card.table_columns.clone(),
        };
        self.draw_curves()?;
        write_atomically(&self.folder.path.join("report.json"), json(&report)?.as_bytes())?;
        write_atomically(&self.folder.path.join("report.txt"), visible(&report.table()).as_bytes())?;
        self.logs.close()?;
        // No rank ends before the first has written all.
        self.options.ranks.meet();
        if self.progress.aborted {
            let name = self.folder.path.display();
            return Err(Error::Aborted(format!("{}. The report of the best weights is {name}/report.txt", report.ended)));
        }
        Ok(report)
    }
}

/// The state of a run on its device.
fn checkpoint_of(session: &Session, gpu: &Gpu, problem: &Loaded, origin: &Origin, progress: Progress) -> Result<Checkpoint> {
    let arena = &session.arena;
    Ok(Checkpoint {
        weights: arena.read_flat(Flat::Parameters)?,
        m: arena.read_flat(Flat::FirstMoment)?,
        v: arena.read_flat(Flat::SecondMoment)?,
        progress,
        buffers: problem.buffers().to_vec(),
        origin: origin.clone(),
        variants: variants(gpu, session)?,
        tuned: tuned(gpu, session),
    })
}

/// Ways to launch kernels that were measured, as far as the run has such launches.
fn tuned(gpu: &Gpu, session: &Session) -> Tuning {
    let Some(all) = gpu.target.tuned else { return Tuning::default() };
    let programs = session.train.iter().chain([&session.evaluate]).chain(&session.decode);
    all.of_kinds(programs.flat_map(|(program, _)| program.plan.entries()).map(|entry| entry.kind.as_str()))
}

/// Device and kernels: what must be the same for the same bits.
fn variants(gpu: &Gpu, session: &Session) -> Result<String> {
    let plan = &session.step()?.0.plan;
    let name = |e: &Entry| format!("{}{:?}", e.shader.name, e.shader.consts);
    let launch = |entries: Range<usize>| plan.entries()[entries].iter().map(name).collect::<Vec<_>>().join(" + ");
    let mut kernels: Vec<String> = plan.launches().map(launch).collect();
    kernels.sort();
    kernels.dedup();
    Ok(format!("{}\n{:?}\n{}", gpu.describe(), Target { tuned: None, ..gpu.target }, kernels.join("\n")))
}
