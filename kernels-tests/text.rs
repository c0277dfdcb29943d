//! Language models on a text of one's own, from data to sample.

use std::path::Path;

use serde_json::Value;

use crate::program::run;
use crate::runner::tests;

tests![
    every_form_of_the_same_tokens_trains_to_the_same_weights,
    a_text_resumes_with_the_same_bits,
    texts_that_cannot_be_used_are_refused,
    the_shipped_runs_have_the_weights_of_their_models,
    a_text_goes_on_with_the_cache_as_without,
    ten_steps_from_a_folder_of_transformers_are_those_of_pytorch,
    a_folder_goes_out_and_comes_in_bit_for_bit,
    my_text_goes_from_new_to_a_sample,
];

/// A small GPT2LMHeadModel as transformers saves it (kernels-tests/golden/make_gpt.py).
const GOLDEN: &str = "kernels-tests/golden/gpt";

/// A text of some hundred characters that can be learned, with some that take several bytes.
fn text() -> String {
    (0..60).map(|i| format!("Der {}. Bär aß {} süße Beeren; ", i % 7, i % 3)).collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::write(place.path("bears.txt"), text()).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A small model of the text, three updates an epoch.
    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let file = format!("data.file={}", self.path("bears.txt"));
        let small = ["model.d_model=16", "model.heads=2", "model.layers=1", "data.context=8", "data.vocabulary=", "train.batch=4"];
        let steps = ["train.steps_per_epoch=3", "train.epochs=2", "schedule.kind=constant", "train.log_every=1"];
        let mut args = vec!["train".into(), "data/runs/gpt_cpu.toml".into(), "--out".into(), self.path(out)];
        args.extend([&file[..]].into_iter().chain(small).chain(steps).flat_map(|set| ["--set".into(), set.into()]));
        args.extend(more.iter().map(ToString::to_string));
        args
    }

    fn train(&self, out: &str, more: &[&str]) -> (i32, String) {
        let args = self.args(out, more);
        let (code, _, said) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        (code, said)
    }

    fn trains(&self, out: &str, more: &[&str]) -> Vec<u8> {
        let (code, said) = self.train(out, more);
        assert_eq!(code, 0, "{more:?}: {said}");
        std::fs::read(Path::new(&self.path(out)).join("model.safetensors")).unwrap()
    }

    fn lines(&self, out: &str, split: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(Path::new(&self.path(out)).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["split"] == split).collect()
    }
}

/// Bytes as a text, as nanoGPT's and llm.c's files, and as an array: the same losses, and the same bits per byte.
fn every_form_of_the_same_tokens_trains_to_the_same_weights() {
    let place = Place::new();
    let bytes = text().into_bytes();
    let words: Vec<u8> = bytes.iter().flat_map(|byte| u16::from(*byte).to_le_bytes()).collect();
    let mut llm_c: Vec<u8> = [20_240_520u32, 1, bytes.len() as u32].into_iter().flat_map(u32::to_le_bytes).collect();
    llm_c.resize(1024, 0);
    llm_c.extend(&words);
    let mut npy = format!("\u{1}{{'descr': '<u2', 'fortran_order': False, 'shape': ({},), }}", bytes.len());
    npy = format!("{npy:<118}\n");
    let npy = [b"\x93NUMPY\x01\x00\x76\x00", &npy.as_bytes()[1..], &words].concat();
    for (name, content) in [("nano.bin", &words), ("llm.bin", &llm_c), ("row.npy", &npy)] {
        std::fs::write(place.path(name), content).unwrap();
    }
    // Characters of several bytes: a text is split by characters, and a row of tokens by tokens, here with the same end.
    let ends = text().char_indices().nth((text().chars().count() as f64 * 0.9) as usize).unwrap().0;
    std::fs::write(place.path("train.txt"), &bytes[..ends]).unwrap();
    std::fs::write(place.path("end.txt"), &bytes[ends..]).unwrap();
    let of = |out: &str, sets: &[String]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        place.trains(out, &[&["--set", "data.tokenizer=bytes", "--set", "data.sampling=windows"], &sets[..]].concat());
        let last = place.lines(out, "validation").pop().unwrap();
        (last["loss"].as_f64().unwrap(), last["bits_per_byte"].as_f64().unwrap())
    };
    let whole = of("whole", &[]);
    assert!((whole.1 - whole.0 / std::f64::consts::LN_2).abs() < 1e-6, "{whole:?}");
    let apart = [format!("data.file={}", place.path("train.txt")), format!("data.validation_file={}", place.path("end.txt"))];
    assert_eq!(of("apart", &apart), whole);
    // The share that ends at the same byte.
    let share = format!("data.validation_share={}", 1.0 - (ends as f64 + 0.5) / bytes.len() as f64);
    for name in ["nano.bin", "llm.bin", "row.npy"] {
        let file = format!("data.file={}", place.path(name));
        assert_eq!(of(&format!("of {name}"), &[file, share.clone(), "data.vocabulary=256".into()]), whole, "{name}");
    }
}

/// Both ways of sampling, with characters that are kept with the weights, cut in the middle of an epoch; and in micro-batches.
fn a_text_resumes_with_the_same_bits() {
    let place = Place::new();
    for sampling in ["data.sampling=windows", "data.sampling=random"] {
        let sets = ["--set", sampling, "--set", "model.dropout=0.1", "--set", "checkpoint.every=1"];
        let whole = place.trains(&format!("whole {sampling}"), &sets);
        let out = format!("cut {sampling}");
        let (code, said) = place.train(&out, &[&sets[..], &["--steps", "2"]].concat());
        assert_eq!(code, 0, "{said}");
        assert!(place.trains(&out, &[&sets[..], &["--resume"]].concat()) == whole, "{sampling}");
    }
    // The characters come back from the weights, for another text as well.
    std::fs::write(place.path("other.txt"), "aß Bär Beeren. ".repeat(9)).unwrap();
    let args = ["eval", &place.path("whole data.sampling=random"), "--data", &place.path("other.txt"), "--json"];
    let (code, told, said) = run(&args);
    assert_eq!(code, 0, "{said}");
    assert!(told.contains("bits_per_byte"), "{told}");
    std::fs::write(place.path("other.txt"), "Zoë").unwrap();
    let (code, _, said) = run(&args);
    assert!(code == 65 && said.contains("'Z' (U+005A)"), "{code} {said}");
}

fn texts_that_cannot_be_used_are_refused() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(place.path(name), bytes).unwrap();
        format!("data.file={}", place.path(name))
    };
    let (latin, short, empty) = (write("latin.txt", b"B\xe4r"), write("short.txt", b"Beeren"), write("empty.txt", b""));
    let (odd, nowhere) = (write("odd.bin", &[1, 2, 3]), format!("data.file={}", place.path("nowhere.txt")));
    let (row, json) = (write("row.bin", &[9, 0].repeat(200)), write("tokenizer.json", b"{}"));
    let tokenizer = json.replace("data.file", "data.tokenizer");
    for (sets, code, says) in [
        (vec![&nowhere[..]], 66, "data.file: no file"),
        (vec![&latin], 65, "no text in UTF-8: byte 1 is wrong"),
        (vec![&short], 65, "5 training tokens are 0 windows"),
        (vec![&empty], 65, ""),
        (vec![&odd, "data.tokenizer="], 65, "an odd number"),
        (vec![&row], 2, "data.tokenizer = \"characters\" is for a text"),
        (vec![&row, "data.tokenizer=", "data.vocabulary=9"], 65, "token 0 is 9, and the vocabulary has the tokens 0 to 8"),
        (vec!["data.vocabulary=12"], 65, "different characters, and data.vocabulary = 12"),
        (vec![&tokenizer], 65, "no tokenizer.json"),
        (vec!["data.context=1"], 2, "data.context"),
        (vec!["model.heads=3"], 2, "must divide"),
    ] {
        let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let (got, said) = place.train("refused", &more);
        assert!(got == code && said.contains(says), "{sets:?}: {got} {said}");
        assert!(!Path::new(&place.path("refused")).exists(), "{sets:?}");
    }
}

fn the_shipped_runs_have_the_weights_of_their_models() {
    for (run_file, weights) in [("gpt_cpu", 804_096), ("gpt_shakespeare", 10_745_088), ("gpt2_124m", 124_439_808)] {
        let (code, told, said) = run(&["estimate", &format!("data/runs/{run_file}.toml"), "--json"]);
        assert_eq!(code, 0, "{said}");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["parameters"], weights, "{told}");
    }
}

fn a_text_goes_on_with_the_cache_as_without() {
    let place = Place::new();
    place.trains("run", &["--set", "train.steps_per_epoch=30", "--set", "data.context=16"]);
    let folder = place.path("run");
    let generate = |args: &[&str]| run(&[&["generate", "--run", &folder], args].concat());
    let texts = |args: &[&str]| {
        let (code, told, said) = generate(&[args, &["--json"]].concat());
        assert_eq!(code, 0, "{args:?}: {said}");
        let told: Value = serde_json::from_str(&told).unwrap();
        told["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    // Past the 16 tokens that the model sees.
    let greedy = ["--prompt", "Der 1. Bär", "--tokens", "30", "--temperature", "0"];
    let cached = texts(&greedy);
    assert_eq!(cached[0].chars().count(), 30);
    assert_eq!(texts(&[&greedy[..], &["--naive"]].concat()), cached);
    let drawn = ["--prompt", "B", "--tokens", "12", "--seed", "3", "--top-k", "9", "--top-p", "0.95"];
    let four = texts(&[&drawn[..], &["--batch", "4"]].concat());
    assert!(four.len() == 4 && four[0] != four[1], "{four:?}");
    assert_eq!(texts(&drawn)[..], four[..1]);
    // As it is printed: the prompt, and what comes up to the text that ends it.
    let (_, told, _) = generate(&drawn);
    assert_eq!(told, format!("B{}\n", four[0]));
    let stop: String = four[0].chars().skip(3).take(2).collect();
    let (before, _) = four[0].split_once(&stop).unwrap();
    assert_eq!(texts(&[&drawn[..], &["--stop", &stop]].concat())[0], before);
    for (args, says) in [
        (&["--prompt", "Q"][..], "which the training text does not have"),
        (&["--prompt", ""], "at least one token"),
        (&["--top-p", "0"], "above 0, and at most 1"),
        (&["--temperature=-1"], "must be 0 or above"),
        (&["--svg", "x.svg"], "mechanisms"),
    ] {
        let (code, _, said) = generate(args);
        assert!(code == 2 && said.contains(says), "{args:?}: {code} {said}");
    }
}

/// The tokens of make_gpt.py.
fn stream() -> Vec<u8> {
    let tokens = (0..400u32).map(|i| (7 * i + i * i % 5 + i / 13) % 11);
    tokens.flat_map(|token| (token as u16).to_le_bytes()).collect()
}

/// Overrides of a run that begins from the folder.
const OF_GOLDEN: [&str; 12] = [
    "data.tokenizer=",
    "data.vocabulary=11",
    "data.context=6",
    "data.sampling=windows",
    "model.d_model=8",
    "model.layers=2",
    "model.bias=true",
    "model.activation=gelu_tanh",
    "train.batch=3",
    "train.shuffle=false",
    "optimizer.learning_rate=1e-2",
    "schedule.min_learning_rate=",
];

fn ten_steps_from_a_folder_of_transformers_are_those_of_pytorch() {
    let place = Place::new();
    std::fs::write(place.path("stream.bin"), stream()).unwrap();
    let file = format!("data.file={}", place.path("stream.bin"));
    let sets: Vec<&str> = OF_GOLDEN.iter().copied().chain([&file[..]]).flat_map(|set| ["--set", set]).collect();
    let begins = ["--init", GOLDEN, "--steps", "10"];
    place.trains("run", &[&sets[..], &begins].concat());
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(format!("{GOLDEN}/expected.json")).unwrap()).unwrap();
    let (lines, want) = (place.lines("run", "train"), expected["losses"].as_array().unwrap());
    assert_eq!(lines.len(), 10);
    for (step, (line, want)) in lines.iter().zip(want).enumerate() {
        let (got, want) = (line["loss"].as_f64().unwrap(), want.as_f64().unwrap());
        assert!((got - want).abs() <= 1e-6 * want, "step {step}: {got}, PyTorch has {want}");
    }
    for (set, says) in [
        ("model.layers=1", "n_layer: 2 there, model.layers makes it 1"),
        ("model.activation=gelu", "activation_function: \"gelu_new\" there"),
        ("data.context=5", "n_positions: 6 there, data.context makes it 5"),
        ("model.bias=false", "is not 0 there, and model.bias = false"),
    ] {
        let (code, said) = place.train("other", &[&sets[..], &begins, &["--set", set]].concat());
        assert!(code == 65 && said.contains(says), "{set}: {code} {said}");
    }
}

/// Weights of the folder, unchanged by a step too small to change them, and exported again; then those of a model without biases.
fn a_folder_goes_out_and_comes_in_bit_for_bit() {
    let place = Place::new();
    std::fs::write(place.path("stream.bin"), stream()).unwrap();
    let file = format!("data.file={}", place.path("stream.bin"));
    let more = ["optimizer.learning_rate=1e-30", "optimizer.weight_decay=0", &file];
    let sets: Vec<&str> = OF_GOLDEN.iter().copied().chain(more).flat_map(|set| ["--set", set]).collect();
    let round = |name: &str, begin: &[&str]| {
        place.trains(name, &[&sets[..], begin, &["--steps", "1"]].concat());
        let out = place.path(&format!("{name} folder"));
        let (code, _, said) = run(&["export", &place.path(name), &out]);
        assert_eq!(code, 0, "{said}");
        out
    };
    let tensors = |folder: &str| {
        let bytes = std::fs::read(Path::new(folder).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec())).collect();
        all.sort();
        all
    };
    let out = round("with", &["--init", GOLDEN]);
    assert!(tensors(&out) == tensors(GOLDEN));
    let without = ["--set", "model.bias=false"];
    let first = round("without", &without);
    assert!(tensors(&first).iter().any(|(name, _, data)| name == "transformer.ln_f.bias" && data.iter().all(|byte| *byte == 0)));
    let again = round("again", &[&without[..], &["--init", &first]].concat());
    assert!(tensors(&again) == tensors(&first));
}

fn my_text_goes_from_new_to_a_sample() {
    let place = Place::new();
    let (text, run_file, out) = (place.path("bears.txt"), place.path("bears.toml"), place.path("run"));
    let (code, told, said) = run(&["new", "gpt", "--data", &text, "--out", &run_file]);
    assert!(code == 0 && told.contains("each of which is a token") && told.contains("of memory on an RX 6600"), "{told}{said}");
    let small = ["--set", "train.steps_per_epoch=20", "--set", "train.epochs=1"];
    let (code, _, said) = run(&[&["train", &run_file, "--out", &out][..], &small].concat());
    assert_eq!(code, 0, "{said}");
    let (code, told, said) = run(&["generate", &out, "--prompt", "Der Bär", "--tokens", "9"]);
    assert!(code == 0 && told.starts_with("Der Bär"), "{told}{said}");
    // The same with tokens of a tokenizer of its own.
    let folder = place.path("tokens");
    let (code, told, said) = run(&["data", "text", &text, "--vocab", "300", "--out", &folder]);
    assert!(code == 0 && told.contains("tokens of"), "{told}{said}");
    let sets = [
        format!("data.file={folder}/train.bin"),
        format!("data.validation_file={folder}/validation.bin"),
        format!("data.tokenizer={folder}/tokenizer.json"),
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    place.trains("bpe", &sets);
    let last = place.lines("bpe", "validation").pop().unwrap();
    let (nats, bits) = (last["loss"].as_f64().unwrap(), last["bits_per_byte"].as_f64().unwrap());
    // A token has more than one byte.
    assert!(bits > 0.0 && bits < nats / std::f64::consts::LN_2, "{last}");
    let (code, told, said) = run(&["generate", &place.path("bpe"), "--prompt", "Der Bär", "--tokens", "9"]);
    assert!(code == 0 && told.starts_with("Der Bär"), "{told}{said}");
    let short = place.path("short.txt");
    std::fs::write(&short, "too short").unwrap();
    let (code, _, said) = run(&["new", "--data", &short, "--out", &place.path("short.toml")]);
    assert!(code == 65 && said.contains("too few"), "{code} {said}");
}
