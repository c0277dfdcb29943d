//! Runs made to fit: what less memory takes, and what `--fit` chooses.

use engine::gpu::{Role, Target, add_source};
use engine::kernels::State;
use engine::kernels::embedding::BackwardPositions;
use engine::kernels::metrics::StepRecord;
use engine::plan::{Dispatch, Flat, Grid, Init, Plan, Program};
use engine::problem::{Loaded, Problem};
use engine::session::Carried;
use engine::tasks::Purpose;
use engine::train::{Options, Weights, train};

use crate::models::config;
use crate::program::{gpu, host, plain_gpu, run};
use crate::runner::{note, skip, tests};

tests![
    half_precision_halves_what_layers_store,
    a_sum_that_nobody_clears_is_refused,
    a_kernel_of_ones_own_stays_in_its_tensors,
    a_run_in_16_bits_resumes_with_its_loss_scale,
    a_run_in_16_bits_finds_its_loss_scale,
    skipped_updates_do_not_count_for_adam,
    recomputation_saves_what_it_says,
    a_loss_that_compares_samples_keeps_its_batch,
    a_run_that_does_not_fit_is_made_to,
    evaluation_batches_are_as_large_as_fits,
];

const LEVELS: [&str; 3] = ["none", "light", "full"];

/// Skips the test where there are no 16-bit floats.
fn expect_halves() {
    if !gpu().target.half {
        skip(&format!("{} has no 16-bit floats", gpu().describe()));
    }
}

fn half_precision_halves_what_layers_store() {
    for run in ["mechanism_phase1", "mechanism_small", "lvm_transformer", "lvm_lstm"] {
        let bytes = |precision: &str| {
            let config = config(run, &[&format!("train.precision={precision}")]);
            let memory = Problem::open(&config, Purpose::Train).unwrap().place(Target::default(), u64::MAX).unwrap().memory;
            memory.report.bytes_by_role["activations"] as f64
        };
        let share = bytes("f16") / bytes("f32");
        assert!(share <= 0.6, "{run}: {share}");
    }
    let target = Target { half: false, ..Target::default() };
    let refused = Problem::open(&config("lvm_mlp", &["train.precision=f16"]), Purpose::Train).unwrap().record_training(target).unwrap_err();
    assert!(refused.exit_code() == 2 && refused.to_string().contains("16-bit floats"), "{refused}");
}

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

fn a_run_in_16_bits_resumes_with_its_loss_scale() {
    expect_halves();
    let folder = tempfile::tempdir().unwrap();
    let config =
        config("integer_sequences_d64", &["train.precision=f16", "train.batch=4", "train.steps_per_epoch=3", "validation.sequences=250"]);
    let run = |name: &str, steps: u64, resume: bool| {
        let options =
            Options { out: folder.path().join(name), steps: Some(steps), resume, quiet: true, host: host(), ..Options::default() };
        train(Problem::open(&config, Purpose::Train).unwrap(), &options).unwrap();
    };
    run("whole", 5, false);
    run("parts", 2, false);
    run("parts", 5, true);
    let plan = Problem::open(&config, Purpose::Train).unwrap().record_evaluation(gpu().target).unwrap().0;
    let [whole, parts] = ["whole", "parts"].map(|name| {
        let file = folder.path().join(name).join("checkpoints/step-000000005.safetensors");
        Weights::open(&file).and_then(|mut file| file.load(plan.parameters())).unwrap()
    });
    assert!(whole == parts, "the weights differ");
}

/// Nobody has compared such a kernel with a reference: what it writes beyond its weight does not reach the next one.
fn a_kernel_of_ones_own_stays_in_its_tensors() {
    const BEYOND: &str = "// uses: common/grid\nconst WG: u32 = 64u;\nstruct Params { n: u32 }\nvar<immediate> p: Params;\n\
        @group(0) @binding(0) var<storage, read_write> w: array<f32>;\n@compute @workgroup_size(WG)\n\
        fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {\n\
        let i = flat_group(group, groups) * WG + local;\nif (i < p.n) { w[i] = 7.0; }\n}\n";
    add_source("beyond/write", BEYOND).unwrap();
    let mut plan = Plan::training("beyond", gpu().target);
    let [own, next] = ["own", "next"].map(|name| plan.parameter(name, &[64], Init::Zeros).unwrap());
    let dispatch = Dispatch::new("beyond/write", "own").bind("w", own).size("n", 128);
    plan.record(dispatch, Grid::Threads(128)).unwrap();
    assert!(plan.entries()[0].shader.foreign);
    let program = Program::alone(plan, &gpu()).unwrap().0;
    program.arena().write_flat(Flat::Parameters, &[1.0; 128]).unwrap();
    program.run(program.all()).unwrap();
    assert_eq!(program.read::<f32>(own).unwrap(), [7.0; 64]);
    assert_eq!(program.read::<f32>(next).unwrap(), [1.0; 64]);
}

/// Ten halvings are not enough here, and are no reason to give up.
fn a_run_in_16_bits_finds_its_loss_scale() {
    expect_halves();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let set =
        ["train.precision=f16", "loss={kind='vectors',mse={weight=2e7,on='raw'}}", "train.batch=8", "model.hidden=16", "data.split=random"];
    let config = config("lvm_mlp", &[&set[..], &["data.file=data/samples/wikitext_minilm_small.npz"]].concat());
    let options = Options { out: out.clone(), steps: Some(40), quiet: true, host: host(), ..Options::default() };
    train(Problem::open(&config, Purpose::Train).unwrap(), &options).unwrap();
    let log = std::fs::read_to_string(out.join("train.log")).unwrap();
    let skipped = log.matches("the gradient is too large for 16 bits: update skipped").count();
    assert!(skipped > 10 && !log.contains("in a row"), "{log}");
}

/// The bias corrections of Adam count updates, not steps: after steps that were skipped, and that this skips, too.
fn skipped_updates_do_not_count_for_adam() {
    let config = config("lvm_mlp", &["data.dim=24", "model.hidden=16", "model.dropout=0", "train.batch=8"]);
    let weights = |skips: u64, updates: u64| {
        let mut problem = Loaded::made_up(&config, 40).unwrap();
        let session = problem.training(&plain_gpu()).unwrap();
        let batches = problem.batches(0).unwrap();
        let first = session.arena.read_flat(Flat::Parameters).unwrap();
        if updates > skips {
            session.carry_on(0, Carried { skipped: false, loss_scale: 1.0, updates: updates - skips }).unwrap();
        }
        let step = |step: u64, rate: f64| {
            let mut state = State { slot: step as u32, ..State::default() };
            config.optimizer.fill(&mut state, rate);
            session.submit_step(&batches, state, step, 1).unwrap();
        };
        for skip in 0..skips {
            session.arena.write_flat(Flat::Parameters, &vec![f32::NAN; first.len()]).unwrap();
            step(skip, 1e-3);
            assert!(StepRecord::of(&session.records().unwrap(), skip as usize).skipped());
        }
        session.arena.write_flat(Flat::Parameters, &first).unwrap();
        step(skips, 1e-3);
        session.arena.read_flat(Flat::Parameters).unwrap()
    };
    let once = weights(0, 0);
    assert!(once == weights(9, 0), "nine skipped updates change the tenth");
    assert!(once != weights(0, 9), "the number of updates has no effect");
}

fn recomputation_saves_what_it_says() {
    let bytes = |run: &str, level: &str, batch: &str| {
        let config = config(run, &[&format!("train.recompute={level}"), batch]);
        let memory = Problem::open(&config, Purpose::Train).unwrap().place(Target::default(), u64::MAX).unwrap().memory;
        // Buffers hold little more than what lives at once; two kernels in one launch need more places at a time.
        let (pooled, live) = (memory.report.bytes_by_role["activations"] as f64, memory.report.peak_live_bytes as f64);
        assert!(pooled <= 1.25 * live, "{run} {level}: {pooled} bytes of buffers for {live}");
        live
    };
    for run in ["mechanism_phase1", "lvm_transformer", "mechanism_phase3"] {
        let [none, light, full] = LEVELS.map(|level| bytes(run, level, "train.batch=512"));
        note!("{run}: light {:.2}, full {:.2} of the memory", light / none, full / none);
        assert!(light <= 0.85 * none && full <= 0.4 * none, "{run}: {none} {light} {full}");
    }
}

/// What `engine train --fit` says that it chose, and what the run's configuration has.
fn fitted(budget: &str, set: &[&str], resume: bool) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let (mut said, mut fine) = (String::new(), true);
    for resume in if resume { vec![false, true] } else { vec![false] } {
        let steps = if resume { "2" } else { "1" };
        let mut args = vec!["train", "--fit", "--steps", steps, "--budget", budget, "data/runs/integer_sequences_d64.toml", "--out", &out];
        set.iter().for_each(|item| args.extend(["--set", item]));
        args.extend(resume.then_some("--resume"));
        let (code, _, text) = run(&args);
        fine &= code == 0;
        said += &text;
    }
    (fine, said)
}

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

fn a_run_that_does_not_fit_is_made_to() {
    let batch = ["train.batch=512", "validation.sequences=250"];
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

/// Sequences are judged one by one, so a smaller budget takes fewer of them at a time, down to one, and the figures stay.
fn evaluation_batches_are_as_large_as_fits() {
    let config = config("integer_sequences_d64", &["train.batch=1", "data.context=32", "data.values=1024"]);
    let target = gpu().target;
    let judged = |budget: u64| {
        let mut problem = Problem::open(&config, Purpose::Train).unwrap();
        let bytes = problem.place(target, budget).unwrap().memory.report.total_bytes;
        let problem = problem.load().unwrap().0;
        let session = problem.training(&gpu()).unwrap();
        (bytes, session.batch(), problem.scorecard().validate(&session, 0, 1).unwrap().get("loss").unwrap())
    };
    let (whole, batch, loss) = judged(u64::MAX);
    assert_eq!(batch, 256);
    let (half, batch, of_half) = judged(whole - 1);
    assert!(half < whole && batch == 128 && (loss - of_half).abs() < 1e-6 * loss, "{half} of {whole}, {batch}: {of_half}, {loss}");
    let (least, batch, _) = judged(1);
    assert!(batch == 1 && least < whole / 4, "{least} of {whole}");
    // Not one buffer may be larger than the device binds.
    let narrow = Target { max_binding: 8 << 20, ..target };
    let mut problem = Problem::open(&config, Purpose::Train).unwrap();
    let memory = problem.place(narrow, u64::MAX).unwrap().memory;
    assert!(memory.buffers.iter().all(|buffer| buffer.bytes <= 8 << 20));
}
