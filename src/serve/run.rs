//! A run that is served: what it takes and gives, and the queues of those who ask it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc::{self, Sender};

use super::meters::Meters;
use super::sequences::Sequences;
use super::{batches, sequences};
use crate::batch::Field;
use crate::datasets::tokenizer::Tokenizer;
use crate::error::{Error, Failure, Result};
use crate::host::Host;
use crate::predict::Predictors;
use crate::registry::Config;
use crate::tasks::DataKind;
use crate::train::Weights;

/// A trained run with its programs.
#[derive(Debug)]
pub(crate) struct Run {
    name: String,
    models: Arc<Predictors>,
    sequences: Option<Sequences>,
    about: About,
}

/// What a run is, takes and gives.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct About {
    /// Name of the run in paths.
    name: String,
    /// File of its weights.
    weights: String,
    /// Updates before these weights, if the file says it.
    step: Option<u64>,
    /// Samples that are computed together at most.
    batch: usize,
    /// Inputs of a sample.
    takes: Vec<Takes>,
    /// The prediction for a sample.
    gives: Gives,
    /// True if the run continues sequences, by `generate`.
    generates: bool,
    /// True if it continues texts, and no numbers.
    text: bool,
}

/// An input.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Takes {
    /// Its name in JSON and in an .npz.
    name: String,
    /// Length of each axis for one sample, as the model was trained.
    shape: Vec<usize>,
    /// Upper bound (exclusive), if they are integers; floating-point numbers have none.
    integers_below: Option<usize>,
    /// Least and largest value, where the data have limits.
    limits: Option<[f32; 2]>,
    /// Words that stand for the integers in JSON.
    words: Vec<String>,
    /// Columns of a table that it is made of, whose names JSON may have instead.
    columns: Vec<String>,
}

impl Takes {
    fn of(field: &Field, data: &impl DataKind) -> Takes {
        let Field { name, shape, below, limits, words, .. } = field.clone();
        Takes { name: name.into(), shape, integers_below: below, limits, words, columns: data.columns(name) }
    }
}

/// A prediction.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Gives {
    /// Its name in JSON: `output`, in the unit of the data, or `prediction`, the most probable class of each row.
    name: String,
    /// Length of each axis for one sample.
    shape: Vec<usize>,
    /// Number of classes, if the model tells classes apart.
    classes: Option<usize>,
    /// Words of the classes.
    words: Vec<String>,
    /// Names of the numbers of an output, where the data have names for them.
    names: Vec<String>,
}

impl Run {
    /// Opens a run by its configuration and these weights, and compiles its model.
    ///
    /// # Errors
    /// As `Predictors::open`.
    pub(crate) fn open(host: &Host, name: String, config: Config, weights: Weights, device: Option<&str>, batch: usize) -> Result<Run> {
        let file = weights.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (step, weights) = (weights.step(), Arc::new(Mutex::new(weights)));
        let models = Arc::new(Predictors::open(host, config.clone(), weights.clone(), device, batch)?);
        let sequences = Sequences::open(host, config, weights, device)?;
        let model = models.trained()?;
        let (shape, classes) = (model.shape().to_vec(), model.classes());
        let gives = match classes {
            None => Gives { name: "output".into(), names: models.data().answers(shape.iter().product()), shape, classes, words: vec![] },
            Some(_) => {
                let rows = shape[..shape.len() - 1].to_vec();
                Gives { name: "prediction".into(), names: vec![], shape: rows, classes, words: model.words().to_vec() }
            }
        };
        let takes = models.fields().iter().map(|field| Takes::of(field, models.data())).collect();
        let text = sequences.as_ref().is_some_and(|sequences| sequences.tokenizer().is_some());
        let about = About { name: name.clone(), weights: file, step, batch, takes, gives, generates: sequences.is_some(), text };
        Ok(Run { name, models, sequences, about })
    }

    /// Starts the threads that compute for the run. They end when what is given, in which others ask, is no more.
    pub(super) fn start(self, queue: usize, meters: &Arc<Meters>) -> Result<(Served, Vec<JoinHandle<()>>)> {
        let Run { name, models, sequences, about } = self;
        let (predictions, asked) = mpsc::channel(queue);
        let ready = Arc::new(AtomicBool::new(true));
        let (of_thread, is_ready, batch) = (models.clone(), ready.clone(), about.batch);
        let mut threads = vec![thread(&name, {
            let (name, meters) = (name.clone(), meters.clone());
            move || batches::work(&of_thread, &name, batch, asked, &is_ready, &meters)
        })?];
        let tokenizer = sequences.as_ref().and_then(Sequences::tokenizer);
        let sequences = match sequences {
            None => None,
            Some(sequences) => {
                let (prompts, asked) = mpsc::channel(queue);
                threads.push(thread(&name, {
                    let (name, meters) = (name.clone(), meters.clone());
                    move || sequences.work(&name, asked, &meters)
                })?);
                Some(prompts)
            }
        };
        Ok((Served { name, models, about, predictions, sequences, tokenizer, ready }, threads))
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let failed = |e: std::io::Error| Error::Io(Failure::new(format!("the system refuses another thread: {e}"), e));
    Builder::new().name(name.into()).spawn(work).map_err(failed)
}

/// A run that is being served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) name: String,
    pub(super) models: Arc<Predictors>,
    pub(super) about: About,
    /// Queue of the predictions.
    pub(super) predictions: Sender<batches::Job>,
    /// Queue of the sequences, if the run continues any.
    pub(super) sequences: Option<Sender<sequences::Job>>,
    /// Tokenizer of prompts that are texts.
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
    ready: Arc<AtomicBool>,
}

impl Served {
    /// True if its device has computed the last batch.
    pub(super) fn is_ready(&self) -> bool {
        let ended = self.predictions.is_closed() || self.sequences.as_ref().is_some_and(Sender::is_closed);
        self.ready.load(Ordering::Relaxed) && !ended
    }

    /// Who waits, by what for.
    pub(super) fn queued(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        let predictions = ("predict", self.predictions.max_capacity() - self.predictions.capacity());
        let sequences = self.sequences.iter().map(|queue| ("generate", queue.max_capacity() - queue.capacity()));
        [predictions].into_iter().chain(sequences)
    }
}
