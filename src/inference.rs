//! What a prediction of a model costs.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::plan::Program;
use crate::problem::Problem;

/// Time and memory of forward passes whose inputs and outputs stay on the device.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Inference {
    /// Median time of one sample alone in seconds, including submission and wait.
    pub seconds_of_1: f64,
    /// Median time of 64 samples at once in seconds.
    pub seconds_of_64: f64,
    /// Memory on the device for 64 samples, in bytes.
    pub bytes: u64,
}

/// Largest number of rounds, and seconds after which no further one begins.
const ROUNDS: usize = 50;
const SECONDS: f64 = 1.0;

/// Measures on a device, with weights of zero, which do not change the time.
///
/// # Errors
/// Errors of recording the plan, of placing it on the device and of running it.
pub fn measure(problem: &Problem, gpu: &Arc<Gpu>) -> Result<Inference> {
    let of = |batch: usize| {
        let (plan, _) = problem.record_prediction(gpu.target, batch)?;
        let (program, memory) = Program::alone(plan, gpu)?;
        let round = || {
            let start = Instant::now();
            program.run(program.all())?;
            Ok(start.elapsed().as_secs_f64())
        };
        // The first ones wake the device.
        (0..3).try_for_each(|_| round().map(drop))?;
        let (started, mut times) = (Instant::now(), Vec::new());
        while times.len() < ROUNDS && (times.len() < 3 || started.elapsed().as_secs_f64() < SECONDS) {
            times.push(round()?);
        }
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], memory.report.total_bytes))
    };
    let (seconds_of_1, _) = of(1)?;
    let (seconds_of_64, bytes) = of(64)?;
    Ok(Inference { seconds_of_1, seconds_of_64, bytes })
}
