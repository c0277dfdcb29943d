//! A run from its configuration to its report: everything that can be refused is looked at before anything is created.

use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::{Origin, Weights};
use super::folder::RunFolder;
use super::report::Report;
use super::rules::{check_epochs, check_metrics};
use super::trainer::{Options, Start, Trainer};
use crate::datasets::{Watched, brief_fingerprint};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::plan::MemoryReport;
use crate::problem::{Problem, default_budget};
use crate::ranks::Ranks;
use crate::tasks::Source;

fn over_budget<D: Source + ?Sized>(problem: &Problem<D>, gpu: &Gpu, report: &MemoryReport, budget: u64, ranks: Ranks) -> Error {
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

/// Looks at what can be refused before any sample is read: metrics that rules name, files and their sizes, epochs, the run folder, weights to start from, memory.
///
/// # Errors
/// Those with which `train` would refuse the run.
pub(super) fn expect_startable(mut problem: Problem, gpu: &Gpu, options: &Options) -> Result<()> {
    problem.data.expect_file()?;
    expect_rules(&problem)?;
    let folder = RunFolder::open(&options.out, options.resume)?;
    if let Some(path) = init_of(options, &folder) {
        Weights::open(path)?.load(problem.record_evaluation(gpu.target)?.0.parameters())?;
    }
    place(&mut problem, gpu, options.budget.unwrap_or_else(|| default_budget(gpu)), options.ranks)
}

/// The weights that a run starts from. The same command goes on with a run that it started, and then leaves them aside.
fn init_of<'o>(options: &'o Options, folder: &RunFolder) -> Option<&'o PathBuf> {
    options.init.as_ref().filter(|_| !(options.resume && folder.holds_a_run().unwrap_or(false)))
}

/// Fails on rules and expectations that would never be looked at.
///
/// # Errors
/// `Config`.
pub(crate) fn expect_rules(problem: &Problem) -> Result<()> {
    check_metrics(&problem.settings, &problem.loss().columns(), &problem.card())?;
    check_epochs(&problem.settings, problem.data.steps_per_epoch())
}

/// Decides what lies on the device.
fn place<D: Source + ?Sized>(problem: &mut Problem<D>, gpu: &Gpu, budget: u64, ranks: Ranks) -> Result<()> {
    let report = problem.place(gpu.target, budget)?.report;
    if report.total_bytes > budget { Err(over_budget(problem, gpu, &report, budget, ranks)) } else { Ok(()) }
}

/// Trains. See the module.
///
/// # Errors
/// Those of correctness: every class of `Error`. A run that is refused leaves nothing behind.
pub fn train(mut problem: Problem, options: &Options) -> Result<Report> {
    let folder = RunFolder::open(&options.out, options.resume)?;
    let init = init_of(options, &folder);
    problem.data.expect_file()?;
    expect_rules(&problem)?;
    let mut gpu = options.host.open(options.device.as_deref())?;
    let parameters = problem.record_evaluation(gpu.target)?.0.parameters().to_vec();
    let mut origin = Origin { config: problem.toml.clone(), canonical: Some(problem.canonical), ..Origin::default() };
    let first_save = problem.settings.checkpoint.every.unwrap_or(problem.data.steps_per_epoch());
    let found = if options.resume { folder.find(&parameters, &origin, first_save)? } else { None };
    // A run goes on as it began, or its bits would differ.
    if let Some(found) = &found {
        gpu.target = gpu.tuned(found.checkpoint.tuned.clone());
    }
    let weights = init.map(|path| Weights::open(path)?.load(&parameters)).transpose()?;
    if let Some(path) = init.or(found.as_ref().map(|f| &f.path)) {
        problem.use_saved_buffers(Weights::open(path)?.buffers(problem.buffers())?);
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
    place(&mut problem, &gpu, budget, options.ranks)?;
    Trainer::new(options, Start { problem, gpu, folder, origin, watched, found, init: weights, notes })?.run()
}
