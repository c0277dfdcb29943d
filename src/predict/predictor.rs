//! A trained model on a device, for inputs of one shape.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::Field;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::host::Host;
use crate::kernels::State;
use crate::plan::{Flat, Program, Tensor};
use crate::problem::Problem;
use crate::problem::prediction::Prediction;
use crate::registry::Config;
use crate::session::{DecodeIo, PredictIo};
use crate::tasks::{DataKind, Purpose, joint_after_joint, until_stop};
use crate::train::Weights;

/// Coordinates of the joints of (samples, joints, 3), and NaN after the last of a model that says which is the last.
fn to_the_last(outputs: &[f32], joints: usize, stops: bool) -> Vec<f32> {
    let sample = |sample: &[f32]| {
        let count = if stops { until_stop(sample.chunks(3).map(|joint| f64::from(joint[2]))) } else { joints };
        let place = |(at, joint): (usize, &[f32])| if at < count { [joint[0], joint[1]] } else { [f32::NAN; 2] };
        sample.chunks(3).enumerate().flat_map(place).collect::<Vec<f32>>()
    };
    outputs.chunks(3 * joints).flat_map(sample).collect()
}

/// A trained model on a device, for inputs of one shape. It takes any number of samples, and several threads may ask it at once.
#[derive(Debug)]
pub struct Predictor {
    program: Program,
    /// Held from the inputs of a batch to its outputs, which lie in buffers that all threads share.
    turn: Mutex<()>,
    io: PredictIo,
    prediction: Prediction,
    time_major: bool,
    /// Whether a model of mechanisms, which predicts a joint after another, says which is the last.
    stops: Option<bool>,
}

impl Predictor {
    /// Opens the model of a run folder with its best weights, those of its newest checkpoint or a file of them (`best`, `last`, a path).
    /// Inputs may have other shapes than the training data if the model allows that. More samples than `batch` are computed one batch
    /// after the other. A sample has the same bits whatever else is in its batch, and a card computes 64 in hardly more time than one.
    ///
    /// # Errors
    /// `MissingInput` without the run or its weights, `Data` when these do not fit the model with inputs of those shapes, and those of
    /// opening a device.
    pub fn open(
        run: &Path,
        which: &str,
        host: &Host,
        device: Option<&str>,
        shapes: &[(&str, Vec<usize>)],
        batch: usize,
    ) -> Result<Predictor> {
        Predictor::of_weights(Config::of_run(run)?, &mut Weights::of_run(run, which)?, host, device, shapes, batch)
    }

    /// The same with the configuration and the open weights of a run.
    pub(super) fn of_weights(
        mut config: Config,
        weights: &mut Weights,
        host: &Host,
        device: Option<&str>,
        shapes: &[(&str, Vec<usize>)],
        batch: usize,
    ) -> Result<Predictor> {
        let trained = Problem::open(&config, Purpose::Predict)?.source().fields();
        if let Some((name, shape)) = shapes.iter().find(|(_, shape)| shape.contains(&0)) {
            return Err(Error::Data(format!("`{name}` has shape {shape:?}: there is nothing to predict from")));
        }
        config.data.take_inputs(shapes)?;
        let problem = Problem::open(&config, Purpose::Predict)?;
        let other = |error: Error| match (shapes, error) {
            ([_, ..], Error::Data(_)) => {
                let list = |shapes: Vec<(&str, &Vec<usize>)>| {
                    shapes.iter().map(|(name, shape)| format!("`{name}` of {shape:?}")).collect::<Vec<_>>().join(", ")
                };
                let (wanted, given) = (trained.0.iter().filter(|f| !f.answer), shapes.iter().map(|(name, shape)| (*name, shape)));
                Error::Data(format!(
                    "the model takes {}, and no other length: {} was given",
                    list(wanted.map(|f| (f.name, &f.shape)).collect()),
                    list(given.collect())
                ))
            }
            (_, error) => error,
        };
        let buffers = problem.buffers().to_vec();
        let predictor = Predictor::new(problem, weights, &Arc::new(host.open(device)?), batch).map_err(other)?;
        weights.unused(predictor.program.plan.parameters(), &buffers).iter().for_each(|note| host.note(note));
        Ok(predictor)
    }

    /// A predictor for a problem of any kind with these weights.
    ///
    /// # Errors
    /// As `open`.
    pub fn new(mut problem: Problem, weights: &mut Weights, gpu: &Arc<Gpu>, batch: usize) -> Result<Predictor> {
        problem.use_saved_buffers(weights.buffers(problem.buffers())?);
        let stops = problem.source().decodes().then(|| problem.loss().columns().names.contains(&"stop"));
        let (plan, io) = match stops {
            None => problem.record_prediction(gpu.target, batch)?,
            Some(_) => {
                let none = || Error::Config("this model predicts no joint after another".into());
                let (plan, DecodeIo { feed, output, .. }) = problem.record_positions(gpu.target, batch, 1)?.ok_or_else(none)?;
                (plan.pruned(), PredictIo { feed, output })
            }
        };
        let mut prediction = problem.prediction(&plan, &io);
        if let (Some(_), Some(joints)) = (stops, &prediction.answer) {
            prediction.shape = joints.shape.clone();
            // Joints are what it gives, and types are those that the model knows.
            prediction.fields.retain(|(field, _)| field.name != "points");
            let types = prediction.fields.iter_mut().find(|(field, _)| field.below.is_some());
            types.into_iter().for_each(|(field, _)| field.below = problem.integers_below());
        }
        let flat = weights.load(plan.parameters())?;
        let (program, _) = Program::alone(plan, gpu)?;
        program.arena().write_flat(Flat::Parameters, &flat)?;
        Ok(Predictor { program, turn: Mutex::default(), io, prediction, time_major: problem.time_major(), stops })
    }

    /// Input fields of a sample.
    pub fn fields(&self) -> Vec<&Field> {
        self.prediction.fields.iter().map(|(field, _)| field).collect()
    }

    /// Shape of the output for a sample.
    pub fn shape(&self) -> &[usize] {
        &self.prediction.shape
    }

    /// Number of classes that each row of outputs has a logit for; none if the model is no classifier.
    pub fn classes(&self) -> Option<usize> {
        self.prediction.classes
    }

    /// Words of the classes, in the order of their numbers; empty if they have none.
    pub fn words(&self) -> &[String] {
        self.prediction.answer.as_ref().map_or(&[], |field| &field.words)
    }

    /// Number of positions of an output, each with its own prediction, of sequences of unequal length; outputs after the end of one mean
    /// nothing, and are NaN where the lengths are given.
    pub fn positions(&self) -> Option<usize> {
        self.prediction.answer.as_ref().filter(|field| field.each_position).and_then(|_| self.prediction.shape.first().copied())
    }

    /// Number of samples that are computed at once.
    pub fn batch(&self) -> usize {
        self.io.feed.batch
    }

    /// Computes the model's outputs, such as vectors in the unit of the data or logits, for any number of samples. Inputs are given by
    /// name, sample after sample, and outputs lie sample after sample. Where `lengths` are given, outputs after the end of a sequence are
    /// NaN, and so are the joints of a mechanism after its last. Threads that ask at once take turns, batch by batch.
    ///
    /// # Errors
    /// `Data` for an input that is missing, has another length, is not finite, or is no integer that the model knows; `Lost` on device
    /// loss.
    pub fn predict(&self, samples: usize, inputs: &[(&str, &[f32])]) -> Result<Vec<f32>> {
        self.predict_from(0, samples, inputs)
    }

    /// `predict` for samples of which the first has this number in messages.
    pub(crate) fn predict_from(&self, first: usize, samples: usize, inputs: &[(&str, &[f32])]) -> Result<Vec<f32>> {
        let given = |name: &str| inputs.iter().find(|(given, _)| *given == name).map(|(_, values)| *values);
        let mut fields = Vec::with_capacity(self.prediction.fields.len());
        for (field, tensor) in &self.prediction.fields {
            let values = given(field.name).ok_or_else(|| Error::Data(format!("`{}` is missing: {}", field.name, field.describe())))?;
            if Some(values.len()) != samples.checked_mul(field.len()) {
                let (has, wanted) = (values.len(), field.len());
                return Err(Error::Data(format!(
                    "`{}` has {has} numbers for {samples} samples of {wanted}: {}",
                    field.name,
                    field.describe()
                )));
            }
            fields.push((field, *tensor, values));
        }
        let len = self.prediction.shape.iter().product::<usize>();
        let mut outputs = Vec::with_capacity(samples * len);
        for at in (0..samples).step_by(self.batch()) {
            let count = self.batch().min(samples - at);
            let part: Vec<_> =
                fields.iter().map(|(f, tensor, values)| (*f, *tensor, &values[at * f.len()..(at + count) * f.len()])).collect();
            outputs.extend(self.predict_batch(first + at, count, &part)?);
        }
        if let (Some(positions), Some(lengths)) = (self.positions(), given("lengths")) {
            let after = |length: f32| (length as usize).min(positions) * (len / positions);
            outputs.chunks_mut(len).zip(lengths).for_each(|(output, length)| output[after(*length)..].fill(f32::NAN));
        }
        Ok(outputs)
    }

    /// Outputs for at most a batch of samples, whose inputs are there in full.
    fn predict_batch(&self, first: usize, samples: usize, inputs: &[(&Field, Tensor, &[f32])]) -> Result<Vec<f32>> {
        let batch = self.batch();
        let mut written = Vec::with_capacity(inputs.len());
        for (field, tensor, values) in inputs {
            // Sequences beyond the samples have a length, too.
            let mut words = vec![u32::from(field.needed && field.below.is_some()); batch * field.len()];
            let mut scaled = values.to_vec();
            field.normalization.apply(&mut scaled, field.features());
            for (at, value) in scaled.iter().enumerate() {
                words[self.place(field, at)] = field.word(*value).map_err(|why| {
                    Error::Data(format!("`{}`, sample {}, number {}: {why}", field.name, first + at / field.len(), at % field.len()))
                })?;
            }
            written.push((*tensor, words));
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().for_each(|(tensor, words)| self.program.write(*tensor, words));
        let mut outputs = match self.stops {
            Some(stops) => to_the_last(&joint_after_joint(&self.program, &self.io.feed, self.io.output)?, self.prediction.shape[0], stops),
            None => {
                let state = State { rows: samples as u32, count: samples as u32, scale: 1.0, drawn: 1.0, ..State::default() };
                self.program.write(self.io.feed.state, &[state]);
                self.program.run(self.program.all())?;
                self.program.read::<f32>(self.io.output)?
            }
        };
        drop(turn);
        outputs.truncate(samples * self.prediction.shape.iter().product::<usize>());
        if let Some(field) = self.prediction.numbers() {
            field.normalization.undo(&mut outputs, field.features());
        }
        Ok(outputs)
    }

    /// Runs the program once with the inputs of before, to see whether the device computes.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn try_out(&self) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.program.run(self.program.all())
    }

    /// Index of element `at` of the samples in the tensor of a batch.
    fn place(&self, field: &Field, at: usize) -> usize {
        let [length, features] = match field.shape[..] {
            [length, features] if self.time_major => [length, features],
            _ => return at,
        };
        let (sample, position, feature) = (at / field.len(), at / features % length, at % features);
        (position * self.batch() + sample) * features + feature
    }
}
