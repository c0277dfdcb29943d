//! Adapters of language models, from their training to the weights that they are merged with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use engine::gpu::{Gpu, Role, Target};
use engine::kernels::State;
use engine::plan::{Flat, flat_len};
use engine::problem::{Loaded, Problem};
use engine::tasks::Purpose;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::models::config;
use crate::program::run;
use crate::runner::tests;
use crate::text::{GOLDEN, GPT, KINDS, Kind, LLAMA, MAMBA2, Place};

tests![
    adapters_train_as_those_of_pytorch,
    what_is_frozen_stays_and_takes_nothing,
    a_run_of_adapters_is_never_lost,
    adapters_that_cannot_be_are_refused,
];

/// Small adapters of all layers.
const SMALL: [&str; 2] = ["adapt.rank=2", "adapt.layers=all"];

fn floats(file: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensors().into_iter().map(|(name, view)| (name, bytemuck::pod_collect_to_vec(view.data()))).collect()
}

/// Arguments of a run of the golden model with these overrides, from the golden weights or others.
fn of_golden(place: &Place, kind: &Kind, sets: &[&str], init: &str) -> Vec<String> {
    let sets = sets.iter().flat_map(|set| ["--set".to_string(), set.to_string()]);
    place.of_golden(kind).into_iter().chain(sets).chain(["--init".to_string(), init.to_string()]).collect()
}

/// Ten steps of adapters of attention, scaled, and of all layers, against `golden/make_text.py`, which takes their first factors from a file.
fn adapters_train_as_those_of_pytorch() {
    let place = Place::new();
    for (kind, layers, more) in [(&GPT, "attention", Some("adapt.alpha=3")), (&LLAMA, "all", None), (&MAMBA2, "all", None)] {
        let (folder, out) = (format!("{GOLDEN}/{}", kind.golden), format!("{} {layers}", kind.golden));
        let layers_are = format!("adapt.layers={layers}");
        let sets: Vec<&str> = ["adapt.rank=2", &layers_are].into_iter().chain(more).collect();
        let args = of_golden(&place, kind, &sets, &folder);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--steps", "10"]).collect();
        place.trains_of(kind, &out, &args);
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(format!("{folder}/adapters.json")).unwrap()).unwrap();
        let (lines, want) = (place.lines(&out, "train"), expected[layers].as_array().unwrap());
        assert_eq!(lines.len(), 10);
        for (step, (line, want)) in lines.iter().zip(want).enumerate() {
            let (got, want) = (line["loss"].as_f64().unwrap(), want.as_f64().unwrap());
            assert!((got - want).abs() <= 1e-6 * want, "{out} step {step}: {got}, PyTorch has {want}");
        }
        let begun = floats(&Path::new(&place.path(&out)).join("checkpoints/step-000000000.safetensors"));
        for (name, values) in floats(Path::new(&format!("{folder}/adapters.safetensors"))) {
            match begun.get(&name) {
                Some(own) => assert_eq!(*own, values, "{out}: {name}"),
                None => assert_eq!(layers, "attention", "{out}: no {name}"),
            }
        }
    }
}

/// No gradients, moments or launches for frozen weights, and none below the first adapter.
fn what_is_frozen_stays_and_takes_nothing() {
    let config =
        config("gpt_cpu", &["model.layers=2", "model.d_model=16", "model.heads=2", "data.context=8", "train.batch=2", "adapt.rank=2"]);
    let mut problem = Loaded::made_up(&config, 64).unwrap();
    let gpu = Arc::new(Gpu::open(None).unwrap());
    let placed = problem.place(gpu.target, 8 << 30).unwrap();
    let report = placed.memory.report.clone();
    let session = problem.training_in(placed, &gpu).unwrap();
    let plan = &session.step().unwrap().0.plan;
    assert_eq!((plan.parameter_count(), plan.adapters().len()), (2 * 2 * (16 + 48 + 16 + 16), 4));
    assert_eq!(gpu.ledger().total(), report.total_bytes);
    let [trained, frozen] = [plan.parameters(), plan.frozen()].map(|all| 4 * flat_len(all) as u64);
    let of = |role: Role| report.bytes_by_role[&role.to_string()];
    assert_eq!([of(Role::Gradients), of(Role::Optimizer), of(Role::Parameters)], [trained, 2 * trained, trained + frozen]);
    let label = |entry: &engine::plan::Entry| format!("{} at {}", entry.shader.name, entry.label);
    let launches: Vec<String> = plan.entries().iter().map(label).collect();
    for nobody_needs in ["embedding/backward", "layer_norm/backward_params", "layer_norm/backward_input at transformer.h.0.ln_1"] {
        assert!(!launches.iter().any(|launch| launch.starts_with(nobody_needs)), "{launches:?}");
    }
    // Of a product with a weight, its own and the one for the gradient of its input: not for the first layer, whose input needs none.
    let products = |label: &str| launches.iter().filter(|l| l.starts_with("matmul/") && l.ends_with(&format!(" {label}"))).count();
    assert_eq!([0, 1].map(|block| products(&format!("transformer.h.{block}.attn.c_attn"))), [6, 8]);
    let flat = |flat| session.arena.read_flat(flat).unwrap();
    let before = [Flat::Frozen, Flat::Parameters].map(flat);
    for step in 0..2 {
        let batches = problem.batches(step).unwrap();
        let mut state = State { slot: step as u32, ..State::default() };
        config.optimizer.fill(&mut state, 1e-2);
        session.submit_step(&batches, state, step, 1).unwrap();
    }
    let after = [Flat::Frozen, Flat::Parameters].map(flat);
    assert!(after[0] == before[0] && after[1] != before[1]);
    for moved in [Flat::Gradients, Flat::FirstMoment, Flat::SecondMoment] {
        assert_eq!(flat(moved).len(), before[1].len());
    }
    for p in plan.parameters() {
        assert_ne!(after[1][p.offset..p.offset + p.len()], before[1][p.offset..p.offset + p.len()], "{}", p.name);
    }
}

/// Weights of W + scale · B·A of a layer (outputs, inputs), summed in 64 bits.
fn merged(w: &[f32], a: &[f32], b: &[f32], scale: f64) -> Vec<f32> {
    let rank = 2;
    let inputs = a.len() / rank;
    let change = |at: usize| (0..rank).map(|k| f64::from(b[at / inputs * rank + k]) * f64::from(a[k * inputs + at % inputs])).sum::<f64>();
    w.iter().enumerate().map(|(at, w)| (f64::from(*w) + scale * change(at)) as f32).collect()
}

/// Resumed bit for bit without the folder that it began from, with files of adapters alone, and merged wherever its weights are read.
fn a_run_of_adapters_is_never_lost() {
    let place = Place::new();
    let (init, golden) = (place.path("init"), format!("{GOLDEN}/gpt"));
    let copy = || {
        std::fs::create_dir_all(&init).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(format!("{golden}/{file}"), format!("{init}/{file}")).unwrap();
        }
    };
    let sets = [&SMALL[..], &["adapt.alpha=3", "model.dropout=0.1", "checkpoint.every=1"]].concat();
    let args = of_golden(&place, &GPT, &sets, &init);
    let train = |out: &str, more: &[&str]| {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        place.trains(out, &args)
    };
    copy();
    let whole = train("whole", &["--steps", "6"]);
    train("cut", &["--steps", "2"]);
    std::fs::remove_dir_all(&init).unwrap();
    assert!(train("cut", &["--steps", "6", "--resume"]) == whole);
    let file = |name: &str| Path::new(&place.path("whole")).join(name);
    let (own, base) = (floats(&file("model.safetensors")), floats(&file("base.safetensors")));
    assert!(own.keys().all(|name| name.contains(".lora_")), "{:?}", own.keys());
    let newest = floats(&file("checkpoints/step-000000006.safetensors"));
    assert_eq!(newest.len(), 3 * own.len());
    // What others read is the sum of both.
    let out = place.path("merged");
    let (code, _, said) = run(&["export", &place.path("whole"), &format!("{out}.safetensors")]);
    assert_eq!(code, 0, "{said}");
    let sum = floats(Path::new(&format!("{out}.safetensors")));
    assert_eq!(sum.keys().collect::<Vec<_>>(), base.keys().collect::<Vec<_>>());
    for (name, values) in &sum {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        match [own.get(&format!("{stem}.lora_A.weight")), own.get(&format!("{stem}.lora_B.weight"))] {
            [Some(a), Some(b)] => assert!(*values == merged(&base[name], a, b, 1.5) && *values != base[name], "{name}"),
            _ => assert_eq!(*values, base[name], "{name}"),
        }
    }
    // The kept weights are as good as they were beside the frozen ones.
    let (code, told, said) = run(&["eval", &place.path("whole"), "--json"]);
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(file("report.json")).unwrap()).unwrap();
    let (told, kept): (Value, _) = (serde_json::from_str(&told).unwrap(), &report["test"]);
    let loss = |of: &Value| of["this model"]["loss"].as_f64().unwrap();
    assert!((loss(&told) - loss(kept)).abs() < 1e-6 * loss(kept), "{told} {kept}");
    let (code, _, said) = run(&["generate", &place.path("whole"), "--prompt", "1,2", "--count", "3"]);
    assert_eq!(code, 0, "{said}");
    // Others begin from both, too: a folder has them merged, and a file with its frozen weights beside it.
    let (code, _, said) = run(&["export", &place.path("whole"), &out]);
    assert_eq!(code, 0, "{said}");
    let begun = |name: &str, init: &str| {
        let args = of_golden(&place, &GPT, &["optimizer.learning_rate=1e-30"], init);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--steps", "1"]).collect();
        place.trains(name, &args);
        floats(&Path::new(&place.path(name)).join("checkpoints/step-000000000.safetensors"))
    };
    assert!(begun("from folder", &out) == begun("from file", &file("model.safetensors").display().to_string()));
    // Without the frozen weights, and with others.
    std::fs::remove_file(file("base.safetensors")).unwrap();
    let eval = || run(&["eval", &place.path("whole")]);
    let (code, _, said) = eval();
    assert!(code == 66 && said.contains("copy base.safetensors of their run beside it"), "{code} {said}");
    std::fs::copy(file("model.safetensors"), file("base.safetensors")).unwrap();
    let (code, _, said) = eval();
    assert!(code == 65 && said.contains("has other weights than those"), "{code} {said}");
}

fn adapters_that_cannot_be_are_refused() {
    let place = Place::new();
    for (kind, sets, says) in [
        (&GPT, &["adapt.rank=0"][..], "adapt.rank"),
        (&GPT, &["adapt.rank=9"], "adapt.rank = 9: transformer.h.0.attn.c_attn has 8 inputs and 24 outputs, so it is at most 8"),
        (&GPT, &["adapt.alpha=0"], "adapt.alpha"),
        (&GPT, &["adapt.layers=heads"], "adapt.layers"),
        (&GPT, &["adapt.ranks=2"], "adapt.rank"),
        (&MAMBA2, &["adapt.rank=2"], "choose adapt.layers = \"all\" for model.kind = \"mamba2\""),
    ] {
        let args = of_golden(&place, kind, sets, &format!("{GOLDEN}/{}", kind.golden));
        let (code, said) = place.train_of(kind, "refused", &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(code == 2 && said.contains(says), "{sets:?}: {code} {said}");
    }
    let (code, said) = place.train("refused", &["--set", "adapt.rank=2"]);
    assert!(code == 2 && said.contains("give these with --init"), "{code} {said}");
    let (code, _, said) = run(&["estimate", "data/runs/lvm_mlp.toml", "--set", "adapt.layers=all"]);
    assert!(code == 2 && said.contains("this model has no such layers"), "{code} {said}");
    assert!(!Path::new(&place.path("refused")).exists());
    // With all layers every kind has adapters, at its own sizes as well.
    for kind in KINDS {
        let sets = kind.small.iter().chain(&SMALL).copied().collect::<Vec<_>>();
        let plan = Problem::open(&config(kind.run, &sets), Purpose::Train).and_then(|problem| problem.record_training(Target::default()));
        assert!(!plan.unwrap().0.adapters().is_empty(), "{}", kind.run);
    }
}
