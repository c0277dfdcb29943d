//! Language models on a text of one's own, from data to sample.

use std::path::Path;

use serde_json::Value;

use crate::program::run;
use crate::runner::tests;

tests![
    every_form_of_the_same_tokens_trains_to_the_same_weights,
    a_text_resumes_with_the_same_bits,
    texts_that_cannot_be_used_are_refused,
    the_shipped_runs_have_the_weights_of_nanogpt,
    a_text_goes_on_with_the_cache_as_without,
];

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

fn the_shipped_runs_have_the_weights_of_nanogpt() {
    for (run_file, weights) in [("gpt_cpu", 804_096), ("gpt_shakespeare", 10_745_088)] {
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
