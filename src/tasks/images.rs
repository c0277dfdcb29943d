//! Images: what an autoencoder learns to reconstruct, and the latents that it gives.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Data, DataKind, Layout, Loading, Purpose, Source, packed};
use super::epochs::{Sets, SplitKind, fifth, one, random_split};
use super::file_source::FileSource;
use super::scorecard::{Card, ClosingScores, Scorecard};
use crate::batch::{Batch, Field, Fields, Inputs};
use crate::config::{Section, Settings, in_range};
use crate::datasets::images::{ImageData, header, load};
use crate::datasets::matrix::Values;
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::losses::{Columns, Loss};
use crate::metrics::{Column, Metrics};
use crate::plan::Plan;
use crate::random::{Random, stream};
use crate::session::Session;

/// Grey images from an .npz file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// Path of the .npz file; a relative path is looked up in the current folder.
    pub file: PathBuf,
    /// Choice of the validation samples.
    #[serde(default = "random_split")]
    #[schemars(extend("enum" = ["random", "sequential"]))]
    pub split: SplitKind,
    /// Share of the samples for validation.
    #[serde(default = "fifth")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Side of an image in pixels, for estimates while there is no file; the file's own value takes precedence.
    #[serde(default = "side")]
    #[schemars(range(min = 1, max = 1 << 12))]
    pub side: usize,
}

fn side() -> usize {
    64
}

impl Section for ImagesConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")?;
        self.split.without_members()
    }
}

impl ImagesConfig {
    fn images(&self, settings: &Settings, purpose: Purpose) -> Images {
        let sets = Sets::new(&self.file, self.validation_share, self.split, self.seed, &settings.train);
        Images { file: FileSource::new(&self.file, sets, purpose), side: self.side }
    }

    /// The data with these images in place of a file's.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    pub fn holding(&self, settings: &Settings, data: ImageData) -> Result<Box<dyn Data>> {
        Ok(Box::new(self.images(settings, Purpose::Train).holding(data)?))
    }
}

impl DataKind for ImagesConfig {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("data.file", &self.file)]
    }

    fn resize(&mut self) -> Result<()> {
        if self.file.exists() {
            self.side = header(&self.file)?.1;
        }
        Ok(())
    }

    fn on_file(&mut self, file: &Path) -> Result<()> {
        self.file = file.to_path_buf();
        Ok(())
    }

    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>> {
        let mut source = self.images(settings, purpose);
        source.side = source.file.read_header(header)?.unwrap_or(source.side);
        Ok(Box::new(source))
    }

    fn made_up(&self, settings: &Settings, samples: usize, _integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        let (mut random, side) = (Random::new(1, stream::MADE_UP_IMAGES, 0), self.side);
        let pixels = Values::F32((0..samples * side * side).map(|_| random.uniform() as f32).collect());
        self.holding(settings, ImageData { pixels, samples, side })
    }
}

/// Configuration of the images and sizes by the header, before they are read.
#[derive(Debug, Clone)]
struct Images {
    file: FileSource,
    side: usize,
}

impl Images {
    fn holding(mut self, data: ImageData) -> Result<LoadedImages> {
        self.file.take(data.samples)?;
        self.side = data.side;
        Ok(LoadedImages { source: self, data: Arc::new(data) })
    }
}

impl Source for Images {
    fn fields(&self) -> Fields {
        Fields(vec![Field::floats("images", &[self.side, self.side]).within([0.0, 1.0])])
    }

    fn steps_per_epoch(&self) -> u64 {
        self.file.sets.steps()
    }

    fn record(&self, plan: &mut Plan, batch: usize, _layout: Layout) -> Result<Inputs> {
        let name = format!("{}.images", plan.name);
        Ok(Inputs::new(batch).with("images", plan.persistent(Role::Dataset, &name, &[batch, self.side, self.side])?))
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        let columns = loss.columns();
        Card {
            validation_metrics: columns.names.clone(),
            of_samples: vec![],
            table_columns: table_columns(&columns),
            chart: ("mse", vec!["mse"]),
        }
    }

    fn describe(&self) -> Option<String> {
        let images = format!("images of {0} × {0}", self.side);
        Some(self.file.describe(|samples| format!("{samples} {images}"), &images))
    }

    fn expect_file(&self) -> Result<()> {
        let how = "Make one with `engine data linkages --out FILE.npz`, or name yours: data.file in the run file, --data elsewhere";
        self.file.expect(how)
    }

    fn load(self: Box<Self>, _with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        self.expect_file()?;
        let data = load(&self.file.path)?;
        let loaded = self.holding(data)?;
        let Sets { train, validation, .. } = &loaded.source.file.sets;
        let (train, validation, side) = (train.len(), validation.len(), loaded.source.side);
        let note = format!("data        {train} training and {validation} validation images of {side} × {side}");
        Ok((Box::new(loaded), vec![note]))
    }
}

/// Images with their samples loaded.
#[derive(Debug, Clone)]
struct LoadedImages {
    source: Images,
    data: Arc<ImageData>,
}

impl Data for LoadedImages {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn batches(&mut self, step: u64, _layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        let (data, batch) = (self.data.clone(), self.source.file.sets.batch());
        Ok(packed(
            self.source.file.sets.numbers(step),
            &own,
            |numbers| pack(&data, &numbers, batch),
            |numbers| (numbers.len(), numbers.len()),
        ))
    }

    fn scorecard(&self, loss: &dyn Loss, _layout: Layout) -> Box<dyn Scorecard> {
        let Sets { train, validation, .. } = &self.source.file.sets;
        let (data, train, validation) = (self.data.clone(), train.clone(), validation.clone());
        Box::new(ImageScorecard { data, train, validation, mean_image: OnceCell::new(), columns: loss.columns() })
    }
}

/// Packs the images with these numbers into a batch of `batch`; the rest is zeros.
fn pack(data: &ImageData, numbers: &[usize], batch: usize) -> Batch {
    let width = data.side * data.side;
    let mut words = Vec::with_capacity(batch * width);
    numbers.iter().for_each(|i| words.extend((i * width..(i + 1) * width).map(|p| data.pixels.get(p).to_bits())));
    words.resize(batch * width, 0);
    Batch { inputs: vec![("images", words)], rows: numbers.len(), count: numbers.len(), drawn: false }
}

/// Mean squared error of a pixel if the mean training image is taken for each reconstruction (baseline).
fn mean_image(data: &ImageData, train: &[usize], validation: &[usize]) -> f64 {
    let width = data.side * data.side;
    let pixel = |i: usize, p: usize| f64::from(data.pixels.get(i * width + p));
    let mut mean = vec![0.0; width];
    for i in train {
        mean.iter_mut().enumerate().for_each(|(p, m)| *m += pixel(*i, p) / train.len() as f64);
    }
    let squares = |i: &usize| mean.iter().enumerate().map(|(p, m)| (pixel(*i, p) - m).powi(2)).sum::<f64>();
    validation.iter().map(squares).sum::<f64>() / (validation.len() * width) as f64
}

/// Columns of the tables of metrics.
fn table_columns(columns: &Columns) -> Vec<Column> {
    let all = [
        Column::new("mse", "pixel MSE", Some(5)),
        Column::new("divergence", "divergence", Some(4)),
        Column::new("loss", "loss", Some(3)),
        Column::new("cosine", "cosine", Some(4)),
    ];
    all.into_iter().filter(|c| columns.names.contains(&c.name)).collect()
}

/// Scorecard of autoencoders of images.
#[derive(Debug)]
pub struct ImageScorecard {
    data: Arc<ImageData>,
    train: Vec<usize>,
    validation: Vec<usize>,
    /// Mean squared error of a pixel for the mean training image, once it has been computed.
    mean_image: OnceCell<f64>,
    columns: Columns,
}

impl ImageScorecard {
    fn mean_image(&self) -> f64 {
        *self.mean_image.get_or_init(|| mean_image(&self.data, &self.train, &self.validation))
    }

    /// Number of images in the file.
    pub fn samples(&self) -> usize {
        self.data.samples
    }

    /// Latents μ of all images of the file, shape (samples, latents), and the number of latents of an image.
    ///
    /// # Errors
    /// `Config` when the model has no posterior, `TryAgain` on device loss.
    pub fn encode(&self, session: &Session, told: impl Fn(usize)) -> Result<(Vec<f32>, usize)> {
        let (program, io) = session.evaluation();
        let posterior = io.other("posterior").ok_or_else(|| Error::Config("this model has no latents to encode images to".into()))?;
        let (batch, width) = (session.batch(), program.plan.len(posterior) / session.batch());
        let mut out = Vec::with_capacity(self.data.samples * width / 2);
        let numbers: Vec<usize> = (0..self.data.samples).collect();
        for chunk in numbers.chunks(batch) {
            let values = session.evaluated(&pack(&self.data, chunk, batch), posterior)?;
            values.chunks(width).take(chunk.len()).for_each(|row| out.extend(&row[..width / 2]));
            told(chunk.len());
        }
        Ok((out, width / 2))
    }
}

impl Scorecard for ImageScorecard {
    /// Evaluates reconstructions from μ.
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        let batch = session.batch();
        session.means(&self.columns, self.validation.chunks(batch).map(|numbers| Ok(pack(&self.data, numbers, batch))))
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        vec![("mean image", Metrics::new([("mse", self.mean_image())]))]
    }

    fn closing_scores(&self, session: &Session, step: u64) -> Result<ClosingScores> {
        let mine = self.validate(session, step, 1)?;
        let ratio = mine.get("mse").unwrap_or(f64::NAN) / self.mean_image();
        let baselines = self.baselines().into_iter().map(|(name, mean)| (name.to_string(), mean)).collect();
        let notes = vec![format!("Of the variance of a pixel {:.1} % is explained.", 100.0 * (1.0 - ratio))];
        Ok(ClosingScores::beside(vec![("this model".into(), mine)], baselines, &table_columns(&self.columns), notes))
    }
}
