//! What a run solves, in parts: data, model and loss, with everything that training needs to know. Any model goes with any data that have
//! what it takes, and any loss with any model that gives what it compares: what does not fit is refused when plans are recorded.

use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::Batch;
use crate::config::{Config, Precision, Settings};
use crate::error::{Error, Result};
use crate::gpu::{self, Gpu, Role, Target};
use crate::kernels::metrics::{Accumulate, RECORD};
use crate::kernels::{self, loss_scale, state};
use crate::losses::{Loss, LossKind};
use crate::models::{Build, Model, ModelKind, initial_weights};
use crate::plan::{Buffer, Flat, Memory, Plan};
use crate::ranks::Ranks;
use crate::session::{Carried, Io, Plans, RING, Session};
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
    /// The plans that `place` recorded, for the session that follows.
    placed: RefCell<Option<(Target, Plans, Memory)>>,
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
        config.data.resize()?;
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
            given,
            layout,
            evaluated,
            ranks,
            placed: RefCell::default(),
        };
        notes.extend(loaded.data.check(loaded.loss.as_ref())?);
        notes.extend(loaded.model.notes(loaded.data.size()));
        loaded.prepare()?;
        Ok((loaded, notes))
    }
}

/// Bytes that a run may allocate on this device.
pub(crate) fn default_budget(gpu: &Gpu) -> u64 {
    (8u64 << 30).min(gpu.free_memory().unwrap_or(u64::MAX))
}

/// Whether a device of this kind holds these buffers within a budget in bytes.
fn fits(memory: &Memory, target: Target, budget: u64) -> bool {
    memory.report.total_bytes <= budget && memory.buffers.iter().all(|buffer| buffer.bytes <= target.max_binding)
}

/// What is made with the first of these sizes, in falling order, that fits; with the last where none does.
fn first_that_fits<T>(sizes: &[usize], make: impl Fn(usize) -> Result<T>, fits: impl Fn(&T) -> bool) -> Result<T> {
    let [first, between @ .., last] = sizes else { return make(sizes.first().copied().unwrap_or(1)) };
    let made = make(*first)?;
    if fits(&made) {
        return Ok(made);
    }
    let least = make(*last)?;
    if fits(&least) {
        for size in between {
            let made = make(*size)?;
            if fits(&made) {
                return Ok(made);
            }
        }
    }
    Ok(least)
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

    /// Plans, allocates and compiles for training, with initial weights.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn training(&self, gpu: &Arc<Gpu>) -> Result<Session> {
        self.training_for(gpu.target, gpu)
    }

    /// The same with the kernels of another target, which the device can run.
    ///
    /// # Errors
    /// As `training`.
    pub fn training_for(&self, wanted: Target, gpu: &Arc<Gpu>) -> Result<Session> {
        let (plans, memory) = match self.placed.take() {
            Some((target, plans, memory)) if target == wanted => (plans, memory),
            _ => {
                let batch = self.settings.train.batch;
                let plans = self.plans_at(wanted, batch, self.layout, self.evaluations(batch)[0])?;
                let memory = plans.lay_out(self.ranks)?;
                (plans, memory)
            }
        };
        let session = Session::new(plans, &memory, gpu)?;
        let weights = initial_weights(session.evaluate.0.plan.parameters(), self.settings.train.seed);
        session.arena.write_flat(Flat::Parameters, &weights)?;
        session.carry_on(0, Carried { skipped: false, loss_scale: loss_scale::INITIAL, updates: 0 })?;
        Ok(session)
    }

    /// Plans, allocates and compiles for evaluation, within what a run may allocate.
    ///
    /// # Errors
    /// As `training`.
    pub fn evaluation(&self, gpu: &Arc<Gpu>) -> Result<Session> {
        let (target, batch) = (gpu.target, self.settings.train.batch);
        let at = |evaluated: usize| {
            let plans = Plans {
                train: None,
                evaluate: self.evaluation_plan(target, evaluated)?,
                decode: if self.data.decodes() { self.record_position(target, evaluated)? } else { None },
            };
            let memory = plans.lay_out(self.ranks)?;
            Ok::<_, Error>((plans, memory))
        };
        let (plans, memory) = first_that_fits(&self.evaluations(batch), at, |(_, memory)| fits(memory, target, default_budget(gpu)))?;
        Session::new(plans, &memory, gpu)
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
            placed: RefCell::default(),
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

    /// Whether the training samples lie on the device.
    pub fn resident(&self) -> bool {
        self.layout.resident
    }

    fn build(&self) -> Result<Box<dyn Model>> {
        self.model.build(&Build { fields: &self.data.fields(), buffers: &self.buffers })
    }

    /// Forward pass and loss of a batch, and where the plan trains the sums of the results and the backward pass.
    fn record(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Io> {
        let state = state(plan)?;
        let inputs = self.data.record(plan, batch, layout)?.of(self.data.fields());
        let mut model = self.build()?;
        let outputs = model.forward(plan, &inputs)?;
        if plan.trains && plan.parameters().is_empty() {
            return Err(Error::Config("the model has no weights to train: give it a layer that has some, such as linear".into()));
        }
        let recorded = self.loss.record(plan, &outputs, &inputs, plan.trains)?;
        let (rows, per_sample, mut records) = (recorded.rows, recorded.per_sample, None);
        if let Some(mut gradients) = recorded.gradients {
            let [count, cols] = plan.shape(rows)[..] else {
                return Err(Error::Internal(format!("results of a loss of shape {:?}", plan.shape(rows))));
            };
            let ring = plan.persistent(Role::Workspace, "records", &[RING as usize, RECORD])?;
            Accumulate { x: rows, records: ring, rows: count, cols }.record(plan, "metrics")?;
            if self.half() {
                loss_scale::Apply { x: gradients.main, records: ring }.record(plan, "loss")?;
                gradients.scale = Some(ring);
            }
            plan.begin(crate::plan::Section::Backward);
            model.backward(plan, &gradients)?;
            records = Some(ring);
        }
        let others = if plan.trains { vec![] } else { outputs.others };
        let sample_rows = per_sample.then(|| plan.shape(rows)[0] / batch);
        Ok(Io { state, inputs: inputs.tensors().to_vec(), records, output: outputs.main, others, rows, sample_rows, batch })
    }

    fn half(&self) -> bool {
        self.settings.train.precision == Precision::F16
    }

    /// A plan of the run, with what launches need to know of it before anything is recorded.
    fn begin(&self, mut plan: Plan) -> Plan {
        plan.halves = self.half();
        plan
    }

    /// Stores what the run stores in 16 bits so.
    fn halve(&self, plan: &mut Plan) -> Result<()> {
        if !self.half() {
            return Ok(());
        }
        if !plan.target.half {
            // What such a run has learnt can be looked at on any device.
            return match plan.trains {
                false => Ok(()),
                true => Err(Error::Config(
                    "train.precision = \"f16\": kernels cannot load and store 16-bit floats on this device. Use \"f32\", or another device"
                        .into(),
                )),
            };
        }
        plan.halve(&kernels::HALF, &kernels::EXACT);
        Ok(())
    }

    fn training_plan(&self, target: Target, batch: usize, layout: Layout) -> Result<(Plan, Io)> {
        let mut plan = self.begin(Plan::training("train", target));
        plan.accumulates = self.settings.train.accumulate > 1;
        let io = self.record(&mut plan, batch, layout)?;
        let records = io.records.ok_or_else(|| Error::Internal("a loss without a gradient".into()))?;
        plan.prune();
        self.halve(&mut plan)?;
        // What is recomputed must not change which products share a launch, and with it the order of their sums.
        plan.pair();
        plan.recompute(self.settings.train.recompute)?;
        self.settings.optimizer.record_scaled(&mut plan, records, self.half())?;
        Ok((plan, io))
    }

    /// Sizes that an evaluation batch may have, in falling order, of a run that trains on batches of so many.
    fn evaluations(&self, batch: usize) -> Vec<usize> {
        let mut sizes = self.data.evaluation_batches(batch);
        let last = sizes.pop().unwrap_or(batch);
        sizes.retain(|size| *size <= self.evaluated);
        sizes.push(last);
        sizes
    }

    fn evaluation_plan(&self, target: Target, evaluated: usize) -> Result<(Plan, Io)> {
        let mut plan = self.begin(Plan::new("evaluate", target));
        let io = self.record(&mut plan, evaluated, self.layout)?;
        [io.output, io.rows].into_iter().chain(io.others.iter().map(|(_, t)| *t)).for_each(|t| plan.keep(t));
        plan.prune();
        self.halve(&mut plan)?;
        Ok((plan, io))
    }

    /// The plan of a training step.
    ///
    /// # Errors
    /// `Config` when sizes overflow, or data, model and loss do not fit each other.
    pub fn record_training(&self, target: Target) -> Result<(Plan, Io)> {
        self.training_plan(target, self.settings.train.batch, self.layout)
    }

    /// The plan of an evaluation.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_evaluation(&self, target: Target) -> Result<(Plan, Io)> {
        self.evaluation_plan(target, self.evaluations(self.settings.train.batch)[0])
    }

    /// The plan of the model alone on a batch of so many samples, without a loss.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_prediction(&self, target: Target, batch: usize) -> Result<(Plan, Io)> {
        let mut plan = self.begin(Plan::new("predict", target));
        let state = state(&mut plan)?;
        let inputs = self.data.record(&mut plan, batch, Layout { resident: false, ..self.layout })?.of(self.data.fields());
        let output = self.build()?.forward(&mut plan, &inputs)?.main;
        plan.keep(output);
        plan.prune();
        let inputs = inputs.tensors().to_vec();
        Ok((plan, Io { state, inputs, records: None, output, others: vec![], rows: output, sample_rows: None, batch }))
    }

    /// The plan of a step of decoding as many sequences as an evaluation has, where data are decoded.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_decoding(&self, target: Target) -> Result<Option<(Plan, Io)>> {
        if !self.data.decodes() {
            return Ok(None);
        }
        self.record_position(target, self.evaluations(self.settings.train.batch)[0])
    }

    /// The plan of one position of `batch` sequences, where data and model decode.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_position(&self, target: Target, batch: usize) -> Result<Option<(Plan, Io)>> {
        let mut plan = self.begin(Plan::new("decode", target));
        let state = state(&mut plan)?;
        let mut model = self.build()?;
        let Some((inputs, cache)) = self.data.record_position(&mut plan, batch)?.filter(|_| model.decodes()) else { return Ok(None) };
        let output = model.forward_cached(&mut plan, &inputs, cache)?.main;
        plan.keep(output);
        plan.prune();
        let inputs = inputs.tensors().to_vec();
        Ok(Some((plan, Io { state, inputs, records: None, output, others: vec![], rows: output, sample_rows: None, batch })))
    }

    fn plans_at(&self, target: Target, batch: usize, layout: Layout, evaluated: usize) -> Result<Plans> {
        let decode = if self.data.decodes() { self.record_position(target, evaluated)? } else { None };
        Ok(Plans { train: Some(self.training_plan(target, batch, layout)?), evaluate: self.evaluation_plan(target, evaluated)?, decode })
    }

    /// Buffers of training on batches of so many samples, with the training samples on the device and evaluation batches as large as the budget in bytes
    /// allows.
    fn placed(&self, target: Target, batch: usize, budget: u64) -> Result<(Plans, Memory, bool)> {
        let at = |resident: bool, evaluated: usize| {
            let plans = self.plans_at(target, batch, Layout { resident, ..self.layout }, evaluated)?;
            let memory = plans.lay_out(self.ranks)?;
            Ok::<_, Error>((plans, memory, resident))
        };
        let sizes = self.evaluations(batch);
        let placed = |resident| first_that_fits(&sizes, |evaluated| at(resident, evaluated), |(_, memory, _)| fits(memory, target, budget));
        if self.data.can_be_resident()
            && let Some(placed) = placed(true).ok().filter(|(_, memory, _)| fits(memory, target, budget))
        {
            return Ok(placed);
        }
        placed(false)
    }

    /// Decides what lies on the device, for a budget in bytes; gives the buffers of a training run. Pure: no device is asked.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn place(&mut self, target: Target, budget: u64) -> Result<Memory> {
        let (plans, memory, resident) = self.placed(target, self.settings.train.batch, budget)?;
        self.layout.resident = resident;
        self.evaluated = plans.evaluate.1.batch;
        self.placed = RefCell::new(Some((target, plans, memory.clone())));
        Ok(memory)
    }

    /// Seconds that a card takes for a step at least, on micro-batches of the run's size.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn roofline(&self, card: &gpu::Card) -> Result<f64> {
        let (plan, _) = self.record_training(Target::default())?;
        let update = plan.range(crate::plan::Section::Update);
        let micro_steps = (self.settings.train.accumulate / self.ranks.count) as f64;
        Ok(micro_steps * plan.roofline(card, 0..update.start) + plan.roofline(card, update))
    }

    /// Largest batch whose memory stays within the budget, if any does. Memory is nearly linear in the batch, so a few plans tell: each is
    /// recorded where the line through those before crosses the budget, and in the middle where that does not help.
    pub fn largest_batch(&self, target: Target, budget: u64) -> Option<usize> {
        /// Sizes that a run file may give.
        const MOST: usize = 1 << 20;
        // Shares of what there is: at most 1 fits.
        let load = |batch: usize| {
            self.placed(target, batch, budget).map_or(f64::INFINITY, |(_, m, _)| {
                let largest = m.buffers.iter().map(|b| b.bytes).max().unwrap_or(0);
                (m.report.total_bytes as f64 / budget as f64).max(largest as f64 / target.max_binding as f64)
            })
        };
        let mut high = (MOST, load(MOST));
        if high.1 <= 1.0 {
            return Some(MOST);
        }
        // Not quite: a smaller batch may take other kernels, with more memory.
        let mut low =
            [self.settings.train.batch, 8, 4, 2, 1].into_iter().map(|batch| (batch, load(batch))).find(|(_, load)| *load <= 1.0)?;
        let mut interpolate = true;
        while high.0 - low.0 > 1 {
            let gap = (high.0 - low.0) as f64;
            let step = match (interpolate, high.1.is_finite()) {
                (true, true) => gap * (1.0 - low.1) / (high.1 - low.1),
                // Where nothing is known above, the middle of the orders of magnitude.
                (_, false) => (low.0 as f64 * high.0 as f64).sqrt() - low.0 as f64,
                _ => gap / 2.0,
            };
            let guess = (low.0 + step as usize).clamp(low.0 + 1, high.0 - 1);
            let share = load(guess);
            if share <= 1.0 {
                low = (guess, share)
            } else {
                high = (guess, share)
            }
            interpolate = ((high.0 - low.0) as f64) < gap / 2.0;
        }
        Some(low.0)
    }
}
