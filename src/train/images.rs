//! Images: a variational autoencoder, and the latents that it gives.

use std::cell::OnceCell;

use super::session::Session;
use super::task::{Column, Io, Judgement, Metrics, MicroBatch, Sets, Task, sum_results};
use crate::config::{Config, DataConfig, ImagesConfig};
use crate::datasets::images::{ImageData, header, load};
use crate::datasets::npz::Values;
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::losses::{LossConfig, VaeLossConfig};
use crate::models::{ImageVaeConfig, ModelConfig};
use crate::plan::{Plan, Tensor};
use crate::random::Random;

/// Stream of made-up images.
const MADE_UP: u32 = 33;

/// The task of an image VAE.
#[derive(Debug)]
pub struct ImageTask {
    config: Config,
    model: ImageVaeConfig,
    source: ImagesConfig,
    loss: VaeLossConfig,
    side: usize,
    data: Option<ImageData>,
    sets: Sets,
    /// Squared error of a pixel when the mean training image is the reconstruction, once it was asked for.
    mean_image: OnceCell<f64>,
}

impl ImageTask {
    /// The task of a configuration, with the sizes of its file where there is one.
    ///
    /// # Errors
    /// `Config` when it is of another kind, `Data` when the file cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let (ModelConfig::ImageVae(model), DataConfig::Images(source), LossConfig::Vae(loss)) = (&config.model, &config.data, &config.loss)
        else {
            return Err(Error::Config("this needs a run of data.kind = \"images\"".into()));
        };
        let mut task = ImageTask {
            config: config.clone(),
            model: model.clone(),
            source: source.clone(),
            loss: loss.clone(),
            side: source.side,
            data: None,
            sets: Sets::new(&source.file, source.validation_share, source.split, source.seed, &config.train),
            mean_image: OnceCell::new(),
        };
        if source.file.exists() {
            let (samples, side) = header(&source.file)?;
            task.sets.expect(samples);
            task.side = side;
        }
        Ok(task)
    }

    /// The task with made-up images.
    ///
    /// # Errors
    /// As `take`.
    pub fn random(config: &Config, samples: usize) -> Result<Self> {
        let mut task = ImageTask::new(config)?;
        let mut random = Random::new(1, MADE_UP, 0);
        let side = task.source.side;
        let pixels = Values::F32((0..samples * side * side).map(|_| random.uniform() as f32).collect());
        task.take(ImageData { pixels, samples, side })?;
        Ok(task)
    }

    /// The task with these images instead of the file's.
    ///
    /// # Errors
    /// `Data` when a batch cannot be filled.
    pub fn take(&mut self, data: ImageData) -> Result<()> {
        self.sets.take(data.samples)?;
        self.side = data.side;
        self.mean_image = OnceCell::new();
        self.data = Some(data);
        Ok(())
    }

    /// The task of all images of a file, none of which trains.
    pub fn whole(mut self) -> Self {
        self.sets.whole = true;
        self
    }

    /// Images of the file.
    ///
    /// # Errors
    /// `Internal` before `load`.
    pub fn samples(&self) -> Result<usize> {
        Ok(self.data()?.samples)
    }

    fn data(&self) -> Result<&ImageData> {
        self.data.as_ref().ok_or_else(|| Error::Internal("the data set is not loaded".into()))
    }

    /// Squared error of a pixel when the mean training image is the reconstruction; NaN before `load`.
    fn mean_image(&self) -> f64 {
        let Some(data) = &self.data else { return f64::NAN };
        *self.mean_image.get_or_init(|| {
            let width = data.side * data.side;
            let pixel = |i: usize, p: usize| f64::from(data.pixels.get(i * width + p));
            let mut mean = vec![0.0; width];
            for i in &self.sets.train {
                mean.iter_mut().enumerate().for_each(|(p, m)| *m += pixel(*i, p) / self.sets.train.len() as f64);
            }
            let squares = |i: &usize| mean.iter().enumerate().map(|(p, m)| (pixel(*i, p) - m).powi(2)).sum::<f64>();
            self.sets.validation.iter().map(squares).sum::<f64>() / (self.sets.validation.len() * width) as f64
        })
    }

    fn micro_batch(&self, numbers: &[usize], batch: usize) -> Result<MicroBatch> {
        let (data, width) = (self.data()?, self.side * self.side);
        let mut words = Vec::with_capacity(batch * width);
        numbers.iter().for_each(|i| words.extend((i * width..(i + 1) * width).map(|p| data.pixels.get(p).to_bits())));
        words.resize(batch * width, 0);
        Ok(MicroBatch { inputs: vec![words], rows: numbers.len(), count: numbers.len(), cycle: false })
    }

    /// Means over images, reconstructed from μ.
    fn evaluate(&self, session: &Session, numbers: &[usize]) -> Result<Metrics> {
        let columns = self.columns();
        let mut sums = vec![0.0; columns.len()];
        for chunk in numbers.chunks(session.evaluate.1.batch) {
            for row in session.evaluate_rows(&self.micro_batch(chunk, session.evaluate.1.batch)?)? {
                sums.iter_mut().zip(&row).for_each(|(s, v)| *s += f64::from(*v));
            }
        }
        Ok(Metrics::new(columns.into_iter().zip(sums.into_iter().map(|s| s / numbers.len() as f64))))
    }

    /// Latents μ of all images of the file, (samples, latents).
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn encode(&self, session: &Session, told: impl Fn(usize)) -> Result<(Vec<f32>, usize)> {
        let (samples, latents, batch) = (self.data()?.samples, self.model.latents, session.evaluate.1.batch);
        let mut out = Vec::with_capacity(samples * latents);
        let numbers: Vec<usize> = (0..samples).collect();
        for chunk in numbers.chunks(batch) {
            let posterior = session.outputs(&self.micro_batch(chunk, batch)?)?;
            posterior.chunks(2 * latents).take(chunk.len()).for_each(|row| out.extend(&row[..latents]));
            told(chunk.len());
        }
        Ok((out, latents))
    }
}

impl Task for ImageTask {
    fn columns(&self) -> Vec<&'static str> {
        self.loss.columns().to_vec()
    }

    fn shown(&self) -> Vec<Column> {
        let column = |name, title, digits| Column { name, title, digits };
        let all = [
            column("mse", "pixel MSE", Some(5)),
            column("divergence", "divergence", Some(4)),
            column("loss", "loss", Some(3)),
            column("cosine", "cosine", Some(4)),
        ];
        all.into_iter().filter(|c| self.columns().contains(&c.name)).collect()
    }

    fn chart(&self) -> (&'static str, Vec<&'static str>) {
        ("mse", vec!["mse"])
    }

    fn sized(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let DataConfig::Images(d) = &mut config.data {
            d.side = self.side;
        }
        config
    }

    fn record(&self, plan: &mut Plan, batch: usize, records: Option<Tensor>) -> Result<Io> {
        let (pixels, training) = (self.side * self.side, records.is_some());
        let name = format!("{}.images", plan.name);
        let x = plan.persistent(Role::Dataset, &name, &[batch, pixels])?;
        let mut model = self.model.build(batch, self.side, training)?;
        let (posterior, reconstruction) = model.forward(plan, x)?;
        let (y, dx) = self.loss.record(plan, reconstruction, x, posterior, training)?;
        if let Some(records) = records {
            sum_results(plan, y, records)?;
            model.backward(plan, dx.ok_or_else(|| Error::Internal("no gradient of the loss".into()))?, self.loss.divergence)?;
        }
        let state = crate::kernels::state(plan)?;
        Ok(Io { state, inputs: vec![x], records, output: posterior, rows: y, batch })
    }

    fn evaluation_batch(&self) -> usize {
        self.config.train.batch
    }

    fn steps_per_epoch(&self) -> u64 {
        self.sets.steps()
    }

    fn load(&mut self) -> Result<Vec<String>> {
        if self.data.is_some() {
            return Ok(vec![]);
        }
        let file = self.source.file.clone();
        if !file.exists() {
            return Err(Error::MissingInput(format!(
                "no data file {}. Make one with `engine data linkages --out FILE.npz`, or name yours: data.file in \
                 the run file, --data elsewhere",
                file.display()
            )));
        }
        self.take(load(&file)?)?;
        let (train, validation, side) = (self.sets.train.len(), self.sets.validation.len(), self.side);
        Ok(vec![format!("data        {train} training and {validation} validation images of {side} × {side}")])
    }

    fn batches(&mut self, step: u64) -> Result<Vec<MicroBatch>> {
        let micro = self.sets.numbers(step);
        micro.into_iter().map(|numbers| self.micro_batch(&numbers, self.config.train.batch)).collect()
    }

    fn validate(&self, session: &Session, _number: u64) -> Result<Metrics> {
        self.evaluate(session, &self.sets.validation)
    }

    fn baseline(&self) -> (&'static str, Metrics) {
        ("mean image", Metrics::new([("mse", self.mean_image())]))
    }

    fn judge(&self, session: &Session, _step: u64) -> Result<Judgement> {
        let mine = self.evaluate(session, &self.sets.validation)?;
        let ratio = mine.get("mse").unwrap_or(f64::NAN) / self.mean_image();
        let (name, mean) = self.baseline();
        let notes = vec![format!("Of the variance of a pixel {:.1} % is explained.", 100.0 * (1.0 - ratio))];
        Ok(Judgement::beside(vec![("this model".into(), mine)], vec![(name.into(), mean)], &self.shown(), notes))
    }
}
