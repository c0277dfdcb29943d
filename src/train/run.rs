//! A run from its configuration to its report: everything that can be refused is looked at before anything is created.

use std::sync::Arc;

use super::checkpoint::{Origin, load_buffers, load_weights};
use super::folder::RunFolder;
use super::report::Report;
use super::rules::{check_epochs, check_metrics};
use super::trainer::{Options, Start, Trainer};
use crate::datasets::{Watched, brief_fingerprint};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::plan::MemoryReport;
use crate::problem::{Loaded, Problem};
use crate::ranks::Ranks;

/// Bytes that a run may allocate on this device.
pub(crate) fn default_budget(gpu: &Gpu) -> u64 {
    (8u64 << 30).min(gpu.free_memory().unwrap_or(u64::MAX))
}

fn over_budget(problem: &Loaded, gpu: &Gpu, report: &MemoryReport, budget: u64, ranks: Ranks) -> Error {
    let roles = report.bytes_by_role.iter().map(|(role, bytes)| format!("\n  {role:<12}{bytes:>16}")).collect::<String>();
    let samples = problem.settings.train.samples();
    // Of the batches that fit, the largest that a step divides into.
    let parts = |most| problem.settings.train.micro_batches(most).map(|part| part * ranks.count);
    let fits = problem.largest_batch(gpu.target, budget).and_then(|most| parts(most).find(|batch| samples.is_multiple_of(*batch)));
    let fit = match fits {
        Some(batch) => {
            let other =
                if problem.loss().columns().compares { ", but the loss, which compares them within a batch, would be another" } else { "" };
            format!(
                "train.batch = {batch} fits; with train.accumulate = {} a step takes the same {samples} samples{other}",
                samples / batch
            )
        }
        None => "even the smallest train.batch does not fit: make the model smaller".to_string(),
    };
    Error::Config(format!(
        "the plan needs {} bytes on {}, the budget is {budget}:{roles}\n{fit}. Let `engine train --fit` choose, or raise --budget",
        report.total_bytes,
        gpu.describe()
    ))
}

/// Fails unless all ranks have the same data files.
fn expect_same_files(problem: &Problem, ranks: Ranks) -> Result<()> {
    if !ranks.shared() {
        return Ok(());
    }
    let files = problem.files.iter().map(|(_, file)| brief_fingerprint(file)).collect::<Result<Vec<_>>>()?;
    match ranks.others(crc32c::crc32c(files.join("\n").as_bytes()).into()) {
        None => Ok(()),
        Some(others) => Err(Error::Data(format!(
            "rank {others} has other data than the other ranks: give all the same files. Rank {} has {}",
            ranks.rank,
            problem
                .files
                .iter()
                .zip(&files)
                .map(|((key, file), of)| format!("{key} {}: {of}", file.display()))
                .collect::<Vec<_>>()
                .join("; ")
        ))),
    }
}

/// Trains. See the module.
///
/// # Errors
/// Those of correctness: every class of `Error`. A run that is refused leaves nothing behind.
pub fn train(mut problem: Problem, options: &Options) -> Result<Report> {
    check_metrics(&problem.settings, &problem.loss().columns(), &problem.card())?;
    let folder = RunFolder::open(&options.out, options.resume)?;
    // The same command goes on with a run that it started.
    let init = options.init.as_ref().filter(|_| !(options.resume && folder.holds_a_run().unwrap_or(false)));
    problem.data.expect_file()?;
    let mut gpu = options.host.open(options.device.as_deref())?;
    let parameters = problem.record_evaluation(gpu.target)?.0.parameters().to_vec();
    let mut origin = Origin { config: problem.toml.clone(), canonical: Some(problem.canonical), ..Origin::default() };
    check_epochs(&problem.settings, problem.data.steps_per_epoch())?;
    let first_save = problem.settings.checkpoint.every.unwrap_or(problem.data.steps_per_epoch());
    let found = if options.resume { folder.find(&parameters, &origin, first_save)? } else { None };
    // A run goes on as it began, or its bits would differ.
    if let Some(found) = &found {
        gpu.target = gpu.tuned(found.checkpoint.tuned.clone());
    }
    let weights = init.map(|path| load_weights(path, &parameters)).transpose()?;
    if let Some(path) = init.or(found.as_ref().map(|f| &f.path)) {
        problem.use_saved_buffers(load_buffers(path, problem.buffers())?);
    }
    let gpu = Arc::new(gpu);
    expect_same_files(&problem, options.ranks)?;
    let mut watched = Watched::new(problem.files.iter().filter(|_| options.ranks.leads()).map(|(_, file)| file.as_path()))?;
    let (mut problem, notes) = problem.load()?;
    let fingerprints = watched.fingerprints()?;
    for (number, (key, _)) in problem.files.iter().enumerate() {
        options.ranks.meet();
        let first = options.ranks.broadcast(fingerprints.get(number).cloned().unwrap_or_default().into_bytes());
        origin.data.insert((*key).into(), String::from_utf8_lossy(&first).into());
    }
    if let Some(found) = &found {
        let lines = origin.differences(&found.checkpoint.origin);
        if !lines.is_empty() {
            return Err(Error::Data(format!(
                "the data are not those that the run was started with:\n  {}\nGive the files of then, or start anew in another folder with --out",
                lines.join("\n  ")
            )));
        }
    }
    // All ranks put the same on their devices.
    let budget = options.ranks.least(options.budget.unwrap_or_else(|| default_budget(&gpu)));
    let report = problem.place(gpu.target, budget)?.report;
    if report.total_bytes > budget {
        return Err(over_budget(&problem, &gpu, &report, budget, options.ranks));
    }
    Trainer::new(options, Start { problem, gpu, folder, origin, watched, found, init: weights, notes })?.run()
}
