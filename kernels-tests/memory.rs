//! Runs made to fit: the same bits from less memory.

use std::path::Path;
use std::process::Command;

use engine::gpu::{Role, Target};
use engine::harness::targets;
use engine::kernels::State;
use engine::kernels::embedding::BackwardPositions;
use engine::kernels::metrics::StepRecord;
use engine::plan::{Dispatch, Flat, Grid, Init, Plan};
use engine::problem::{Loaded, Problem};
use engine::tasks::Purpose;
use engine::train::{Options, load_weights, train};

use crate::kernels::gpu;
use crate::models::config;

const LEVELS: [&str; 3] = ["none", "light", "full"];

/// Runs of every kind, small.
const SMALL: [(&str, &[&str]); 9] = [
    ("lvm_mlp_deep", &["data.dim=24", "train.batch=6"]),
    // Its attention is that of long sequences.
    (
        "lvm_transformer_composite",
        &["data.dim=24", "data.context=40", "model.width=64", "model.heads=2", "model.feed_forward=20", "train.batch=6"],
    ),
    ("lvm_lstm", &["data.dim=24", "model.hidden=16", "train.batch=6"]),
    ("lvm_gru", &["data.dim=24", "model.width=16", "train.batch=6"]),
    ("lvm_amn", &["data.dim=24", "model.width=16", "model.hidden=16", "train.batch=6"]),
    ("integer_sequences_d64", &["train.batch=4", "model.dropout=0.1"]),
    // Tensors that software adapters read as images, once with texels of one number and once of four.
    ("integer_sequences_d64", &["train.batch=33"]),
    ("mechanism_small", &["model.d_model=32", "model.heads=2", "train.batch=6"]),
    ("linkage_vae", &["train.batch=4"]),
];

/// Launches of a step, and weights, gradients and records after so many steps of two micro-batches, with the kernels of a target.
fn steps(target: Target, run: &str, set: &[&str], count: u64) -> (usize, Vec<f32>, Vec<f32>, Vec<f32>) {
    let config = config(run, &[set, &["train.accumulate=2"]].concat());
    let mut problem = Loaded::made_up(&config, 40).unwrap();
    let session = problem.training_for(target, &gpu()).unwrap();
    for step in 0..count {
        let mut state = State { seed: 3, slot: step as u32, ..State::default() };
        config.optimizer.fill(&mut state, step, 1e-3);
        let batches = problem.batches(step).unwrap();
        session.submit_step(&batches, state, step, 2).unwrap();
    }
    let flat = |flat| session.arena.read_flat(flat).unwrap();
    (session.step().unwrap().0.plan.launches().count(), flat(Flat::Parameters), flat(Flat::Gradients), session.records().unwrap())
}

/// Precisions that the device has.
fn precisions() -> Vec<&'static str> {
    if gpu().target.half {
        return vec!["f32", "f16"];
    }
    println!("{} has no 16-bit floats", gpu().describe());
    vec!["f32"]
}

/// Precisions and targets for one of the runs: it has each of both, and two runs in a row have every pair of them.
fn forms(number: usize) -> Vec<(&'static str, Target)> {
    let pairs = precisions().into_iter().enumerate().flat_map(|(p, precision)| {
        targets(&gpu())
            .into_iter()
            .enumerate()
            .filter(move |(t, _)| (p + t + number).is_multiple_of(2))
            .map(move |(_, target)| (precision, target))
    });
    pairs.collect()
}

#[test]
fn recomputation_keeps_the_bits_of_every_kind_of_run() {
    for (number, (run, set)) in SMALL.into_iter().enumerate() {
        for (precision, target) in forms(number) {
            let [none, light, full] = LEVELS.map(|level| {
                let (level, precision) = (format!("train.recompute={level}"), format!("train.precision={precision}"));
                steps(target, run, &[set, &[level.as_str(), precision.as_str()]].concat(), 2)
            });
            println!("{run} in {precision}: {} launches, light {}, full {}", none.0, light.0, full.0);
            assert!(none.1 == light.1 && none.1 == full.1, "{run} in {precision}: recomputation changes the weights");
            let deep = ["lvm_transformer_composite", "integer_sequences_d64", "mechanism_small"].contains(&run);
            assert!(full.0 > none.0 || !deep, "{run}: nothing is recomputed");
        }
    }
}

#[test]
fn two_kernels_in_one_launch_compute_what_they_do_alone() {
    for (number, (run, set)) in SMALL.into_iter().enumerate() {
        for (precision, target) in forms(number) {
            let precision_key = format!("train.precision={precision}");
            let set = [set, &[precision_key.as_str()]].concat();
            let alone = steps(Target { pair_flops: 0, ..target }, run, &set, 1);
            let pairs = steps(Target { pair_flops: u64::MAX, ..target }, run, &set, 1);
            println!("{run} in {precision}: {} launches, {} in pairs", alone.0, pairs.0);
            assert!(pairs.0 < alone.0, "{run}: no pairs");
            // Products that share a launch may take more or fewer slices of k.
            let error: f64 = alone.2.iter().zip(&pairs.2).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let size: f64 = alone.2.iter().map(|a| f64::from(*a).powi(2)).sum();
            let allowed = if precision == "f16" { 1e-3 } else { 1e-6 };
            assert!(size > 0.0 && error.sqrt() <= allowed * size.sqrt(), "{run} in {precision}: {error} of {size}");
            assert!(!target.software || error == 0.0, "{run} in {precision}: other bits");
        }
    }
}

#[test]
fn gradients_in_16_bits_are_those_of_32() {
    if precisions().len() == 1 {
        return;
    }
    let mut wrong = Vec::new();
    let half_forms = |number| forms(number).into_iter().filter(|(precision, _)| *precision == "f16");
    for ((run, set), (_, target)) in SMALL.into_iter().enumerate().flat_map(|(number, run)| half_forms(number).map(move |form| (run, form)))
    {
        let (_, _, exact, _) = steps(target, run, set, 1);
        let (_, _, half, records) = steps(target, run, &[set, &["train.precision=f16"]].concat(), 1);
        let scale = StepRecord::of(&records, 0).loss_scale();
        assert!(scale > 4096.0 && scale < 4100.0, "{run}: scale {scale}");
        let error: f64 = exact.iter().zip(&half).map(|(a, b)| f64::from(a - b / scale).powi(2)).sum();
        let size: f64 = exact.iter().map(|a| f64::from(*a).powi(2)).sum();
        println!("{run} {set:?} software {}: error {:.1e} of the gradient", target.software, (error / size).sqrt());
        if !(error > 0.0 && error <= 1e-4 * size) {
            wrong.push(format!("{run} {set:?}: {error} of {size}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn half_precision_halves_what_layers_store() {
    for run in ["mechanism_phase1", "mechanism_small", "lvm_transformer", "lvm_lstm"] {
        let bytes = |precision: &str| {
            let config = config(run, &[&format!("train.precision={precision}")]);
            let memory = Problem::open(&config, Purpose::Train).unwrap().place(Target::default(), u64::MAX).unwrap();
            memory.report.bytes_by_role["activations"] as f64
        };
        let share = bytes("f16") / bytes("f32");
        assert!(share <= 0.6, "{run}: {share}");
    }
    let target = Target { half: false, ..Target::default() };
    let refused = Problem::open(&config("lvm_mlp", &["train.precision=f16"]), Purpose::Train).unwrap().record_training(target).unwrap_err();
    assert!(refused.exit_code() == 2 && refused.to_string().contains("16-bit floats"), "{refused}");
}

#[test]
fn a_sum_that_nobody_clears_is_refused() {
    let plan = || {
        let mut plan = Plan::training("sums", gpu().target);
        let weight = plan.parameter("weight", &[128], Init::Zeros).unwrap();
        (plan.persistent(Role::Dataset, "dy", &[3, 128]).unwrap(), weight, plan)
    };
    let (dy, weight, mut first) = plan();
    let gradient = first.gradient(weight).unwrap();
    let write = Dispatch::new("activation/forward", "own").bind("x", dy).bind("y", gradient).size("n", 128);
    let error = first.record(write, Grid::Threads(128)).unwrap_err();
    assert!(error.to_string().contains("grad.weight is a sum that nobody clears"), "{error}");
    let (dy, weight, mut second) = plan();
    let part = second.part(weight, 0, &[64]).unwrap();
    let (half, whole) = (second.gradient(part).unwrap(), second.gradient(weight).unwrap());
    BackwardPositions { dy, dpositions: half, batch: 6, n: 64 }.record(&mut second, "part").unwrap();
    let error = BackwardPositions { dy, dpositions: whole, batch: 3, n: 128 }.record(&mut second, "whole").unwrap_err();
    assert!(error.to_string().contains("64 of its 128 numbers"), "{error}");
}

#[test]
fn a_run_in_16_bits_resumes_with_its_loss_scale() {
    if precisions().len() == 1 {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config =
        config("integer_sequences_d64", &["train.precision=f16", "train.batch=4", "train.steps_per_epoch=3", "validation.sequences=4"]);
    let run = |name: &str, steps: u64, resume: bool| {
        let options = Options { out: folder.path().join(name), steps: Some(steps), resume, quiet: true, ..Options::default() };
        train(Problem::open(&config, Purpose::Train).unwrap(), &options).unwrap();
    };
    run("whole", 5, false);
    run("parts", 2, false);
    run("parts", 5, true);
    let plan = Problem::open(&config, Purpose::Train).unwrap().record_evaluation(gpu().target).unwrap().0;
    let [whole, parts] = ["whole", "parts"].map(|name| {
        let file = folder.path().join(name).join("checkpoints/step-000000005.safetensors");
        load_weights(&file, plan.parameters()).unwrap()
    });
    assert!(whole == parts, "the weights differ");
}

#[test]
fn recomputation_saves_what_it_says() {
    let bytes = |run: &str, level: &str, batch: &str| {
        let config = config(run, &[&format!("train.recompute={level}"), batch]);
        let memory = Problem::open(&config, Purpose::Train).unwrap().place(Target::default(), u64::MAX).unwrap();
        // Buffers hold little more than what lives at once; two kernels in one launch need more places at a time.
        let (pooled, live) = (memory.report.bytes_by_role["activations"] as f64, memory.report.peak_live_bytes as f64);
        assert!(pooled <= 1.25 * live, "{run} {level}: {pooled} bytes of buffers for {live}");
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
fn a_loss_that_compares_samples_keeps_its_batch() {
    let of = |loss: &str| {
        let set = ["data.dim=16", "model.hidden=16", "train.batch=64", &format!("loss={{kind='vectors',{loss}}}")];
        let problem = Loaded::made_up(&config("lvm_mlp", &set), 80).unwrap();
        problem.loss().columns().compares
    };
    for (loss, compares) in [
        ("mse={weight=1.0}", false),
        ("cosine={weight=1.0},cycle={weight=0.1}", false),
        ("infonce={weight=1.0}", true),
        ("cosine={weight=1.0},infonce={weight=0.0}", false),
        ("mse={weight=1.0},mmd={weight=1.0,anchors=8}", true),
        ("mse={weight=1.0},moment={weight=1.0}", true),
        ("cosine={weight=1.0},variance={weight=1.0}", true),
        ("cosine={weight=1.0},stat={weight=1.0}", true),
    ] {
        assert_eq!(of(loss), compares, "{loss}");
    }
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
