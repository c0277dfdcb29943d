//! The start of a run: all that can be refused is looked at before anything is created, and what a run goes on from is taken up.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::base;
use super::checkpoint::{Found, Origin, Progress, Weights};
use super::folder::{DIVERGED, RunFolder};
use super::judge::Judge;
use super::notes::Notes;
use super::options::Options;
use super::report::Report;
use super::rhythm::Rhythm;
use super::rules::{check_epochs, check_metrics};
use super::trainer::{Trainer, checkpoint_of, tuned, variants};
use crate::datasets::{Watched, brief_fingerprint};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Role};
use crate::kernels::loss_scale::INITIAL;
use crate::metrics::{COLUMNS, INDENT, byte_unit, bytes, folded};
use crate::plan::{Exchange, Flat, MemoryReport, counted, flat_len};
use crate::problem::{Loaded, Problem};
use crate::ranks::Ranks;
use crate::session::{Carried, Placed, Session};
use crate::tasks::DataState;

fn over_budget<D: DataState + ?Sized>(problem: &Problem<D>, gpu: &Gpu, report: &MemoryReport, budget: u64, ranks: Ranks) -> Error {
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
                "train.batch = {batch} fits; with train.accumulate = {} a step takes the same {samples} samples{other}. Let `engine train --fit` choose, or raise --budget",
                samples / batch
            )
        }
        None => "even the smallest train.batch does not fit: make the model smaller, or raise --budget".to_string(),
    };
    let needed = report.total_bytes;
    let message = format!("the plan needs {needed} bytes on {}, the budget is {budget}:{roles}\n{fit}", gpu.describe());
    Error::OverBudget { needed, budget, message }
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

/// Checks all that can be checked before any sample is read: metrics of rules, files and their sizes, epochs, run folder, initial weights,
/// memory.
///
/// # Errors
/// Errors with which `train` would refuse to start.
pub(super) fn expect_startable(mut problem: Problem, gpu: &Gpu, options: &Options) -> Result<()> {
    problem.source().expect_file()?;
    expect_rules(&problem)?;
    let folder = RunFolder::open(&options.out, options.resume)?;
    match init_of(options, &folder) {
        Some(path) => {
            let plan = problem.record_evaluation(gpu.target)?.0;
            Weights::open_for(path, problem.hugging_face())?.load(plan.of_model())?;
        }
        None if problem.settings.adapt.is_some() && !(options.resume && folder.holds_a_run()?) => return Err(nothing_to_adapt()),
        None => {}
    }
    place(&mut problem, gpu, options.budget.unwrap_or_else(|| gpu.budget()), options.ranks).map(drop)
}

/// Path of the weights to start from. A resumed run that has already started does not use them.
fn init_of<'o>(options: &'o Options, folder: &RunFolder) -> Option<&'o PathBuf> {
    options.init.as_ref().filter(|_| !(options.resume && folder.holds_a_run().unwrap_or(false)))
}

fn nothing_to_adapt() -> Error {
    Error::Config(
        "[adapt] trains adapters of weights that stay as they are: give these with --init, a .safetensors file or a folder of transformers; or leave the table \
         out, to train all weights"
            .into(),
    )
}

/// Fails on rules and expectations that would never be checked.
///
/// # Errors
/// `Config`.
pub fn expect_rules(problem: &Problem) -> Result<()> {
    check_metrics(&problem.settings, &problem.loss().columns(), &problem.card())?;
    check_epochs(&problem.settings, problem.source().steps_per_epoch())
}

/// Decides the layout in memory; fails if it exceeds the budget.
fn place<D: DataState + ?Sized>(problem: &mut Problem<D>, gpu: &Gpu, budget: u64, ranks: Ranks) -> Result<Placed> {
    let placed = problem.place(gpu.target, budget)?;
    if placed.memory.report.total_bytes > budget {
        Err(over_budget(problem, gpu, &placed.memory.report, budget, ranks))
    } else {
        Ok(placed)
    }
}

/// Trains a run.
///
/// # Errors
/// Every class of `Error`. A run that cannot start leaves nothing behind.
pub fn train(problem: Problem, options: &Options) -> Result<Report> {
    Start::look(problem, options)?.begin(options)?.run()
}

/// A run that is ready to start; everything is checked and nothing is created yet.
struct Start {
    problem: Loaded,
    placed: Placed,
    gpu: Arc<Gpu>,
    folder: RunFolder,
    origin: Origin,
    watched: Watched,
    /// Checkpoint to resume from.
    found: Option<Found>,
    /// What the weights begin as, if not as the configuration draws them.
    begins: Option<(Flat, Vec<f32>)>,
    /// True if that is from another file.
    given: bool,
    /// Notes of the data for the user.
    notes: Vec<String>,
}

impl Start {
    fn look(mut problem: Problem, options: &Options) -> Result<Start> {
        let folder = RunFolder::open(&options.out, options.resume)?;
        let init = init_of(options, &folder);
        problem.source().expect_file()?;
        expect_rules(&problem)?;
        let mut gpu = options.host.open(options.device.as_deref())?;
        let plan = problem.record_evaluation(gpu.target)?.0;
        let parameters = plan.parameters();
        let mut origin = Origin { config: problem.toml.clone(), canonical: Some(problem.canonical), ..Origin::default() };
        let first_save = problem.settings.checkpoint.every.unwrap_or(problem.source().steps_per_epoch());
        let mut found = if options.resume { folder.find(parameters, &origin, first_save)? } else { None };
        // A run goes on as it began, or its bits would differ.
        if let Some(found) = &found {
            gpu.target = gpu.tuned(found.checkpoint.tuned.clone());
        }
        let mut given = init.map(|path| Weights::open_for(path, problem.hugging_face())).transpose()?;
        let mut begins = given.as_mut().map(|file| file.load(plan.of_model())).transpose()?;
        if plan.options.frozen {
            if let Some(file) = found.as_mut().and_then(|found| found.file.as_mut()) {
                begins = file.frozen(plan.frozen())?;
            }
            let frozen = begins.as_ref().ok_or_else(nothing_to_adapt)?;
            let of_checkpoint = found.as_ref().and_then(|found| found.checkpoint.origin.base.clone());
            origin.base = Some(of_checkpoint.map_or_else(|| base::describe(&plan, frozen), Ok)?);
        }
        if let Some(file) = given.as_mut().or(found.as_mut().and_then(|found| found.file.as_mut())) {
            let buffers = file.buffers(problem.buffers())?;
            problem.use_saved_buffers(buffers);
        }
        let gpu = Arc::new(gpu);
        expect_same_files(&problem, options.ranks)?;
        let mut watched = Watched::new(problem.files.iter().filter(|_| options.ranks.leads()).map(|(_, file)| file.as_path()))?;
        let unused = given.as_ref().and_then(|file| file.unused(plan.of_model(), problem.buffers()));
        let (mut problem, mut notes) = problem.load()?;
        notes.extend(unused);
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
        let budget = options.ranks.least(options.budget.unwrap_or_else(|| gpu.budget()));
        let placed = place(&mut problem, &gpu, budget, options.ranks)?;
        let flat = if plan.options.frozen { Flat::Frozen } else { Flat::Parameters };
        let (begins, given) = (begins.map(|weights| (flat, weights)), given.is_some());
        Ok(Start { problem, placed, gpu, folder, origin, watched, found, begins, given, notes })
    }

    /// Places the run on the device and creates its folder.
    fn begin(self, options: &Options) -> Result<Trainer<'_>> {
        let Start { problem, placed, gpu, mut folder, origin, watched, found, begins, given, notes: of_data } = self;
        let config = &problem.settings;
        let session = problem.training_in(placed, &gpu)?;
        let rhythm = Rhythm::new(config, problem.source().steps_per_epoch(), problem.curriculum_epochs, options.steps);
        let judge = Judge::new(&problem, rhythm);
        let resumed = found.is_some();
        expect_space(&folder, &session, config.checkpoint.keep, options.ranks, resumed)?;
        let Found { checkpoint, rejected, .. } = found.unwrap_or_default();
        let mut progress = checkpoint.progress.clone();
        let mut said = folder.check_best(&progress, &origin, session.parameters(), problem.buffers(), rhythm.end)?;
        if let Some((flat, weights)) = &begins {
            session.arena.write_flat(*flat, weights)?;
        }
        if resumed {
            session.arena.write_flat(Flat::Parameters, &checkpoint.weights)?;
            session.arena.write_flat(Flat::FirstMoment, &checkpoint.m)?;
            session.arena.write_flat(Flat::SecondMoment, &checkpoint.v)?;
            session.carry_on(progress.step, carried(&progress))?;
            if checkpoint.variants != variants(&gpu, &session)? {
                said.push(
                    "the device, the number of ranks or the kernels differ from those of the checkpoint: the run goes on, but not with the same bits".into(),
                );
            }
        }
        let before = Origin::epochs(&checkpoint.origin.config).filter(|_| resumed);
        said.extend(judge.take_up(&mut progress, before));
        let exchange = if options.ranks.shared() { Some(session.exchange(options.ranks)?) } else { None };
        if let Some(exchange) = &exchange {
            said.extend(expect_same_run(&origin, exchange, &variants(&gpu, &session)?, options.ranks)?);
        }
        folder.create()?;
        // It comes again if the run does.
        let _ = fs::remove_file(folder.path.join(DIVERGED));
        let chosen = tuned(&gpu, &session);
        if options.ranks.leads() && (given || !resumed && !chosen.is_empty()) {
            if let Some((Flat::Frozen, weights)) = &begins {
                base::write(&folder.path, session.frozen(), weights)?;
            }
            // Before anything else is there: a run that is killed at its start must not go on from other weights, or with other
            // kernels.
            let first = checkpoint_of(&session, &gpu, &problem, &origin, progress.clone())?;
            first.save(&folder.checkpoints(), session.parameters(), config.checkpoint.keep)?;
        }
        said.extend(folder.write_config(&origin, resumed)?);
        let mut notes = Notes::open(&folder.path, progress.step, rhythm, options)?;
        for line in of_device(&gpu, &session)?.into_iter().chain(of_data).chain(of_tuning(&gpu, chosen.0.len(), resumed)) {
            notes.say(&line);
        }
        notes.say(&format!("run folder  {}", folder.path.display()));
        for line in of_steps(&problem, &progress, rhythm, resumed, options, &rejected).into_iter().chain(said) {
            notes.say(&line);
        }
        for line in of_weights(&problem, given, options).into_iter().chain(judge.to_beat()) {
            notes.say(&line);
        }
        let (unread, seconds_before) = (progress.step, progress.seconds);
        let trainer = Trainer {
            options,
            problem,
            gpu,
            folder,
            origin,
            watched,
            session,
            exchange,
            rhythm,
            judge,
            notes,
            progress,
            started: Instant::now(),
            seconds_before,
            pace: None,
            unread,
        };
        trainer.expect_same_weights()?;
        Ok(trainer)
    }
}

/// Values that the first step after a checkpoint takes from the step before it.
fn carried(progress: &Progress) -> Carried {
    let (skipped, loss_scale) = progress.loss_scale.map_or((false, INITIAL), |(skipped, bits)| (skipped, f32::from_bits(bits)));
    Carried { skipped, loss_scale, updates: progress.step - progress.skipped.min(progress.step) }
}

/// Fails unless the disk has room for the files of the run: weights, two moments and a header for each checkpoint, weights for the best
/// ones and the model, and frozen weights once.
fn expect_space(folder: &RunFolder, session: &Session, keep: usize, ranks: Ranks, resumed: bool) -> Result<()> {
    let flat_bytes = session.evaluation().0.plan.flat_len() as u64 * 4;
    let room = match (ranks.leads(), resumed) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => keep as u64 + 1,
    };
    let frozen_bytes = if ranks.leads() && !resumed { flat_len(session.frozen()) as u64 * 4 } else { 0 };
    folder.expect_space(room * (3 * flat_bytes + 65_536) + 2 * flat_bytes + frozen_bytes)
}

/// Fails unless all ranks have the same run; gives a warning if their devices may round differently.
fn expect_same_run(origin: &Origin, exchange: &Exchange, variants: &str, ranks: Ranks) -> Result<Option<String>> {
    let sum = |text: &str| u64::from(crc32c::crc32c(text.as_bytes()));
    let run = format!("{}\n{:?}\n{:?}\n{}\n{}", origin.config, origin.data, origin.base, env!("CARGO_PKG_VERSION"), exchange.layout());
    if let Some(others) = ranks.others(sum(&run)) {
        return Err(Error::Config(format!(
            "rank {others} has another configuration, other data, another version of engine or kernels for another kind of device than the other ranks: give \
             all the same files and the same kind of card"
        )));
    }
    Ok(ranks.others(sum(variants)).map(|_| {
        "WARNING: the ranks have different devices, drivers or ways to launch kernels: where these round differently, the run ends with exit code 70".into()
    }))
}

/// Lines that describe device, model and memory.
fn of_device(gpu: &Gpu, session: &Session) -> Result<Vec<String>> {
    let plan = &session.step()?.0.plan;
    Ok(vec![
        folded(&format!("device      {}", gpu.describe()), INDENT),
        format!("model       {}, plan of {} dispatches", counted(plan.parameter_count(), plan.frozen_count()), plan.launches().count()),
        of_memory(gpu),
    ])
}

/// The line about memory: all of it, and what takes most, in one unit.
fn of_memory(gpu: &Gpu) -> String {
    let ledger = gpu.ledger();
    let (_, size) = byte_unit(ledger.total());
    let mut roles: Vec<Role> = Role::ALL.into_iter().filter(|role| ledger.of(*role) > 0).collect();
    roles.sort_by_key(|role| std::cmp::Reverse(ledger.of(*role)));
    let mut line = format!("memory      {}", bytes(ledger.total()));
    for (at, role) in roles.iter().enumerate() {
        let part = format!("{}{role} {:.1}", [", ", " ("][usize::from(at == 0)], ledger.of(*role) as f64 / size);
        if line.chars().count() + part.chars().count() + 4 > COLUMNS {
            return line + ", …)";
        }
        line += &part;
    }
    line + ")"
}

/// Lines about measured ways to launch kernels: their number, and the reason if they are not used.
fn of_tuning(gpu: &Gpu, chosen: usize, resumed: bool) -> Vec<String> {
    let mut lines = vec![];
    if chosen > 0 {
        let whence = if resumed { "as its checkpoint has them" } else { "as measured on this device" };
        lines.push(format!("tuned       choices of ways to launch kernels, {whence}: {chosen}"));
    }
    if let (Some(why), false) = (&gpu.untuned, resumed) {
        lines.push(format!("WARNING: what `engine tune` measured is left aside: {why}. Measure again with `engine tune`"));
    }
    lines
}

/// Lines about the initial weights and the ranks.
fn of_weights(problem: &Loaded, given: bool, options: &Options) -> Vec<String> {
    let weights = options.init.as_ref().map(|path| match given {
        true => format!("weights     from {}", path.display()),
        false => "weights     its own: the run was started before, and --init is left aside".into(),
    });
    let (count, samples) = (options.ranks.count, problem.settings.train.samples());
    let each = || format!("ranks       {count}, each with {} of the {samples} samples of a step", samples / count);
    weights.into_iter().chain(options.ranks.shared().then(each)).collect()
}

/// Lines about the first step of this session, and warnings about its steps and checkpoints.
fn of_steps(problem: &Loaded, progress: &Progress, rhythm: Rhythm, resumed: bool, options: &Options, rejected: &[String]) -> Vec<String> {
    let mut lines = vec![];
    let (config, total) = (&problem.settings, rhythm.total);
    let warmup = config.schedule.warmup(rhythm.epoch, config.train.epochs);
    if warmup >= total {
        lines.push(format!(
            "WARNING: the warm-up takes {warmup} steps and the run {total}: the learning rate never reaches its peak. Lower schedule.warmup_steps, \
             schedule.warmup_epochs or schedule.warmup_share, or choose schedule.kind = \"constant\""
        ));
    }
    lines.extend(rejected.iter().map(|problem| format!("not the newest checkpoint: {problem}")));
    if resumed {
        lines.push(format!("resuming    at step {}", progress.step));
        if progress.step > rhythm.end {
            lines.push(format!("the run is past step {}, where --steps ends it: there is nothing to train", rhythm.end));
        }
    } else if options.resume {
        lines.push("resuming    nothing to resume in this folder: starting at step 0".into());
    }
    lines
}
