//! Which of several ways to launch a kernel is fastest on a device, as `engine tune` has measured it; kept in the user's cache folder, a
//! file for each adapter with its driver.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::adapter::AdapterSummary;
use crate::files;

/// Ways in which a software adapter reads arrays.
const READS: &str = "software arrays";

/// Launches and the ways chosen for them: the kernel with its options and sizes, and the consts in which its ways differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning(pub BTreeMap<String, String>);

/// A file of the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    adapter: String,
    driver: String,
    engine: String,
    choices: Tuning,
}

const ENGINE: &str = env!("CARGO_PKG_VERSION");

impl Tuning {
    /// Without any choice.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The way chosen for a launch.
    pub fn of(&self, launch: &str) -> Option<&str> {
        self.0.get(launch).map(String::as_str)
    }

    /// True if a software adapter reads arrays from images, if that was measured.
    pub fn images(&self) -> Option<bool> {
        self.of(READS).map(|how| how == "images")
    }

    /// Chooses how a software adapter reads arrays, or leaves it to what is known of its driver.
    pub fn set_images(&mut self, images: Option<bool>) {
        self.0.remove(READS);
        self.0.extend(images.map(|images| (READS.into(), if images { "images" } else { "buffers" }.into())));
    }

    /// The choices for launches of these kinds, and how arrays are read.
    pub fn of_kinds<'a>(&self, kinds: impl Iterator<Item = &'a str>) -> Tuning {
        let used = kinds.chain([READS]).filter_map(|kind| Some((kind.to_string(), self.0.get(kind)?.clone())));
        Tuning(used.collect())
    }

    /// For a target, which is copied freely: what a process measures or reads of this stays in memory until it ends.
    pub fn leaked(self) -> Option<&'static Tuning> {
        (!self.is_empty()).then(|| &*Box::leak(Box::new(self)))
    }

    /// File that keeps the choices of an adapter: in `ENGINE_CACHE` if that is set, else where the system keeps what programs can make
    /// again.
    pub fn file(adapter: &AdapterSummary) -> Option<PathBuf> {
        let named = std::env::var_os("ENGINE_CACHE").filter(|value| !value.is_empty()).and_then(|value| std::path::absolute(value).ok());
        let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = named.or_else(|| {
            let user = if cfg!(target_os = "windows") {
                set("LOCALAPPDATA")
            } else if cfg!(target_os = "macos") {
                set("HOME").map(|home| home.join("Library/Caches"))
            } else {
                set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
            };
            user.map(|user| user.join("engine"))
        })?;
        let name = format!("{} {} {}", adapter.name, adapter.backend, adapter.driver);
        let name: String =
            name.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        Some(folder.join(format!("tuning-{name}.json")))
    }

    /// Choices that are kept for an adapter, with this driver and by this version of the engine; none where the file is not there.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn kept(adapter: &AdapterSummary) -> Result<Tuning, String> {
        let Some(path) = Tuning::file(adapter) else { return Ok(Tuning::default()) };
        let bytes = match files::bytes(&path, files::SMALL) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Tuning::default()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        let measured: Measured = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        let current = (measured.adapter == adapter.name, measured.driver == adapter.driver, measured.engine == ENGINE);
        if current != (true, true, true) {
            return Err(format!("{}: of another adapter, driver or version of the engine", path.display()));
        }
        Ok(measured.choices)
    }

    /// The text of a file of the cache.
    pub fn text(&self, adapter: &AdapterSummary) -> String {
        let (name, driver) = (adapter.name.clone(), adapter.driver.clone());
        let measured = Measured { adapter: name, driver, engine: ENGINE.into(), choices: self.clone() };
        serde_json::to_string_pretty(&measured).unwrap_or_default()
    }
}
