//! Run folders of several processes: the first writes the run's own, the others have a folder each with what a resumed run goes on from.

use std::path::{Path, PathBuf};

use super::restarts::attempt_folder;
use crate::error::{Error, Result};
use crate::files;
use crate::ranks::Ranks;

/// Name of the file that marks a folder as one of a run.
const CONFIG: &str = "config.toml";

/// True for the files of a run folder that a rank needs to resume the run as the first rank does.
fn decides(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".safetensors") || [CONFIG, "report.json", "metrics.jsonl"].contains(&&*name)
}

/// Collects the files of a folder that a resumed run needs, and the folders in it, by their paths from `root`. Of the folders of earlier
/// attempts, only their existence is needed.
fn contents(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, Option<PathBuf>)>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|e| Error::read(folder, e))?.path();
        let relative = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
        if path.is_dir() {
            let attempt = relative.file_name().is_some_and(|name| name.to_string_lossy().contains("-attempt-"));
            found.push((relative.clone(), None));
            if !attempt {
                contents(root, &path, found)?;
            } else if path.join(CONFIG).exists() {
                found.push((relative.join(CONFIG), Some(path.join(CONFIG))));
            }
        } else if decides(&path) {
            found.push((relative, Some(path)));
        }
    }
    Ok(())
}

/// Folder that a rank trains in: the run's own for the first rank; for each other one a folder in `scratch`, with the files that a resumed
/// run needs.
pub fn mirrored(out: &Path, scratch: Option<&Path>, resume: bool, ranks: Ranks) -> Result<PathBuf> {
    let out: PathBuf = out.components().collect();
    let Some(name) = out.file_name() else {
        return Err(Error::Config(format!(
            "{}: a run of several processes needs a folder with a name: choose another with --out",
            out.display()
        )));
    };
    let mut found = vec![];
    if ranks.leads() && resume {
        contents(out.parent().unwrap_or(Path::new("")), &out, &mut found)?;
        let restarts = (1..).map(|n| attempt_folder(&out, n)).take_while(|folder| folder.exists());
        for folder in restarts {
            let name = PathBuf::from(folder.file_name().unwrap_or_default());
            let file = Some(folder.join(CONFIG)).filter(|file| file.exists());
            found.push((name.clone(), None));
            found.extend(file.map(|file| (name.join(CONFIG), Some(file))));
        }
    }
    let list: Vec<(PathBuf, bool)> = found.iter().map(|(path, file)| (path.clone(), file.is_some())).collect();
    let sent = ranks.broadcast(serde_json::to_vec(&list).map_err(|e| Error::Internal(format!("a list of files: {e}")))?);
    let list: Vec<(PathBuf, bool)> = serde_json::from_slice(&sent).map_err(|e| Error::Internal(format!("a list of files: {e}")))?;
    for (number, (path, is_file)) in list.iter().enumerate() {
        let here = scratch.map(|scratch| scratch.join(path));
        if !is_file {
            here.map_or(Ok(()), |here| std::fs::create_dir_all(&here).map_err(|e| Error::create(&here, e)))?;
            continue;
        }
        let own = found.get(number).and_then(|(_, file)| file.as_ref());
        let bytes = own.map_or(Ok(vec![]), |file| files::bytes(file, files::LARGE).map_err(|e| Error::read(file, e)))?;
        let bytes = ranks.broadcast(bytes);
        if let Some(here) = here {
            let folder = here.parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&here, bytes)).map_err(|e| Error::create(&here, e))?;
        }
    }
    Ok(scratch.map_or(out.clone(), |scratch| scratch.join(name)))
}
