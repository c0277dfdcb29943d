//! The plans of a problem: a training step, the evaluation of a batch, a prediction, a position of decoding.

use super::Problem;
use crate::batch::Inputs;
use crate::config::{Adapted, Precision};
use crate::error::{Error, Result};
use crate::gpu::{Role, Target};
use crate::kernels::metrics::{Accumulate, RECORD, RECORDS};
use crate::kernels::{self, loss_scale, state};
use crate::layers::{Decoding, Projected};
use crate::losses::Gradients;
use crate::models::{Build, Model};
use crate::plan::{FixedPlan, Passes, Plan, PlanOptions, Section, Tensor};
use crate::session::{DecodeIo, EvaluateIo, Feed, PredictIo, RING, TrainIo};
use crate::tasks::{DataState, Layout};

/// A forward pass with its loss, as recorded in a plan.
struct Judged {
    feed: Feed,
    model: Box<dyn Model>,
    /// Main output of the model, if it is made as a whole.
    output: Option<Tensor>,
    others: Vec<(&'static str, Tensor)>,
    rows: Tensor,
    gradients: Option<Gradients>,
}

impl<D: DataState + ?Sized> Problem<D> {
    fn half(&self) -> bool {
        self.settings.train.precision == Precision::F16
    }

    /// An empty plan of the run; `trains` is true for a training step alone, `outputs` where somebody reads what the model gives.
    fn empty(&self, name: &str, target: Target, [trains, outputs]: [bool; 2]) -> Plan {
        let micro_steps = !trains || self.settings.train.accumulate > 1;
        Plan::with(name, target, PlanOptions { trains, micro_steps, halves: self.half(), outputs, frozen: self.settings.adapt.is_some() })
    }

    /// Choice of the tensors that are stored in 16 bits; none in a run with 32 bits.
    fn halves(&self, plan: &Plan) -> Result<Option<kernels::Halves>> {
        match (self.half(), plan.target.half, plan.options.trains) {
            (false, ..) => Ok(None),
            (true, true, _) => Ok(Some(kernels::HALVES)),
            // What such a run has learnt can be looked at on any device.
            (true, false, false) => Ok(None),
            (true, false, true) => Err(Error::Config(
                "train.precision = \"f16\": kernels cannot load and store 16-bit floats on this device. Use \"f32\", or another device"
                    .into(),
            )),
        }
    }

    fn build(&self) -> Result<Box<dyn Model>> {
        self.model.build(&Build { fields: &self.source().fields(), buffers: &self.buffers, adapt: self.settings.adapt.as_ref() })
    }

    /// Fails if the model does not look at an input without which it would be wrong.
    fn expect_used(&self, plan: &Plan, inputs: &Inputs) -> Result<()> {
        let used = |tensor: Tensor| plan.entries().iter().any(|entry| entry.tensors.contains(&tensor));
        let needed = self.source().fields().0.into_iter().filter(|field| field.needed);
        match needed.map(|field| field.name).find(|name| inputs.find(name).is_some_and(|tensor| !used(tensor))) {
            Some("lengths") => Err(Error::Config(
                "the model does not look at `lengths`, so what fills up shorter sequences would count: use a stack with the layer mean_pool, attention_pool or last".into(),
            )),
            Some(name) => Err(Error::Config(format!(
                "the model does not look at `{name}`, which data.inputs gives it: leave it out, or put its columns beside those of another field"
            ))),
            None => Ok(()),
        }
    }

    /// Records the forward pass and the loss of a batch, and the gradient of the loss if the plan trains.
    fn judged(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Judged> {
        let state = state(plan)?;
        let inputs = self.source().record(plan, batch, layout)?.of(self.source().fields());
        let mut model = self.build()?;
        let outputs = model.forward(plan, &inputs)?;
        if let Some(adapt) = self.settings.adapt.as_ref().filter(|_| plan.adapters().is_empty()) {
            let other = match adapt.layers {
                Adapted::Attention => "choose adapt.layers = \"all\" for model.kind = \"mamba2\", and leave",
                Adapted::All => "leave",
            };
            return Err(Error::Config(format!(
                "adapt.layers: this model has no such layers. Adapters are for model.kind = \"gpt\", \"llama\" and \"mamba2\": {other} the table [adapt] out for others"
            )));
        }
        if plan.options.trains && plan.parameters().is_empty() {
            return Err(Error::Config("the model has no weights to train: give it a layer that has some, such as linear".into()));
        }
        self.expect_used(plan, &inputs)?;
        let recorded = self.loss.record(plan, &outputs, &inputs, plan.options.trains)?;
        let sample_rows = recorded.per_sample.then(|| plan.shape(recorded.rows)[0] / batch);
        let feed = Feed { state, inputs: inputs.tensors().to_vec(), sample_rows, batch };
        let output = if let Projected::Whole(main) = outputs.main { Some(main) } else { None };
        Ok(Judged { feed, model, output, others: outputs.others, rows: recorded.rows, gradients: recorded.gradients })
    }

    /// Plan of a training step on batches of this size.
    pub(super) fn training_plan(&self, target: Target, batch: usize, layout: Layout) -> Result<(FixedPlan, TrainIo)> {
        let mut plan = self.empty("train", target, [true, false]);
        let records = plan.persistent(Role::Workspace, RECORDS, &[RING as usize, RECORD])?;
        let Judged { feed, mut model, rows, gradients, .. } = self.judged(&mut plan, batch, layout)?;
        let mut gradients = gradients.ok_or_else(|| Error::Internal("a loss without a gradient".into()))?;
        let [count, cols] = plan.shape(rows)[..] else {
            return Err(Error::Internal(format!("results of a loss of shape {:?}", plan.shape(rows))));
        };
        Accumulate { x: rows, records, rows: count, cols }.record(&mut plan, "metrics")?;
        plan.within(Section::Backward, |plan| {
            // A loss that goes back through the last layer has applied it.
            if self.half() && gradients.scale.is_none() {
                loss_scale::Apply { x: gradients.main, records }.record(plan, "loss")?;
                gradients.scale = Some(records);
            }
            model.backward(plan, &gradients)
        })?;
        let passes = Passes {
            halves: self.halves(&plan)?,
            recompute: self.settings.train.recompute,
            update: Some(|plan: &mut Plan| self.settings.optimizer.record_scaled(plan, records, self.half())),
        };
        Ok((passes.finish(plan)?, TrainIo { feed, records }))
    }

    /// Possible sizes of an evaluation batch, in falling order, in a run that trains on batches of size `batch`.
    pub(super) fn evaluations(&self, batch: usize) -> Vec<usize> {
        let mut sizes = self.source().evaluation_batches(batch);
        let last = sizes.pop().unwrap_or(batch);
        sizes.retain(|size| *size <= self.evaluated);
        sizes.push(last);
        sizes
    }

    /// Plan of an evaluation of batches of this size.
    pub(super) fn evaluation_plan(&self, target: Target, batch: usize) -> Result<(FixedPlan, EvaluateIo)> {
        let mut plan = self.empty("evaluate", target, [false, self.source().looks_at_outputs()]);
        let Judged { feed, output, others, rows, .. } = self.judged(&mut plan, batch, self.layout)?;
        output.into_iter().chain([rows]).chain(others.iter().map(|(_, t)| *t)).for_each(|t| plan.keep(t));
        let passes: Passes = Passes { halves: self.halves(&plan)?, ..Passes::default() };
        Ok((passes.finish(plan)?, EvaluateIo { feed, output, others, rows }))
    }

    /// Plan of a training step.
    ///
    /// # Errors
    /// `Config` when sizes overflow, or data, model and loss do not fit each other.
    pub fn record_training(&self, target: Target) -> Result<(FixedPlan, TrainIo)> {
        self.training_plan(target, self.settings.train.batch, self.layout)
    }

    /// Plan of an evaluation.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_evaluation(&self, target: Target) -> Result<(FixedPlan, EvaluateIo)> {
        self.evaluation_plan(target, self.evaluations(self.settings.train.batch)[0])
    }

    /// Plan of the model alone, without a loss, on a batch of this size.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_prediction(&self, target: Target, batch: usize) -> Result<(FixedPlan, PredictIo)> {
        let mut plan = self.empty("predict", target, [false, true]);
        let state = state(&mut plan)?;
        let inputs = self.source().record(&mut plan, batch, Layout { resident: false, ..self.layout })?.of(self.source().fields());
        let output = self.build()?.forward(&mut plan, &inputs)?.whole("a prediction")?;
        plan.keep(output);
        let feed = Feed { state, inputs: inputs.tensors().to_vec(), sample_rows: None, batch };
        Ok((plan.pruned(), PredictIo { feed, output }))
    }

    /// Plan of the model alone on whole sequences of this length, which need not be that of the data; none if the data do not continue
    /// sequences.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_sequences(&self, target: Target, batch: usize, length: usize) -> Result<Option<(FixedPlan, PredictIo)>> {
        let mut plan = self.empty("predict", target, [false, true]);
        let state = state(&mut plan)?;
        let Some((inputs, _)) = self.source().record_positions(&mut plan, batch, length)? else { return Ok(None) };
        let output = self.build()?.forward(&mut plan, &inputs)?.whole("a prediction")?;
        plan.keep(output);
        let feed = Feed { state, inputs: inputs.tensors().to_vec(), sample_rows: None, batch };
        Ok(Some((plan.pruned(), PredictIo { feed, output })))
    }

    /// Plan of a decoding step for as many sequences as an evaluation batch has; none if data or model do not decode.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_decoding(&self, target: Target) -> Result<Option<(FixedPlan, DecodeIo)>> {
        self.decoding_plan(target, self.evaluations(self.settings.train.batch)[0])
    }

    /// Plan of a decoding step for this number of sequences.
    pub(super) fn decoding_plan(&self, target: Target, batch: usize) -> Result<Option<(FixedPlan, DecodeIo)>> {
        let sampled = self.settings.validation.sample.is_some();
        let recorded = match self.source().decodes() || sampled {
            true => self.record_positions(target, if sampled { 1 } else { batch }, 1)?,
            false => None,
        };
        if recorded.is_none() && sampled {
            return Err(Error::Config(
                "validation.sample: this model has no step of decoding, so it cannot continue a text. Leave the key out".into(),
            ));
        }
        Ok(recorded.map(|(plan, io)| (plan.pruned(), io)))
    }

    /// Plan of so many new positions of `batch` sequences, which the caller may extend; none if data or model do not take them. With one
    /// position it gives what comes next; more leave their part in the cache alone.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn record_positions(&self, target: Target, batch: usize, positions: usize) -> Result<Option<(Plan, DecodeIo)>> {
        let name = if positions > 1 { format!("prefill_{positions}") } else { "decode".into() };
        let mut plan = self.empty(&name, target, [false, true]);
        let state = state(&mut plan)?;
        let mut model = self.build()?;
        let recorded = self.source().record_positions(&mut plan, batch, positions)?;
        let decoding = model.decoding();
        let Some((inputs, cache)) = recorded.filter(|_| decoding != Decoding::None) else { return Ok(None) };
        let output = model.forward_cached(&mut plan, &inputs, cache)?.whole("decoding")?;
        if positions == 1 {
            plan.keep(output);
        }
        let feed = Feed { state, inputs: inputs.tensors().to_vec(), sample_rows: None, batch };
        let (endless, keeps_state) = (decoding == Decoding::Endless, model.keeps_state());
        Ok(Some((plan, DecodeIo { feed, output, endless, keeps_state })))
    }
}
