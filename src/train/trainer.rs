//! The training loop: a step after another, and what is done between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Origin, Progress, load_best, save_weights};
use super::folder::{DIVERGED, RunFolder};
use super::judge::Judge;
use super::notes::Notes;
use super::options::Options;
use super::report::{ALL_DONE, Report};
use super::rhythm::Rhythm;
use crate::config::Precision;
use crate::datasets::Watched;
use crate::error::{Error, Result, argument, json, visible};
use crate::files;
use crate::gpu::{Gpu, Target, Tuning};
use crate::kernels::loss_scale::SMALLEST;
use crate::kernels::metrics::StepRecord;
use crate::metrics::Metrics;
use crate::plan::{Entry, Exchange, Flat, Parameter};
use crate::plots::draw_examples;
use crate::problem::Loaded;
use crate::session::{RING, Session};

/// Number of skipped updates in a row after which a run stops.
const MOST_SKIPPED: u64 = 10;

/// Largest number of steps between two comparisons of the weights of the processes.
const COMPARED_EVERY: u64 = 500;

/// A run that has started; `start` creates it.
pub(super) struct Trainer<'a> {
    pub(super) options: &'a Options,
    pub(super) problem: Loaded,
    pub(super) gpu: Arc<Gpu>,
    pub(super) folder: RunFolder,
    pub(super) origin: Origin,
    pub(super) watched: Watched,
    pub(super) session: Session,
    /// Exchange of gradients with the other processes, if there are several.
    pub(super) exchange: Option<Exchange>,
    pub(super) rhythm: Rhythm,
    pub(super) judge: Judge,
    pub(super) notes: Notes,
    pub(super) progress: Progress,
    pub(super) started: Instant,
    /// Training time of earlier sessions in seconds.
    pub(super) seconds_before: f64,
    /// Step and time of the first reading of records in this session: before it the device compiles, and has no rate.
    pub(super) pace: Option<(u64, Instant)>,
    /// First step whose record has not been read yet.
    pub(super) unread: u64,
}

impl Trainer<'_> {
    /// Trains to the end of the run and gives the report.
    ///
    /// # Errors
    /// Every class of `Error`.
    pub(super) fn run(mut self) -> Result<Report> {
        self.options.ranks.begin();
        let mut in_flight: VecDeque<wgpu::SubmissionIndex> = VecDeque::new();
        let mut last_drain = Instant::now();
        while self.progress.step < self.rhythm.end && self.progress.finished.is_none() {
            let (signal, mut drain) = self.agreed(last_drain.elapsed() > Duration::from_millis(500))?;
            if signal != 0 {
                return Err(self.interrupted(signal)?);
            }
            in_flight.push_back(self.submit()?);
            self.session.bound(&mut in_flight)?;
            self.progress.step += 1;
            let done = self.progress.step;
            // Not where --steps cuts a run short: a validation changes what the rest of the run does.
            let validate = done.is_multiple_of(self.rhythm.validate) || done == self.rhythm.total;
            let save = done.is_multiple_of(self.rhythm.save) || done == self.rhythm.end;
            let epoch_ends = done.is_multiple_of(self.rhythm.epoch);
            drain |= validate || save || epoch_ends || done - self.unread == RING;
            if drain {
                self.drain()?;
                last_drain = Instant::now();
                in_flight.clear();
            }
            if done.is_multiple_of(COMPARED_EVERY) {
                self.expect_same_weights()?;
            }
            if validate {
                self.validate()?;
            }
            if epoch_ends {
                self.judge.end_epoch(&mut self.progress, &mut self.notes)?;
            }
            if validate {
                let ((chart, baseline), best) = (self.judge.chart(), self.progress.best.as_ref().map(|b| b.step));
                self.notes.redraw(chart, baseline, best)?;
            }
            if save || self.progress.finished.is_some() {
                self.save()?;
            }
        }
        if self.progress.skipped > 0 && self.progress.skipped == self.progress.step {
            return Err(self.diverged(&format!("all {} updates were skipped, as loss or gradient was not finite", self.progress.step))?);
        }
        self.finish()
    }

    /// Queues the next step.
    fn submit(&mut self) -> Result<wgpu::SubmissionIndex> {
        let (step, accumulate) = (self.progress.step, self.problem.settings.train.accumulate);
        let state = self.problem.state(step, self.judge.learning_rate(&self.progress, step));
        let Some(exchange) = &mut self.exchange else {
            return self.session.submit_step(&self.problem.batches(step)?, state, step, accumulate);
        };
        let own = self.options.ranks.micro_steps(accumulate);
        let batches = self.problem.batches_of(step, own.clone())?;
        self.session.submit_shared_step(&batches, state, step, own, exchange)
    }

    /// Signal that asks for an end (0 for none), and true if records have to be read now. All ranks agree: one of them is enough for
    /// either.
    fn agreed(&self, drain: bool) -> Result<(usize, bool)> {
        let signal = self.options.stop.load(Ordering::Relaxed);
        let said = self.options.ranks.gather((signal as u64) << 1 | u64::from(drain));
        Ok((said.iter().map(|word| word >> 1).max().unwrap_or(0) as usize, said.iter().any(|word| word & 1 == 1)))
    }

    /// Saves the state of a run that a signal ends, and gives the error that says so.
    fn interrupted(&mut self, signal: usize) -> Result<Error> {
        self.drain()?;
        self.save()?;
        self.draw()?;
        self.notes.close()?;
        let newest = Checkpoint::list(&self.folder.checkpoints())?.pop();
        let state = match newest {
            Some(path) => format!("{} holds the state. Continue with --resume", path.display()),
            None => "no checkpoint was written, as no update was good so far".into(),
        };
        Ok(Error::Interrupted(signal as i32, state))
    }

    /// Metrics that the first rank measures, sent to all ranks, because all must make the same decisions.
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

    /// Fails if the ranks no longer have the same weights.
    pub(super) fn expect_same_weights(&self) -> Result<()> {
        if self.exchange.is_none() {
            return Ok(());
        }
        let weights = self.session.arena.read_flat(Flat::Parameters)?;
        let sum = crc32c::crc32c(bytemuck::cast_slice(&weights));
        self.options.ranks.expect_same(&format!("after step {} the weights", self.progress.step), sum.into())
    }

    /// Reads the records of the steps since the last call, logs them, and counts skipped updates.
    fn drain(&mut self) -> Result<()> {
        if self.unread == self.progress.step {
            return Ok(());
        }
        let records = self.session.records()?;
        let mut last = vec![];
        for step in self.unread..self.progress.step {
            last = self.read(StepRecord::of(&records, (step % RING) as usize), step)?;
        }
        self.unread = self.progress.step;
        let elapsed = self.started.elapsed().as_secs_f64();
        self.progress.seconds = self.seconds_before + elapsed;
        let (step, since) = *self.pace.get_or_insert((self.progress.step, Instant::now()));
        let rate = (self.progress.step - step) as f64 / since.elapsed().as_secs_f64().max(1e-9);
        self.notes.progress(&self.progress, &self.judge.message(&last), rate, &self.judge.score());
        self.notes.flush()
    }

    /// Takes in the record of a step (from 0), and gives the means of its metrics.
    fn read(&mut self, record: StepRecord<'_>, step: u64) -> Result<Vec<(&'static str, f64)>> {
        let (means, done) = (self.judge.means(record), step + 1);
        let half = self.problem.settings.train.precision == Precision::F16;
        self.progress.loss_scale = half.then(|| (record.skipped(), record.loss_scale().to_bits()));
        if record.skipped() {
            self.skipped(record, done);
        } else {
            self.progress.skipped_in_a_row = 0;
            self.judge.count(&mut self.progress, record);
        }
        let log = done.is_multiple_of(self.problem.settings.train.log_every);
        if log {
            let mut values = means.clone();
            let rate = self.judge.learning_rate(&self.progress, step);
            values.extend([("gradient_norm", record.gradient_norm()), ("learning_rate", rate)]);
            values.extend(half.then(|| ("loss_scale", f64::from(record.loss_scale()))));
            self.notes.record("train", done, &values)?;
        }
        if log || done.is_multiple_of(self.rhythm.epoch) {
            self.judge.warn_of_dominance(&mut self.progress, &mut self.notes, &means, done);
        }
        if self.progress.skipped_in_a_row >= MOST_SKIPPED {
            return Err(self.diverged(&format!("loss or gradient was not finite {MOST_SKIPPED} steps in a row, up to step {done}"))?);
        }
        Ok(means)
    }

    /// Counts a skipped update and logs the reason.
    fn skipped(&mut self, record: StepRecord<'_>, done: u64) {
        self.progress.skipped += 1;
        let half = self.problem.settings.train.precision == Precision::F16;
        let (loss, norm, scale) = (record.mean(0), record.gradient_norm(), record.loss_scale());
        // Numbers of 16 bits overflow: that is how a scale that is too large shows, and no fault of the run.
        let said = if half && scale > SMALLEST && loss.is_finite() {
            format!("the gradient is too large for 16 bits: update skipped, the loss scale of {scale:.0} is halved")
        } else {
            self.progress.skipped_in_a_row += 1;
            let row = self.progress.skipped_in_a_row;
            format!("loss {loss} or gradient norm {norm} is not finite: update skipped ({row} in a row)")
        };
        self.notes.say(&format!("step {done}: {said}"));
    }

    /// Ends a run that has diverged; the error contains a command that starts again from its last good weights.
    fn diverged(&mut self, what: &str) -> Result<Error> {
        self.draw()?;
        self.notes.close()?;
        let folder = &self.folder.path;
        let newest = Checkpoint::list(&self.folder.checkpoints())?.pop();
        let best = Some(self.folder.best()).filter(|path| path.exists());
        let (good, init) = match newest.or(best) {
            Some(path) => (format!("The newest good weights are {0}", path.display()), format!(" --init {}", argument(&path))),
            None => ("There is no checkpoint yet, so there are no weights to go on from".into(), String::new()),
        };
        // In 32 bits, so that a tenth has few digits.
        let rate = (self.problem.settings.optimizer.learning_rate / 10.0) as f32;
        let message = format!(
            "{what}. {good}. Go on with a lower learning rate, or clip gradients with optimizer.clip_norm:\n  \
             engine train {}{init} --out {} --set optimizer.learning_rate={rate:e}",
            argument(&folder.join("config.toml")),
            argument(&PathBuf::from(format!("{}-again", folder.display())))
        );
        files::write(&folder.join(DIVERGED), visible(&message).as_bytes())?;
        self.options.ranks.meet();
        Ok(Error::Aborted(message))
    }

    /// Validates: updates patience and the best weights.
    fn validate(&mut self) -> Result<()> {
        self.watched.check()?;
        self.expect_same_weights()?;
        let step = self.progress.step;
        let metrics = self.first_ranks(|trainer| trainer.judge.measure(&trainer.session, step))?;
        if self.judge.judge(&mut self.progress, &mut self.notes, metrics)? {
            let weights = self.session.arena.read_flat(Flat::Parameters)?;
            let (parameters, best) = (self.session.parameters(), self.progress.best.as_ref());
            save_weights(&self.folder.best(), parameters, &weights, self.problem.buffers(), &self.origin, step, best)?;
        }
        if let Some(text) = self.options.ranks.leads().then(|| self.judge.sample(&self.session)).transpose()?.flatten() {
            self.notes.sample(step, &text)?;
        }
        self.notes.flush()?;
        self.options.ranks.meet();
        Ok(())
    }

    /// Writes a checkpoint, except within a series of skipped updates, from where a resumed run would come to the same end.
    fn save(&mut self) -> Result<()> {
        if self.progress.skipped_in_a_row > 0 {
            self.notes.say(&format!("no checkpoint of step {}: its update was skipped", self.progress.step));
            return Ok(());
        }
        self.progress.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        self.expect_same_weights()?;
        // A run that is killed after the checkpoint does not come by these lines again.
        self.notes.flush()?;
        let lost = |step: u64| format!("weights are no longer finite after the update of step {step}");
        if !self.options.ranks.leads() {
            // As the first rank finds it below.
            if !self.session.arena.read_flat(Flat::Parameters)?.iter().all(|w| w.is_finite()) {
                return Err(self.diverged(&lost(self.progress.step))?);
            }
        } else {
            let checkpoint = checkpoint_of(&self.session, &self.gpu, &self.problem, &self.origin, self.progress.clone())?;
            if checkpoint.weights.iter().any(|w| !w.is_finite()) {
                return Err(self.diverged(&lost(self.progress.step))?);
            }
            checkpoint.save(&self.folder.checkpoints(), self.session.parameters(), self.problem.settings.checkpoint.keep)?;
        }
        self.options.ranks.meet();
        Ok(())
    }

    fn draw(&self) -> Result<()> {
        let (chart, baseline) = self.judge.chart();
        self.notes.draw(chart, baseline, self.progress.best.as_ref().map(|b| b.step))
    }

    /// Writes the best weights to the device, if a validation has chosen some.
    fn restore_best(&mut self, parameters: &[Parameter]) -> Result<()> {
        let Some(expected) = &self.progress.best else { return Ok(()) };
        let (weights, best, _) = load_best(&self.folder.best(), parameters)?;
        if best != *expected {
            // A newer checkpoint was lost, and this time another way was taken: the file tells what it holds.
            self.notes.say(&format!("the best weights are those of step {}, from before the run was resumed", best.step));
            self.progress.best = Some(best);
        }
        self.session.arena.write_flat(Flat::Parameters, &weights)
    }

    /// Restores the best weights, scores them, and writes model and report.
    fn finish(mut self) -> Result<Report> {
        self.watched.check()?;
        let parameters = self.session.parameters().to_vec();
        self.restore_best(&parameters)?;
        let weights = self.session.arena.read_flat(Flat::Parameters)?;
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(self.diverged(&format!("the weights are not finite after {} steps, and no validation was", self.progress.step))?);
        }
        if let Some(spent) = self.exchange.as_ref().map(Exchange::spent) {
            let (all, summed) = (self.started.elapsed().as_secs_f64(), spent.summed.as_secs_f64());
            self.notes.say(&format!(
                "exchange    {summed:.2} s among the ranks, {:.1} % of {all:.2} s; {:.2} s for the device and copies",
                100.0 * summed / all,
                (spent.ready + spent.returned).as_secs_f64()
            ));
        }
        let best = self.progress.best.as_ref();
        let file = self.folder.path.join("model.safetensors");
        let step = best.map_or(self.progress.step, |b| b.step);
        save_weights(&file, &parameters, &weights, self.problem.buffers(), &self.origin, step, best)?;
        let report = self.report(&parameters)?;
        self.draw()?;
        files::write(&self.folder.path.join("report.json"), json(&report)?.as_bytes())?;
        files::write(&self.folder.path.join("report.txt"), visible(&report.table()).as_bytes())?;
        self.notes.close()?;
        // No rank ends before the first has written all.
        self.options.ranks.meet();
        if self.progress.aborted {
            let name = self.folder.path.display();
            return Err(Error::Aborted(format!("{}. The report of the best weights is {name}/report.txt", report.ended)));
        }
        Ok(report)
    }

    fn report(&self, parameters: &[Parameter]) -> Result<Report> {
        let session = self.options.ranks.leads().then_some(&self.session);
        let (scores, expectations) = self.judge.closing_scores(session, &self.progress)?;
        scores.examples.iter().try_for_each(|examples| draw_examples(&self.folder.path.join("predictions.svg"), examples))?;
        let (progress, best) = (&self.progress, self.progress.best.clone());
        let step = best.as_ref().map_or(0, |b| b.step);
        let tokens = self.problem.source().tokens().map(|tokens| tokens * self.problem.settings.train.samples());
        Ok(Report {
            run: self.folder.path.display().to_string(),
            device: self.gpu.describe(),
            parameters: parameters.iter().map(Parameter::len).sum(),
            frozen: self.session.frozen().iter().map(Parameter::len).sum(),
            steps: progress.step,
            score: self.judge.score(),
            select: self.problem.settings.validation.select.clone(),
            selected: best.as_ref().map(|b| b.value),
            best_step: step,
            best_epoch: step.div_ceil(self.rhythm.epoch),
            ended: progress.finished.clone().unwrap_or_else(|| match self.rhythm.total {
                total if progress.step < total => format!("cut by --steps, {total} in all: --resume goes on"),
                _ => ALL_DONE.into(),
            }),
            seconds: progress.seconds,
            tokens_per_step: tokens,
            operations_per_step: self.session.operations(self.problem.settings.train.accumulate)?,
            sample: session.map(|session| self.judge.sample(session)).transpose()?.flatten(),
            skipped: progress.skipped,
            best: Metrics(best.map(|b| b.metrics).unwrap_or_default()),
            test: scores.rows.iter().cloned().collect(),
            notes: scores.notes,
            issues: progress.warnings.iter().map(|warning| warning.issue.clone()).chain(scores.issues).collect(),
            warnings: progress.warnings.iter().map(|warning| warning.text.clone()).collect(),
            expectations,
            rows: scores.rows,
            columns: self.judge.table_columns(),
        })
    }
}

/// Reads the state of a run from its device, as a checkpoint.
pub(super) fn checkpoint_of(session: &Session, gpu: &Gpu, problem: &Loaded, origin: &Origin, progress: Progress) -> Result<Checkpoint> {
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

/// Measured fastest ways to launch kernels, for the launches that this run has.
pub(super) fn tuned(gpu: &Gpu, session: &Session) -> Tuning {
    let Some(all) = gpu.target.tuned else { return Tuning::default() };
    all.of_kinds(session.all().flat_map(|program| program.plan.entries()).map(|entry| entry.kind.as_str()))
}

/// Device and kernels, which must be the same for a resumed run to have the same bits.
pub(super) fn variants(gpu: &Gpu, session: &Session) -> Result<String> {
    let plan = &session.step()?.0.plan;
    let name = |e: &Entry| format!("{}{:?}", e.shader.name, e.shader.consts);
    let launch = |entries: Range<usize>| plan.entries()[entries].iter().map(name).collect::<Vec<_>>().join(" + ");
    let mut kernels: Vec<String> = plan.launches().map(launch).collect();
    kernels.sort();
    kernels.dedup();
    Ok(format!("{}\n{:?}\n{}", gpu.describe(), Target { tuned: None, ..gpu.target }, kernels.join("\n")))
}
