//! Ways to launch kernels: each gives what the reference does, and what `engine tune` has measured is used, recorded and resumed.

use std::collections::BTreeMap;
use std::path::Path;

use engine::gpu::{AdapterSummary, Gpu, Tuning};
use engine::harness::{FAMILIES, Spec, check_spec, targets};

use crate::passed::Changed;
use crate::program::{gpu, process};
use crate::runner::{all, note, tests};

tests![every_way_to_launch_is_right, what_was_measured_is_used_recorded_and_resumed,];

const RUN: &str = "data/runs/integer_sequences.toml";

/// Each way to launch a kernel is right at sizes for which the model would choose another one. Of a family that is as it was when it
/// passed, a twentieth is drawn.
fn every_way_to_launch_is_right() {
    let gpu = gpu();
    let card = targets(&gpu).into_iter().find(|target| !target.software).unwrap();
    let wanted = |dims: &[usize]| match dims.len() {
        // Steps of several tiles.
        3 => dims[0] > 1 && dims[1] * dims[2] > 60 && dims[2].is_multiple_of(4),
        // Products with edges in every dimension, with long sums and with several of them.
        4 => [[36, 68, 20, 1], [4, 516, 4, 60], [132, 36, 64, 14], [132, 516, 20, 1]].iter().any(|d| d == dims),
        _ => false,
    };
    let (mut ways_of_all, mut tried) = (0, 0);
    for family in FAMILIES.iter().filter(|family| ["matmul", "attention", "lstm"].contains(&family.name)) {
        let mut specs: Vec<Spec> = Vec::new();
        for spec in (0..family.pinned).map(|i| family.pinned_spec(i)) {
            let tiled = family.name == "attention" && spec.dims[1] > 32 && [20, 36, 128].contains(&spec.dims[3]);
            if (tiled || family.name != "attention" && wanted(&spec.dims)) && specs.iter().all(|other| other.dims != spec.dims) {
                specs.push(spec);
            }
        }
        assert!(specs.len() >= 2, "{}: too few cases", family.name);
        let changed = Changed::of(family.name);
        for spec in specs {
            let case = family.case(&spec, card).unwrap();
            let ways: BTreeMap<String, Vec<String>> =
                case.plan().entries().iter().map(|entry| (entry.kind.clone(), entry.ways().collect())).collect();
            for number in 0..ways.values().map(Vec::len).max().unwrap_or(0) {
                let way = |(kind, ways): (&String, &Vec<String>)| Some((kind.clone(), ways.get(number)?.clone()));
                let target = engine::gpu::Target { tuned: Tuning(ways.iter().filter_map(way).collect()).leaked(), ..card };
                let other = family.case(&spec, target).unwrap();
                let consts =
                    |case: &engine::harness::Case| case.plan().entries().iter().map(|e| e.shader.consts.clone()).collect::<Vec<_>>();
                assert_ne!(consts(&case), consts(&other), "{} {spec:?}: way {number} is not taken", family.name);
                ways_of_all += 1;
                if all() || changed.own || changed.draws(ways_of_all) {
                    // The family checks what it reads outside its tensors, too.
                    check_spec(&gpu, family, &spec, target, false).unwrap_or_else(|e| panic!("way {number}: {e}"));
                    tried += 1;
                }
            }
        }
    }
    note!("{tried} of {ways_of_all} ways are tried");
    assert!(ways_of_all > 20 && tried > 0, "{tried} of {ways_of_all} ways");
}

/// Trains a little, with this folder for what was measured.
fn train(cache: &Path, out: &Path, more: &[&str]) -> String {
    let mut args = vec!["train", RUN, "--out", out.to_str().unwrap()];
    args.extend(["--set", "train.batch=8", "--set", "checkpoint.every=2", "--set", "validation.every=1000"]);
    args.extend(more);
    let (code, _, text) = process(&args, &[("ENGINE_CACHE", cache)]);
    assert_eq!(code, 0, "{text}");
    text
}

/// What was measured is used by runs that start, and a run that is resumed keeps to what it started with.
fn what_was_measured_is_used_recorded_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (code, out, text) =
        process(&["tune", RUN, "--set", "train.batch=8", "--rounds", "1", "--json"], &[("ENGINE_CACHE", &path("cache"))]);
    assert_eq!(code, 0, "{text}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let launches = told["launches"].as_array().unwrap();
    let measured = |launch: &serde_json::Value| launch["seconds"].as_array().unwrap().len();
    assert!(launches.iter().any(|launch| measured(launch) > 1) && launches.iter().all(|launch| measured(launch) > 0), "{out}");
    let file = Path::new(told["file"].as_str().unwrap());
    assert!(file.starts_with(path("cache")) && file.exists(), "{out}");

    // A choice of our own for one launch, whatever was faster.
    let kind = launches.iter().find(|launch| launch["launch"].as_str().unwrap().starts_with("optimizer/update")).unwrap();
    let way = kind["seconds"].as_array().unwrap().iter().map(|way| way[0].as_str().unwrap()).rfind(|way| *way == "WG=128").unwrap();
    let choices = Tuning(BTreeMap::from([(kind["launch"].as_str().unwrap().to_string(), way.to_string())]));
    // The command may have asked the driver for longer vectors than this process, and the adapter's name tells.
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let adapter = AdapterSummary { name: kept["adapter"].as_str().unwrap().into(), ..Gpu::open(None).unwrap().summary };
    std::fs::write(file, choices.text(&adapter)).unwrap();
    let text = train(&path("cache"), &path("whole"), &["--steps", "4"]);
    assert!(text.contains("as measured on this device: 1"), "{text}");
    train(&path("cache"), &path("cut"), &["--steps", "2"]);
    let text = train(&path("none"), &path("cut"), &["--steps", "4", "--resume"]);
    assert!(text.contains("as its checkpoint has them: 1") && !text.contains("not with the same bits"), "{text}");
    let weights = |run: &str| std::fs::read(path(run).join("model.safetensors")).unwrap();
    assert!(weights("whole") == weights("cut"));

    // One that started without goes on without.
    train(&path("none"), &path("plain"), &["--steps", "2"]);
    let text = train(&path("cache"), &path("plain"), &["--steps", "4", "--resume"]);
    assert!(!text.contains("ways to launch kernels") && !text.contains("not with the same bits"), "{text}");

    // What cannot be used is said, and nothing is lost.
    for (text, says) in [("{", "EOF"), (&choices.text(&adapter).replace("\"engine\": \"", "\"engine\": \"0."), "version of the engine")] {
        std::fs::write(file, text).unwrap();
        let said = train(&path("cache"), &path(says), &["--steps", "2"]);
        assert!(said.contains(says) && said.contains("Measure again with `engine tune`"), "{said}");
    }
    let said = train(&path("cache"), &path("cut"), &["--steps", "6", "--resume"]);
    assert!(said.contains("as its checkpoint has them: 1") && !said.contains("left aside"), "{said}");
    let (code, out, text) = process(&["tune", RUN], &[("ENGINE_CACHE", file)]);
    assert!(code == 73 && out.is_empty() && text.contains("cannot create"), "{code}: {text}");
}
