//! Names what was built: the version, with the commit if the source is a repository of git.

use std::path::Path;
use std::process::Command;

/// What git answers in the folder of the source.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string())
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // Whoever develops would build everything anew after each commit, so a debug build does not look.
    let built = if std::env::var("PROFILE").as_deref() != Ok("release") {
        format!("{version}, debug build")
    } else if Path::new(".git").exists() {
        // Every commit and every checkout adds a line to it.
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo:rerun-if-changed={log}");
        }
        git(&["describe", "--always", "--tags", "--abbrev=12", "--dirty"])
            .map_or(version.clone(), |commit| format!("{version}, commit {commit}"))
    } else {
        version
    };
    println!("cargo:rustc-env=ENGINE_VERSION={built}");
}
