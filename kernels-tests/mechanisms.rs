//! Mechanisms and the VAE before them: PyTorch goldens (`golden/make_mechanism.py`, Hugging Face's Llama), the f64 oracle, decoding, and
//! the commands in a row.

use std::any::Any;
use std::cell::RefCell;
use std::path::Path;

use engine::datasets::images::ImageData;
use engine::datasets::matrix::Values;
use engine::datasets::mechanisms::{JOINTS, MechanismData};
use engine::datasets::npz::Npz;
use engine::harness::model::check_model;
use engine::models::initial_weights;
use engine::plan::Flat;
use engine::problem::Loaded;
use engine::registry::DataConfig;
use engine::tasks::MechanismScorecard;
use engine::train::Weights;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::models::{agrees_with_golden, config, floats, golden, golden_session, opened};
use crate::program::{gpu, plain_gpu, process_with, run};

use crate::runner::tests;

tests![
    parameter_counts_are_those_of_the_original_without_its_unused_row,
    pytorch_and_hugging_face_agree,
    pytorch_agrees_on_the_vaes,
    the_convolutional_vae_has_the_parameters_of_its_twin,
    the_oracle_agrees,
    cached_generation_equals_uncached,
    the_normalisation_goes_with_the_weights,
    the_chain_from_linkages_to_a_picture,
];

/// Runs and their parameters with 17 types; those with a golden.
const PHASES: [(&str, usize, bool); 10] = [
    ("mechanism_phase1", 25_480_195, true),
    ("mechanism_phase1b", 25_742_851, true),
    ("mechanism_phase2", 25_742_851, false),
    ("mechanism_phase3", 4_382_979, true),
    ("mechanism_phase4", 4_382_979, false),
    ("mechanism_phase5", 25_807_363, false),
    ("mechanism_phase6a", 26_003_971, true),
    ("mechanism_phase6b", 26_003_971, true),
    ("mechanism_phase7", 25_758_211, true),
    ("mechanism_phase8", 25_807_363, true),
];

const SMALL: [&str; 6] =
    ["model.d_model=32", "model.heads=4", "model.layers=2", "model.feed_forward=128", "train.batch=6", "model.dropout=0"];

/// Ten batches of six, visited in order, and as many again that validate.
const GOLDEN: [&str; 5] =
    ["schedule.kind=constant", "train.shuffle=false", "data.split=sequential", "data.validation_share=0.5", "data.normalize=false"];

/// The spec counts one unused row of d numbers more.
fn parameter_counts_are_those_of_the_original_without_its_unused_row() {
    for (name, parameters, _) in PHASES {
        let config = config(name, &[]);
        assert_eq!(opened(&config).record_training(gpu().target).unwrap().0.parameter_count(), parameters, "{name}");
    }
}

fn pytorch_and_hugging_face_agree() {
    for (name, ..) in PHASES.into_iter().filter(|p| p.2) {
        let bytes = golden(name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let config = config(name, &[&SMALL[..], &GOLDEN].concat());
        let twice = |v: Vec<f32>| [v.clone(), v].concat();
        let (mask, types) = (twice(floats(&file, "mask")), file.tensor("types").unwrap());
        let types: Vec<u32> = bytemuck::pod_collect_to_vec(types.data());
        let data = MechanismData {
            latents: twice(floats(&file, "latents")),
            width: 50,
            types: [types.clone(), types].concat(),
            joints: twice(floats(&file, "joints")),
            counts: mask.chunks(JOINTS).map(|m| m.iter().sum::<f32>() as usize).collect(),
            linkages: false,
        };
        let mut problem = opened(&config);
        let given =
            Weights::open(Path::new(&format!("kernels-tests/golden/{name}.safetensors"))).unwrap().buffers(problem.buffers()).unwrap();
        problem.use_saved_buffers(given.clone());
        let DataConfig::Mechanisms(of) = &config.data else { panic!("{name} is no run on mechanisms") };
        let data = of.holding(&config.settings(), data, &given).unwrap();
        let mut problem = problem.with(data).unwrap();
        let session = golden_session(name, &problem, &file);
        let outputs = session.outputs(&problem.batches(0).unwrap()[0]).unwrap();
        // The first two tokens predict nothing.
        let predicted = outputs.chunks(10 * 3).flat_map(|sample| &sample[2 * 3..]);
        // What follows the last valid joint is made of coordinates that are no data.
        let valid = floats(&file, "mask");
        let valid = predicted.zip(floats(&file, "outputs")).enumerate().filter(|(i, _)| valid[i / 3] > 0.0);
        for (_, (got, want)) in valid {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{name}: output {got}, PyTorch {want}");
        }
        agrees_with_golden(name, &config, &mut problem, &session, &file);
    }
}

fn pytorch_agrees_on_the_vaes() {
    let conv = "model.layers={kind='convolution',channels=[3,4,5],kernels=[5,3,3]}";
    for (name, layers, side, batch) in [("linkage_vae", "model.layers.hidden=16", 6, 5), ("linkage_vae_conv", conv, 16, 4)] {
        let bytes = golden(name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (batch_is, side_is) = (format!("train.batch={batch}"), format!("data.side={side}"));
        let sizes = [layers, "model.latents=3", "model.noise=false", &batch_is, &side_is];
        let config = config(name, &[&sizes[..], &GOLDEN[..4]].concat());
        let mut images = floats(&file, "images");
        images.extend(images.clone());
        let samples = images.len() / (side * side);
        let DataConfig::Images(of) = &config.data else { panic!("{name} is no run on images") };
        let data = of.holding(&config.settings(), ImageData { pixels: Values::F32(images), samples, side }).unwrap();
        let mut problem = Loaded::holding(&config, data).unwrap();
        let session = golden_session(name, &problem, &file);
        agrees_with_golden(name, &config, &mut problem, &session, &file);
    }
}

fn the_convolutional_vae_has_the_parameters_of_its_twin() {
    for (name, parameters) in [("linkage_vae", 4_276_324), ("linkage_vae_conv", 1_458_661)] {
        let config = config(name, &[]);
        assert_eq!(opened(&config).record_training(gpu().target).unwrap().0.parameter_count(), parameters);
    }
}

/// The recorded forward pass in f64 against the device: dropout and noise included, which PyTorch draws otherwise.
fn the_oracle_agrees() {
    for (name, ..) in PHASES.into_iter().filter(|p| p.2) {
        let outcome = check_model(&plain_gpu(), &config(name, &[&SMALL[..5], &["data.latents=9"]].concat())).unwrap().unwrap();
        assert!(outcome.nmse <= 1e-9 && outcome.dead.is_empty(), "{name}: {outcome:?}");
        assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{name}: {outcome:?}");
    }
    let conv = "model.layers={kind='convolution',channels=[3,4],kernels=[5,3]}";
    for (layers, side) in [("model.layers.hidden=16", "data.side=6"), (conv, "data.side=8")] {
        let outcome = check_model(&plain_gpu(), &config("linkage_vae", &[layers, side, "model.latents=3"])).unwrap().unwrap();
        assert!(outcome.nmse <= 1e-9 && outcome.dead.is_empty(), "{outcome:?}");
        assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{outcome:?}");
    }
}

/// Its own predictions fed back over the cache are those of the whole sequence that holds them.
fn cached_generation_equals_uncached() {
    for name in ["mechanism_phase1", "mechanism_phase5", "mechanism_phase6a"] {
        let config = config(name, &[&SMALL[..], &["data.normalize=false"]].concat());
        let problem = Loaded::made_up(&config, 40).unwrap();
        let session = problem.evaluation(&gpu()).unwrap();
        session.arena.write_flat(Flat::Parameters, &initial_weights(session.parameters(), 3)).unwrap();
        let numbers = [4, 9, 2, 30, 17, 8, 1];
        let card = |problem: &Loaded, look: &dyn Fn(&MechanismScorecard)| {
            let card: Box<dyn Any> = problem.scorecard();
            look(card.downcast_ref().unwrap());
        };
        let found = RefCell::new(None);
        card(&problem, &|card| *found.borrow_mut() = Some((card.data().clone(), card.generate(&session, &numbers).unwrap())));
        let (mut data, generated) = found.take().unwrap();
        for (i, joints) in numbers.iter().zip(&generated) {
            data.counts[*i] = JOINTS;
            data.joints[i * 16..(i + 1) * 16].copy_from_slice(&joints.iter().flat_map(|(p, _)| p.map(|v| v as f32)).collect::<Vec<_>>());
        }
        let DataConfig::Mechanisms(of) = &config.data else { panic!("{name} is no run on mechanisms") };
        let problem = Loaded::holding(&config, of.holding(&config.settings(), data, &[]).unwrap()).unwrap();
        let metrics = RefCell::new(None);
        card(&problem, &|card| *metrics.borrow_mut() = Some(card.evaluate(&session, &numbers).unwrap()));
        let metrics = metrics.take().unwrap();
        let (distance, loss) = (metrics.get("distance").unwrap(), metrics.get("coordinate").unwrap());
        assert!(distance < 2e-5 && loss < 1e-9, "{name}: {distance} mm between cached and uncached");
    }
}

const TINY: [&str; 7] = [
    "model.d_model=16",
    "model.heads=2",
    "model.layers=1",
    "model.feed_forward=16",
    "train.batch=16",
    "train.epochs=3",
    "schedule.warmup_share=0.34",
];

/// A file of mechanisms with latents of 50 and joints about a mean.
fn mechanisms(path: &Path, samples: usize, mean: f32) -> String {
    let latents: Vec<f32> = (0..samples * 50).map(|i| (i as f32 * 0.7).sin()).collect();
    let joints: Vec<f32> = (0..samples * 16).map(|i| mean + 3.0 * (i as f32 * 1.3).cos()).collect();
    let (types, mask) = (vec![1.0; samples], vec![1.0; samples * 8]);
    let (n, arrays) = (samples, [latents, types, joints, mask]);
    let [latents, types, joints, mask] = &arrays;
    engine::datasets::npz::write(
        path,
        &[("latents", &[n, 50], latents), ("types", &[n], types), ("joints", &[n, 8, 2], joints), ("mask", &[n, 8], mask)],
    )
    .unwrap();
    path.to_str().unwrap().to_string()
}

/// Weights that come with a normalisation keep it, through a resume as well; data that have changed are noticed.
fn the_normalisation_goes_with_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (first, second) = (mechanisms(&folder.path().join("a.npz"), 60, 0.0), mechanisms(&folder.path().join("b.npz"), 60, 5.0));
    let train = |file: &str, out: &str, more: &[&str]| {
        let (out, file) = (path(out), format!("data.file={file}"));
        let mut args = vec!["train", "data/runs/mechanism_phase6a.toml", "--out", &out, "--set", &file];
        TINY.iter().for_each(|s| args.extend(["--set", s]));
        args.extend(more);
        run(&args)
    };
    assert_eq!(train(&first, "a", &[]).0, 0);
    let init = path("a/model.safetensors");
    assert_eq!(train(&second, "whole", &["--init", &init]).0, 0);
    assert_eq!(train(&second, "pieces", &["--init", &init, "--steps", "4"]).0, 0);
    let (code, _, error) = train(&second, "pieces", &["--resume"]);
    assert_eq!(code, 0, "{error}");
    let weights = |run: &str| std::fs::read(path(run) + "/model.safetensors").unwrap();
    assert!(weights("whole") == weights("pieces"), "a resumed run ends with other weights");
    let read = |run: &str, name: &str| {
        let bytes = weights(run);
        SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
    };
    for name in ["normalization.mean", "normalization.deviation", "joint_features.B"] {
        assert_eq!(read("a", name), read("whole", name), "{name}");
    }
    // What the model sees is said as it is, and that it is no usual scale.
    let (code, _, error) = train(&second, "plain", &["--steps", "1", "--set", "data.normalize=false"]);
    assert!(code == 0 && error.contains("mm, not normalised") && !error.contains("0.00 ± 1.00"), "{code} {error}");
    let (code, _, error) = train(&second, "other", &["--init", &init, "--set", "data.normalize=false"]);
    assert!(code == 2 && error.contains("data.normalize=true"), "{code} {error}");

    assert_eq!(train(&second, "changed", &["--steps", "2"]).0, 0);
    mechanisms(Path::new(&second), 60, 7.0);
    let (code, _, error) = train(&second, "changed", &["--resume"]);
    assert!(code == 65 && error.contains("contents of data.file: "), "{code} {error}");
    let rule = "abort_if=[{metric='validation_free_distance',above=0.1}]";
    let (code, _, error) = train(&second, "rule", &["--set", rule]);
    assert!(code == 2 && error.contains("no metric validation_free_distance"), "{code} {error}");
    let (code, _, error) = train(&second, "select", &["--set", "validation.select=free_distance"]);
    assert!(code == 2 && error.contains("There are loss, coordinate, distance, stop, stop_accuracy"), "{code} {error}");
    assert_eq!(train(&second, "upwards", &["--set", "validation.select=stop_accuracy"]).0, 0);
    let report = json(&std::fs::read_to_string(path("upwards/report.json")).unwrap());
    assert!(report["select"] == "stop_accuracy" && report["selected"] == report["best"]["stop_accuracy"], "{report}");
    let (code, _, error) = train(&second, "warmup", &["--set", "schedule={kind='epoch_cosine',warmup_epochs=3}"]);
    assert!(code == 2 && error.contains("below train.epochs = 3"), "{code} {error}");
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// From made-up linkages through the VAE to the picture of a mechanism, as guide/mechanisms.md has it, in small.
fn the_chain_from_linkages_to_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let done = |args: &[&str]| {
        let (code, out, error) = run(args);
        assert_eq!(code, 0, "{args:?}: {error}");
        out
    };
    let (images, latents, sheet) = (path("linkages.npz"), path("mechanisms.npz"), path("sheet.svg"));
    let said = done(&["data", "linkages", "--count", "60", "--seed", "4", "--out", &images, "--sheet", &sheet, "--json"]);
    assert_eq!((json(&said)["samples"].as_u64(), json(&said)["types"].as_array().unwrap().len()), (Some(60), 8));
    let again = path("again.npz");
    done(&["data", "linkages", "--count", "60", "--seed", "4", "--out", &again]);
    assert!(std::fs::read(&images).unwrap() == std::fs::read(&again).unwrap(), "the same seed gives other samples");
    assert_eq!(std::fs::read_to_string(&sheet).unwrap().matches("class=\"caption\"").count(), 24);

    let vae = path("vae");
    let (file, small) = (format!("data.file={images}"), ["model.layers.hidden=16", "train.batch=16", "train.epochs=2"]);
    let mut args = vec!["train", "data/runs/linkage_vae.toml", "--out", &vae, "--set", &file, "--json"];
    small.iter().for_each(|s| args.extend(["--set", s]));
    let report = json(&done(&args));
    assert!(report["test"]["mean image"]["mse"].as_f64().unwrap() > 0.0);
    let verdict = report["notes"][0].as_str().unwrap();
    assert!(verdict.starts_with("WARNING: no better") && verdict.contains("(mean image 0."), "{verdict}");
    assert!(done(&["encode", "--run", &vae, "--data", &images, "--out", &latents]).contains("60 samples, latents of 50"));
    // The weights of either epoch can be asked for.
    let mut steps: Vec<_> = std::fs::read_dir(Path::new(&vae).join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    steps.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"));
    steps.sort();
    let encoded = |checkpoint: &str| {
        let out = path("encoded.npz");
        done(&["encode", "--run", &vae, "--data", &images, "--out", &out, "--checkpoint", checkpoint]);
        std::fs::read(out).unwrap()
    };
    let [first, last] = &steps[..] else { panic!("{steps:?}") };
    assert!(encoded("last") == encoded(last.to_str().unwrap()) && encoded("last") != encoded(first.to_str().unwrap()));

    let (trained, other) = (path("phase8"), path("phase1"));
    let file = format!("data.file={latents}");
    for (out, name) in [(&trained, "8"), (&other, "1")] {
        let run_file = format!("data/runs/mechanism_phase{name}.toml");
        let mut args = vec!["train", &run_file, "--out", out, "--set", &file, "--json"];
        TINY.iter().for_each(|s| args.extend(["--set", s]));
        let report = json(&done(&args));
        let of = |row: &str, metric: &str| report["test"][row][metric].as_f64().unwrap();
        assert!(of("this model", "distance") > 0.0 && of("this model", "free_distance") > 0.0);
        assert!(of("mean joint", "distance") > 0.0 && of("mean by type and place", "distance") > 0.0);
        let verdict = report["notes"][0].as_str().unwrap();
        assert!(
            report["select"] == "coordinate" && verdict.starts_with("WARNING: no better") && verdict.contains("(mean joint "),
            "{verdict}"
        );
    }
    let (svg, said) = (path("picture.svg"), path("no.npz"));
    let table = done(&["generate", "--run", &trained, "--svg", &svg, "--sample", "3,14"]);
    assert!(table.contains("sample 3, ") && table.contains("true (") && table.contains("sample 14, "), "{table}");
    assert_eq!(std::fs::read_to_string(&svg).unwrap().matches("class=\"caption\"").count(), 2);
    let list = json(&done(&["generate", "--run", &trained, "--data", &latents, "--json"]));
    assert_eq!(list.as_array().unwrap().len(), 6);
    predicted_and_served_mechanisms_are_those_that_are_generated(folder.path(), &trained, &latents, list.as_array().unwrap());
    let table = done(&["eval", "--run", &trained, "--data", &latents]);
    assert!(table.contains("mean joint") && table.contains("free (mm)"), "{table}");
    let table = done(&["compare", &trained, &other]);
    assert!(table.contains("features") && table.contains("1…32") && table.contains("not normalised"), "{table}");
    assert!(done(&["compare", &trained, &other, "--markdown"]).starts_with("| run | features | frequencies | loss |"));

    // A single mechanism, of which nothing but latent and type is known, and single images.
    let one = path("one.npz");
    engine::datasets::npz::write(Path::new(&one), &[("latents", &[1, 50], &[0.5; 50]), ("types", &[1], &[3.0])]).unwrap();
    let table = done(&["generate", "--run", &trained, "--data", &one]);
    assert!(table.contains("sample 0, type 3: ") && !table.contains("true"), "{table}");
    engine::datasets::npz::write(Path::new(&one), &[("images", &[1, 64, 64], &[0.5; 4096])]).unwrap();
    assert!(done(&["encode", "--run", &vae, "--data", &one, "--out", &path("two.npz")]).contains("1 samples"));
    assert!(done(&["eval", "--run", &vae, "--data", &one]).contains("mean image"));
    // A bare file name is one in this folder.
    let bare = ["data", "linkages", "--count", "2", "--out", "bare.npz", "--sheet", "bare.svg"];
    let (code, _, text) = process_with(&bare, |command| command.current_dir(folder.path()));
    assert!(code == 0 && folder.path().join("bare.svg").exists(), "{text}");

    // What is wrong is said with what is right.
    let cases: [(&[&str], i32, &str); 10] = [
        (&["data", "linkages", "--count", "2", "--out", &said, "--only", "five_bar"], 2, "no such type of linkage"),
        (&["train", "data/runs/mechanism_phase8.toml", "--out", &path("x"), "--set", &format!("data.file={images}")], 65, "engine encode"),
        (
            &["train", "data/runs/mechanism_phase8.toml", "--out", &path("x"), "--set", &format!("data.file={said}")],
            66,
            "engine data linkages",
        ),
        (&["encode", "--run", &trained, "--data", &images, "--out", &said], 2, "image_vae"),
        (&["encode", "--run", &vae, "--data", &images, "--out", &said, "--checkpoint", "/nowhere"], 66, "--checkpoint last ("),
        (&["generate", "--run", &trained, "--sample", "60"], 2, "60 samples"),
        (&["generate", "--run", &trained, "--prompt", "1,2"], 2, "this run makes mechanisms"),
        (&["generate", "--run", &trained, "--beam", "2"], 2, "this run makes mechanisms"),
        (&["encode", "--run", &vae, "--data", &images, "--out", &images], 2, "is a file that is read or written here"),
        (&["data", "linkages", "--count", "2", "--out", "/no/such/folder/x.npz"], 73, "cannot create"),
    ];
    for (args, code, says) in cases {
        let (got, _, error) = run(args);
        assert!(got == code && error.contains(says), "{args:?}: {got} {error}");
    }
}

/// Joints up to the last, and null after it, of `engine predict` and the server. `made` is what `engine generate` makes of the first
/// samples.
fn predicted_and_served_mechanisms_are_those_that_are_generated(folder: &Path, run_folder: &str, latents: &str, made: &[Value]) {
    let (code, lines, said) = run(&["predict", run_folder, "--data", latents]);
    assert_eq!(code, 0, "{said}");
    let predicted: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(predicted.len(), 60);
    for (made, predicted) in made.iter().zip(&predicted) {
        let (made, joints) = (made["joints"].as_array().unwrap(), predicted["output"].as_array().unwrap());
        assert_eq!(joints.len(), 8);
        for (at, joint) in joints.iter().enumerate() {
            for axis in 0..2 {
                match made.get(at) {
                    None => assert!(joint[axis].is_null(), "{predicted}"),
                    Some(made) => {
                        let (got, want) = (joint[axis].as_f64().unwrap(), made[axis].as_f64().unwrap());
                        assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{predicted} {made}");
                    }
                }
            }
        }
    }
    let out = folder.join("joints.npz").display().to_string();
    assert_eq!(run(&["predict", run_folder, "--data", latents, "--out", &out]).0, 0);
    assert_eq!(Npz::open(Path::new(&out)).unwrap().array("outputs").unwrap().shape, [60, 8, 2]);
    #[cfg(all(unix, feature = "serve"))]
    {
        let mut npz = Npz::open(Path::new(latents)).unwrap();
        let (width, values) = (50, npz.array("latents").unwrap().values.to_f32());
        let types = npz.array("types").unwrap().values.to_f32();
        let server = crate::serve::Server::within(&[run_folder]);
        let sample = |i: usize| serde_json::json!({ "latents": &values[i * width..(i + 1) * width], "types": types[i] as u32 }).to_string();
        let (status, got) = server.post("/v1/runs/phase8/predict", &sample(4));
        assert_eq!((status, &got["output"]), (200, &predicted[4]["output"]));
        let (status, refused) = server.post("/v1/runs/phase8/predict", &sample(4).replace("\"types\":", "\"types\":1e3,\"id\":"));
        assert!(status == 422 && refused["error"]["message"].as_str().unwrap().contains("is no integer from 0 to"), "{refused}");
        assert_eq!(server.end().0, Some(0));
    }
}
