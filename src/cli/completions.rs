//! `engine completions`: what a shell completes, and manual pages.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use crate::error::{Error, Result};
use crate::files;
use crate::host::Host;

/// Print what a shell completes, or write manual pages
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Shell
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write a manual page of each command to this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    man: Option<PathBuf>,
}

pub(super) fn run(host: &Host, args: CompletionsArgs, mut command: clap::Command) -> Result<()> {
    if let Some(folder) = args.man {
        std::fs::create_dir_all(&folder).map_err(|e| Error::create(&folder, e))?;
        // In a folder of its own first, since it writes wherever a link leads.
        let made = tempfile::tempdir_in(&folder).map_err(|e| Error::create(&folder, e))?;
        clap_mangen::generate_to(command, made.path()).map_err(|e| Error::create(&folder, e))?;
        for page in std::fs::read_dir(made.path()).map_err(|e| Error::create(&folder, e))?.flatten() {
            let path = folder.join(page.file_name());
            files::replaceable(&path)?;
            std::fs::rename(page.path(), &path).map_err(|e| Error::create(&path, e))?;
        }
        return host.print(&format!("manual pages are in {}: man -l {}", folder.display(), folder.join("engine.1").display()));
    }
    let mut text = Vec::new();
    if let Some(shell) = args.shell {
        clap_complete::generate(shell, &mut command, "engine", &mut text);
    }
    host.print(String::from_utf8_lossy(&text).trim_end())
}
