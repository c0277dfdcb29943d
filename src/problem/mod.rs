//! What a run solves, in parts: data, model and loss, with everything that training needs to know. Any model goes with any data that have
//! what it takes, and any loss with any model that gives what it compares: what does not fit is refused when plans are recorded.

mod place;
mod plans;

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::Batch;
use crate::config::{Config, Settings};
use crate::error::Result;
use crate::losses::{Loss, LossKind};
use crate::models::ModelKind;
use crate::plan::Buffer;
use crate::ranks::Ranks;
use crate::tasks::{Card, Data, DataKind, Layout, Loading, Purpose, Scorecard, Source};

/// What the kinds of a run file have in common: they are read, written and copied.
pub trait Table: Serialize + DeserializeOwned + Clone {}

impl<T: Serialize + DeserializeOwned + Clone> Table for T {}

/// A model, data whose sizes are known, and a loss; `Problem<dyn Data>` has its samples.
#[derive(Debug)]
pub struct Problem<D: ?Sized = dyn Source> {
    /// How it is trained.
    pub settings: Settings,
    /// The whole configuration as TOML, with the sizes of the data.
    pub toml: String,
    /// A configuration of this kind with every default written out.
    pub canonical: fn(&str) -> Result<String>,
    /// Files that are read, by their keys.
    pub files: Vec<(&'static str, PathBuf)>,
    /// Epochs over which the data grow harder.
    pub curriculum_epochs: f64,
    /// Data.
    pub data: Box<D>,
    model: Box<dyn ModelKind>,
    loss: Box<dyn Loss>,
    buffers: Vec<Buffer>,
    /// Buffers that came with weights.
    given: Vec<Buffer>,
    layout: Layout,
    /// Samples of an evaluation batch at most.
    evaluated: usize,
    /// Processes that train it together.
    ranks: Ranks,
}

/// A problem with its samples.
pub type Loaded = Problem<dyn Data>;

impl Problem {
    /// The problem of a configuration; of files no more than headers are read.
    ///
    /// # Errors
    /// `MissingInput` or `Data` when a file cannot be used.
    pub fn open<M, D, L>(config: &Config<M, D, L>, purpose: Purpose) -> Result<Problem>
    where
        M: ModelKind + Table,
        D: DataKind + Table,
        L: LossKind + Table,
    {
        let mut config = config.clone();
        if purpose != Purpose::Predict {
            config.data.resize()?;
        }
        let data = config.data.open(&config.settings(), purpose)?;
        Problem::of(&config, data)
    }

    /// The problem of training as one of several processes computes it.
    ///
    /// # Errors
    /// Those of `for_ranks` and `open`.
    pub fn open_for<M, D, L>(config: &Config<M, D, L>, ranks: Ranks) -> Result<Problem>
    where
        M: ModelKind + Table,
        D: DataKind + Table,
        L: LossKind + Table,
    {
        Problem::for_ranks(config, ranks, |part| Problem::open(part, Purpose::Train))
    }

    /// With these data.
    ///
    /// # Errors
    /// `Data` or `Config` when they do not do for the loss.
    pub fn with(self, data: Box<dyn Data>) -> Result<Loaded> {
        Ok(self.loaded(|_, _| Ok((data, vec![])))?.0)
    }

    /// With the samples. What needs no device is looked at.
    ///
    /// # Errors
    /// `MissingInput`, `Data` or `Config`, as the data say.
    pub fn load(self) -> Result<(Loaded, Vec<String>)> {
        let ranks = self.ranks;
        self.loaded(|source, given| source.load(Loading { given, ranks }))
    }

    fn loaded(
        self,
        load: impl FnOnce(Box<dyn Source>, &[Buffer]) -> Result<(Box<dyn Data>, Vec<String>)>,
    ) -> Result<(Loaded, Vec<String>)> {
        let Problem { settings, toml, canonical, files, curriculum_epochs, data, model, loss, given, layout, evaluated, ranks, .. } = self;
        let (data, mut notes) = load(data, &given)?;
        let mut buffers = model.buffers(settings.train.seed);
        take(&mut buffers, &given);
        buffers.extend(data.buffers());
        let mut loaded =
            Problem { settings, toml, canonical, files, curriculum_epochs, data, model, loss, buffers, given, layout, evaluated, ranks };
        notes.extend(loaded.data.check(loaded.loss.as_ref())?);
        notes.extend(loaded.model.notes(loaded.data.size()));
        loaded.prepare()?;
        Ok((loaded, notes))
    }
}

/// Gives buffers the values of those of the same name and shape.
fn take(buffers: &mut [Buffer], given: &[Buffer]) {
    for buffer in buffers {
        if let Some(found) = given.iter().find(|g| g.name == buffer.name && g.shape == buffer.shape) {
            buffer.values.clone_from(&found.values);
        }
    }
}

impl Loaded {
    /// The problem of a configuration with so many made-up samples in place of its file's.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    pub fn made_up<M, D, L>(config: &Config<M, D, L>, samples: usize) -> Result<Loaded>
    where
        M: ModelKind + Table,
        D: DataKind + Table,
        L: LossKind + Table,
    {
        Loaded::holding(config, config.data.made_up(&config.settings(), samples, config.model.integers_below())?)
    }

    /// The problem of a configuration with these data.
    ///
    /// # Errors
    /// `Data` or `Config` when they do not do for the loss.
    pub fn holding<M, D, L>(config: &Config<M, D, L>, data: Box<dyn Data>) -> Result<Loaded>
    where
        M: ModelKind + Table,
        D: DataKind + Table,
        L: LossKind + Table,
    {
        let loaded = Problem::of(config, data)?;
        loaded.data.check(loaded.loss.as_ref())?;
        Ok(loaded)
    }

    /// Micro-steps of a step.
    ///
    /// # Errors
    /// Those of the data.
    pub fn batches(&mut self, step: u64) -> Result<Vec<Batch>> {
        self.batches_of(step, 0..usize::MAX)
    }

    /// The same with inputs for these alone; others may be empty.
    ///
    /// # Errors
    /// Those of the data.
    pub fn batches_of(&mut self, step: u64, own: Range<usize>) -> Result<Vec<Batch>> {
        let drawn = self.loss.drawn(self.settings.train.seed, step);
        let mut batches = self.data.batches(step, self.layout, own)?;
        batches.iter_mut().for_each(|batch| batch.drawn = drawn);
        Ok(batches)
    }

    /// Judges models of this problem.
    pub fn scorecard(&self) -> Box<dyn Scorecard> {
        self.data.scorecard(self.loss.as_ref(), self.layout)
    }
}

impl<D: Source + ?Sized> Problem<D> {
    fn of<M, K, L>(config: &Config<M, K, L>, data: Box<D>) -> Result<Self>
    where
        M: ModelKind + Table,
        K: DataKind + Table,
        L: LossKind + Table,
    {
        let settings = config.settings();
        let mut buffers = config.model.buffers(settings.train.seed);
        buffers.extend(data.buffers());
        let mut problem = Problem {
            toml: config.to_toml()?,
            canonical: |text| Config::<M, K, L>::parse(text, "", &[])?.to_toml(),
            files: config.data.files().into_iter().map(|(key, file)| (key, file.to_path_buf())).collect(),
            curriculum_epochs: config.data.curriculum_epochs(),
            layout: Layout { resident: false, time_major: config.model.time_major() },
            model: Box::new(config.model.clone()),
            loss: config.loss.build(),
            settings,
            data,
            buffers,
            given: vec![],
            evaluated: usize::MAX,
            ranks: Ranks::default(),
        };
        problem.prepare()?;
        Ok(problem)
    }

    /// The problem that `make` gives of a configuration, as one of several processes computes it: each takes its part of every micro-batch, as with as many
    /// times `train.accumulate`. It stays the problem of this configuration, whose run folder goes on with any number of processes.
    ///
    /// # Errors
    /// `Config` where a batch cannot be divided, and those of `make`.
    pub fn for_ranks<M, K, L>(config: &Config<M, K, L>, ranks: Ranks, make: impl FnOnce(&Config<M, K, L>) -> Result<Self>) -> Result<Self>
    where
        M: ModelKind + Table,
        K: DataKind + Table,
        L: LossKind + Table,
    {
        if !ranks.shared() {
            return make(config);
        }
        let mut part = config.clone();
        part.train = config.train.divided(ranks.count)?;
        let mut problem = make(&part)?;
        let mut whole = config.clone();
        whole.data.resize()?;
        problem.toml = whole.to_toml()?;
        problem.ranks = ranks;
        Ok(problem)
    }

    fn prepare(&mut self) -> Result<()> {
        match self.data.targets() {
            Some(targets) => self.loss.prepare(&targets, self.settings.train.seed),
            None => Ok(()),
        }
    }

    /// What is kept with the weights and is not trained.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Takes buffers that came with weights.
    pub fn use_saved_buffers(&mut self, given: Vec<Buffer>) {
        take(&mut self.buffers, &given);
        self.given = given;
    }

    /// What is minimised.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// What a validation measures, and how it is shown.
    pub fn card(&self) -> Card {
        self.data.card(self.loss.as_ref())
    }

    /// Whether sequences go to the model time step after time step.
    pub fn time_major(&self) -> bool {
        self.layout.time_major
    }

    /// Whether the training samples lie on the device.
    pub fn resident(&self) -> bool {
        self.layout.resident
    }
}
