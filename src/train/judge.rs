//! What is made of the records and validations of a run: means of an epoch, the best weights, patience, rules and expectations.

use super::checkpoint::Progress;
use super::notes::Notes;
use super::rhythm::Rhythm;
use super::rules::Watch;
use super::tensor_file::Best;
use crate::config::{Expectation, Settings};
use crate::error::Result;
use crate::kernels::metrics::StepRecord;
use crate::losses::Columns;
use crate::metrics::{COLUMNS, Column, INDENT, Metrics, folded, improves, less_is_better};
use crate::problem::Loaded;
use crate::session::Session;
use crate::tasks::{Card, ClosingScores, Scorecard};

/// First word of the reason when patience ends a run.
const EARLY: &str = "early";

/// Evaluates a run: best weights, patience, rules and expectations. Its state is the `Progress` that checkpoints keep.
#[derive(Debug)]
pub(super) struct Judge {
    scorecard: Box<dyn Scorecard>,
    columns: Columns,
    card: Card,
    settings: Settings,
    rhythm: Rhythm,
}

impl Judge {
    pub(super) fn new(problem: &Loaded, rhythm: Rhythm) -> Judge {
        Judge {
            scorecard: problem.scorecard(),
            columns: problem.loss().columns(),
            card: problem.card(),
            settings: problem.settings.clone(),
            rhythm,
        }
    }

    /// Prepares the progress for rules and expectations. If the run now has more epochs than `before`, an end by patience is undone, and a
    /// note about the learning rate is given.
    pub(super) fn take_up(&self, progress: &mut Progress, before: Option<u64>) -> Option<String> {
        let epochs = self.settings.train.epochs;
        progress.watches.resize(self.settings.abort_if.len(), Watch::default());
        progress.expectations.resize(self.settings.expect.len(), None);
        let before = before.filter(|before| *before < epochs)?;
        let step = progress.step;
        let then = self.rate_over(progress, step.saturating_sub(1), before);
        let now = self.rate_over(progress, step, epochs);
        if progress.finished.as_ref().is_some_and(|how| how.starts_with(EARLY)) {
            (progress.finished, progress.waiting) = (None, 0);
        }
        Some(format!("epochs      {epochs} instead of {before}: the learning rate goes from {then:.3e} to {now:.3e} after step {step}"))
    }

    /// Learning rate of step `step` (from 0).
    pub(super) fn learning_rate(&self, progress: &Progress, step: u64) -> f64 {
        self.rate_over(progress, step, self.settings.train.epochs)
    }

    fn rate_over(&self, progress: &Progress, step: u64, epochs: u64) -> f64 {
        let steps = epochs.saturating_mul(self.rhythm.epoch);
        let rate = self.settings.schedule.learning_rate(self.settings.optimizer.learning_rate, step, steps, epochs);
        rate * progress.plateau.factor
    }

    /// Name of the most important metric, by which runs are compared.
    pub(super) fn score(&self) -> String {
        self.card.table_columns.first().map_or(String::new(), |column| column.name.to_string())
    }

    /// Columns of the table in the report.
    pub(super) fn table_columns(&self) -> Vec<Column> {
        self.card.table_columns.clone()
    }

    /// Title and metrics of the second chart, and the name of the baseline in both.
    pub(super) fn chart(&self) -> (&(&'static str, Vec<&'static str>), Option<&'static str>) {
        (&self.card.chart, self.scorecard.baselines().first().map(|(name, _)| *name))
    }

    /// Formats metrics in one line.
    fn line(&self, metrics: &Metrics) -> String {
        let parts = self.card.table_columns.iter().filter_map(|c| Some(format!("{} {}", c.title, c.show(metrics.get(c.name)?))));
        parts.collect::<Vec<_>>().join("  ")
    }

    /// Mean values of a step, for the columns of the loss.
    pub(super) fn means(&self, record: StepRecord<'_>) -> Vec<(&'static str, f64)> {
        self.columns.names.iter().enumerate().map(|(column, name)| (*name, record.mean(column))).collect()
    }

    /// Formats the first three of these means.
    pub(super) fn message(&self, means: &[(&'static str, f64)]) -> String {
        self.line(&Metrics::new(means.iter().take(3).copied()))
    }

    /// Adds a step to the sums of its epoch.
    pub(super) fn count(&self, progress: &mut Progress, record: StepRecord<'_>) {
        progress.epoch_sums.resize(self.columns.names.len(), 0.0);
        for (column, sum) in progress.epoch_sums.iter_mut().enumerate() {
            *sum += record.mean(column) * record.count();
        }
        progress.epoch_rows += record.count();
    }

    /// Warns if one term of the loss is a hundred times larger than another: training then depends on it alone, whatever the weights
    /// intend.
    pub(super) fn warn_of_dominance(&self, progress: &mut Progress, notes: &mut Notes, means: &[(&'static str, f64)], step: u64) {
        let terms = &self.columns.terms;
        if terms.len() < 2 || means.len() < terms.len() {
            return;
        }
        let sizes: Vec<f64> = terms.iter().zip(&means[means.len() - terms.len()..]).map(|((_, w), (_, v))| (w * v).abs()).collect();
        let Some(largest) = (0..sizes.len()).max_by(|a, b| sizes[*a].total_cmp(&sizes[*b])) else { return };
        // A term that is left out of some batches, or has reached its least, is 0.
        for small in (0..sizes.len()).filter(|i| *i != largest && sizes[*i] > 0.0 && sizes[*i] * 100.0 < sizes[largest]) {
            let (large, small_name) = (terms[largest].0, terms[small].0);
            notes.warn(
                progress,
                format!("{large} dominates {small_name}"),
                format!(
                    "at step {step} the {large} term contributed {:.3} to the loss, more than a hundred times as much as {small_name} ({:.1e}), which hardly \
                     trains. Change their weights",
                    sizes[largest], sizes[small]
                ),
            );
        }
    }

    /// Metrics of the validation samples after a step.
    ///
    /// # Errors
    /// `TryAgain` on device loss, and those of the data.
    pub(super) fn measure(&self, session: &Session, step: u64) -> Result<Metrics> {
        self.scorecard.validate(session, step, step.div_ceil(self.rhythm.validate))
    }

    /// What the model continues the text of `validation.sample` to, with that text.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub(super) fn sample(&self, session: &Session) -> Result<Option<String>> {
        self.scorecard.sample(session)
    }

    /// Records and prints a validation, and updates best weights, patience and the plateau schedule. Gives true if the weights are the best
    /// so far.
    ///
    /// # Errors
    /// `Io` when a log cannot be written.
    pub(super) fn judge(&self, progress: &mut Progress, notes: &mut Notes, metrics: Metrics) -> Result<bool> {
        let (config, step) = (&self.settings, progress.step);
        notes.record_metrics("validation", step, &metrics)?;
        if let Some((_, baseline)) = self.scorecard.baselines().first() {
            notes.record_metrics("baseline", step, baseline)?;
        }
        let select = config.validation.select.as_str();
        let value = metrics.get(select).unwrap_or(f64::NAN);
        // A model that gives NaN is not good, whatever another metric makes of it.
        let sound = !metrics.get("loss").is_some_and(f64::is_nan);
        let best = progress.best.as_ref().map(|b| b.value);
        let better = sound && improves(select, best, value, 0.0);
        let improved = sound && improves(select, progress.improved.or(best), value, config.validation.min_delta);
        notes.say(&self.sentence(progress, &metrics, better));
        progress.plateau.step(&config.schedule, config.optimizer.learning_rate, value, less_is_better(select));
        if config.validation.patience > 0 && better && less_is_better(select) && value.abs() < 10.0 * config.validation.min_delta {
            notes.warn(
                progress,
                "large min_delta".into(),
                format!(
                    "validation.min_delta = {} is large for {select} = {value:.3e}: patience takes smaller improvements for none. Set validation.min_delta \
                     lower",
                    config.validation.min_delta
                ),
            );
        }
        if better {
            progress.best = Some(Best { value, step, metrics: metrics.0.clone() });
        }
        if improved {
            (progress.improved, progress.waiting) = (Some(value), 0);
        } else if step > self.rhythm.patience_after {
            progress.waiting += 1;
            if config.validation.patience > 0 && progress.waiting >= config.validation.patience {
                progress.finished = Some(format!("{EARLY}: no better {select} in {} validations", progress.waiting));
            }
        }
        progress.validated = metrics.0;
        Ok(better)
    }

    /// Lines about what needs no training, by which validations are measured.
    pub(super) fn to_beat(&self) -> Vec<String> {
        let line = |(name, baseline): &(&str, Metrics)| folded(&format!("to beat     {name}: {}", self.line(baseline)), INDENT);
        self.scorecard.baselines().iter().map(line).collect()
    }

    /// Formats a validation in one line with the training means of its epoch: as many metrics as it has room for.
    fn sentence(&self, progress: &Progress, metrics: &Metrics, better: bool) -> String {
        let train = match progress.epoch_rows {
            0.0 => String::new(),
            rows => {
                let shown = self.card.table_columns.iter().find(|c| self.columns.names.contains(&c.name));
                let means = Metrics::new(self.columns.names.iter().copied().zip(progress.epoch_sums.iter().map(|s| s / rows)));
                shown.and_then(|c| Some(format!("train {} {}  ", c.title, c.show(means.get(c.name)?)))).unwrap_or_default()
            }
        };
        let epochs = self.settings.train.epochs;
        let [wide, wider] = [epochs, self.rhythm.total].map(|most| most.to_string().len());
        let (step, epoch) = (progress.step, progress.step.div_ceil(self.rhythm.epoch));
        // All of them are in the files of the run.
        let mut shown = self.card.table_columns.iter().filter_map(|c| Some(format!("{} {}", c.title, c.show(metrics.get(c.name)?))));
        let mut line =
            format!("step {step:>wider$}  epoch {epoch:>wide$}/{epochs}  {train}validation {}", shown.next().unwrap_or_default());
        // By what, if there is room: the metric that is shown first may have got worse.
        let select = &self.settings.validation.select;
        let leads = self.card.table_columns.iter().find(|c| metrics.get(c.name).is_some()).is_some_and(|c| c.name == select);
        let told = format!("  best by {select}");
        let end = match better {
            false => "",
            true if !leads && line.chars().count() + told.len() <= COLUMNS => &told,
            true => "  best",
        };
        let room = COLUMNS - end.len();
        while let Some(more) = shown.next().filter(|more| line.chars().count() + 2 + more.chars().count() <= room) {
            line += &format!("  {more}");
        }
        line + end
    }

    /// Ends an epoch: records its means, and checks the rules and expectations.
    ///
    /// # Errors
    /// `Io` when a log cannot be written.
    pub(super) fn end_epoch(&self, progress: &mut Progress, notes: &mut Notes) -> Result<()> {
        let validation = Metrics(std::mem::take(&mut progress.validated));
        let epoch = progress.step / self.rhythm.epoch;
        let rows = std::mem::take(&mut progress.epoch_rows);
        let sums = std::mem::take(&mut progress.epoch_sums);
        let means: Vec<(&str, f64)> = self.columns.names.iter().copied().zip(sums.iter().map(|s| s / rows)).collect();
        if !means.is_empty() {
            notes.record("epoch", progress.step, &means)?;
        }
        let value = |metric: &str| match metric.split_once('_') {
            Some(("train", name)) => means.iter().find(|(n, _)| *n == name).map(|(_, v)| *v),
            Some(("validation", name)) => validation.get(name),
            _ => None,
        };
        for (wish, met) in self.settings.expect.iter().zip(&mut progress.expectations) {
            if wish.epoch == Some(epoch) {
                *met = value(&wish.metric);
            }
        }
        for (rule, watch) in self.settings.abort_if.iter().zip(&mut progress.watches) {
            if let Some(why) = value(&rule.metric).and_then(|v| watch.look(rule, epoch, v)) {
                progress.aborted = true;
                progress.finished = Some(format!("aborted: {why}"));
            }
        }
        Ok(())
    }

    /// Scores of the kept weights, and the expectations with their values. Without a session, as on all processes of a run but the first,
    /// nothing is scored.
    ///
    /// # Errors
    /// As `measure`.
    pub(super) fn closing_scores(&self, session: Option<&Session>, progress: &Progress) -> Result<(ClosingScores, Vec<Expected>)> {
        let scored = session.map(|session| self.scorecard.closing_scores(session, progress.step)).transpose()?;
        let mut scores = scored.unwrap_or_default();
        let expected = self.expectations(progress, &scores);
        for (wish, (what, _, met)) in self.settings.expect.iter().zip(&expected) {
            let (next, how) = if *met { (&wish.if_met, "met") } else { (&wish.if_missed, "missed") };
            scores.notes.extend(next.as_ref().map(|next| format!("{what} is {how}: {next}")));
        }
        Ok((scores, expected))
    }

    fn expectations(&self, progress: &Progress, scores: &ClosingScores) -> Vec<Expected> {
        let kept = scores.rows.first().map(|(_, m)| m);
        let check = |(wish, seen): (&Expectation, &Option<f64>)| {
            let value = match (wish.epoch, wish.metric.split_once('_')) {
                (Some(_), _) => *seen,
                (None, Some(("validation", name))) => {
                    let best = progress.best.iter().flat_map(|b| &b.metrics);
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
        self.settings.expect.iter().zip(&progress.expectations).map(check).collect()
    }
}

/// An expectation: its text, the value that was reached, and true if the value meets it.
pub(super) type Expected = (String, Option<f64>, bool);
