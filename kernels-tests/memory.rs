//! Runs made to fit: the same bits from less memory.

use std::path::Path;
use std::process::Command;

use engine::gpu::Target;
use engine::kernels::State;
use engine::plan::Flat;
use engine::problem::{Loaded, Problem};
use engine::tasks::Purpose;

use crate::kernels::gpu;
use crate::models::config;

const LEVELS: [&str; 3] = ["none", "light", "full"];

#[test]
fn recomputation_keeps_the_bits_of_every_kind_of_run() {
    let small: [(&str, &[&str]); 8] = [
        ("lvm_mlp_deep", &["data.dim=24", "train.batch=6"]),
        ("lvm_transformer_composite", &["data.dim=24", "model.width=64", "model.heads=2", "model.feed_forward=20", "train.batch=6"]),
        ("lvm_lstm", &["data.dim=24", "model.hidden=16", "train.batch=6"]),
        ("lvm_gru", &["data.dim=24", "model.width=16", "train.batch=6"]),
        ("lvm_amn", &["data.dim=24", "model.width=16", "model.hidden=16", "train.batch=6"]),
        ("integer_sequences_d64", &["train.batch=4", "model.dropout=0.1"]),
        ("mechanism_small", &["model.d_model=32", "model.heads=2", "train.batch=6"]),
        ("linkage_vae", &["train.batch=4"]),
    ];
    for (run, set) in small {
        let weights = LEVELS.map(|level| {
            let level = format!("train.recompute=\"{level}\"");
            let config = config(run, &[set, &[level.as_str(), "train.accumulate=2"]].concat());
            let mut problem = Loaded::made_up(&config, 40).unwrap();
            let session = problem.training(&gpu()).unwrap();
            for step in 0..2 {
                let mut state = State { seed: 3, slot: step as u32, ..State::default() };
                config.optimizer.fill(&mut state, step, 1e-3);
                let batches = problem.batches(step).unwrap();
                session.submit_step(&batches, state, step, 2).unwrap();
            }
            let launches = session.step().unwrap().0.plan.entries().len();
            (launches, session.arena.read_flat(Flat::Parameters).unwrap())
        });
        let [none, light, full] = &weights;
        println!("{run}: {} launches, light {}, full {}", none.0, light.0, full.0);
        assert!(none.1 == light.1 && none.1 == full.1, "{run}: recomputation changes the weights");
        let deep = ["lvm_transformer_composite", "integer_sequences_d64", "mechanism_small"].contains(&run);
        assert!(full.0 > none.0 || !deep, "{run}: nothing is recomputed");
    }
}

#[test]
fn recomputation_saves_what_it_says() {
    let bytes = |run: &str, level: &str, batch: &str| {
        let config = config(run, &[&format!("train.recompute=\"{level}\""), batch]);
        let memory = Problem::open(&config, Purpose::Train).unwrap().place(Target::default(), u64::MAX).unwrap();
        // Buffers hold little more than what lives at once.
        let (pooled, live) = (memory.report.bytes_by_role["activations"] as f64, memory.report.peak_live_bytes as f64);
        assert!(pooled <= 1.1 * live, "{run} {level}: {pooled} bytes of buffers for {live}");
        live
    };
    for run in ["mechanism_phase1", "lvm_transformer", "mechanism_phase3"] {
        let [none, light, full] = LEVELS.map(|level| bytes(run, level, "train.batch=512"));
        println!("{run}: light {:.2}, full {:.2} of the memory", light / none, full / none);
        assert!(light <= 0.85 * none && full <= 0.4 * none, "{run}: {none} {light} {full}");
    }
}

/// What `engine train --fit` says that it chose, and what the run's configuration has.
fn fitted(budget: &str, set: &[&str], resume: bool) -> (bool, String) {
    let out = tempfile::tempdir().unwrap().keep();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/runs/integer_sequences_d64.toml");
    let mut said = String::new();
    let mut fine = true;
    for resume in if resume { vec![false, true] } else { vec![false] } {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command
            .args(["train", "--fit", "--steps", if resume { "2" } else { "1" }, "--budget", budget])
            .arg(&run)
            .arg("--out")
            .arg(out.join("run"));
        for item in set {
            command.args(["--set", item]);
        }
        if resume {
            command.arg("--resume");
        }
        let output = command.output().unwrap();
        fine &= output.status.success();
        said += &String::from_utf8(output.stderr).unwrap();
    }
    std::fs::remove_dir_all(out).unwrap();
    (fine, said)
}

#[test]
fn a_run_that_does_not_fit_is_made_to() {
    let batch = ["train.batch=512", "validation.sequences=4"];
    let (fine, said) = fitted("8GiB", &batch, false);
    assert!(fine && said.contains("fit         train.batch = 512, train.accumulate = 1, train.recompute = \"none\""), "{said}");
    let (fine, said) = fitted("24MiB", &batch, true);
    assert!(fine && said.contains("resuming    at step 1"), "{said}");
    let chosen: Vec<&str> = said.lines().filter(|l| l.starts_with("fit ")).collect();
    assert!(
        chosen.len() == 2
            && chosen[0] == chosen[1]
            && !chosen[0].contains("train.batch = 512, train.accumulate = 1, train.recompute = \"none\""),
        "{said}"
    );
    let (fine, said) = fitted("100KiB", &batch, false);
    assert!(!fine && said.contains("--fit: even train.batch = 1"), "{said}");
}
