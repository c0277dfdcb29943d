//! Starting over: a run that a rule ends, or that diverges, begins again with another seed, and what it left is kept beside it.

use std::path::{Path, PathBuf};

use super::options::Options;
use super::report::Report;
use super::start::train;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::losses::LossKind;
use crate::models::ModelKind;
use crate::problem::{Problem, Table};
use crate::tasks::DataKind;

/// Folder that the n-th attempt of a run is moved to after a rule has stopped it.
pub(super) fn attempt_folder(out: &Path, n: u64) -> PathBuf {
    let out: PathBuf = out.components().collect();
    out.with_file_name(format!("{}-attempt-{n}", out.file_name().unwrap_or_default().to_string_lossy()))
}

/// Number of earlier attempts that lie beside a run folder, at most `times`.
pub(super) fn attempts(out: &Path, times: u64) -> u64 {
    (1..=times).take_while(|n| attempt_folder(out, *n).join("config.toml").exists()).count() as u64
}

/// Configuration of the next start after this number of attempts.
pub(super) fn restarted<M, D, L>(config: &Config<M, D, L>, attempt: u64, stride: u64) -> Config<M, D, L>
where
    M: Clone,
    D: Clone,
    L: Clone,
{
    let mut config = config.clone();
    config.train.seed = config.train.seed.saturating_add(attempt.saturating_mul(stride)).min(i64::MAX as u64);
    config
}

/// Fails if the folders of earlier attempts have no place, or belong to another run.
pub(super) fn expect_room<M, D, L>(config: &Config<M, D, L>, out: &Path, resume: bool) -> Result<()> {
    let Some(restart) = &config.restart else { return Ok(()) };
    if out.components().collect::<PathBuf>().file_name().is_none() {
        return Err(Error::Config(format!(
            "{}: restart keeps attempts beside the run folder: give the run a folder of its own with --out",
            out.display()
        )));
    }
    if !resume && attempts(out, restart.times) > 0 {
        let left = attempt_folder(out, 1);
        return Err(Error::CannotCreate(format!(
            "{} is an attempt of a run that was in {}. Go on with that run with --resume, move its attempts away, or choose another folder with --out",
            left.display(),
            out.display()
        ).into()));
    }
    for n in attempts(out, restart.times) + 1..=restart.times {
        expect_free(&attempt_folder(out, n))?;
    }
    Ok(())
}

/// Fails if the place of an attempt's folder is taken.
fn expect_free(aside: &Path) -> Result<()> {
    match aside.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::CannotCreate(
            format!(
                "{} is in the way of a restart: it is no attempt of this run. Move it away, or choose another folder with --out",
                aside.display()
            )
            .into(),
        )),
    }
}

/// Times that a lost device is opened again for a run.
const REOPENED: usize = 3;

/// Trains a run. If its device is lost it goes on from its last checkpoint, on the device as it is opened again. Several processes end, as
/// the others would wait for this one.
fn on_a_device<M, D, L>(config: &Config<M, D, L>, options: &Options) -> Result<Report>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    let again = Options { resume: true, ..options.clone() };
    let mut options = options;
    for time in 1..=REOPENED {
        match train(Problem::open_for(config, options.ranks)?, options) {
            Err(Error::Lost(why)) if !options.ranks.shared() => {
                options.say(&format!(
                    "{why}\nthe device is opened again, {time} of at most {REOPENED} times, and the run goes on from its last checkpoint"
                ));
                options = &again;
            }
            ended => return ended,
        }
    }
    train(Problem::open_for(config, options.ranks)?, options)
}

/// Trains the run of a configuration. If a rule stops it, or it diverges, it starts again with the next seed, at most `restart.times`
/// times; the folders of earlier attempts are kept as `RUN-attempt-1`, and so on.
///
/// # Errors
/// Errors of `train`, and `CannotCreate` when the place of an attempt's folder is taken.
pub fn train_with_restarts<M, D, L>(config: &Config<M, D, L>, options: &Options) -> Result<Report>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    with_restarts(config, options, 1)
}

/// Trains as `train_with_restarts` does, with seeds that are `stride` apart.
pub(super) fn with_restarts<M, D, L>(config: &Config<M, D, L>, options: &Options, stride: u64) -> Result<Report>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    expect_room(config, &options.out, options.resume)?;
    let times = config.restart.as_ref().map_or(0, |restart| restart.times);
    let mut attempt = attempts(&options.out, times);
    if attempt > 0 {
        let seed = restarted(config, attempt, stride).train.seed;
        options.say(&format!(
            "{attempt} of {times} restarts were made before: train.seed = {seed}. The last attempt is in {}",
            attempt_folder(&options.out, attempt).display()
        ));
    }
    loop {
        let now = restarted(config, attempt, stride);
        match on_a_device(&now, options) {
            Err(Error::Aborted(why)) if attempt < times => {
                attempt += 1;
                let aside = attempt_folder(&options.out, attempt);
                expect_free(&aside)?;
                std::fs::rename(&options.out, &aside).map_err(|e| Error::create(&aside, e))?;
                let why = why.replace(&options.out.display().to_string(), &aside.display().to_string());
                let seed = restarted(config, attempt, stride).train.seed;
                options.say(&format!(
                    "{why}\nrestart {attempt} of {times} with train.seed = {seed}; the attempt before is in {}",
                    aside.display()
                ));
            }
            ended => return ended,
        }
    }
}
