//! Predictions of a run: its requests wait in a queue, and those of equal shapes are computed together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::meters::Meters;
use crate::error::{Error, Result};
use crate::predict::{Predictor, Predictors, Shapes};

/// Time after which a device that does not open is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Samples of a request, all of the same shapes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) shapes: Shapes,
    pub(super) samples: usize,
    /// Values of each input, sample after sample.
    pub(super) inputs: Vec<(String, Vec<f32>)>,
    /// Where the outputs go, or why there are none.
    pub(super) reply: oneshot::Sender<Result<Predicted>>,
}

/// Outputs of the samples of a job, and the model that gave them.
#[derive(Debug)]
pub(super) struct Predicted {
    pub(super) outputs: Vec<f32>,
    pub(super) model: Arc<Predictor>,
}

/// Computes what comes through the queue, until nobody can ask any more. Whoever has gone meanwhile is left out.
pub(super) fn work(models: &Predictors, name: &str, batch: usize, mut queue: mpsc::Receiver<Job>, ready: &AtomicBool, meters: &Meters) {
    let mut next: Option<Job> = None;
    while let Some(first) = next.take().or_else(|| coming(&mut queue, models, ready)) {
        let mut jobs = vec![first];
        let mut samples = jobs[0].samples;
        // No waiting: what has queued meanwhile, up to a batch, in the order in which it came.
        while samples < batch
            && let Ok(job) = queue.try_recv()
        {
            if job.shapes != jobs[0].shapes || samples + job.samples > batch {
                next = Some(job);
                break;
            }
            samples += job.samples;
            jobs.push(job);
        }
        jobs.retain(|job| !job.reply.is_closed());
        if jobs.is_empty() {
            continue;
        }
        meters.computed(name, jobs.iter().map(|job| job.samples).sum());
        let worked = answer(models, jobs);
        if !worked {
            meters.reopened.inc();
        }
        ready.store(worked, Ordering::Relaxed);
    }
}

/// The next job, if there will be one. While the device does not compute, it is looked after between the jobs.
fn coming(queue: &mut mpsc::Receiver<Job>, models: &Predictors, ready: &AtomicBool) -> Option<Job> {
    while !ready.load(Ordering::Relaxed) {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if models.try_out().is_ok() => ready.store(true, Ordering::Relaxed),
            Err(TryRecvError::Empty) => std::thread::sleep(AGAIN),
        }
    }
    queue.blocking_recv()
}

/// Answers jobs of equal shapes; gives false if the device did not compute them.
fn answer(models: &Predictors, jobs: Vec<Job>) -> bool {
    match together(models, &jobs) {
        Ok((outputs, model)) => {
            let all: usize = jobs.iter().map(|job| job.samples).sum();
            let len = outputs.len() / all.max(1);
            let mut at = 0;
            for job in jobs {
                let part = outputs[at..at + job.samples * len].to_vec();
                at += job.samples * len;
                // Who has gone needs none.
                let _ = job.reply.send(Ok(Predicted { outputs: part, model: model.clone() }));
            }
            true
        }
        // One of them is wrong, which is nothing to the others.
        Err(Error::Data(_)) if jobs.len() > 1 && models.of(&jobs[0].shapes).is_ok() => {
            jobs.into_iter().map(|job| answer(models, vec![job])).filter(|worked| !worked).count() == 0
        }
        Err(error) => {
            let worked = matches!(error, Error::Data(_) | Error::Config(_));
            for job in jobs {
                let _ = job.reply.send(Err(error.clone()));
            }
            worked
        }
    }
}

/// Outputs of all samples of these jobs.
fn together(models: &Predictors, jobs: &[Job]) -> Result<(Vec<f32>, Arc<Predictor>)> {
    let (first, samples) = (&jobs[0], jobs.iter().map(|job| job.samples).sum());
    if let [job] = jobs {
        let inputs: Vec<(&str, &[f32])> = job.inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect();
        return models.predict(&job.shapes, 0, samples, &inputs);
    }
    // Equal shapes are of the same inputs in the same order.
    let joined: Vec<(&str, Vec<f32>)> = first
        .inputs
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name.as_str(), jobs.iter().flat_map(|job| &job.inputs[at].1).copied().collect()))
        .collect();
    let inputs: Vec<(&str, &[f32])> = joined.iter().map(|(name, values)| (*name, values.as_slice())).collect();
    models.predict(&first.shapes, 0, samples, &inputs)
}
