//! What a run solves, in parts: data, model and loss, with everything that training needs to know. Any model goes with any data that have
//! what it takes, and any loss with any model that gives what it compares: what does not fit is refused when plans are recorded.

mod place;
mod plans;
pub mod prediction;

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::Batch;
use crate::config::{Config, Settings};
use crate::error::{Error, Result};
use crate::kernels::{State, key};
use crate::losses::{Loss, LossKind};
use crate::models::{HuggingFace, ModelKind};
use crate::plan::Buffer;
use crate::ranks::Ranks;
use crate::session::RING;
use crate::tasks::{Card, Data, DataKind, DataState, Layout, Loading, Purpose, Scorecard, Source};

/// Traits of the configurations of models, data and losses: they can be read, written and copied.
pub trait Table: Serialize + DeserializeOwned + Clone {}

impl<T: Serialize + DeserializeOwned + Clone> Table for T {}

/// A model, a loss and data; `Problem<dyn Source>` knows the sizes of the data, `Problem<dyn Data>` has their samples.
#[derive(Debug)]
pub struct Problem<D: ?Sized = dyn Source> {
    /// Settings of the training loop.
    pub settings: Settings,
    /// The whole configuration as TOML, with the sizes of the data.
    pub toml: String,
    /// Function that parses a configuration of this kind and gives it with every default written out.
    pub canonical: fn(&str) -> Result<String>,
    /// Input files, with the keys that name them in the run file.
    pub files: Vec<(&'static str, PathBuf)>,
    /// Number of epochs over which the data become harder.
    pub curriculum_epochs: f64,
    /// Data, with or without samples.
    pub data: Box<D>,
    model: Box<dyn ModelKind>,
    loss: Box<dyn Loss>,
    buffers: Vec<Buffer>,
    /// Buffers that were read from saved weights.
    saved_buffers: Vec<Buffer>,
    layout: Layout,
    /// Largest number of samples in an evaluation batch.
    evaluated: usize,
    /// This process among those that train the run together.
    ranks: Ranks,
}

/// A problem whose samples are loaded.
pub type Loaded = Problem<dyn Data>;

impl Problem {
    /// Opens the problem of a configuration; of files the sizes are read, from their headers where they have some.
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

    /// Opens the problem of a training run as one of several processes computes it.
    ///
    /// # Errors
    /// Errors of `for_ranks` and `open`.
    pub fn open_for<M, D, L>(config: &Config<M, D, L>, ranks: Ranks) -> Result<Problem>
    where
        M: ModelKind + Table,
        D: DataKind + Table,
        L: LossKind + Table,
    {
        Problem::for_ranks(config, ranks, |part| Problem::open(part, Purpose::Train))
    }

    /// The problem with these data as its samples.
    ///
    /// # Errors
    /// `Data` or `Config` when they do not fit the loss.
    pub fn with(self, data: Box<dyn Data>) -> Result<Loaded> {
        Ok(self.loaded(|_, _| Ok((data, vec![])))?.0)
    }

    /// Loads the samples and checks everything that needs no device. Gives the problem and notes for the user.
    ///
    /// # Errors
    /// `MissingInput`, `Data` or `Config`, as the data report.
    pub fn load(self) -> Result<(Loaded, Vec<String>)> {
        let ranks = self.ranks;
        self.loaded(|source, saved_buffers| source.load(Loading { saved_buffers, ranks }))
    }

    fn loaded(
        self,
        load: impl FnOnce(Box<dyn Source>, &[Buffer]) -> Result<(Box<dyn Data>, Vec<String>)>,
    ) -> Result<(Loaded, Vec<String>)> {
        let Problem {
            settings, toml, canonical, files, curriculum_epochs, data, model, loss, saved_buffers, layout, evaluated, ranks, ..
        } = self;
        let (data, mut notes) = load(data, &saved_buffers)?;
        let mut buffers = model.buffers(settings.train.seed);
        take(&mut buffers, &saved_buffers);
        buffers.extend(data.source().buffers());
        let mut loaded = Problem {
            settings,
            toml,
            canonical,
            files,
            curriculum_epochs,
            data,
            model,
            loss,
            buffers,
            saved_buffers,
            layout,
            evaluated,
            ranks,
        };
        notes.extend(loaded.source().check(loaded.loss.as_ref())?);
        notes.extend(loaded.model.notes(loaded.source().size()));
        loaded.prepare()?;
        Ok((loaded, notes))
    }
}

/// Copies the values of saved buffers to buffers of the same name and shape.
fn take(buffers: &mut [Buffer], saved_buffers: &[Buffer]) {
    for buffer in buffers {
        if let Some(found) = saved_buffers.iter().find(|g| g.name == buffer.name && g.shape == buffer.shape) {
            buffer.values.clone_from(&found.values);
        }
    }
}

impl Loaded {
    /// The problem of a configuration with this number of made-up samples in place of its file's.
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
    /// `Data` or `Config` when they do not fit the loss.
    pub fn holding<M, D, L>(config: &Config<M, D, L>, data: Box<dyn Data>) -> Result<Loaded>
    where
        M: ModelKind + Table,
        D: DataKind + Table,
        L: LossKind + Table,
    {
        let loaded = Problem::of(config, data)?;
        loaded.source().check(loaded.loss.as_ref())?;
        Ok(loaded)
    }

    /// Micro-batches of a training step.
    ///
    /// # Errors
    /// Errors of the data.
    pub fn batches(&mut self, step: u64) -> Result<Vec<Batch>> {
        self.batches_of(step, 0..usize::MAX)
    }

    /// Micro-batches of a training step, of which only those in `own` need inputs; the others may be empty.
    ///
    /// # Errors
    /// Errors of the data.
    pub fn batches_of(&mut self, step: u64, own: Range<usize>) -> Result<Vec<Batch>> {
        let drawn = self.loss.drawn(self.settings.train.seed, step);
        let mut batches = self.data.batches(step, self.layout, own)?;
        batches.iter_mut().for_each(|batch| batch.drawn = drawn);
        Ok(batches)
    }

    /// Scorecard that evaluates models of this problem.
    pub fn scorecard(&self) -> Box<dyn Scorecard> {
        self.data.scorecard(self.loss.as_ref(), self.layout)
    }
}

impl<D: DataState + ?Sized> Problem<D> {
    /// Source of the data.
    pub fn source(&self) -> &dyn Source {
        self.data.known()
    }

    fn of<M, K, L>(config: &Config<M, K, L>, data: Box<D>) -> Result<Self>
    where
        M: ModelKind + Table,
        K: DataKind + Table,
        L: LossKind + Table,
    {
        let settings = config.settings();
        if settings.validation.sample.is_some() && data.known().tokens().is_none() {
            return Err(Error::Config(
                "validation.sample is for data.kind = \"text\", whose models continue a text. Leave the key out".into(),
            ));
        }
        let mut buffers = config.model.buffers(settings.train.seed);
        buffers.extend(data.known().buffers());
        let mut problem = Problem {
            toml: config.to_toml()?,
            canonical: |text| Config::<M, K, L>::parse_saved(text, "")?.to_toml(),
            files: config.data.files().into_iter().map(|(key, file)| (key, file.to_path_buf())).collect(),
            curriculum_epochs: config.data.curriculum_epochs(),
            layout: Layout { resident: false, time_major: config.model.time_major() },
            model: Box::new(config.model.clone()),
            loss: config.loss.build(),
            settings,
            data,
            buffers,
            saved_buffers: vec![],
            evaluated: usize::MAX,
            ranks: Ranks::default(),
        };
        problem.prepare()?;
        Ok(problem)
    }

    /// Makes the problem as one of several processes computes it: the batch is divided by the number of processes, and each step has as
    /// many times the micro-batches. Its configuration stays that of the whole run, so a run folder can be resumed with any number of
    /// processes.
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
        match self.source().targets() {
            Some(targets) => self.loss.prepare(&targets, self.settings.train.seed),
            None => Ok(()),
        }
    }

    /// State of step `step` (from 0) as far as it is the same for all of its micro-batches.
    pub fn state(&self, step: u64, learning_rate: f64) -> State {
        let mut state = State { seed: key(self.settings.train.seed), slot: (step % RING) as u32, ..State::default() };
        self.settings.optimizer.fill(&mut state, learning_rate);
        state
    }

    /// Values that are kept with the weights and not trained, as a PyTorch module's buffers.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Takes the buffers that were read from saved weights.
    pub fn use_saved_buffers(&mut self, saved_buffers: Vec<Buffer>) {
        take(&mut self.buffers, &saved_buffers);
        self.saved_buffers = saved_buffers;
    }

    /// The model as Hugging Face's transformers keeps it in a folder; none for a model that it does not have.
    pub fn hugging_face(&self) -> Option<HuggingFace> {
        self.model.hugging_face(&self.source().fields())
    }

    /// Upper bound (exclusive) of the integers that the model knows, where the data alone do not say it.
    pub fn integers_below(&self) -> Option<usize> {
        self.model.integers_below()
    }

    /// The loss that is minimised.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// Metrics of a validation, and how they are displayed.
    pub fn card(&self) -> Card {
        self.source().card(self.loss.as_ref())
    }

    /// True if sequences go to the model in time-major order, (length, batch, …).
    pub fn time_major(&self) -> bool {
        self.layout.time_major
    }

    /// True if the training samples lie on the device.
    pub fn resident(&self) -> bool {
        self.layout.resident
    }
}
