//! Data in their two states: with their sizes, and with their samples.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use super::scorecard::{Card, Scorecard};
use crate::batch::{Batch, Fields, Inputs, Scale, saved_scale};
use crate::config::{Section, Settings};
use crate::datasets::samples::Column;
use crate::error::{Error, Result};
use crate::layers::Cache;
use crate::losses::{Loss, Targets};
use crate::plan::{Buffer, Plan};
use crate::ranks::Ranks;

/// Purposes for which data are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Training on one part and validation on the rest.
    Train,
    /// Test on all samples.
    Test,
    /// Generation of sequences; the targets may be missing.
    Generate,
    /// Prediction from inputs that are given; no file is read.
    Predict,
}

/// Layout of the samples that a plan takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// True if the training samples lie on the device; a batch is then a list of their numbers.
    pub resident: bool,
    /// True if sequences are in time-major order, (length, batch, …).
    pub time_major: bool,
}

/// Places that inputs without targets come from.
#[derive(Debug, Clone, Copy)]
pub enum InputSource<'a> {
    /// A file.
    File(&'a Path),
    /// One row of a table as JSON, column by column, and its place for messages.
    Row(&'a str, &'a serde_json::Map<String, serde_json::Value>),
}

/// Inputs of the samples of a file.
#[derive(Debug, Clone)]
pub struct InputRows {
    /// Row of each sample in its file, or of the first moment of its window.
    pub rows: Vec<usize>,
    /// Name of each field, and its values of all samples.
    pub fields: Vec<(&'static str, Column)>,
    /// Number of rows that were left out, as some of their numbers are not finite.
    pub left_out: usize,
}

/// Configuration of the data: the table `data` of a run file.
pub trait DataKind: Section + Debug + Any {
    /// Input files, with the keys that name them in the run file.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![]
    }

    /// Number of epochs over which the data become harder; until then a validation without improvement says little.
    fn curriculum_epochs(&self) -> f64 {
        0.0
    }

    /// Takes the sizes of its data file, so that the configuration describes the data without the file.
    ///
    /// # Errors
    /// `Data` when the file cannot be used.
    fn resize(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes another data file.
    ///
    /// # Errors
    /// `Config` when these data come from no file.
    fn on_file(&mut self, _file: &Path) -> Result<()> {
        Err(Error::Config("--data and --predictions are for runs on files; sequences are generated".into()))
    }

    /// Takes the shapes of the inputs, by field, that a model is to predict from.
    ///
    /// # Errors
    /// `Data` for a shape that these data cannot have.
    fn take_inputs(&mut self, shapes: &[(&str, Vec<usize>)]) -> Result<()> {
        let _ = shapes;
        Ok(())
    }

    /// Reads the inputs of samples in the way that training reads them: name, shape of a sample and values of each field. None for data
    /// whose fields are arrays of the same names.
    ///
    /// # Errors
    /// `MissingInput` or `Data` when they cannot be used.
    fn read_inputs(&self, from: InputSource<'_>) -> Result<Option<InputRows>> {
        let _ = from;
        Ok(None)
    }

    /// Names of the columns of a table that an input is made of, if it is made of some.
    fn columns(&self, field: &str) -> Vec<String> {
        let _ = field;
        vec![]
    }

    /// Names of the `len` numbers that are predicted for a sample, if the data have names for them.
    fn answers(&self, len: usize) -> Vec<String> {
        let _ = len;
        vec![]
    }

    /// Opens the data: of arrays the headers are read, of a table of samples all of it.
    ///
    /// # Errors
    /// `MissingInput` or `Data` when the file cannot be used.
    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>>;

    /// Made-up samples in place of a file's, for checks and timings, with integers below a limit.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    fn made_up(&self, settings: &Settings, samples: usize, integers_below: Option<usize>) -> Result<Box<dyn Data>>;
}

/// Inputs for reading the samples.
#[derive(Debug, Clone, Copy)]
pub struct Loading<'a> {
    /// Buffers that were read with saved weights; the data take theirs from them.
    pub saved_buffers: &'a [Buffer],
    /// Processes of the run, each of which reads the samples that it needs.
    pub ranks: Ranks,
}

/// Data whose sizes are known, as yet without samples.
pub trait Source: Debug {
    /// Fields that a batch has.
    fn fields(&self) -> Fields;

    /// Number of steps in an epoch.
    fn steps_per_epoch(&self) -> u64;

    /// Possible sizes of an evaluation batch, in falling order, in a run that trains on batches of this size; the first that fits in memory
    /// is taken. Losses that compare the samples of a batch depend on its size; other losses allow any size.
    fn evaluation_batches(&self, batch: usize) -> Vec<usize> {
        vec![batch]
    }

    /// True if the training samples can lie on the device.
    fn can_be_resident(&self) -> bool {
        false
    }

    /// Declares the input tensors of a batch.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    fn record(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Inputs>;

    /// True if the evaluation of a model looks at what it gives, and not at its loss alone.
    fn looks_at_outputs(&self) -> bool {
        true
    }

    /// True if the evaluation of a model decodes sequences.
    fn decodes(&self) -> bool {
        false
    }

    /// Number of tokens that each sample predicts, of a text.
    fn tokens(&self) -> Option<usize> {
        None
    }

    /// Declares the input tensors of so many new positions of `batch` sequences; none for data that are not decoded.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    fn record_positions(&self, _plan: &mut Plan, _batch: usize, _positions: usize) -> Result<Option<(Inputs, Cache)>> {
        Ok(None)
    }

    /// Number and values of the training targets, as far as they are known; none if losses need none.
    fn targets(&self) -> Option<Targets> {
        None
    }

    /// Usual size of the input values of a model, once the data are loaded.
    fn size(&self) -> f64 {
        1.0
    }

    /// Values that are kept with the weights and not trained, as a PyTorch module's buffers.
    fn buffers(&self) -> Vec<Buffer> {
        vec![]
    }

    /// Scale of a field by these values, which are kept with the weights; none where the numbers are taken as they are.
    fn scale(&self, field: &str, buffers: &[Buffer]) -> Option<Scale> {
        saved_scale(buffers, field)
    }

    /// Metrics of a validation with this loss, and how they are displayed.
    fn card(&self, loss: &dyn Loss) -> Card {
        Card::of(&loss.columns())
    }

    /// Description of the data file and its header; none for data without a file.
    fn describe(&self) -> Option<String> {
        None
    }

    /// Fails if there is no file to read the samples from, or if it has too few to fill a batch by its header.
    ///
    /// # Errors
    /// `MissingInput`, with a hint; `Data`.
    fn expect_file(&self) -> Result<()> {
        Ok(())
    }

    /// Fails if the loaded samples do not suit this loss; gives notes for the user.
    ///
    /// # Errors
    /// `Config` or `Data`.
    fn check(&self, _loss: &dyn Loss) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Reads the samples, and gives them with notes for the user.
    ///
    /// # Errors
    /// `MissingInput` or `Data`, `Config` when buffers contradict the configuration.
    fn load(self: Box<Self>, with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)>;
}

/// A state of data: known by their sizes (`dyn Source`), or loaded (`dyn Data`).
pub trait DataState: Debug {
    /// Source of the data.
    fn known(&self) -> &dyn Source;
}

impl DataState for dyn Source {
    fn known(&self) -> &dyn Source {
        self
    }
}

impl DataState for dyn Data {
    fn known(&self) -> &dyn Source {
        self.source()
    }
}

/// Fails if only a part of generated samples is to be trained on.
pub(super) fn expect_all(settings: &Settings) -> Result<()> {
    if settings.train.share < 1.0 {
        return Err(Error::Config(
            "train.share takes a part of the samples of a file; sequences are generated: lower train.steps_per_epoch".into(),
        ));
    }
    Ok(())
}

/// Makes a batch of each micro-step of a step: `pack` fills those in `own`; others only have the numbers of rows and valid rows.
pub fn packed<T>(
    micro_steps: impl IntoIterator<Item = T>,
    own: &Range<usize>,
    pack: impl Fn(T) -> Batch,
    sizes: impl Fn(&T) -> (usize, usize),
) -> Vec<Batch> {
    let one = |(number, samples)| match own.contains(&number) {
        true => pack(samples),
        false => {
            let (rows, count) = sizes(&samples);
            Batch { rows, count, ..Batch::default() }
        }
    };
    micro_steps.into_iter().enumerate().map(one).collect()
}

/// Data with their samples in memory, in a file or on the device.
pub trait Data: Debug {
    /// Source of the data, with what is known of it since the samples were loaded.
    fn source(&self) -> &dyn Source;

    /// Batches of the micro-steps of a step. Those outside of `own`, which another process computes, may lack their inputs.
    ///
    /// # Errors
    /// `Data` when a sample cannot be read.
    fn batches(&mut self, step: u64, layout: Layout, own: Range<usize>) -> Result<Vec<Batch>>;

    /// Scorecard that evaluates models on these data, with this loss.
    fn scorecard(&self, loss: &dyn Loss, layout: Layout) -> Box<dyn Scorecard>;
}
