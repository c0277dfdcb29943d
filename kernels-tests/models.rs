//! Whole models: gradients and ten-step losses against PyTorch (`golden/make.py`), gradients against the f64 oracle, and cached against
//! uncached decoding.

use std::path::Path;
use std::sync::Arc;

use engine::batch::{Inputs, Outputs};
use engine::datasets::SampleStream;
use engine::datasets::integer_sequences::{Sequence, Sizes, sample};
use engine::datasets::matrix::{Matrix, Values};
use engine::datasets::next_vectors::{VectorData, VectorSet};
use engine::generate::{Decoder, Sampling, Strategy};
use engine::gpu::{Role, Target};
use engine::harness::model::check_model;
use engine::kernels::State;
use engine::kernels::metrics::StepRecord;
use engine::losses::{LossKind, TargetVectors, Targets, VectorLossConfig};
use engine::models::initial_weights;
use engine::plan::{Arena, Flat, LayoutOptions, Memory, Plan, Program};
use engine::problem::{Loaded, Problem};
use engine::registry::Config;
use engine::registry::DataConfig;
use engine::session::Session;
use engine::tasks::{IntegerScorecard, Purpose, Scorecard, sequence_batch};
use safetensors::SafeTensors;

use crate::program::{gpu, plain_gpu};
use crate::runner::tests;

tests![
    run_files_of_vectors_are_what_their_table_says,
    pytorch_agrees_on_next_vector_models,
    pytorch_agrees_on_mamba2,
    pytorch_agrees_on_every_loss_term,
    the_oracle_agrees_on_next_vector_models,
    parameter_counts_are_exact,
    pytorch_agrees,
    the_whole_gradient_agrees_with_the_oracle,
    cached_and_uncached_decoding_give_the_same_logits,
    stacks_continue_sequences_as_they_evaluate_them,
    metrics_of_sequences_are_means_of_their_rows,
    beams_agree_with_exhaustive_search,
    decoders_share_weights,
    ledger_and_estimate_agree_to_the_byte,
    a_lost_device_is_an_error,
];

const RUNS: [(&str, usize); 2] = [("integer_sequences", 1156), ("integer_sequences_d64", 133_504)];

pub(crate) fn config(name: &str, set: &[&str]) -> Config {
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    Config::load(Path::new(&format!("data/runs/{name}.toml")), &set).unwrap()
}

/// The problem of a run, as yet without its data.
pub(crate) fn opened(config: &Config) -> Problem {
    Problem::open(config, Purpose::Train).unwrap()
}

/// The problem of a run whose data are generated.
fn generated(config: &Config) -> Loaded {
    opened(config).load().unwrap().0
}

/// Runs of next-vector models: parameters at dim = 768 and context = 5, and the sizes of their goldens.
const VECTOR_RUNS: [(&str, usize, &[&str]); 11] = [
    ("lvm_mlp", 4_720_384, &["model.hidden=32", "model.dropout=0"]),
    ("lvm_transformer", 13_659_904, &["model.width=32", "model.heads=4", "model.layers=2", "model.feed_forward=48", "model.dropout=0"]),
    ("lvm_lstm", 17_581_824, &["model.hidden=20", "model.dropout=0"]),
    (
        "lvm_transformer_infonce",
        17_867_520,
        // The cycle penalty falls on random batches; it has a golden of its own.
        &[
            "model.width=64",
            "model.heads=4",
            "model.layers=2",
            "model.feed_forward=16",
            "model.dropout=0",
            "loss={kind='vectors',infonce={weight=1.0,temperature=0.07}}",
        ],
    ),
    ("lvm_lstm_small", 5_384_448, &["model.hidden=16", "model.dropout=0"]),
    ("lvm_gru", 7_359_232, &["model.width=16", "model.layers=2"]),
    ("lvm_amn", 1_510_912, &["model.width=16", "model.hidden=32"]),
    ("lvm_lstm_unified", 5_120_768, &["model.hidden=20"]),
    ("lvm_gru_unified", 7_095_552, &["model.width=16", "model.layers=2"]),
    // Chunks that do not divide the context, heads that share their keys.
    ("lvm_mamba2", 7_667_136, &["model.width=12", "model.layers=2", "model.mixer={state=5,head=6,groups=2,chunk=2}"]),
    ("lvm_mamba2_unified", 7_403_456, &["model.width=16", "model.layers=2", "model.mixer={state=4,head=8,conv=3}"]),
];

pub(crate) fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("kernels-tests/golden/{name}.safetensors")).unwrap()
}

pub(crate) fn floats(file: &SafeTensors, key: &str) -> Vec<f32> {
    bytemuck::pod_collect_to_vec::<u8, f32>(file.tensor(key).unwrap().data())
}

/// Ten batches of a golden as one set, visited in order.
fn golden_set(file: &SafeTensors) -> VectorSet {
    let shape = file.tensor("contexts").unwrap().shape().to_vec();
    let matrix = |key: &str, cols: usize| Matrix::new(Values::F32(floats(file, key)), cols);
    VectorSet::of(matrix("contexts", shape[2] * shape[3]), matrix("targets", shape[3]), shape[2], shape[3])
}

fn vector_problem(name: &str, sizes: &[&str], file: &SafeTensors) -> (Config, Loaded) {
    let mut set = vec!["train.batch=6", "schedule.kind=constant", "train.shuffle=false", "data.dim=24"];
    set.extend(sizes);
    let config = config(name, &set);
    let train = golden_set(file);
    let data = VectorData { validation: train.clone(), train, ood: None };
    let DataConfig::Vectors(of) = &config.data else { panic!("{name} is no run on vectors") };
    let problem = Loaded::holding(&config, of.holding(&config.settings(), data).unwrap()).unwrap();
    (config, problem)
}

/// The table of `data/README.md` against the run files: a recipe that drifts is another experiment.
fn run_files_of_vectors_are_what_their_table_says() {
    let text = std::fs::read_to_string("data/README.md").unwrap();
    let mut told = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `runs/lvm_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let run = cells[0].trim_matches('`').trim_start_matches("runs/").trim_end_matches(".toml");
        let config = config(run, &[]);
        let DataConfig::Vectors(data) = &config.data else { panic!("{run} is no run on vectors") };
        let loss = serde_json::to_value(&config.loss).unwrap();
        let mut terms: Vec<(String, f64)> =
            loss.as_object().unwrap().iter().filter_map(|(name, term)| Some((name.clone(), term["weight"].as_f64()?))).collect();
        let mut wanted: Vec<(String, f64)> = cells[3]
            .split(" + ")
            .map(|term| term.split_once(' ').map_or((term.into(), 1.0), |(weight, name)| (name.into(), weight.parse().unwrap())))
            .collect();
        terms.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(terms, wanted, "{run}: loss");
        let plan = opened(&config).record_evaluation(Target::default()).unwrap().0;
        let word = |value: serde_json::Value| value.as_str().unwrap().to_string();
        let rate: f64 = cells[4].split_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(config.optimizer.learning_rate, rate, "{run}: learning rate");
        assert_eq!(config.optimizer.weight_decay > 0.0, cells[4].starts_with("adamw"), "{run}: weight decay");
        let found = [
            plan.parameter_count().to_string(),
            word(serde_json::to_value(config.optimizer.kind).unwrap()),
            word(serde_json::to_value(config.schedule.kind).unwrap()),
            config.train.batch.to_string(),
            config.train.epochs.to_string(),
            config.optimizer.clip_norm.to_string(),
            word(serde_json::to_value(data.split).unwrap()),
            config.validation.select.clone(),
        ];
        let said = [&cells[2].replace(',', ""), cells[4].split(' ').next().unwrap()].map(str::to_string);
        let said: Vec<String> = said.into_iter().chain(cells[5..].iter().map(|c| c.to_string())).collect();
        assert_eq!(found.to_vec(), said, "{run}");
        told.insert(run.to_string());
    }
    let there = std::fs::read_dir("data/runs").unwrap().map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    let there: std::collections::BTreeSet<String> = there.filter(|run| run.starts_with("lvm_") && run != "lvm_stack").collect();
    assert_eq!(told, there, "the table and data/runs hold different runs");
}

/// Outputs, gradients tensor by tensor, and ten losses against PyTorch (`golden/make_lvm.py`), for data on the device and streamed.
fn pytorch_agrees_on_next_vector_models() {
    agrees_on(|name| !name.contains("mamba2"));
}

/// The same of Mamba-2, whose chunks are its recurrence.
fn pytorch_agrees_on_mamba2() {
    agrees_on(|name| name.contains("mamba2"));
}

fn agrees_on(wanted: fn(&str) -> bool) {
    for (name, _, sizes) in VECTOR_RUNS.into_iter().filter(|(name, ..)| wanted(name)) {
        let bytes = golden(name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for budget in [8 << 30, 0] {
            // An evaluation takes its samples from the host: those of the first step.
            let (config, mut problem) = vector_problem(name, sizes, &file);
            let first = problem.batches(0).unwrap().remove(0);
            problem.place(gpu().target, budget).unwrap();
            assert_eq!(problem.resident(), budget > 0);
            let session = golden_session(name, &problem, &file);
            let outputs = session.outputs(&first).unwrap();
            for (got, want) in outputs.iter().zip(floats(&file, "outputs")) {
                assert!((got - want).abs() <= 1e-5, "{name}: output {got}, PyTorch {want}");
            }
            agrees_with_golden(name, &config, &mut problem, &session, &file);
        }
    }
}

/// A training session with the weights of a golden; both have the same tensors.
pub(crate) fn golden_session(name: &str, problem: &Loaded, file: &SafeTensors) -> Session {
    let session = problem.training(&gpu()).unwrap();
    let plan = &session.step().unwrap().0.plan;
    let mut weights = vec![0.0; plan.flat_len()];
    for p in plan.parameters() {
        weights[p.offset..p.offset + p.len()].copy_from_slice(&floats(file, &format!("weights.{}", p.name)));
    }
    let given = file.names().iter().filter(|n| n.starts_with("weights.")).count();
    assert_eq!(given, plan.parameters().len(), "{name}: other tensors than PyTorch's");
    session.arena.write_flat(Flat::Parameters, &weights).unwrap();
    session
}

/// Gradients of the first batch tensor by tensor, and ten losses.
pub(crate) fn agrees_with_golden(name: &str, config: &Config, problem: &mut Loaded, session: &Session, file: &SafeTensors) {
    let (program, io) = session.step().unwrap();
    let batch = problem.batches(0).unwrap().remove(0);
    session.write(program, &io.feed, &batch, State { scale: 1.0, ..State::default() }).unwrap();
    program.run(program.gradients()).unwrap();
    let got = session.arena.read_flat(Flat::Gradients).unwrap();
    let (mut errors, mut norms) = (0.0, 0.0);
    for p in program.plan.parameters() {
        let want = floats(file, &format!("gradients.{}", p.name));
        let (mut error, mut norm) = (0.0, 0.0);
        for (g, w) in got[p.offset..].iter().zip(&want) {
            error += f64::from(g - w).powi(2);
            norm += f64::from(*w).powi(2);
        }
        // Softmax ignores what all keys share: the gradient of their bias is a rounding error, in PyTorch as well.
        let rounding = norm < 1e-24;
        assert!(rounding || error / norm <= 1e-9, "{name}: {} gradient NMSE {:e}", p.name, error / norm);
        (errors, norms) = (errors + error, norms + norm);
    }
    assert!(errors / norms <= 1e-9, "{name}: gradient NMSE {:e}", errors / norms);

    session.arena.write_flat(Flat::Gradients, &vec![0.0; got.len()]).unwrap();
    let losses: Vec<f64> = bytemuck::pod_collect_to_vec(file.tensor("losses").unwrap().data());
    for (step, want) in losses.into_iter().enumerate() {
        let mut state = State { slot: step as u32, ..State::default() };
        config.optimizer.fill(&mut state, config.optimizer.learning_rate);
        let index = session.submit_step(&problem.batches(step as u64).unwrap(), state, step as u64, 1).unwrap();
        session.arena.gpu.wait(index).unwrap();
        let records = session.records().unwrap();
        let loss = StepRecord::of(&records, step).mean(0);
        assert!((loss - want).abs() <= 1e-5 * want, "{name} step {step}: loss {loss}, PyTorch {want}");
    }
}

/// Each term by itself, value and gradient, against PyTorch: through a plan whose model passes its input on.
fn pytorch_agrees_on_every_loss_term() {
    let bytes = golden("lvm_losses");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    // The golden's anchors are all training targets here; of the cycle, each prediction's own image is, and is reached.
    let anchors = rows_of(&floats(&file, "anchors"));
    let images = rows_of(&normalised(&floats(&file, "r")));
    let statistics = [floats(&file, "train_mean"), floats(&file, "train_std")].map(|v| v.into_iter().map(f64::from).collect());
    for (term, text) in [
        ("mse_raw", "mse = { weight = 1.0, on = \"raw\" }"),
        ("mse_normalized", "mse = { weight = 1.0, on = \"normalized\" }"),
        ("cosine", "cosine = { weight = 1.0 }"),
        ("infonce", "infonce = { weight = 1.0, temperature = 0.07 }"),
        ("moment", "moment = { weight = 1.0 }"),
        ("variance", "variance = { weight = 1.0 }"),
        ("mmd", "mmd = { weight = 1.0, anchors = 9 }"),
        ("stat", "stat = { weight = 1.0 }"),
        ("cycle", "cycle = { weight = 1.0 }"),
    ] {
        let config: VectorLossConfig = toml::from_str(text).unwrap();
        let mut loss = config.build();
        let units = if term == "cycle" { images.clone() } else { anchors.clone() };
        let targets = Targets { count: units.len(), vectors: Some(Arc::new(Given { units, statistics: statistics.clone() })) };
        loss.prepare(&targets, 1).unwrap();
        let mut plan = Plan::training("loss", gpu().target);
        let (x, t) = (plan.persistent(Role::Dataset, "x", &[7, 24]).unwrap(), plan.persistent(Role::Dataset, "t", &[7, 24]).unwrap());
        let recorded = loss.record(&mut plan, &Outputs::only(x), &Inputs::new(7).with("target", t), true).unwrap();
        let (rows, dx) = (recorded.rows, recorded.gradients.unwrap().main);
        plan.keep(rows);
        plan.keep(dx);
        let (memory, lowered) = Memory::of(plan, LayoutOptions::default()).unwrap();
        let arena = Arc::new(Arena::new(gpu(), &memory).unwrap());
        let program = Program::new(lowered, arena).unwrap();
        program.write(x, &floats(&file, "r"));
        program.write(t, &floats(&file, "t"));
        let state = program.plan.find("state").unwrap();
        program.write(state, &[State { rows: 7, scale: 1.0, drawn: 1.0, ..State::default() }]);
        let mut want = floats(&file, &format!("gradients.{term}"));
        let mut value = bytemuck::pod_collect_to_vec::<u8, f64>(file.tensor(&format!("values.{term}")).unwrap().data())[0];
        if term == "cycle" {
            // The golden fixes the vectors to be reached.
            (want, value) = (vec![0.0; 7 * 24], 0.0);
        }
        program.run(program.all()).unwrap();
        let got: Vec<f32> = program.read(dx).unwrap();
        let results: Vec<f32> = program.read(rows).unwrap();
        let mean = results.chunks(3).map(|r| f64::from(r[0])).sum::<f64>() / 7.0;
        assert!((mean - value).abs() <= 2e-6 * value.abs().max(1.0), "{term}: {mean}, PyTorch {value}");
        let error: f64 = got.iter().zip(&want).map(|(g, w)| f64::from(g - w).powi(2)).sum();
        let norm: f64 = want.iter().map(|w| f64::from(*w).powi(2)).sum();
        assert!(error <= 1e-9 * norm.max(1e-6), "{term}: gradient NMSE {:e}", error / norm);
    }
}

/// Training targets of a golden.
#[derive(Debug)]
struct Given {
    units: Vec<Vec<f64>>,
    statistics: [Vec<f64>; 2],
}

impl TargetVectors for Given {
    fn unit(&self, sample: usize) -> Vec<f64> {
        self.units[sample].clone()
    }

    fn statistics(&self) -> [Vec<f64>; 2] {
        self.statistics.clone()
    }
}

fn rows_of(values: &[f32]) -> Vec<Vec<f64>> {
    values.chunks(24).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect()
}

fn normalised(rows: &[f32]) -> Vec<f32> {
    let unit = |row: &[f32]| -> Vec<f32> {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter().map(|v| v / norm).collect()
    };
    rows.chunks(24).flat_map(unit).collect()
}

/// The recorded forward pass of every model and loss, in f64, against the device: dropout included, which PyTorch draws otherwise.
fn the_oracle_agrees_on_next_vector_models() {
    // Networks of several layers, with and without what skips them.
    let deep = ["model.hidden=20", "model.layers=3", "model.activation=silu"];
    let skipping = [&deep[..], &["model.skip=true", "model.residual=true"]].concat();
    let others: [(&str, &[&str]); 2] = [("lvm_mlp", &deep), ("lvm_mlp", &skipping)];
    for (name, sizes) in VECTOR_RUNS.map(|(name, _, sizes)| (name, sizes)).into_iter().chain(others) {
        let mut set: Vec<&str> = vec!["data.dim=24"];
        set.extend(sizes.iter().filter(|s| !s.starts_with("model.dropout")));
        let outcome = check_model(&plain_gpu(), &config(name, &set)).unwrap().unwrap();
        assert!(outcome.nmse <= 1e-9, "{name}: {outcome:?}");
        assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{name}: {outcome:?}");
    }
}

fn parameter_counts_are_exact() {
    let count = |name, set: &[&str]| {
        let config = config(name, set);
        opened(&config).record_training(gpu().target).unwrap().0.parameter_count()
    };
    for (name, parameters) in RUNS {
        assert_eq!(count(name, &[]), parameters);
    }
    assert_eq!(count("integer_sequences", &["model.layers=3"]), 1350);
    for (name, parameters, _) in VECTOR_RUNS {
        assert_eq!(count(name, &["data.dim=768", "data.context=5"]), parameters, "{name}");
    }
}

fn pytorch_agrees() {
    for (name, _) in RUNS {
        let bytes = std::fs::read(format!("kernels-tests/golden/{name}.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |key: &str| bytemuck::pod_collect_to_vec::<u8, f32>(golden.tensor(key).unwrap().data());
        let set = ["train.batch=8", "schedule.kind=constant", "validation.sequences=8"];
        let config = config(name, &set);
        let session = generated(&config).training(&gpu()).unwrap();
        let (program, io) = session.step().unwrap();
        let parameters = program.plan.parameters();
        let mut weights = vec![0.0; program.plan.flat_len()];
        for p in parameters {
            weights[p.offset..p.offset + p.len()].copy_from_slice(&floats(&format!("weights.{}", p.name)));
        }
        session.arena.write_flat(Flat::Parameters, &weights).unwrap();
        let numbers: Vec<i32> = bytemuck::pod_collect_to_vec(golden.tensor("sequences").unwrap().data());
        let batches: Vec<Vec<Sequence>> =
            numbers.chunks(8 * 9).map(|batch| batch.chunks(9).map(|s| s.iter().map(|v| *v as u32).collect()).collect()).collect();

        // Gradients of the first batch.
        session.write(program, &io.feed, &sequence_batch(&batches[0], 8, 8), State { scale: 1.0, ..State::default() }).unwrap();
        program.run(program.gradients()).unwrap();
        let got = session.arena.read_flat(Flat::Gradients).unwrap();
        let (mut error, mut norm) = (0.0, 0.0);
        for p in parameters {
            let want = floats(&format!("gradients.{}", p.name));
            assert!(want.iter().any(|g| *g != 0.0), "{name}: {} has no gradient", p.name);
            for (g, w) in got[p.offset..].iter().zip(&want) {
                error += f64::from(g - w).powi(2);
                norm += f64::from(*w).powi(2);
            }
        }
        assert!(error / norm <= 1e-9, "{name}: gradient NMSE {:e}", error / norm);

        // Ten steps from the same weights.
        session.arena.write_flat(Flat::Gradients, &vec![0.0; weights.len()]).unwrap();
        let losses: Vec<f64> = bytemuck::pod_collect_to_vec(golden.tensor("losses").unwrap().data());
        for (step, batch) in batches.iter().enumerate() {
            let mut state = State { slot: step as u32, ..State::default() };
            config.optimizer.fill(&mut state, 1e-3);
            let index = session.submit_step(&[sequence_batch(batch, 8, 8)], state, step as u64, 1).unwrap();
            session.arena.gpu.wait(index).unwrap();
            let records = session.records().unwrap();
            let loss = StepRecord::of(&records, step).mean(0);
            assert!((loss - losses[step]).abs() <= 1e-5 * losses[step], "{name} step {step}: loss {loss}, PyTorch {}", losses[step]);
        }
    }
}

fn the_whole_gradient_agrees_with_the_oracle() {
    for set in [&[] as &[&str], &["model.dropout=0.2"], &["loss.weight=pure_distance", "model.activation=gelu_tanh"]] {
        for (name, parameters) in RUNS {
            // Dropout of a normalised pair of features leaves gradients that are rounding errors.
            if name == "integer_sequences" && !set.is_empty() {
                continue;
            }
            let outcome = check_model(&plain_gpu(), &config(name, set)).unwrap().unwrap();
            assert_eq!(outcome.weights, parameters);
            assert!(outcome.nmse <= 1e-9 && outcome.dead.is_empty(), "{name} {set:?}: {outcome:?}");
            assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{outcome:?}");
        }
    }
    // Language models of a text, with dropout, tied and not.
    let small = ["data.context=9", "data.vocabulary=21", "model.layers=2", "schedule.kind=constant"];
    for (name, sets) in [
        ("gpt_cpu", &["model.d_model=16", "model.heads=2", "model.dropout=0.2"][..]),
        ("llama_small", &["model.d_model=32", "model.heads=4", "model.kv_heads=2", "model.feed_forward=24"]),
        ("llama_small", &["model.d_model=16", "model.heads=2", "model.kv_heads=2", "model.feed_forward=8", "model.tied=false"]),
        ("mamba2_small", &["model.d_model=12", "model.mixer={state=5,head=6,groups=2,chunk=2}"]),
        ("mamba2_small", &["model.d_model=8", "model.mixer={state=3,head=16,conv=3,chunk=4}", "model.tied=false"]),
    ] {
        let outcome = check_model(&plain_gpu(), &config(name, &[&small[..], sets].concat())).unwrap().unwrap();
        assert!(outcome.nmse <= 1e-9 && outcome.dead.is_empty(), "{name} {sets:?}: {outcome:?}");
        assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{name} {sets:?}: {outcome:?}");
    }
}

/// Of sequences of unequal length, with positions or sequences of the same weight: each metric from the rows of the loss, one by one.
fn metrics_of_sequences_are_means_of_their_rows() {
    let names = ["loss", "cross_entropy", "accuracy", "distance"];
    let small = ["data.shortest=4", "data.transition_epochs=0", "model.d_model=16", "model.feed_forward=16", "model.heads=2"];
    let sequences: Vec<Sequence> = {
        let sizes = Sizes { shortest: 4, ..Sizes::default() };
        (0..250).map(|i| sample(sizes, 3, SampleStream::Test, i, [1.0 / 3.0; 3])).collect()
    };
    let judged = |per: &str| {
        let config = config("integer_sequences_d64", &[&small[..], &[per]].concat());
        let problem = generated(&config);
        let session = problem.training(&gpu()).unwrap();
        // Some training, or nothing would be right.
        let mut data = generated(&config);
        for step in 0..200 {
            let mut state = State { slot: step as u32, ..State::default() };
            config.optimizer.fill(&mut state, 0.01);
            let batches = data.batches(step).unwrap();
            session.submit_step(&batches, state, step, 1).unwrap();
        }
        let card: Box<dyn Scorecard> = problem.scorecard();
        let card: Box<dyn std::any::Any> = card;
        let metrics = card.downcast_ref::<IntegerScorecard>().unwrap().evaluate(&session, &sequences).unwrap();
        let mut rows = vec![];
        for chunk in sequences.chunks(session.batch()) {
            let all = session.evaluate_rows(&sequence_batch(chunk, session.batch(), 8)).unwrap();
            rows.extend(chunk.iter().zip(all.chunks(8)).map(|(sequence, rows)| rows[..sequence.len() - 1].to_vec()));
        }
        (metrics, rows)
    };
    for per in ["loss.per=position", "loss.per=sequence"] {
        let (metrics, rows) = judged(per);
        // The value of a position, without its share of a sequence.
        let value = |rows: &Vec<Vec<f32>>, at: usize, c: usize| {
            f64::from(rows[at][c]) * if per.ends_with("sequence") { rows.len() as f64 } else { 1.0 }
        };
        let near = |name: &str, want: f64| {
            let got = metrics.get(name).unwrap();
            assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{per}: {name} is {got}, by its rows {want}");
        };
        let n = rows.len() as f64;
        for (c, name) in names.into_iter().enumerate() {
            let sums = rows.iter().map(|rows| (0..rows.len()).map(|at| value(rows, at, c)).sum::<f64>());
            near(
                name,
                match per {
                    "loss.per=position" => sums.sum::<f64>() / rows.iter().map(Vec::len).sum::<usize>() as f64,
                    _ => sums.zip(&rows).map(|(sum, rows)| sum / rows.len() as f64).sum::<f64>() / n,
                },
            );
        }
        let last = |c: usize| rows.iter().map(|rows| value(rows, rows.len() - 1, c)).sum::<f64>() / n;
        near("last_accuracy", last(2));
        near("last_distance", last(3));
        let whole = rows.iter().filter(|rows| (0..rows.len()).all(|at| value(rows, at, 2) > 0.5)).count();
        near("sequence_accuracy", whole as f64 / n);
        let first = rows.iter().map(|rows| value(rows, 0, 2)).sum::<f64>() / n;
        assert!(last(2) > 0.0 && last(2) != first, "{per}: nothing is told apart, {} and {first}", last(2));
    }
}

fn cached_and_uncached_decoding_give_the_same_logits() {
    for (name, _) in RUNS {
        let config = config(name, &[]);
        let session = generated(&config).evaluation(&gpu()).unwrap();
        let parameters = session.parameters();
        let weights = initial_weights(parameters, 5);
        session.arena.write_flat(Flat::Parameters, &weights).unwrap();
        let sequence = sample(Sizes::default(), 3, SampleStream::Test, 12, [1.0 / 3.0; 3]);
        assert_eq!(sequence.len(), 9);
        session.evaluate_rows(&sequence_batch(std::slice::from_ref(&sequence), session.batch(), 8)).unwrap();
        let whole: Vec<f32> = session.evaluation().0.read(session.evaluation().1.whole().unwrap()).unwrap();
        let mut decoder = Decoder::new(&opened(&config), &gpu(), 3).unwrap();
        decoder.load(&weights).unwrap();
        decoder.reset();
        for position in 0..8 {
            decoder.feed(&[sequence[position]; 3]).unwrap();
            for row in decoder.logits().unwrap() {
                for (cached, uncached) in row.iter().zip(&whole[position * 256..]) {
                    assert!((cached - uncached).abs() <= 1e-5 * uncached.abs().max(1.0), "{name} {position}: {cached} {uncached}");
                }
            }
        }
    }
}

/// A stack of Mamba-2, fed one position at a time, in chunks, or in both, gives what it gives for whole sequences, and goes on past their
/// length; beams find what they find without a cache. With attention in it, or positions, it ends where they do.
fn stacks_continue_sequences_as_they_evaluate_them() {
    const CONTEXT: usize = 70;
    let mixer = |groups| {
        let sizes = format!("state=5,head=8,groups={groups},chunk=16");
        format!("{{kind='residual',layers=[{{kind='rms_norm'}},{{kind='mamba2',{sizes}}}]}}")
    };
    let endless = format!("{{kind='embedding',features=16,positions=false}},{},{},{{kind='gelu'}},{{kind='linear'}}", mixer(2), mixer(1));
    let attention = "{kind='transformer_block',heads=2,feed_forward=8,causal=true}";
    let limited = format!("{{kind='embedding',features=16}},{},{attention},{{kind='linear'}}", mixer(1));
    let alone = "{kind='embedding',features=16,positions=false},{kind='linear'}".to_string();
    for (layers, limit) in [(endless, None), (limited, Some(CONTEXT)), (alone, None)] {
        let data = format!("[data]\nkind=\"integer_sequences\"\ncontext={CONTEXT}\nvalues=4000\n[loss]\nkind=\"cross_entropy\"\n");
        let text = format!("[model]\nkind=\"stack\"\nlayers=[{layers}]\n{data}[validation]\nsequences=1\n");
        let config = Config::parse(&text, "stack.toml", &[]).unwrap();
        let session = generated(&config).evaluation(&gpu()).unwrap();
        let weights = initial_weights(session.parameters(), 5);
        session.arena.write_flat(Flat::Parameters, &weights).unwrap();
        let sequence: Vec<u32> = (0..=CONTEXT as u32).map(|i| i * i % 97 * 40 + i).collect();
        session.evaluate_rows(&sequence_batch(std::slice::from_ref(&sequence), session.batch(), CONTEXT)).unwrap();
        let whole: Vec<f32> = session.evaluation().0.read(session.evaluation().1.whole().unwrap()).unwrap();
        let mut decoder = Decoder::new(&opened(&config), &gpu(), 3).unwrap();
        decoder.load(&weights).unwrap();
        assert_eq!(decoder.limit(), limit);
        // Position by position, and a chunk of 64 with single positions after it.
        for prompt in [0, CONTEXT - 3] {
            decoder.reset();
            if prompt > 0 {
                decoder.prefill(&vec![sequence[..prompt].to_vec(); 3]).unwrap();
            }
            for position in prompt..CONTEXT {
                decoder.feed(&[sequence[position]; 3]).unwrap();
                for row in decoder.logits().unwrap() {
                    let expected = &whole[position * 4000..][..4000];
                    let off = row.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
                    assert!(off <= 1e-5, "{layers} at {position}: {off}");
                }
            }
        }
        let mut found = |naive: bool, strategy, prompt: usize| {
            decoder.naive = naive;
            decoder.generate(&sequence[..prompt], 8, strategy).unwrap()
        };
        assert_eq!(found(false, Strategy::Beam(3), 5), found(true, Strategy::Beam(3), 5), "{layers}");
        if limit.is_none() {
            assert_eq!(found(false, Strategy::Greedy, CONTEXT - 3), found(true, Strategy::Greedy, CONTEXT - 3), "{layers}");
        }
    }
}

/// Decoders of several widths that are made together continue as those that are made alone, in turn, and hold the weights once.
fn decoders_share_weights() {
    let config = config("integer_sequences_d64", &[]);
    let problem = opened(&config);
    let gpu = gpu();
    let weights = |decoder: &Decoder| initial_weights(decoder.plan().parameters(), 5);
    let together = Decoder::sharing_weights(&problem, &gpu, &[1, 3]).unwrap();
    let held = gpu.ledger();
    let [mut one, mut three] = <[Decoder; 2]>::try_from(together).unwrap();
    one.load(&weights(&one)).unwrap();
    let alone = |batch: usize| {
        let decoder = Decoder::new(&problem, &gpu, batch).unwrap();
        decoder.load(&weights(&decoder)).unwrap();
        decoder
    };
    let (mut other_one, mut other_three) = (alone(1), alone(3));
    let after = gpu.ledger();
    assert_eq!(after.of(Role::Parameters), 3 * held.of(Role::Parameters));
    assert_eq!(after.of(Role::KvCache), 2 * held.of(Role::KvCache));
    for decoder in [&mut one, &mut three, &mut other_one, &mut other_three] {
        decoder.reset();
    }
    for step in 0..5 {
        for (shares, alone, tokens) in [(&mut three, &mut other_three, &[step, 7, 2 * step][..]), (&mut one, &mut other_one, &[3 * step])] {
            shares.feed(tokens).unwrap();
            alone.feed(tokens).unwrap();
            assert!(shares.logits().unwrap() == alone.logits().unwrap(), "step {step}, {} rows", tokens.len());
        }
    }
}

/// A beam of one is greedy; a beam as wide as the vocabulary finds the likeliest pair; both go on past the context.
fn beams_agree_with_exhaustive_search() {
    let config = config("integer_sequences_d64", &[]);
    let weights = |decoder: &Decoder| initial_weights(decoder.plan().parameters(), 5);
    let decoder = |batch: usize| {
        let decoder = Decoder::new(&opened(&config), &gpu(), batch).unwrap();
        decoder.load(&weights(&decoder)).unwrap();
        decoder
    };
    let prompt = [1, 2, 4, 8, 16, 32];
    let greedy = decoder(1).generate(&prompt, 6, Strategy::Greedy).unwrap();
    assert_eq!(decoder(1).generate(&prompt, 6, Strategy::Beam(1)).unwrap(), greedy);
    assert!(decoder(1).search(&prompt, 6, || false).unwrap().is_empty(), "a search goes on that nobody wants");
    assert_eq!(greedy.len(), 6);
    let mut naive = decoder(1);
    naive.naive = true;
    assert_eq!(naive.generate(&prompt, 6, Strategy::Greedy).unwrap(), greedy);

    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let lse = logits.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        logits.iter().map(|v| f64::from(*v) - lse).collect()
    };
    let mut all = decoder(256);
    all.reset();
    for v in prompt {
        all.feed(&[v; 256]).unwrap();
    }
    let first = log_softmax(&all.logits().unwrap()[0]);
    all.feed(&Vec::from_iter(0..256)).unwrap();
    let second: Vec<Vec<f64>> = all.logits().unwrap().iter().map(|row| log_softmax(row)).collect();
    let pairs = (0..256 * 256).map(|i| (first[i / 256] + second[i / 256][i % 256], i));
    let best = pairs.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1 as u32;
    assert_eq!(decoder(256).generate(&prompt, 2, Strategy::Beam(256)).unwrap(), vec![best / 256, best % 256]);
    // Wider than the vocabulary: no other than the widest.
    assert_eq!(decoder(300).generate(&prompt, 2, Strategy::Beam(300)).unwrap(), vec![best / 256, best % 256]);
    let drawn =
        |seed| decoder(1).generate(&prompt, 6, Strategy::Sampling(Sampling { temperature: 1.0, seed, top_k: None, top_p: None })).unwrap();
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

/// Sums in memory: the estimate, the ledger and what wgpu's allocator handed out.
fn ledger_and_estimate_agree_to_the_byte() {
    for (name, _) in RUNS {
        let config = config(name, &[]);
        let fresh = Arc::new(engine::gpu::Gpu::open(None).unwrap());
        let report = opened(&config).place(fresh.target, 8 << 30).unwrap().memory.report;
        let _session = generated(&config).training(&fresh).unwrap();
        assert_eq!(fresh.ledger().total(), report.total_bytes, "{name}");
        for role in engine::gpu::Role::ALL {
            assert_eq!(fresh.ledger().of(role), report.bytes_by_role.get(&role.to_string()).copied().unwrap_or(0), "{name} {role}");
        }
        let allocations = fresh.allocator_report();
        if !allocations.is_empty() {
            let memory = opened(&config).place(fresh.target, 8 << 30).unwrap().memory;
            let ours = |n: &str| n == "image" || memory.buffers.iter().any(|b| b.name == n);
            let named: u64 = allocations.iter().filter(|(n, _)| ours(n)).map(|(_, b)| b).sum();
            // Drivers round each buffer up to their alignment.
            let most = report.total_bytes + 256 * memory.buffers.len() as u64 + 65_536 * memory.images.len() as u64;
            assert!((report.total_bytes..=most).contains(&named), "{name}: allocator {named}, ledger {}", report.total_bytes);
        }
    }
}

fn a_lost_device_is_an_error() {
    let gpu = Arc::new(engine::gpu::Gpu::open(None).unwrap());
    let problem = generated(&config("integer_sequences", &[]));
    let session = problem.evaluation(&gpu).unwrap();
    gpu.lose();
    let error = problem.scorecard().validate(&session, 1, 1).unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error}");
}
