//! Data in their two states: with their sizes, and with their samples.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use super::scorecard::{Card, Scorecard};
use crate::batch::{Batch, Fields, Inputs};
use crate::config::{Section, Settings};
use crate::error::{Error, Result};
use crate::layers::Cache;
use crate::losses::{Loss, Targets};
use crate::plan::{Buffer, Plan};
use crate::ranks::Ranks;

/// What data are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To train on a part and validate on the rest.
    Train,
    /// To test on.
    Test,
    /// To generate from: what is to be predicted may be missing.
    Generate,
    /// To predict from inputs that are given: no file is looked at.
    Predict,
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

    /// Takes the shapes of inputs, by field, that a model is to predict from.
    ///
    /// # Errors
    /// `Data` for a shape that these data cannot have.
    fn take_inputs(&mut self, shapes: &[(&str, Vec<usize>)]) -> Result<()> {
        let _ = shapes;
        Ok(())
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

/// What the samples are read with.
#[derive(Debug, Clone, Copy)]
pub struct Loading<'a> {
    /// Buffers that came with weights: the data take theirs.
    pub given: &'a [Buffer],
    /// The processes of the run, each of which reads what it needs.
    pub ranks: Ranks,
}

/// Data whose sizes are known.
pub trait Source: Debug {
    /// What a batch of them holds.
    fn fields(&self) -> Fields;

    /// Steps of an epoch.
    fn steps_per_epoch(&self) -> u64;

    /// Samples of an evaluation batch, of a run that trains on batches of so many. Terms over a batch depend on its size; where samples are judged
    /// each by itself, batches of any size do, and the first of these that memory allows is taken.
    fn evaluation_batches(&self, batch: usize) -> Vec<usize> {
        vec![batch]
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

    /// The usual size of the numbers that a model of them sees, once they are loaded.
    fn size(&self) -> f64 {
        1.0
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

    /// Fails where there is no file to read the samples from, or where its header tells of too few to fill a batch.
    ///
    /// # Errors
    /// `MissingInput`, with what to do; `Data`.
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

    /// Reads the samples.
    ///
    /// # Errors
    /// `MissingInput` or `Data`, `Config` when buffers contradict the configuration.
    fn load(self: Box<Self>, with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)>;
}

/// A batch for each micro-step of a step: those of `own` are packed; others have nothing but their rows and how many of them count.
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

/// Data with their samples.
pub trait Data: Source {
    /// Micro-steps of a step. Of those outside `own`, which another process computes, the inputs may be left out.
    ///
    /// # Errors
    /// `Data` when a sample cannot be read.
    fn batches(&mut self, step: u64, layout: Layout, own: Range<usize>) -> Result<Vec<Batch>>;

    /// Judges models of them, under this loss.
    fn scorecard(&self, loss: &dyn Loss, layout: Layout) -> Box<dyn Scorecard>;
}
