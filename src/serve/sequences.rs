//! Sequences that a run continues: one after another, number by number.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::generate::{Decoder, Strategy, memory};
use crate::gpu::Target;
use crate::host::Host;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::Purpose;
use crate::train::Weights;

/// Times that a lost device is opened again for one sequence.
const REOPENED: usize = 3;

/// A sequence that is asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) count: usize,
    pub(super) strategy: Strategy,
    /// Where the numbers go, one by one; it ends after the last. A slow reader keeps nobody waiting.
    pub(super) numbers: mpsc::UnboundedSender<Result<u32>>,
}

/// What makes decoders of a run.
#[derive(Debug)]
pub(super) struct Sequences {
    host: Host,
    config: Config,
    device: Option<String>,
    weights: Arc<Mutex<Weights>>,
    /// Decoders that are compiled, by their number of beams: that of one sequence, and the newest of another width.
    ready: Vec<(usize, Decoder)>,
}

impl Sequences {
    /// Those of a run with these weights; none if its model does not continue sequences.
    ///
    /// # Errors
    /// As `Decoder::new`.
    pub(super) fn open(host: &Host, config: Config, weights: Arc<Mutex<Weights>>, device: Option<&str>) -> Result<Option<Sequences>> {
        match memory(&Problem::open(&config, Purpose::Generate)?, Target::default(), 1) {
            Err(Error::Config(_)) => return Ok(None),
            known => known.map(drop)?,
        }
        let mut sequences = Sequences { host: host.clone(), config, device: device.map(String::from), weights, ready: vec![] };
        sequences.decoder(1)?;
        Ok(Some(sequences))
    }

    fn decoder(&mut self, width: usize) -> Result<&mut Decoder> {
        let at = match self.ready.iter().position(|(known, _)| *known == width) {
            Some(at) => at,
            None => {
                let gpu = Arc::new(self.host.open(self.device.as_deref())?);
                let decoder = Decoder::new(&Problem::open(&self.config, Purpose::Generate)?, &gpu, width)?;
                let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
                decoder.load(&weights.load(decoder.plan().parameters())?)?;
                drop(weights);
                self.ready.retain(|(known, _)| *known == 1);
                self.ready.push((width, decoder));
                self.ready.len() - 1
            }
        };
        Ok(&mut self.ready[at].1)
    }

    /// Continues what comes through the queue, until nobody can ask any more.
    pub(super) fn work(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            if let Err(error) = self.continue_one(&job) {
                // Who has gone needs none.
                let _ = job.numbers.send(Err(error));
            }
        }
    }

    /// Continues one sequence. If the device is lost it is opened again: the same numbers come, and those that were sent are left out.
    fn continue_one(&mut self, job: &Job) -> Result<()> {
        let width = if let Strategy::Beam(width) = job.strategy { width } else { 1 };
        let (mut sent, mut reopened) = (0, 0);
        loop {
            let mut at = 0;
            let generated = self.decoder(width).and_then(|decoder| {
                let mut send = |number: u32| {
                    at += 1;
                    let new = at > sent;
                    sent = sent.max(at);
                    if new { job.numbers.send(Ok(number)).is_ok() } else { !job.numbers.is_closed() }
                };
                // Those of a beam search are known at its end.
                if let Strategy::Beam(_) = job.strategy {
                    let numbers = decoder.generate(&job.prompt, job.count, job.strategy)?;
                    numbers.into_iter().all(send);
                    return Ok(());
                }
                decoder.stream(std::slice::from_ref(&job.prompt), job.count, job.strategy, |newest| Ok(newest[0].is_none_or(&mut send)))
            });
            match generated {
                Err(Error::Lost(why)) if reopened < REOPENED => {
                    self.ready.clear();
                    reopened += 1;
                    self.host.note(&format!("{why}. It is opened again, {reopened} of at most {REOPENED} times"));
                }
                ended => return ended,
            }
        }
    }
}
