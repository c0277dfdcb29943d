//! The folder of a run: its lock, its files, and what of them a run goes on from. Nothing is created before the run is sure to start.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::base::BASE;
use super::checkpoint::{Checkpoint, Found, Origin, Progress, file_of, load_best, save_weights};
use super::tensor_file::{Best, remove_unfinished};
use crate::error::{Error, Result, argument};
use crate::files;
use crate::plan::{Buffer, Parameter};

/// Name of the file in which a diverged run leaves the reason.
pub const DIVERGED: &str = "diverged.txt";

/// Name of the file in which a running run writes its progress every few seconds.
pub const BEAT: &str = "status.json";

/// True if a process holds a folder whose lock was tried. On a file system without locks, a young status file counts as such.
pub fn in_use(folder: &Path, tried: std::result::Result<(), TryLockError>) -> bool {
    const YOUNG: Duration = Duration::from_secs(60);
    let beat = || folder.join(BEAT).metadata().ok()?.modified().ok()?.elapsed().ok();
    match tried {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => beat().is_some_and(|age| age < YOUNG),
    }
}

/// Progress of a running run, as in its status file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Beat {
    /// Number of updates done.
    pub step: u64,
    /// Number of updates after which the run ends.
    pub end: u64,
    /// Updates per second in this session.
    pub rate: f64,
    /// Number (PID) of the process.
    pub process: u32,
    /// Number of validations in a row without an improvement, for which there is patience.
    #[serde(default)]
    pub waiting: u64,
    /// Name of the most important validation metric, by which runs are compared.
    #[serde(default)]
    pub score: String,
}

impl Beat {
    /// Reads the progress of the run in a folder, if it has written any.
    pub fn of(folder: &Path) -> Option<Beat> {
        serde_json::from_str(&files::text(&folder.join(BEAT), files::SMALL).ok()?).ok()
    }

    /// Writes the progress into the folder; errors are ignored.
    pub(super) fn tell(&self, folder: &Path) {
        let path = folder.join(BEAT);
        if let (Ok(text), Ok(mut file)) = (serde_json::to_string(self), files::beside(&path, Error::write)) {
            let _ = file.write_all(text.as_bytes()).map(|()| file.persist(&path).is_ok());
        }
    }
}

/// The first of `name-2`, `name-3`, … beside a folder that is not there yet.
pub(super) fn free_name(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let numbered = (2u64..).map(|n| folder.with_file_name(format!("{name}-{n}")));
    numbered.into_iter().find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| folder.into())
}

/// A run folder, locked while this value lives.
#[derive(Debug)]
pub struct RunFolder {
    /// Path of the folder.
    pub path: PathBuf,
    lock: Option<File>,
    /// Lock file to remove if the start is refused; none if it existed before, or once the run has started.
    fresh: Option<PathBuf>,
}

/// Name of the table of metrics, written if it was asked for.
pub(super) const METRICS_CSV: &str = "metrics.csv";

/// Names of the other files that a run writes into its folder or reads there, beside checkpoints and event files.
const FILES: [&str; 11] = [
    BASE,
    "config.toml",
    "metrics.jsonl",
    METRICS_CSV,
    "train.log",
    "curves.svg",
    "predictions.svg",
    "model.safetensors",
    "report.json",
    "report.txt",
    DIVERGED,
];

impl Drop for RunFolder {
    /// Gives the lock back, and removes the lock file of a refused start.
    fn drop(&mut self) {
        // By name: closing the file does not do where a process that is just being started still has a copy of it.
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
        if let Some(path) = &self.fresh {
            let _ = fs::remove_file(path);
        }
    }
}

impl RunFolder {
    /// Locks the folder if it exists, and checks that it can be created if it does not.
    ///
    /// # Errors
    /// `CannotCreate` when it is not writable, held by another run, or holds a run and `resume` is false.
    pub fn open(path: &Path, resume: bool) -> Result<RunFolder> {
        let mut folder = RunFolder { path: path.components().collect(), lock: None, fresh: None };
        folder.expect_own_place()?;
        if path.exists() && !path.is_dir() {
            return Err(Error::CannotCreate(format!("{} is no folder: name another one with --out", path.display()).into()));
        }
        if !path.is_dir() {
            return tempfile::tempfile_in(folder.above()).map(|_| folder).map_err(|e| Error::create(path, e));
        }
        // What could not be written would only be noticed at the end.
        FILES.iter().try_for_each(|name| files::replaceable(&folder.path.join(name)).map(|_| ()))?;
        folder.hold()?;
        if !resume {
            folder.expect_no_run()?;
        }
        Ok(folder)
    }

    fn expect_no_run(&self) -> Result<()> {
        if !self.holds_a_run()? {
            return Ok(());
        }
        let (folder, free) = (self.path.display(), argument(&free_name(&self.path)));
        Err(Error::CannotCreate(
            format!("{folder} already holds a run. Go on with it with --resume, or take another folder: --out {free}").into(),
        ))
    }

    /// Fails if the folder would be new within the folder of another run, as that of a sweep which has the name of a run.
    fn expect_own_place(&self) -> Result<()> {
        let Some(above) = self.path.parent().filter(|above| above.join("config.toml").is_file()) else { return Ok(()) };
        if self.config().is_file() {
            return Ok(());
        }
        let (folder, above, free) = (self.path.display(), above.display(), argument(&free_name(above)));
        Err(Error::CannotCreate(
            format!("{above} holds a run, and {folder} would lie among its files. Take another folder: --out {free}").into(),
        ))
    }

    fn hold(&mut self) -> Result<()> {
        let path = self.path.join(".lock");
        let new = files::replaceable(&path)?.is_none();
        // Whatever it holds stays: it may have another name elsewhere.
        let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(|e| Error::create(&path, e))?;
        if !self.wait_for(&lock) {
            let folder = self.path.display();
            return Err(Error::CannotCreate(
                format!("{folder} is in use by another run. Wait for it, or choose another folder with --out").into(),
            ));
        }
        self.lock = Some(lock);
        self.fresh = new.then_some(path);
        Ok(())
    }

    /// Takes the lock. Commands that read the folder hold it for a moment, and are waited for; gives false if a run holds it.
    fn wait_for(&self, lock: &File) -> bool {
        const PAUSES: [Duration; 4] = [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(50), Duration::ZERO];
        PAUSES.into_iter().any(|pause| {
            let free = !in_use(&self.path, lock.try_lock());
            if !free {
                std::thread::sleep(pause);
            }
            free
        })
    }

    /// Creates and locks the folder if it does not exist yet, and removes unfinished files of a killed run.
    ///
    /// # Errors
    /// As `open`.
    pub(super) fn create(&mut self) -> Result<()> {
        fs::create_dir_all(self.checkpoints()).map_err(|e| Error::create(&self.path, e))?;
        if self.lock.is_none() {
            self.hold()?;
            // Another process may have been here since the first look.
            self.expect_no_run()?;
        }
        self.fresh = None;
        [&self.path, &self.checkpoints()].into_iter().for_each(|folder| remove_unfinished(folder));
        Ok(())
    }

    /// The folder itself, or the nearest existing folder above it.
    fn above(&self) -> &Path {
        let above = self.path.ancestors().find(|a| a.is_dir());
        above.unwrap_or(Path::new("."))
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    pub(super) fn best(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// True if a run was started in this folder.
    pub(super) fn holds_a_run(&self) -> Result<bool> {
        Ok(self.config().exists() || self.best().exists() || !Checkpoint::list(&self.checkpoints())?.is_empty())
    }

    /// Fails unless the disk has room for `bytes` more.
    pub(super) fn expect_space(&self, bytes: u64) -> Result<()> {
        match fs4::available_space(self.above()) {
            Ok(free) if free < bytes => Err(Error::CannotCreate(format!(
                "{}: {free} bytes are free, the checkpoints need {bytes}. Free some space, lower checkpoint.keep, or choose another disk with --out",
                self.path.display()
            ).into())),
            _ => Ok(()),
        }
    }

    fn other_configuration(&self, what: &str, lines: &[String]) -> Error {
        Error::Data(format!(
            "{what}:\n  {}\nResume with the configuration of then, or start in another folder with --out",
            lines.join("\n  ")
        ))
    }

    /// Finds the newest usable checkpoint of a run with this configuration; `first_save` is the step of its first checkpoint.
    ///
    /// # Errors
    /// `Data` when there are checkpoints and none is valid, when the run has another configuration, and when there are best weights but no
    /// checkpoint that could lead to them.
    pub(super) fn find(&self, parameters: &[Parameter], origin: &Origin, first_save: u64) -> Result<Option<Found>> {
        let saved = files::text(&self.config(), files::SMALL);
        let here = self.path.display();
        let of_saved = || saved.as_ref().map_or(vec![], |text| origin.configuration_differences(text));
        // What does not fit is said by the keys that differ, if the folder's configuration has them.
        let newest = Checkpoint::newest(&self.checkpoints(), parameters).map_err(|error| match of_saved() {
            lines if lines.is_empty() => error,
            lines => self.other_configuration(&format!("{here} was started with another configuration"), &lines),
        })?;
        let Some(found) = newest else {
            // A run that ended before its first checkpoint comes to its best weights again; of a later one checkpoints are missing.
            if self.best().exists() && !load_best(&self.best(), parameters).is_ok_and(|(_, best, _)| best.step <= first_save) {
                let best = self.best().display().to_string();
                return Err(Error::Data(format!(
                    "{here} holds best weights and no checkpoint to go on from. Start anew from them: --init {best}, and --out with another folder"
                )));
            }
            match saved {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(Error::read(&self.config(), e)),
                Ok(ref text) => {
                    origin.read_configuration(text).map_err(|e| {
                        let path = self.config().display().to_string();
                        Error::Data(format!("{path}{e}\nThere is no checkpoint that says what it was: start in another folder with --out"))
                    })?;
                    let lines = of_saved();
                    let what = format!("{here} was started with another configuration");
                    return if lines.is_empty() { Ok(None) } else { Err(self.other_configuration(&what, &lines)) };
                }
            }
        };
        let lines = origin.configuration_differences(&found.checkpoint.origin.config);
        if lines.is_empty() {
            return Ok(Some(found));
        }
        let of_folder = saved.is_ok() && of_saved().is_empty();
        let what = match of_folder {
            true => format!("{} is a checkpoint of another run", found.path.display()),
            false => format!("{here} was started with another configuration"),
        };
        Err(self.other_configuration(&what, &lines))
    }

    /// Writes the configuration if the saved one differs or has fewer epochs; gives a note for a resumed run whose file was missing or
    /// wrong.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn write_config(&self, origin: &Origin, resumed: bool) -> Result<Option<String>> {
        let saved = files::text(&self.config(), files::SMALL).unwrap_or_default();
        let longer = Origin::epochs(&saved) < Origin::epochs(&origin.config);
        let same = origin.configuration_differences(&saved).is_empty();
        if same && !longer {
            return Ok(None);
        }
        files::write(&self.config(), origin.config.as_bytes())?;
        Ok((resumed && !same)
            .then(|| format!("{} was missing or not that of the run: written again from the checkpoint", self.config().display())))
    }

    /// Checks that the best weights are those that the checkpoint names, and restores them from a checkpoint of their step if they are not.
    /// Gives notes for the user.
    ///
    /// # Errors
    /// `Data` when they are lost; this comes before hours of training that could not end with them.
    pub(super) fn check_best(
        &self,
        progress: &Progress,
        origin: &Origin,
        parameters: &[Parameter],
        buffers: &[Buffer],
        end: u64,
    ) -> Result<Vec<String>> {
        let path = self.best();
        let found = if path.exists() { Some(load_best(&path, parameters)) } else { None };
        let wrong = match (&found, &progress.best) {
            (None, None) => return Ok(vec![]),
            (None, Some(_)) => "it is not there".to_string(),
            (Some(Err(e)), _) => e.to_string(),
            (Some(Ok((.., of))), _) if !origin.differences(of).is_empty() => {
                format!("it is of another run:\n  {}", origin.differences(of).join("\n  "))
            }
            (Some(Ok((_, best, _))), _) if best.step > progress.step.max(end) => {
                return Err(Error::Config(format!(
                    "--steps ends the run after step {end}, and its best weights, {}, are of step {} already: give at least as many steps, or leave --steps out",
                    path.display(),
                    best.step
                )));
            }
            (Some(Ok((_, best, _))), _) if best.step > progress.step => {
                return Ok(vec![format!(
                    "{} is of step {}, later than the checkpoint: the run comes to it again",
                    path.display(),
                    best.step
                )]);
            }
            (Some(Ok((_, best, _))), Some(expected)) if best == expected => return Ok(vec![]),
            (Some(Ok((_, best, _))), _) => format!("it is of another validation, at step {}", best.step),
        };
        let Some(Best { step, .. }) = progress.best else {
            return Err(Error::Data(format!(
                "{}: {wrong}. This run has no best weights yet: move that file away, then --resume",
                path.display()
            )));
        };
        let kept =
            Checkpoint::load(&self.checkpoints().join(file_of(step)), parameters).ok().filter(|c| origin.differences(&c.origin).is_empty());
        let Some(kept) = kept else {
            let newest = self.checkpoints().join(file_of(progress.step));
            return Err(Error::Data(format!(
                "{}: {wrong}. The run needs the best weights, of step {step}, at its end: put that file back, then --resume; or start anew \
                 from the weights of step {} with --init {} and another --out",
                path.display(),
                progress.step,
                newest.display()
            )));
        };
        save_weights(&path, parameters, &kept.weights, buffers, origin, step, progress.best.as_ref())?;
        Ok(vec![format!("{}: {wrong}. Written again from the checkpoint of step {step}", path.display())])
    }
}
