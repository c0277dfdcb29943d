//! A trained run for inputs of every shape that its model takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::predictor::Predictor;
use crate::batch::Field;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::registry::{Config, DataConfig};
use crate::train::Weights;

/// Number of models that are kept ready for inputs of different shapes.
const READY: usize = 8;

/// Times that a lost device is opened again for one prediction.
const REOPENED: usize = 3;

/// Names and shapes of inputs.
pub type Shapes = Vec<(String, Vec<usize>)>;

/// Models that are compiled, by the shapes of their inputs; none for the shapes of the training data.
type Ready = Vec<(Option<Shapes>, Arc<Predictor>)>;

/// A trained run for inputs of every shape that its model takes: a predictor for each of those that have come lately, all with the same
/// weights. A device that is lost is opened again. Several threads may ask at once.
#[derive(Debug)]
pub struct Predictors {
    host: Host,
    config: Config,
    device: Option<String>,
    batch: usize,
    /// Input fields, as the model was trained.
    fields: Vec<Field>,
    /// File of the weights, which stays open: the run may replace it.
    weights: Arc<Mutex<Weights>>,
    ready: Mutex<Ready>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Predictors {
    /// Opens a run by its configuration and these weights, and compiles its model for the input shapes of its training data.
    ///
    /// # Errors
    /// As `Predictor::open`.
    pub fn open(host: &Host, config: Config, weights: Arc<Mutex<Weights>>, device: Option<&str>, batch: usize) -> Result<Predictors> {
        let trained = Predictor::of_weights(config.clone(), &mut locked(&weights), host, device, &[], batch)?;
        let fields = trained.fields().into_iter().cloned().collect();
        let (host, device, ready) = (host.clone(), device.map(String::from), Mutex::new(vec![(None, Arc::new(trained))]));
        Ok(Predictors { host, config, device, batch, fields, weights, ready })
    }

    /// Data of the run, which read samples as training does.
    pub fn data(&self) -> &DataConfig {
        &self.config.data
    }

    /// Input fields of a sample, as the model was trained.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The model for inputs of the training data's shapes.
    ///
    /// # Errors
    /// As `Predictor::open`, after the device was lost.
    pub fn trained(&self) -> Result<Arc<Predictor>> {
        self.compiled(None)
    }

    /// The model for inputs of these shapes.
    ///
    /// # Errors
    /// `Data` when the model takes no inputs of these shapes, and those of `Predictor::open`.
    pub fn of(&self, shapes: &Shapes) -> Result<Arc<Predictor>> {
        // A row of numbers stands for any shape of as many.
        let of_field = |field: &Field| shapes.iter().find(|(name, _)| *name == field.name).map(|(_, shape)| shape);
        let as_trained = |field: &Field| of_field(field).is_some_and(|shape| *shape == field.shape || *shape == [field.len()]);
        if self.fields.iter().all(as_trained) {
            return self.trained();
        }
        // What else was given is no input of the model.
        let is_field = |name: &str| self.fields.iter().any(|field| field.name == name);
        self.compiled(Some(shapes.iter().filter(|(name, _)| is_field(name)).cloned().collect()))
    }

    fn compiled(&self, shapes: Option<Shapes>) -> Result<Arc<Predictor>> {
        let mut ready = locked(&self.ready);
        if let Some((_, known)) = ready.iter().find(|(known, _)| *known == shapes) {
            return Ok(known.clone());
        }
        let given: Vec<(&str, Vec<usize>)> = shapes.iter().flatten().map(|(name, shape)| (name.as_str(), shape.clone())).collect();
        let weights = &mut locked(&self.weights);
        let model = Predictor::of_weights(self.config.clone(), weights, &self.host, self.device.as_deref(), &given, self.batch)?;
        model.fields().into_iter().try_for_each(|field| expect_shape(field, &given))?;
        if ready.len() == READY
            && let Some(oldest) = ready.iter().position(|(shapes, _)| shapes.is_some())
        {
            ready.remove(oldest);
        }
        let model = Arc::new(model);
        ready.push((shapes, model.clone()));
        Ok(model)
    }

    /// Looks whether the device computes, and opens it again if it was lost before.
    ///
    /// # Errors
    /// `Lost` on device loss, and as `Predictor::open`.
    pub fn try_out(&self) -> Result<()> {
        let tried = self.trained().and_then(|model| model.try_out());
        if let Err(Error::Lost(_)) = tried {
            locked(&self.ready).clear();
        }
        tried
    }

    /// Computes outputs as `Predictor::predict` does, for samples of which the first has this number in messages, and gives the model that
    /// computed them. If the device is lost, it is opened again, and the samples are computed anew.
    ///
    /// # Errors
    /// As `of` and `Predictor::predict`.
    pub fn predict(&self, shapes: &Shapes, first: usize, samples: usize, inputs: &[(&str, &[f32])]) -> Result<(Vec<f32>, Arc<Predictor>)> {
        let mut reopened = 0;
        loop {
            let predicted = self.of(shapes).and_then(|model| Ok((model.predict_from(first, samples, inputs)?, model)));
            match predicted {
                Err(Error::Lost(why)) => {
                    // The device of all of them.
                    locked(&self.ready).clear();
                    reopened += 1;
                    if reopened > REOPENED {
                        return Err(Error::Lost(why));
                    }
                    self.host.note(&format!("{why}. It is opened again, {reopened} of at most {REOPENED} times"));
                }
                ended => return ended,
            }
        }
    }
}

/// Fails on a sample that has the numbers of a field in another shape, or another number of them.
fn expect_shape(field: &Field, given: &[(&str, Vec<usize>)]) -> Result<()> {
    let shape = given.iter().find(|(name, _)| *name == field.name).map(|(_, shape)| shape);
    let Some(shape) = shape.filter(|shape| **shape != field.shape && **shape != [field.len()]) else { return Ok(()) };
    let shorter = if field.below.is_some() && field.shape.len() == 1 {
        ". `engine generate --prompt` continues shorter ones; or fill the end, which no earlier position sees"
    } else {
        ""
    };
    Err(Error::Data(format!("`{}` has shape {shape:?}; {}{shorter}", field.name, field.describe())))
}
