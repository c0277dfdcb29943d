//! Pages for browsers: that their folders are whole and say the same as the engine. `make test-web` opens in Chromium what `write` leaves
//! under `target/web-test`, and compares it with what this machine's driver makes of the same plans.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::export::browser;
use engine::gpu::Gpu;
use engine::harness::FAMILIES;
use engine::kernels::metrics::StepRecord;
use engine::plan::{Flat, Program};
use engine::problem::{Loaded, Problem};
use engine::ranks::Ranks;
use engine::registry::Config;
use engine::session::Plans;
use engine::tasks::Purpose;
use engine::train::Weights;

use crate::models::config;
use crate::program::{gpu, run};
use crate::runner::tests;

tests![
    a_folder_is_whole_and_says_what_the_engine_does,
    constants_and_micro_batches_are_written,
    a_card_page_has_cases_of_every_family,
    a_trained_model_answers_with_the_weights_that_it_needs,
    what_cannot_be_a_page_is_refused,
];

/// Where the files of `write` go: `web.py` looks for them there.
const FOLDER: &str = "target/web-test";
const RUN: &str = "data/runs/integer_sequences_d64.toml";
/// A short warm-up, so that fifty steps move the weights; and few sequences a step, as a software adapter is slow with kernels for cards.
const SET: [&str; 3] = ["schedule.warmup_steps=10", "train.batch=4", "validation.sequences=4"];
const STEPS: u64 = 50;
/// A sequence of which the browser predicts the next number.
const NUMBERS: [u32; 5] = [3, 6, 9, 12, 15];

/// The run for the page with this number of steps, as arguments.
fn of_run(steps: &'static str, set: &[&'static str]) -> Vec<&'static str> {
    [RUN, "--steps", steps].into_iter().chain(set.iter().flat_map(|set| ["--set", *set])).collect()
}

/// The first steps of a run as the engine trains them, with the browser's plan: losses, weights, and the seconds of a step.
fn trained(config: &Config, gpu: &Arc<Gpu>, steps: u64) -> (Vec<f64>, Vec<f32>, f64) {
    let (mut problem, _): (Loaded, _) = Problem::open(config, Purpose::Train).unwrap().load().unwrap();
    let (train, evaluate) = (problem.record_training(browser()).unwrap(), problem.record_evaluation(browser()).unwrap());
    let placed = Plans { train: Some(train), evaluate, decode: None }.place(Ranks::default()).unwrap();
    let session = problem.training_in(placed, gpu).unwrap();
    let settings = problem.settings.clone();
    let total = settings.train.epochs * problem.source().steps_per_epoch();
    let mut started = Instant::now();
    for step in 0..steps {
        let rate = settings.schedule.learning_rate(settings.optimizer.learning_rate, step, total, settings.train.epochs);
        let state = problem.state(step, rate);
        let batches = problem.batches(step).unwrap();
        let queued = session.submit_step(&batches, state, step, settings.train.accumulate).unwrap();
        if step == 0 {
            // The first is slower than the others.
            gpu.wait(queued).unwrap();
            started = Instant::now();
        }
    }
    let records = session.records().unwrap();
    let seconds = started.elapsed().as_secs_f64() / (steps - 1) as f64;
    let losses = (0..steps as usize).map(|step| StepRecord::of(&records, step).mean(0)).collect();
    (losses, session.arena.read_flat(Flat::Parameters).unwrap(), seconds)
}

/// Trains a run for some steps, and writes the page on which it answers, with these further options.
fn write_prediction(folder: &Path, run_file: &str, set: &[&str], page: &str, more: &[&str]) {
    let (runs, page) = (folder.join("runs").join(page), folder.join(page));
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let train = [&["train", run_file, "--steps", "2", "--out", runs.to_str().unwrap()], &set[..]].concat();
    let export = [&["export", runs.to_str().unwrap(), "--web", page.to_str().unwrap(), "--predict"], more].concat();
    for args in [&train[..], &export[..]] {
        let (code, _, wrong) = run(args);
        assert_eq!(code, 0, "{args:?}: {wrong}");
    }
}

/// The pages of an autoencoder of linkages, and of mechanisms with its latents, after two steps each.
fn write_linkages(folder: &Path) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let succeeds = |args: &[&str]| {
        let (code, _, wrong) = run(args);
        assert_eq!(code, 0, "{args:?}: {wrong}");
    };
    let of_file = |name: &str| format!("data.file={}", path(name));
    succeeds(&["data", "linkages", "--count", "100", "--out", &path("linkages.npz")]);
    let dense = ["model.latents=3", "model.layers={kind=\"dense\",hidden=16}", "train.batch=16", &of_file("linkages.npz")];
    write_prediction(folder, "data/runs/linkage_vae.toml", &dense, "picture", &[]);
    succeeds(&["encode", &path("runs/picture"), "--data", &path("linkages.npz"), "--out", &path("mechanisms.npz")]);
    let small = ["model.d_model=32", "model.heads=4", "model.feed_forward=40", "train.batch=16", &of_file("mechanisms.npz")];
    let curve = ["--autoencoder", &path("runs/picture")];
    write_prediction(folder, "data/runs/mechanism_small.toml", &small, "mechanism", &curve);
}

/// A latent and a type, and the joints that `engine predict` says of them; none after the last.
fn predicted_mechanism(folder: &Path) -> serde_json::Value {
    let (latents, kind, file) = ([0.5, -1.0, 0.25], 3, folder.join("mechanism.jsonl"));
    fs::write(&file, serde_json::json!({ "latents": latents, "types": kind }).to_string()).unwrap();
    let (code, line, wrong) = run(&["predict", folder.join("runs/mechanism").to_str().unwrap(), "--data", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{wrong}");
    let predicted: serde_json::Value = serde_json::from_str(&line).unwrap();
    serde_json::json!({ "latents": latents, "type": kind, "joints": predicted["output"] })
}

/// What a run of integer sequences says of some numbers: the logits of the last of them.
fn predicted(config: &Config, weights: &Path, gpu: &Arc<Gpu>, numbers: &[u32]) -> Vec<f32> {
    let problem = Problem::open(config, Purpose::Predict).unwrap();
    let (plan, io) = problem.record_prediction(browser(), 1).unwrap();
    let weights = Weights::of_run(weights, "last").unwrap().load(plan.parameters()).unwrap();
    let (program, _) = Program::alone(plan, gpu).unwrap();
    program.arena().write_flat(Flat::Parameters, &weights).unwrap();
    let tokens = io.feed.input("tokens").unwrap();
    let mut words = vec![0; program.plan.len(tokens)];
    words[..numbers.len()].copy_from_slice(numbers);
    program.write(tokens, &words);
    program.run(program.all()).unwrap();
    let logits: Vec<f32> = program.read(io.output).unwrap();
    let classes = logits.len() / words.len();
    logits[(numbers.len() - 1) * classes..numbers.len() * classes].to_vec()
}

/// Writes pages for the browser, and what this machine's driver makes of the same plans.
pub(crate) fn write() {
    let (folder, gpu) = (Path::new(FOLDER), gpu());
    let mut expected = write_run(folder, &gpu, ("50", STEPS), &SET);
    write_prediction(folder, RUN, &SET, "predict", &[]);
    let logits = predicted(&config("integer_sequences_d64", &SET), &folder.join("runs/predict"), &gpu, &NUMBERS);
    expected.extend([("numbers".into(), NUMBERS.to_vec().into()), ("logits".into(), logits.into())]);
    write_linkages(folder);
    expected.insert("mechanism".into(), predicted_mechanism(folder));
    fs::write(folder.join("expected.json"), serde_json::Value::from(expected).to_string()).unwrap();
}

/// The same of few steps of a smaller run and the page of a card.
pub(crate) fn write_part() {
    let (folder, gpu) = (Path::new(FOLDER), gpu());
    let expected = write_run(folder, &gpu, ("4", 4), &[&SET[..], &["model.layers=1"]].concat());
    fs::write(folder.join("expected.json"), serde_json::Value::from(expected).to_string()).unwrap();
}

/// Writes the page of a run into a new folder, beside that of a card, and gives what this machine's driver makes of its steps.
fn write_run(
    folder: &Path,
    gpu: &Arc<Gpu>,
    (text, steps): (&'static str, u64),
    set: &[&'static str],
) -> serde_json::Map<String, serde_json::Value> {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    let (page, card) = (format!("{FOLDER}/run"), format!("{FOLDER}/card"));
    for args in [[&["export", "--web", &page], &of_run(text, set)[..]].concat(), vec!["card", "--web", &card]] {
        let (code, said, wrong) = run(&args);
        assert_eq!(code, 0, "{wrong}");
        print!("{said}");
    }
    let (losses, weights, seconds) = trained(&config("integer_sequences_d64", set), gpu, steps);
    fs::write(folder.join("weights.bin"), bytemuck::cast_slice(&weights)).unwrap();
    [("device", gpu.describe().into()), ("losses", losses.into()), ("seconds", seconds.into())]
        .map(|(name, value): (&str, serde_json::Value)| (name.to_string(), value))
        .into_iter()
        .collect()
}

/// The plan in a folder.
fn plan_of(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(folder.join("plan.json")).unwrap()).unwrap()
}

/// The plan of a folder that `engine export` writes with these arguments.
fn exported(folder: &Path, args: &[&str]) -> serde_json::Value {
    let (code, _, wrong) = run(&[&["export", "--web", folder.to_str().unwrap()], args].concat());
    assert_eq!(code, 0, "{wrong}");
    plan_of(folder)
}

fn number(value: &serde_json::Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Fails unless all that a plan names is there, and every part lies in its buffer.
fn expect_whole(folder: &Path, plan: &serde_json::Value) {
    let list = |of: &serde_json::Value| of.as_array().unwrap().clone();
    let mut named = BTreeSet::from(["index.html", "style.css", "page.js", "replay.js", "plan.json"].map(String::from));
    for file in list(&plan["files"]) {
        let name = file[0].as_str().unwrap();
        assert_eq!(fs::metadata(folder.join(name)).unwrap().len() as usize, number(&file[1]), "{name}");
        named.insert(name.to_string());
    }
    let names = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect::<Vec<_>>();
    let own = names(folder).into_iter().filter(|entry| entry.path().is_file()).map(|entry| entry.file_name().into_string().unwrap());
    let kernels = names(&folder.join("kernels")).into_iter().map(|entry| format!("kernels/{}", entry.file_name().to_str().unwrap()));
    assert_eq!(own.chain(kernels).collect::<BTreeSet<_>>(), named);
    let sizes: Vec<usize> = list(&plan["buffers"]).iter().map(|buffer| number(&buffer["bytes"])).collect();
    let fits = |part: &serde_json::Value| number(&part["offset"]) + number(&part["bytes"]) <= sizes[number(&part["buffer"])];
    for launch in list(&plan["launches"]) {
        let kernel = plan["kernels"][number(&launch["kernel"])].as_str().unwrap();
        let text = fs::read_to_string(folder.join(kernel)).unwrap();
        let bindings = list(&launch["bindings"]);
        assert!(!bindings.is_empty() && bindings.iter().all(fits), "{launch}");
        assert_eq!(text.matches("@binding(").count(), bindings.len(), "{kernel}");
        assert_eq!(text.contains("var<immediate>"), !list(&launch["immediates"]).is_empty(), "{kernel}");
        assert!(list(&launch["immediates"]).len() <= 16 && bindings.len() <= 10, "{launch}");
    }
    let steps = &plan["steps"];
    let stride: usize = list(&steps["writes"]).iter().map(|part| number(&part["bytes"])).sum();
    let micro_batches: usize = list(&steps["micro_batches"]).iter().map(number).sum();
    assert_eq!(fs::metadata(folder.join("steps.bin")).unwrap().len() as usize, stride * micro_batches);
    let samples = &plan["samples"];
    let parts = list(&steps["writes"]).into_iter().chain(list(&plan["fills"])).chain([plan["weights"].clone(), plan["records"].clone()]);
    let parts = parts.chain(list(&samples["launches"]).into_iter().flat_map(|launch| list(&launch["bindings"])));
    let parts = parts.chain([samples["tokens"].clone(), samples["logits"].clone()]);
    assert!(list(&samples["sequences"]).iter().all(|sequence| list(sequence).len() == 9), "{}", samples["sequences"]);
    parts.for_each(|part| assert!(fits(&part), "{part}"));
}

fn a_folder_is_whole_and_says_what_the_engine_does() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    let plan = exported(&page, &of_run("3", &SET));
    expect_whole(&page, &plan);
    assert_eq!(plan["steps"]["micro_batches"], serde_json::json!([1, 1, 1]));
    assert_eq!(plan["parameters"], 133_504);
    let replay = fs::read_to_string(page.join("replay.js")).unwrap();
    assert!(replay.lines().count() <= 300, "replay.js has {} lines", replay.lines().count());
    // The state of a step ends what is written before it: the learning rate is the eighth of its eleven words.
    let steps: Vec<u32> = bytemuck::pod_collect_to_vec(&fs::read(page.join("steps.bin")).unwrap());
    let rates = steps.chunks_exact(steps.len() / 3).map(|step| f32::from_bits(step[step.len() - 4]));
    assert_eq!(rates.collect::<Vec<_>>(), [1e-4, 2e-4, 3e-4]);
    let problem = Problem::open(&config("integer_sequences_d64", &SET), Purpose::Train).unwrap();
    let mut problem: Loaded = problem.load().unwrap().0;
    for (step, words) in steps.chunks_exact(steps.len() / 3).enumerate() {
        let batch = &problem.batches(step as u64).unwrap()[0];
        assert_eq!(words[..words.len() - 11], [batch.words("tokens"), batch.words("targets")].concat());
    }
    let weights = engine::models::initial_weights(problem.record_training(browser()).unwrap().0.parameters(), 1);
    assert_eq!(fs::read(page.join("weights.bin")).unwrap(), bytemuck::cast_slice::<f32, u8>(&weights));
}

fn constants_and_micro_batches_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    let set = ["train.accumulate=2", "train.batch=16", "optimizer.decay=\"matrices\""].map(|set| ["--set", set]).concat();
    let plan = exported(&page, &[&[RUN, "--steps", "2"], &set[..]].concat());
    expect_whole(&page, &plan);
    assert_eq!(plan["steps"]["micro_batches"], serde_json::json!([2, 2]));
    assert!(number(&plan["gradients"]) < plan["launches"].as_array().unwrap().len());
    // 1 where a weight decays, 0 where it does not, for each 64 weights.
    let factors: Vec<f32> = bytemuck::pod_collect_to_vec(&fs::read(page.join("constant-0.bin")).unwrap());
    assert!(factors.len() == 133_504 / 64 && [0.0, 1.0].iter().all(|value| factors.contains(value)), "{factors:?}");
}

fn a_card_page_has_cases_of_every_family() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    let (code, said, wrong) = run(&["card", "--web", page.to_str().unwrap()]);
    assert_eq!(code, 0, "{wrong}");
    assert!(said.contains("cases of"), "{said}");
    let card: serde_json::Value = serde_json::from_slice(&fs::read(page.join("card.json")).unwrap()).unwrap();
    let list = |of: &serde_json::Value| of.as_array().unwrap().clone();
    let cases = fs::read(page.join("cases.bin")).unwrap();
    let names: Vec<String> = list(&card["families"]).iter().map(|family| family["name"].as_str().unwrap().into()).collect();
    assert_eq!(names, FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>());
    let mut used = BTreeSet::new();
    for family in list(&card["families"]) {
        let name = &family["name"];
        assert!(!list(&family["cases"]).is_empty(), "{name}");
        for case in list(&family["cases"]) {
            let sizes: Vec<usize> = list(&case["buffers"]).iter().map(|buffer| number(&buffer["bytes"])).collect();
            let fits = |part: &serde_json::Value| number(&part["offset"]) + number(&part["bytes"]) <= sizes[number(&part["buffer"])];
            for launch in list(&case["launches"]) {
                assert!(list(&launch["bindings"]).iter().all(fits), "{name}: {launch}");
                let kernel = card["kernels"][number(&launch["kernel"])].as_str().unwrap().to_string();
                used.insert(kernel.split_once('-').unwrap().1.to_string());
            }
            let outputs = list(&case["outputs"]);
            assert!(!outputs.is_empty(), "{name}: {}", case["spec"]);
            for part in list(&case["inputs"]).iter().chain(&outputs) {
                assert!(fits(part) && number(&part["at"]) + number(&part["bytes"]) <= cases.len(), "{name}: {part}");
            }
        }
    }
    // All that is listed is there, and nothing else but the page.
    for file in list(&card["files"]) {
        assert_eq!(fs::metadata(page.join(file[0].as_str().unwrap())).unwrap().len() as usize, number(&file[1]), "{file}");
    }
    for run in list(&card["runs"]) {
        assert!(page.join(run["folder"].as_str().unwrap()).join("plan.json").is_file(), "{run}");
    }
    // A pass that browsers never run, as it is for processors, has no kernel here.
    let families: BTreeSet<&str> = used.iter().map(|kernel| kernel.split('-').next().unwrap()).collect();
    assert!(families.len() >= FAMILIES.len() - 1 && used.len() > 60, "{used:?}");
}

fn a_trained_model_answers_with_the_weights_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    write_prediction(folder.path(), RUN, &SET, "numbers", &[]);
    let plan = plan_of(&folder.path().join("numbers"));
    assert_eq!(plan["asked"], serde_json::json!({ "kind": "numbers", "context": 8, "classes": 256 }));
    assert_eq!(plan["step"], 2);
    write_linkages(folder.path());
    let plan = plan_of(&folder.path().join("picture"));
    assert_eq!(plan["asked"], serde_json::json!({ "kind": "picture", "latents": 3, "side": 64 }));
    assert_eq!((number(&plan["input"]["bytes"]), number(&plan["output"]["bytes"])), (12, 4 * 64 * 64));
    // The encoder's weights stay away: 64² × 16 of them and more.
    let weights = fs::metadata(folder.path().join("picture/weights.bin")).unwrap().len() as usize;
    assert!(weights >= 4 * (64 * 64 * 17 + 16 * 4) && weights < 4 * number(&plan["parameters"]) - 4 * 64 * 64 * 16, "{weights}");
    // A mechanism has the types and some latents of its file, and the decoder of the pictures beside it.
    let page = folder.path().join("mechanism");
    let (plan, curve) = (plan_of(&page), plan_of(&page.join("curve")));
    let asked = &plan["asked"];
    assert!(asked["kind"] == "mechanism" && asked["latents"] == 3 && asked["stops"] == true, "{asked}");
    assert_eq!(
        asked["types"][0],
        serde_json::json!({
            "number": 0, "name": "four bar", "links": [[0, 2], [2, 3, 4], [1, 3]], "ground": [0, 1], "joints": 5,
        })
    );
    assert!(asked["types"].as_array().unwrap().len() == 8 && asked["samples"].as_array().unwrap().len() == 6, "{asked}");
    assert!(asked["deviation"][0].as_f64().unwrap() > 1.5 && asked["frame"][0] == 11.0, "{asked}");
    assert_eq!((number(&plan["decoding"]["positions"]), number(&plan["output"]["bytes"])), (10, 12));
    assert_eq!(fs::metadata(page.join("positions.bin")).unwrap().len() as usize, 10 * number(&plan["decoding"]["state"]["bytes"]));
    assert!(plan["curve"] == "curve" && curve["asked"]["kind"] == "picture", "{curve}");
    for file in curve["files"].as_array().unwrap() {
        assert!(page.join("curve").join(file[0].as_str().unwrap()).is_file(), "{file}");
    }
    // Not every run is an autoencoder, nor one with these latents.
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for (run_folder, autoencoder, says) in [
        ("runs/mechanism", "runs/numbers", "it is no autoencoder of images"),
        ("runs/picture", "runs/picture", "it draws the curves of a run of mechanisms"),
        ("runs/mechanism", "runs/none", "none is no run folder"),
    ] {
        let (code, _, said) = run(&["export", &path(run_folder), "--web", &path("no"), "--predict", "--autoencoder", &path(autoencoder)]);
        assert!([2, 66].contains(&code) && said.contains(says) && !Path::new(&path("no")).exists(), "{autoencoder}: {code} {said}");
    }
}

fn what_cannot_be_a_page_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    fs::write(path("file"), "text").unwrap();
    let refused = |args: &[&str], want: (i32, &str)| {
        let (code, _, said) = run(&[&["export"], args].concat());
        assert!(code == want.0 && said.contains(want.1), "{args:?}: {code} {said}");
    };
    let page = path("page");
    refused(&[RUN, "--web", &path("")], (73, "is not empty: name a new folder"));
    refused(&[RUN, "--web", &path("file")], (73, "cannot create"));
    refused(&[RUN, "--web", &page, "--steps", "0"], (2, "Record at least one"));
    refused(&[RUN, "other", "--web", &page], (2, "name one run"));
    refused(&[RUN, "--web", &page, "--f16"], (2, "cannot be used with"));
    refused(&[RUN, "--web", &page, "--set", "train.precision=f16"], (2, "16-bit"));
    refused(&[&path("none.toml"), "--web", &page], (66, "none.toml"));
    refused(&[RUN, &path("x.onnx"), "--steps", "3"], (2, "--web"));
    refused(&[RUN, &path("x.onnx"), "--predict"], (2, "--web"));
    refused(&[RUN, "--web", &page, "--predict"], (2, "a RUN.toml has learnt nothing"));
    // A run folder keeps what it has, whether it is named itself or a folder in it.
    let trained = path("run");
    let vectors = ["--set", "data.values=64", "--set", "train.batch=4", "--set", "validation.sequences=4"];
    assert_eq!(run(&[&["train", RUN, "--steps", "1", "--out", &trained], &vectors[..]].concat()).0, 0);
    let names = || fs::read_dir(&trained).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = names();
    refused(&[&trained, "--web", &trained], (73, "is not empty: name a new folder"));
    refused(&[RUN, "--web", &trained], (73, "is not empty: name a new folder"));
    refused(&[&trained, "--web", &format!("{trained}/page")], (73, "lies in the run's own folder"));
    refused(&[&trained, "--web", &format!("{trained}/a/page"), "--predict"], (73, "lies in the run's own folder"));
    assert_eq!(names(), before);
    assert!(!Path::new(&page).exists());
    let (code, _, said) = run(&["card", "--web", &path("")]);
    assert!(code == 73 && said.contains("is not empty: name a new folder"), "{code} {said}");
}
