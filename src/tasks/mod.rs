//! What runs are about: data, and how a model of them is judged. One file a kind of data.
//!
//! Data go through two states, each a trait: a `Source` knows its sizes, from a file's header, which is all that plans and estimates need;
//! loaded, it is `Data` and gives batches and a `Scorecard`.

mod epochs;
mod images;
mod integer_sequences;
mod mechanisms;
mod next_vectors;

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

pub use epochs::{Epochs, Sets, SplitKind};
pub use images::{ImageScorecard, ImagesConfig};
pub use integer_sequences::{IntegerScorecard, IntegerSequencesConfig, micro_batch as sequence_batch};
pub(crate) use integer_sequences::{IntegerSequences, TESTED};
pub use mechanisms::{MechanismScorecard, MechanismsConfig, Predicted, until_stop};
pub use next_vectors::{VectorScorecard, VectorsConfig};

use crate::batch::{Batch, Fields, Inputs};
use crate::config::{Section, Settings};
use crate::error::{Error, Result};
use crate::layers::Cache;
use crate::losses::{Columns, Loss, Targets};
use crate::metrics::{Column, MetricRows, Metrics, improves};
use crate::plan::{Buffer, Plan};
use crate::session::Session;

/// What data are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To train on a part and validate on the rest.
    Train,
    /// To test on.
    Test,
    /// To generate from: what is to be predicted may be missing.
    Generate,
}

/// How samples reach the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// The training samples lie on the device, and a batch is a list of their numbers.
    pub resident: bool,
    /// Sequences go time step after time step.
    pub time_major: bool,
}

/// The table `data` of a run file.
pub trait DataKind: Section + Debug + Any {
    /// The files that are read, by their keys.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![]
    }

    /// Epochs over which the data grow harder: until then a validation without improvement says little.
    fn curriculum_epochs(&self) -> f64 {
        0.0
    }

    /// Takes the sizes of its file, so that it describes the data without the file.
    ///
    /// # Errors
    /// `Data` when the file cannot be used.
    fn resize(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes another file.
    ///
    /// # Errors
    /// `Config` where there is none to be taken.
    fn on_file(&mut self, _file: &Path) -> Result<()> {
        Err(Error::Config("--data and --predictions are for runs on files; sequences are generated".into()))
    }

    /// The data, of which no more than headers are read.
    ///
    /// # Errors
    /// `MissingInput` or `Data` when the file cannot be used.
    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>>;

    /// So many made-up samples in place of a file's, for checks and timings, with integers below a limit.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    fn made_up(&self, settings: &Settings, samples: usize, integers_below: Option<usize>) -> Result<Box<dyn Data>>;
}

/// Data whose sizes are known.
pub trait Source: Debug {
    /// What a batch of them holds.
    fn fields(&self) -> Fields;

    /// Steps of an epoch.
    fn steps_per_epoch(&self) -> u64;

    /// Samples of an evaluation batch, of a run that trains on batches of so many. Terms over a batch depend on its size.
    fn evaluation_batch(&self, batch: usize) -> usize {
        batch
    }

    /// Whether the training samples can lie on the device.
    fn can_be_resident(&self) -> bool {
        false
    }

    /// Declares the tensors of a batch.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    fn record(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Inputs>;

    /// Whether judging a model decodes sequences.
    fn decodes(&self) -> bool {
        false
    }

    /// Declares the tensors of one position of `batch` sequences that are decoded, where they are.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    fn record_position(&self, _plan: &mut Plan, _batch: usize) -> Result<Option<(Inputs, Cache)>> {
        Ok(None)
    }

    /// What a loss may know of the training targets.
    fn targets(&self) -> Option<Targets> {
        None
    }

    /// Numbers that are kept with the weights and are not trained.
    fn buffers(&self) -> Vec<Buffer> {
        vec![]
    }

    /// What a validation measures under this loss, and how it is shown.
    fn card(&self, loss: &dyn Loss) -> Card {
        Card::of(&loss.columns())
    }

    /// The file and what its header tells, where there is one.
    fn describe(&self) -> Option<String> {
        None
    }

    /// Fails where there is no file to read the samples from.
    ///
    /// # Errors
    /// `MissingInput`, with what to do.
    fn expect_file(&self) -> Result<()> {
        Ok(())
    }

    /// Fails where the samples at hand do not do for this loss; gives what is to be known of them.
    ///
    /// # Errors
    /// `Config` or `Data`.
    fn check(&self, _loss: &dyn Loss) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Reads the samples. `given` are the buffers that came with weights: the data take theirs.
    ///
    /// # Errors
    /// `MissingInput` or `Data`, `Config` when buffers contradict the configuration.
    fn load(self: Box<Self>, given: &[Buffer]) -> Result<(Box<dyn Data>, Vec<String>)>;
}

/// Data with their samples.
pub trait Data: Source {
    /// Micro-steps of a step.
    ///
    /// # Errors
    /// `Data` when a sample cannot be read.
    fn batches(&mut self, step: u64, layout: Layout) -> Result<Vec<Batch>>;

    /// Judges models of them, under this loss.
    fn scorecard(&self, loss: &dyn Loss, layout: Layout) -> Box<dyn Scorecard>;
}

/// What a validation measures, and how it is shown.
#[derive(Debug, Clone)]
pub struct Card {
    /// Metrics of a validation.
    pub validated: Vec<&'static str>,
    /// Metrics that are shown, the most telling first.
    pub shown: Vec<Column>,
    /// Title of the second chart, and the metrics whose curves it shows.
    pub chart: (&'static str, Vec<&'static str>),
}

impl Card {
    /// The columns of a loss, with the loss in both charts.
    pub fn of(columns: &Columns) -> Self {
        let shown = columns.names.iter().map(|name| Column::new(name, name, Some(5))).collect();
        Card { validated: columns.names.clone(), shown, chart: ("loss", vec!["loss"]) }
    }
}

/// What `engine eval` is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Test {
    /// Generated samples of each kind.
    pub sequences: Option<usize>,
    /// Predictions are wanted as well.
    pub predictions: bool,
}

/// Arrays by name: shape and values.
pub type Arrays = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Judges models.
pub trait Scorecard: Debug + Any {
    /// Metrics on validation samples; `number` counts validations from 1.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn validate(&self, session: &Session, number: u64) -> Result<Metrics>;

    /// What is compared with each validation, where there is something that needs no training.
    fn baseline(&self) -> Option<(&'static str, Metrics)> {
        None
    }

    /// Metrics of the kept weights by set, with the baselines, after so many steps of training.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn judge(&self, session: &Session, step: u64) -> Result<Judgement>;

    /// A thorough test, and predictions if they are asked for.
    ///
    /// # Errors
    /// `Config` for what these data do not have, `TryAgain` on device loss.
    fn test(&self, session: &Session, test: Test) -> Result<(Judgement, Arrays)> {
        if test.sequences.is_some() {
            return Err(Error::Config("--sequences is for runs of data.kind = \"integer_sequences\"".into()));
        }
        if test.predictions {
            return Err(Error::Config(
                "--predictions is for runs of data.kind = \"vectors\". Use `engine generate` or `engine encode`".into(),
            ));
        }
        Ok((self.judge(session, 0)?, vec![]))
    }
}

/// Batches of a validation, for a session whose batches have so many samples.
type Batches = Arc<dyn Fn(usize) -> Vec<Batch> + Send + Sync>;

/// A scorecard of nothing but the means of the loss's columns over validation batches.
#[derive(Clone)]
pub struct Means {
    columns: Columns,
    batches: Batches,
}

impl Means {
    /// Over what `batches` gives for a session whose batches have so many samples.
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
    fn validate(&self, session: &Session, _number: u64) -> Result<Metrics> {
        session.means(&self.columns, (self.batches)(session.batch()).into_iter().map(Ok))
    }

    fn judge(&self, session: &Session, step: u64) -> Result<Judgement> {
        Ok(Judgement { rows: vec![("this model".into(), self.validate(session, step)?)], notes: vec![] })
    }
}

/// What is said of the kept weights.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Metrics by name of the set.
    pub rows: MetricRows,
    /// Sentences.
    pub notes: Vec<String>,
}

impl Judgement {
    /// Metrics of the model beside those of what needs no training. The first sentence says in which of the columns the model is no better.
    pub fn beside(model: MetricRows, baselines: MetricRows, columns: &[Column], mut notes: Vec<String>) -> Self {
        let mut worse = vec![];
        for (set, mine) in &model {
            let lost = columns.iter().filter_map(|c| Some((c, mine.get(c.name)?))).flat_map(|(c, value)| {
                let others = baselines.iter().filter_map(move |(name, metrics)| Some((name, metrics.get(c.name)?)));
                let lost = others.filter(move |(_, theirs)| !improves(c.name, Some(*theirs), value, 0.0));
                lost.map(move |(name, theirs)| format!("{} {} ({name} {})", c.title, c.show(value), c.show(theirs)))
            });
            let lost = lost.collect::<Vec<_>>().join(", ");
            if !lost.is_empty() {
                worse.push(format!("\n  {set}: {lost}"));
            }
        }
        let names = baselines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let verdict = match worse.is_empty() {
            true => format!("Better than what needs no training wherever they compare: {names}."),
            false => format!("WARNING: no better than what needs no training in{}", worse.concat()),
        };
        notes.insert(0, verdict);
        Judgement { rows: [model, baselines].concat(), notes }
    }
}
