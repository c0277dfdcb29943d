//! Whole models: gradients and ten-step losses against PyTorch (`golden/make.py`), gradients against the f64 oracle, and cached against
//! uncached decoding.

use std::path::Path;
use std::sync::Arc;

use engine::config::Config;
use engine::datasets::Split;
use engine::datasets::integer_sequences::{CONTEXT, Sequence, sample};
use engine::generate::{Decoder, Strategy};
use engine::harness::model::check_model;
use engine::kernels::State;
use engine::models::initial_weights;
use engine::plan::Flat;
use engine::train::{Session, record_training};
use safetensors::SafeTensors;

use crate::kernels::gpu;

const RUNS: [(&str, usize); 2] = [("integer_sequences", 1156), ("integer_sequences_d64", 133_504)];

fn config(name: &str, set: &[&str]) -> Config {
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    Config::load(Path::new(&format!("data/runs/{name}.toml")), &set).unwrap()
}

#[test]
fn parameter_counts_are_exact() {
    let count = |name, set: &[&str]| record_training(&config(name, set), gpu().target).unwrap().0.parameter_count();
    for (name, parameters) in RUNS {
        assert_eq!(count(name, &[]), parameters);
    }
    assert_eq!(count("integer_sequences", &["model.layers=3"]), 1350);
}

#[test]
fn pytorch_agrees() {
    for (name, _) in RUNS {
        let bytes = std::fs::read(format!("kernels-tests/golden/{name}.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |key: &str| bytemuck::pod_collect_to_vec::<u8, f32>(golden.tensor(key).unwrap().data());
        let set = ["train.batch=8", "schedule.kind=constant", "validation.sequences=8"];
        let config = config(name, &set);
        let session = Session::training(&config, &gpu()).unwrap();
        let (program, tensors) = session.step().unwrap();
        let parameters = program.plan.parameters();
        let mut weights = vec![0.0; program.plan.flat_len()];
        for p in parameters {
            weights[p.offset..p.offset + p.len()].copy_from_slice(&floats(&format!("weights.{}", p.name)));
        }
        session.arena.write_flat(Flat::Parameters, &weights).unwrap();
        let numbers: Vec<i32> = bytemuck::pod_collect_to_vec(golden.tensor("sequences").unwrap().data());
        let batches: Vec<Vec<Sequence>> =
            numbers.chunks(8 * 9).map(|batch| batch.chunks(9).map(|s| std::array::from_fn(|i| s[i] as u8)).collect()).collect();

        // Gradients of the first batch.
        let part = |from: usize| -> Vec<u32> { batches[0].iter().flat_map(|s| s[from..from + 8].iter().map(|v| u32::from(*v))).collect() };
        program.write(tensors.tokens, &part(0));
        program.write(tensors.targets, &part(1));
        program.write(tensors.state, &[State { rows: 64, ..State::default() }]);
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
            config.optimizer.fill(&mut state, step as u64, 1e-3);
            let index = session.submit_step(std::slice::from_ref(batch), state, step as u64).unwrap();
            session.arena.gpu.wait(index).unwrap();
            let records: Vec<f32> = program.read(tensors.records).unwrap();
            let loss = f64::from(records[step * 16]) / f64::from(records[step * 16 + 8]);
            assert!((loss - losses[step]).abs() <= 1e-5 * losses[step], "{name} step {step}: loss {loss}, PyTorch {}", losses[step]);
        }
    }
}

#[test]
fn the_whole_gradient_agrees_with_the_oracle() {
    for set in [&[] as &[&str], &["model.dropout=0.2"], &["loss.weight=pure_distance", "model.activation=gelu_tanh"]] {
        for (name, parameters) in RUNS {
            // Dropout of a normalised pair of features leaves gradients that are rounding errors.
            if name == "integer_sequences" && !set.is_empty() {
                continue;
            }
            let outcome = check_model(&gpu(), &config(name, set)).unwrap();
            assert_eq!(outcome.weights, parameters);
            assert!(outcome.nmse <= 1e-9 && outcome.dead.is_empty(), "{name} {set:?}: {outcome:?}");
            assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{outcome:?}");
        }
    }
}

#[test]
fn cached_and_uncached_decoding_give_the_same_logits() {
    for (name, _) in RUNS {
        let config = config(name, &[]);
        let session = Session::evaluation(&config, &gpu()).unwrap();
        let parameters = session.evaluate.0.plan.parameters();
        let weights = initial_weights(parameters, 5);
        session.arena.write_flat(Flat::Parameters, &weights).unwrap();
        let sequence = sample(3, Split::Test, 11, [1.0 / 3.0; 3]);
        session.evaluate_rows(&[sequence]).unwrap();
        let whole: Vec<f32> = session.evaluate.0.read(session.evaluate.1.logits).unwrap();
        let mut decoder = Decoder::new(&config, &gpu(), 3).unwrap();
        decoder.load(&weights).unwrap();
        decoder.reset();
        for position in 0..CONTEXT {
            decoder.feed(&[u32::from(sequence[position]); 3]).unwrap();
            for row in decoder.logits().unwrap() {
                for (cached, uncached) in row.iter().zip(&whole[position * 256..]) {
                    assert!((cached - uncached).abs() <= 1e-5 * uncached.abs().max(1.0), "{name} {position}: {cached} {uncached}");
                }
            }
        }
    }
}

/// A beam of one is greedy; a beam as wide as the vocabulary finds the likeliest pair; both go on past the context.
#[test]
fn beams_agree_with_exhaustive_search() {
    let config = config("integer_sequences_d64", &[]);
    let weights = |decoder: &Decoder| initial_weights(decoder.plan().parameters(), 5);
    let decoder = |batch: usize| {
        let decoder = Decoder::new(&config, &gpu(), batch).unwrap();
        decoder.load(&weights(&decoder)).unwrap();
        decoder
    };
    let prompt = [1, 2, 4, 8, 16, 32];
    let greedy = decoder(1).generate(&prompt, 6, Strategy::Greedy).unwrap();
    assert_eq!(decoder(1).generate(&prompt, 6, Strategy::Beam(1)).unwrap(), greedy);
    assert_eq!(greedy.len(), 6);

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
    let drawn = |seed| decoder(1).generate(&prompt, 6, Strategy::Temperature(1.0, seed)).unwrap();
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

/// Sums in memory: the estimate, the ledger and what wgpu's allocator handed out.
#[test]
fn ledger_and_estimate_agree_to_the_byte() {
    for (name, _) in RUNS {
        let config = config(name, &[]);
        let fresh = Arc::new(engine::gpu::Gpu::open(None).unwrap());
        let report = engine::train::memory(&config, fresh.target).unwrap().report;
        let _session = Session::training(&config, &fresh).unwrap();
        assert_eq!(fresh.ledger().total(), report.total_bytes, "{name}");
        for role in engine::gpu::Role::ALL {
            assert_eq!(fresh.ledger().of(role), report.bytes_by_role.get(&role.to_string()).copied().unwrap_or(0), "{name} {role}");
        }
        let allocations = fresh.allocator_report();
        if !allocations.is_empty() {
            let memory = engine::train::memory(&config, fresh.target).unwrap();
            let ours = |n: &str| n == "image" || memory.buffers.iter().any(|b| b.name == n);
            let named: u64 = allocations.iter().filter(|(n, _)| ours(n)).map(|(_, b)| b).sum();
            // Drivers round each buffer up to their alignment.
            let most = report.total_bytes + 256 * memory.buffers.len() as u64 + 65_536 * memory.images.len() as u64;
            assert!((report.total_bytes..=most).contains(&named), "{name}: allocator {named}, ledger {}", report.total_bytes);
        }
    }
}

#[test]
fn a_lost_device_is_an_error() {
    let gpu = Arc::new(engine::gpu::Gpu::open(None).unwrap());
    let session = Session::evaluation(&config("integer_sequences", &[]), &gpu).unwrap();
    gpu.lose();
    let error = session.evaluate_rows(&[[0; 9]]).unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error}");
}
