//! How models are judged.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;

use crate::batch::Batch;
use crate::datasets::npz::Numbers;
use crate::error::{Error, Result};
use crate::losses::Columns;
use crate::metrics::{Column, MetricRows, Metrics, folded, improves};
pub use crate::plots::{Examples, Forecast};
use crate::session::Session;

/// Metrics of a validation, and how they are displayed.
#[derive(Debug, Clone)]
pub struct Card {
    /// Names of the metrics of a validation.
    pub validation_metrics: Vec<&'static str>,
    /// Those of them that describe the samples and not the model, so that no weights can be chosen by them.
    pub of_samples: Vec<&'static str>,
    /// Columns of the tables of metrics, the most important first.
    pub table_columns: Vec<Column>,
    /// Title of the second chart, and the metrics whose curves it shows.
    pub chart: (&'static str, Vec<&'static str>),
}

impl Card {
    /// A card with the columns of a loss, and with the loss in both charts.
    pub fn of(columns: &Columns) -> Self {
        let table_columns = columns.names.iter().map(|name| Column::new(name, name, Some(5))).collect();
        Card { validation_metrics: columns.names.clone(), of_samples: vec![], table_columns, chart: ("loss", vec!["loss"]) }
    }
}

/// Options of `engine eval`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Test {
    /// Number of generated samples of each kind.
    pub sequences: Option<usize>,
    /// True if predictions are to be written, too.
    pub predictions: bool,
}

impl Test {
    /// Fails if generated samples are asked for.
    ///
    /// # Errors
    /// `Config`.
    pub fn without_sequences(&self) -> Result<()> {
        match self.sequences {
            Some(_) => Err(Error::Config("--sequences is for runs of data.kind = \"integer_sequences\"".into())),
            None => Ok(()),
        }
    }
}

impl<'a> From<&'a ArrayValues> for Numbers<'a> {
    fn from(values: &'a ArrayValues) -> Self {
        match values {
            ArrayValues::Floats(values) => Numbers::F32(values),
            ArrayValues::Integers(values) => Numbers::I32(values),
        }
    }
}

/// Result of a check before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The value is as expected.
    Fine,
    /// The value is unusual, though a run may do well with it.
    Look,
    /// The value is wrong; a run would be in vain.
    Wrong,
}

/// A check before a run, with its result and explanation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Result of the check.
    pub level: Level,
    /// Value that was found and value that is expected; if they differ, also what to do.
    pub what: String,
}

impl Verdict {
    /// A verdict on a value: fine within the first limits, worth a look within the second, wrong elsewhere, with the advice `then`.
    pub fn of(value: f64, fine: [f64; 2], look: [f64; 2], what: &str, then: &str) -> Self {
        let within = |[least, most]: [f64; 2]| (least..=most).contains(&value);
        match (within(fine), within(look)) {
            (true, _) => Verdict { level: Level::Fine, what: what.into() },
            (_, true) => Verdict { level: Level::Look, what: format!("{what}. {then}") },
            _ => Verdict { level: Level::Wrong, what: format!("{what}. {then}") },
        }
    }
}

/// Arrays with their names, shapes and values.
pub type Arrays = Vec<(String, Vec<usize>, ArrayValues)>;

/// Values of an array that is written.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayValues {
    /// Floats of 32 bits.
    Floats(Vec<f32>),
    /// Integers of 32 bits, such as numbers of samples.
    Integers(Vec<i32>),
}

/// Evaluation of models on validation data.
pub trait Scorecard: Debug + Any {
    /// Metrics on validation samples after so many steps; `number` counts validations from 1.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn validate(&self, session: &Session, step: u64, number: u64) -> Result<Metrics>;

    /// Metrics of baselines that need no training, to compare with each validation; curves show the first.
    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        vec![]
    }

    /// Checks of the data, and of the outputs of an untrained model, for before a long run.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn verdicts(&self, _session: &Session) -> Result<Vec<Verdict>> {
        Ok(vec![])
    }

    /// Metrics of the kept weights by set, with baselines, after so many steps of training.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn closing_scores(&self, session: &Session, step: u64) -> Result<ClosingScores>;

    /// What the model continues `validation.sample` to; none without that key.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn sample(&self, session: &Session) -> Result<Option<String>> {
        let _ = session;
        Ok(None)
    }

    /// A thorough test, and predictions if they are asked for.
    ///
    /// # Errors
    /// `Config` for an option that these data do not have, `TryAgain` on device loss.
    fn test(&self, session: &Session, test: Test) -> Result<(ClosingScores, Arrays)> {
        test.without_sequences()?;
        if test.predictions {
            return Err(Error::Config("--predictions is for runs of data.kind = \"vectors\"".into()));
        }
        Ok((self.closing_scores(session, 0)?, vec![]))
    }
}

/// Function that gives the batches of a validation, for a session whose batches have this number of samples.
type Batches = Arc<dyn Fn(usize) -> Vec<Batch> + Send + Sync>;

/// A scorecard with the means of the loss's columns over validation batches and nothing else.
#[derive(Clone)]
pub struct Means {
    columns: Columns,
    batches: Batches,
}

impl Means {
    /// The means over the batches that `batches` gives, for a session whose batches have this number of samples.
    pub fn new(columns: Columns, batches: impl Fn(usize) -> Vec<Batch> + Send + Sync + 'static) -> Self {
        Means { columns, batches: Arc::new(batches) }
    }
}

impl Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Scorecard for Means {
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        session.means(&self.columns, (self.batches)(session.batch()).into_iter().map(Ok))
    }

    fn closing_scores(&self, session: &Session, step: u64) -> Result<ClosingScores> {
        Ok(ClosingScores { rows: vec![("this model".into(), self.validate(session, step, 1)?)], ..ClosingScores::default() })
    }
}

/// Evaluation of the kept weights at the end of a run.
#[derive(Debug, Clone, Default)]
pub struct ClosingScores {
    /// Metrics of each set, with its name.
    pub rows: MetricRows,
    /// Notes for the user, one sentence each.
    pub notes: Vec<String>,
    /// Short descriptions of problems, if there are any.
    pub issues: Vec<String>,
    /// Predictions to draw, if there are any.
    pub examples: Option<Examples>,
}

impl ClosingScores {
    /// Metrics of the model beside those of baselines that need no training. The first note says in which columns the model is no better;
    /// one in which both show the same is left out, unless that is so in all.
    pub fn beside(model: MetricRows, baselines: MetricRows, columns: &[Column], mut notes: Vec<String>) -> Self {
        let (mut worse, mut issues) = (vec![], vec![]);
        for (set, mine) in &model {
            let mut lost = vec![];
            for (name, theirs) in &baselines {
                let both = columns.iter().filter_map(|c| Some((c, mine.get(c.name)?, theirs.get(c.name)?)));
                let (same, differ): (Vec<_>, Vec<_>) = both.partition(|(c, mine, theirs)| c.show(*mine) == c.show(*theirs));
                if differ.is_empty() && !same.is_empty() {
                    lost.push(format!("the same as {name}"));
                }
                let below = differ.into_iter().filter(|(c, mine, theirs)| !improves(c.name, Some(*theirs), *mine, 0.0));
                lost.extend(below.map(|(c, mine, theirs)| format!("{} {} ({name} {})", c.title, c.show(mine), c.show(theirs))));
            }
            if let Some(first) = lost.first() {
                issues.push(format!("below baselines: {first}"));
                worse.push(format!("\n{}", folded(&format!("  {set}: {}", lost.join(", ")), 4)));
            }
        }
        issues.truncate(1);
        let names = baselines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let verdict = match worse.is_empty() {
            true => format!("Better than what needs no training wherever they differ: {names}."),
            false => format!("WARNING: no better than what needs no training in{}", worse.concat()),
        };
        notes.insert(0, verdict);
        ClosingScores { rows: [model, baselines].concat(), notes, issues, examples: None }
    }
}
