//! What has been measured so far, in a file beside the card's, so that another call goes on with the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result, json};
use crate::files;

/// How the measurement of an item ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Its result.
    Done(Value),
    /// It could not be measured, for this reason.
    Failed(String),
    /// It had so many seconds and did not end.
    TooLong(f64),
}

impl Outcome {
    /// True if there is a result with something that should not be: a check that failed, other bits, or a loss that is not finite.
    pub(super) fn has_failures(&self) -> bool {
        let differs = |value: &Value| value["failures"].as_array().is_some_and(|failures| !failures.is_empty());
        match self {
            Outcome::Done(value) => differs(value) || differs(&value["smaller"]) || value["same"] == false || value["finite"] == false,
            Outcome::Failed(_) | Outcome::TooLong(_) => false,
        }
    }
}

/// What has been measured of a card.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Version of the engine.
    pub(super) engine: String,
    /// Card, backend and driver.
    pub(super) device: String,
    /// Day on which it was begun.
    pub(super) date: String,
    /// Seconds that all of it has taken.
    pub(super) seconds: f64,
    /// Outcomes, by part and item.
    pub(super) outcomes: BTreeMap<String, BTreeMap<String, Outcome>>,
}

/// The file of what has been measured so far for a card's file.
pub(super) fn partial(out: &Path) -> PathBuf {
    out.with_added_extension("partial.json")
}

impl Kept {
    /// What an earlier call has left for this file, or nothing so far.
    ///
    /// # Errors
    /// `CannotCreate` when the file is there and not an unfinished one of the same card and engine.
    pub(super) fn open(out: &Path, new: Kept) -> Result<Kept> {
        let file = partial(out);
        if !file.exists() {
            return match out.exists() {
                true => Err(Error::CannotCreate(format!("{} is there already: name another file with --out", out.display()).into())),
                false => Ok(new),
            };
        }
        let text = files::text(&file, files::SMALL).map_err(|e| Error::read(&file, e))?;
        let kept: Kept = serde_json::from_str(&text)
            .map_err(|e| Error::Data(format!("{}: {e}. Remove it, or name another file with --out", file.display())))?;
        match (&kept.engine, &kept.device) == (&new.engine, &new.device) {
            true => Ok(kept),
            false => Err(Error::CannotCreate(
                format!(
                    "{} was begun by engine {} on {}; this is {} on {}. Name another file with --out",
                    out.display(),
                    kept.engine,
                    kept.device,
                    new.engine,
                    new.device
                )
                .into(),
            )),
        }
    }

    /// Writes what there is.
    ///
    /// # Errors
    /// As `files::write`.
    pub(super) fn save(&self, out: &Path) -> Result<()> {
        files::write(&partial(out), json(self)?.as_bytes())
    }

    /// Outcome of an item.
    pub(super) fn outcome(&self, part: &str, item: &str) -> Option<&Outcome> {
        self.outcomes.get(part)?.get(item)
    }

    /// True if nothing is left to do for an item: it has a result, or it failed.
    pub(super) fn has(&self, part: &str, item: &str) -> bool {
        matches!(self.outcome(part, item), Some(Outcome::Done(_) | Outcome::Failed(_)))
    }
}
