//! One step in all its forms: in micro-batches, parts of it computed again, kernels in pairs, in 16 bits. Its results are those of the
//! plain step. A test for each kind of run, since what takes time is compiling its kernels, which the forms share. Everyday each run has
//! one pair of precision and target, and four runs in a row have all of them; with `ENGINE_TESTS=all` each has all.

use engine::gpu::Target;
use engine::harness::targets;
use engine::kernels::State;
use engine::kernels::metrics::StepRecord;
use engine::plan::Flat;
use engine::problem::Loaded;

use crate::models::config;
use crate::program::{gpu, plain_gpu};
use crate::runner::{Test, all, note, skip};

/// Runs of every kind, small.
const RUNS: [(&str, &[&str]); 12] = [
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
    ("gpt_cpu", &["model.d_model=32", "model.layers=2", "model.dropout=0.1", "data.context=16", "train.batch=4"]),
    // Grouped queries, and attention of long sequences.
    ("llama_small", &["model.d_model=64", "model.heads=4", "model.layers=2", "model.feed_forward=40", "data.context=40", "train.batch=4"]),
    ("mamba2_small", &["model.d_model=32", "model.layers=2", "model.mixer={state=8,head=16,chunk=8}", "data.context=20", "train.batch=4"]),
];

macro_rules! runs {
    ($($name:ident: $number:literal,)*) => {
        pub(crate) const TESTS: &[Test] =
            &[$(Test { name: concat!(module_path!(), "::", stringify!($name)), run: || forms_of($number) },)*
            Test { name: concat!(module_path!(), "::every_sample_of_a_step_has_the_same_weight"), run: every_sample_of_a_step_has_the_same_weight },
            Test { name: concat!(module_path!(), "::a_head_in_chunks_gives_what_a_whole_one_does"), run: a_head_in_chunks_gives_what_a_whole_one_does },
            Test { name: concat!(module_path!(), "::a_convolution_in_chunks_gives_what_a_whole_one_does"), run: a_convolution_in_chunks_gives_what_a_whole_one_does }];
    };
}

runs! {
    transformer_composite: 1,
    mlp_deep: 0,
    lstm: 2,
    gru: 3,
    amn: 4,
    integer_sequences: 5,
    integer_sequences_of_images: 6,
    mechanism: 7,
    vae: 8,
    gpt: 9,
    llama: 10,
    mamba2: 11,
}

/// What some steps of two micro-batches give: launches of a step, then weights, gradients and records.
struct Step {
    launches: usize,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    records: Vec<f32>,
}

fn steps(target: Target, run: &str, set: &[&str], count: u64) -> Step {
    let config = config(run, &[set, &["train.accumulate=2"]].concat());
    let mut problem = Loaded::made_up(&config, 40).unwrap();
    let session = problem.training_in(problem.placed_for(target).unwrap(), &gpu()).unwrap();
    for step in 0..count {
        let mut state = State { seed: 3, slot: step as u32, ..State::default() };
        config.optimizer.fill(&mut state, 1e-3);
        let batches = problem.batches(step).unwrap();
        session.submit_step(&batches, state, step, 2).unwrap();
    }
    let flat = |flat| session.arena.read_flat(flat).unwrap();
    Step {
        launches: session.step().unwrap().0.plan.launches().count(),
        weights: flat(Flat::Parameters),
        gradients: flat(Flat::Gradients),
        records: session.records().unwrap(),
    }
}

/// ‖a − scale · b‖ / ‖a‖.
fn difference(a: &[f32], b: &[f32], scale: f32) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - scale * b).powi(2)).sum();
    let size: f64 = a.iter().map(|a| f64::from(*a).powi(2)).sum();
    assert!(size > 0.0, "no gradient");
    (error / size).sqrt()
}

fn forms_of(number: usize) {
    let (run, set) = RUNS[number];
    let targets = targets(&gpu());
    let pairs = targets.iter().flat_map(|target| ["f32", "f16"].map(|precision| (precision, *target)));
    let mine = pairs.enumerate().filter(|(pair, _)| all() || pair % 4 == number % 4).map(|(_, pair)| pair);
    let (possible, impossible): (Vec<_>, Vec<_>) = mine.partition(|(precision, _)| *precision == "f32" || gpu().target.half);
    for (precision, target) in &possible {
        recomputation_keeps_the_bits(run, set, precision, *target);
        pairs_compute_what_their_kernels_do_alone(run, set, precision, *target);
        if *precision == "f16" {
            halves_give_the_gradient(run, set, *target);
        }
    }
    if !impossible.is_empty() {
        skip(&format!("{} has no 16-bit floats", gpu().describe()));
    }
}

fn recomputation_keeps_the_bits(run: &str, set: &[&str], precision: &str, target: Target) {
    let [none, light, full] = ["none", "light", "full"].map(|level| {
        let (level, precision) = (format!("train.recompute={level}"), format!("train.precision={precision}"));
        steps(target, run, &[set, &[level.as_str(), precision.as_str()]].concat(), 2)
    });
    note!("{run} in {precision}: {} launches, light {}, full {}", none.launches, light.launches, full.launches);
    assert!(none.weights == light.weights && none.weights == full.weights, "{run} in {precision}: recomputation changes the weights");
    let deep = ["lvm_transformer_composite", "integer_sequences_d64", "mechanism_small", "gpt_cpu", "llama_small"].contains(&run);
    assert!(full.launches > none.launches || !deep, "{run}: nothing is recomputed");
}

fn pairs_compute_what_their_kernels_do_alone(run: &str, set: &[&str], precision: &str, target: Target) {
    let key = format!("train.precision={precision}");
    let set = [set, &[key.as_str()]].concat();
    let alone = steps(Target { pair_flops: 0, ..target }, run, &set, 1);
    let pairs = steps(Target { pair_flops: u64::MAX, ..target }, run, &set, 1);
    note!("{run} in {precision}: {} launches, {} in pairs", alone.launches, pairs.launches);
    assert!(pairs.launches < alone.launches, "{run}: no pairs");
    // Products that share a launch may take more or fewer slices of k.
    let error = difference(&alone.gradients, &pairs.gradients, 1.0);
    let allowed = if precision == "f16" { 1e-3 } else { 1e-6 };
    assert!(error <= allowed, "{run} in {precision}: {error:.1e} of the gradient");
    assert!(!target.software || error == 0.0, "{run} in {precision}: other bits");
}

fn halves_give_the_gradient(run: &str, set: &[&str], target: Target) {
    let exact = steps(target, run, set, 1);
    let half = steps(target, run, &[set, &["train.precision=f16"]].concat(), 1);
    let scale = StepRecord::of(&half.records, 0).loss_scale();
    assert!(scale > 4096.0 && scale < 4100.0, "{run}: scale {scale}");
    let error = difference(&exact.gradients, &half.gradients, 1.0 / scale);
    note!("{run} {set:?} software {}: error {error:.1e} of the gradient in 16 bits", target.software);
    assert!(error > 0.0 && error <= 1e-2, "{run} {set:?}: {error}");
}

/// What is made in chunks where a device binds as little as `small`.
fn chunks_give_what_the_whole_does(run: &str, set: &[&str], target: Target, small: Target) {
    let (whole, parts) = (steps(target, run, set, 1), steps(small, run, set, 1));
    assert!(parts.launches > whole.launches + 3, "{} launches, whole {}", parts.launches, whole.launches);
    let error = difference(&whole.gradients, &parts.gradients, 1.0);
    note!("{run}, software {}: {} launches, whole {}, error {error:.1e}", target.software, parts.launches, whole.launches);
    assert!(error <= 1e-6, "{error:.1e} of the gradient");
    let [loss, expected] = [&parts, &whole].map(|step| StepRecord::of(&step.records, 0).mean(0));
    assert!((loss - expected).abs() <= 1e-6 * expected, "loss {loss}, whole {expected}");
}

/// Convolutions whose surroundings are made again for each chunk of samples.
fn a_convolution_in_chunks_gives_what_a_whole_one_does() {
    const IMAGE: u64 = 8 * 8 * 9 * 5 * 4;
    let layers = "model.layers={kind='convolution',channels=[5,6],kernels=[5,3]}";
    let set = &["data.side=16", "model.latents=4", layers, "train.batch=5", "data.validation_share=0.25"][..];
    for target in targets(&gpu()) {
        // Three images of the second convolution at a time, then two; one of the first.
        chunks_give_what_the_whole_does("linkage_vae_conv", set, target, Target { max_binding: 3 * IMAGE, ..target });
    }
}

/// A tied head whose logits a device does not bind at once: losses, gradients and evaluation are those of the whole, in every form.
fn a_head_in_chunks_gives_what_a_whole_one_does() {
    const ROW: u64 = 101 * 4;
    let (run, set) = ("gpt_cpu", &["data.context=15", "data.vocabulary=101", "model.d_model=32", "model.layers=1", "train.batch=3"][..]);
    for target in targets(&gpu()) {
        // 45 rows in chunks of 12, of which the last has 9.
        let small = Target { max_binding: 13 * ROW, ..target };
        chunks_give_what_the_whole_does(run, set, target, small);
        recomputation_keeps_the_bits(run, set, "f32", small);
        if gpu().target.half {
            recomputation_keeps_the_bits(run, set, "f16", small);
            halves_give_the_gradient(run, set, small);
        }
        let evaluated = |target| {
            let mut problem = Loaded::made_up(&config(run, set), 40).unwrap();
            let session = problem.training_in(problem.placed_for(target).unwrap(), &gpu()).unwrap();
            let batch = problem.batches(0).unwrap().remove(0);
            (session.evaluate_rows(&batch).unwrap().concat(), session.outputs(&batch).is_ok())
        };
        let ((rows, stored), (expected, whole_stored)) = (evaluated(small), evaluated(target));
        assert!(!stored && whole_stored);
        assert!(difference(&expected, &rows, 1.0) <= 1e-6);
    }
}

/// Samples of one step: the gradient of each additive loss is that of one batch, however many micro-batches have them and however long the
/// last one is.
fn every_sample_of_a_step_has_the_same_weight() {
    let gradient = |run: &str, set: &[&str], batch: usize, accumulate: usize| {
        let form = [format!("train.batch={batch}"), format!("train.accumulate={accumulate}")];
        let set = [set, &["train.shuffle=false", "optimizer.clip_norm=0", &form[0], &form[1]]].concat();
        let config = config(run, &set);
        let mut problem = Loaded::made_up(&config, if run == "lvm_mlp" { 12 } else { 16 }).unwrap();
        let session = problem.training(&plain_gpu()).unwrap();
        let batches = problem.batches(0).unwrap();
        let mut state = State { seed: 3, ..State::default() };
        config.optimizer.fill(&mut state, 0.0);
        session.submit_step(&batches, state, 0, accumulate).unwrap();
        let io = &session.step().unwrap().1;
        let counts: Vec<usize> = batches.iter().map(|batch| io.feed.count(batch)).collect();
        let record = session.records().unwrap();
        assert_eq!(StepRecord::of(&record, 0).count(), counts.iter().sum::<usize>() as f64);
        (counts, session.arena.read_flat(Flat::Gradients).unwrap(), StepRecord::of(&record, 0).mean(0))
    };
    let vectors = ["data.dim=24", "model.hidden=16", "model.dropout=0"];
    let raw = [&vectors[..], &["loss={kind='vectors',mse={weight=1.0,on='raw'},cosine={weight=0.3}}"]].concat();
    let positions = ["data.context=16", "data.shortest=4", "data.transition_epochs=0", "model.dropout=0", "loss.per=position"];
    let sequences = [&positions[..4], &["loss.per=sequence"]].concat();
    let losses = [&positions[..], &sequences].map(|set| gradient("integer_sequences_d64", set, 12, 1).2);
    assert!((losses[0] - losses[1]).abs() > 1e-4, "means over positions and over sequences are {losses:?}");
    for (run, set) in [
        ("integer_sequences_d64", &positions[..]),
        ("integer_sequences_d64", &sequences),
        ("mechanism_small", &["model.d_model=32", "model.heads=2", "model.dropout=0", "data.validation_share=0.25"]),
        ("lvm_mlp", &vectors),
        ("lvm_mlp", &raw),
        ("linkage_vae", &["model.noise=false", "data.validation_share=0.25"]),
    ] {
        let (whole, one, loss) = gradient(run, set, 12, 1);
        for (batch, accumulate) in [(1, 12), (5, 3)] {
            // Sequences are made for each step, and their last micro-batch is as long as the others.
            if run.starts_with("integer") && batch == 5 {
                continue;
            }
            let more = [set, if batch == 5 { &["train.drop_last=false"][..] } else { &[] }].concat();
            let (counts, several, mean) = gradient(run, &more, batch, accumulate);
            assert_eq!(counts.iter().sum::<usize>(), whole[0], "{run}: {batch} × {accumulate} takes other samples");
            let alike = counts.iter().all(|n| *n == counts[0]);
            assert!(
                !alike || (["lvm_mlp", "linkage_vae"].contains(&run) || set.contains(&"loss.per=sequence")) && batch == 1,
                "{run} at {batch} × {accumulate}: all parts are alike"
            );
            let error = difference(&one, &several, 1.0);
            note!("{run} at {batch} × {accumulate} {counts:?}: {error:.1e} of the gradient");
            assert!(error <= 1e-6, "{run} {set:?} at {batch} × {accumulate} {counts:?}: {error:.1e} of the gradient");
            assert!((mean - loss).abs() <= 1e-6 * loss.abs(), "{run} at {batch} × {accumulate}: loss {mean}, in one batch {loss}");
        }
    }
}
