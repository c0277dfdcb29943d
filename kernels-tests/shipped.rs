//! The plans and kernels of the shipped runs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::gpu::{Shader, Target};
use engine::plan::{FixedPlan, LayoutOptions, Memory};
use engine::problem::Loaded;
use engine::registry::Config;

/// Their run files.
pub(crate) fn shipped_runs() -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> = std::fs::read_dir("data/runs").unwrap().map(|e| e.unwrap().path()).collect();
    runs.sort();
    assert!(runs.len() > 20, "{runs:?}");
    runs
}

fn refused(run: &Path, error: &engine::error::Error) -> ! {
    panic!("{}: {error}", run.display())
}

/// The plans of a shipped run, at its own batch and sizes.
pub(crate) fn plans(run: &Path, target: Target) -> Vec<FixedPlan> {
    plans_with(run, &[], target)
}

fn plans_with(run: &Path, set: &[String], target: Target) -> Vec<FixedPlan> {
    let config = Config::load(run, set).unwrap();
    let problem = Loaded::made_up(&config, 4 * config.train.batch).unwrap();
    let train = problem.record_training(target).unwrap_or_else(|e| refused(run, &e)).0;
    let evaluate = problem.record_evaluation(target).unwrap_or_else(|e| refused(run, &e)).0;
    let decode = problem.record_decoding(target).unwrap_or_else(|e| refused(run, &e)).map(|(plan, _)| plan);
    [train, evaluate].into_iter().chain(decode).collect()
}

/// Every different kernel of the shipped runs with some overrides as it is compiled on some targets, with the run that it was first seen in.
pub(crate) fn shipped_kernels(targets: &[Target], set: &[String]) -> Vec<(Arc<Shader>, String)> {
    let mut seen = HashSet::new();
    let mut kernels = Vec::new();
    for run in shipped_runs() {
        for target in targets {
            for plan in plans_with(&run, set, *target) {
                let (_, lowered) = Memory::of(plan, LayoutOptions::default()).unwrap();
                for launch in &lowered.launches {
                    let entry = &lowered.plan.entries()[launch.entries.start];
                    if seen.insert(Arc::as_ptr(&launch.shader)) {
                        kernels.push((launch.shader.clone(), format!("{} ({})", run.display(), entry.label)));
                    }
                }
            }
        }
    }
    kernels
}
