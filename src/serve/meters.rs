//! What the server counts, in Prometheus' text format.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::{Error, Result};

/// Names and values that a series of numbers is known by.
type Labels = Vec<(&'static str, String)>;

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Meters {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    batches: Family<Labels, Histogram, fn() -> Histogram>,
    sequences: Family<Labels, Histogram, fn() -> Histogram>,
    queued: Family<Labels, Gauge>,
    pub(super) connections: Gauge<i64, std::sync::atomic::AtomicI64>,
    pub(super) reopened: Counter<u64, AtomicU64>,
}

impl Meters {
    pub(super) fn new() -> Meters {
        // From a millisecond to 33 s, and from one sample to 1,024.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(1e-3, 2.0, 16));
        let batches: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 11));
        let mut meters = Meters {
            registry: Registry::with_prefix("engine"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            batches: Family::new_with_constructor(batches),
            sequences: Family::new_with_constructor(batches),
            queued: Family::default(),
            connections: Gauge::default(),
            reopened: Counter::default(),
        };
        let registry = &mut meters.registry;
        registry.register("requests", "Requests that were answered, by path and status", meters.requests.clone());
        registry.register("request_seconds", "Seconds from a request's head to that of its answer", meters.seconds.clone());
        registry.register("batch_samples", "Samples that were computed together", meters.batches.clone());
        registry.register("batch_sequences", "Sequences that were begun together", meters.sequences.clone());
        registry.register("queued", "Requests that wait for a run", meters.queued.clone());
        registry.register("connections", "Open connections", meters.connections.clone());
        registry.register("failed_batches", "Batches that the device did not compute", meters.reopened.clone());
        meters
    }

    /// Counts an answer.
    pub(super) fn answered(&self, path: &str, status: u16, seconds: f64) {
        self.requests.get_or_create(&vec![("path", path.into()), ("status", status.to_string())]).inc();
        self.seconds.get_or_create(&vec![("path", path.into())]).observe(seconds);
    }

    /// Counts a batch.
    pub(super) fn computed(&self, run: &str, samples: usize) {
        self.batches.get_or_create(&vec![("run", run.into())]).observe(samples as f64);
    }

    /// Counts sequences that are begun together.
    pub(super) fn continued(&self, run: &str, sequences: usize) {
        self.sequences.get_or_create(&vec![("run", run.into())]).observe(sequences as f64);
    }

    /// All series, after those who wait have been counted: run, what for, and number.
    pub(super) fn text(&self, queued: impl Iterator<Item = (String, &'static str, usize)>) -> Result<String> {
        for (run, what, count) in queued {
            self.queued.get_or_create(&vec![("run", run), ("for", what.into())]).set(count as i64);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|e| Error::Internal(format!("metrics: {e}")))?;
        Ok(text)
    }
}
