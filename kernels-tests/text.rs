//! Language models on a text of one's own, from data to sample.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::run;
use crate::runner::tests;

tests![
    every_form_of_the_same_tokens_trains_to_the_same_weights,
    a_text_resumes_with_the_same_bits,
    texts_that_cannot_be_used_are_refused,
    the_shipped_runs_have_the_weights_that_they_say,
    a_text_goes_on_in_all_its_ways,
    every_model_goes_on_with_its_cache_as_without,
    samples_come_with_the_validations_and_change_nothing,
    ten_steps_from_a_folder_of_transformers_are_those_of_pytorch,
    a_folder_goes_out_and_comes_in_bit_for_bit,
    folders_of_earlier_versions_are_read,
    models_that_do_not_fit_are_refused,
    my_text_goes_from_new_to_a_sample,
];

/// Small models as transformers saves them (kernels-tests/golden/make_text.py).
pub(crate) const GOLDEN: &str = "kernels-tests/golden";

/// A language model: its run file, what makes it small, its golden folder, and what the golden model is.
pub(crate) struct Kind {
    pub(crate) run: &'static str,
    pub(crate) small: &'static [&'static str],
    pub(crate) golden: &'static str,
    of_golden: &'static [&'static str],
}

pub(crate) const GPT: Kind = Kind {
    run: "gpt_cpu",
    small: &["model.d_model=16", "model.heads=2", "model.layers=1"],
    golden: "gpt",
    of_golden: &["model.d_model=8", "model.layers=2", "model.bias=true", "model.activation=gelu_tanh"],
};

pub(crate) const LLAMA: Kind = Kind {
    run: "llama_small",
    small: &["model.d_model=16", "model.heads=2", "model.kv_heads=1", "model.layers=1", "model.feed_forward=24", "model.dropout=0"],
    golden: "llama",
    of_golden: &["model.layers=2", "model.tied=false"],
};

pub(crate) const MAMBA2: Kind = Kind {
    run: "mamba2_small",
    small: &["model.d_model=16", "model.layers=1", "model.mixer={state=5,head=8,chunk=3}"],
    golden: "mamba2",
    of_golden: &["model.d_model=8", "model.layers=2", "model.mixer={state=3,head=4,chunk=4}", "model.tied=false"],
};

pub(crate) const KINDS: [&Kind; 3] = [&GPT, &LLAMA, &MAMBA2];

/// A text of some hundred characters that can be learned, with some that take several bytes.
fn text() -> String {
    (0..60).map(|i| format!("Der {}. Bär aß {} süße Beeren; ", i % 7, i % 3)).collect()
}

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::write(place.path("bears.txt"), text()).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A small model of the text, three updates an epoch.
    fn args(&self, kind: &Kind, out: &str, more: &[&str]) -> Vec<String> {
        let file = format!("data.file={}", self.path("bears.txt"));
        let small = ["data.context=8", "data.vocabulary=", "train.batch=4"];
        let steps = ["train.steps_per_epoch=3", "train.epochs=2", "schedule.kind=constant", "train.log_every=1"];
        let mut args = vec!["train".into(), format!("data/runs/{}.toml", kind.run), "--out".into(), self.path(out)];
        let sets = [&file[..]].into_iter().chain(kind.small.iter().copied()).chain(small).chain(steps);
        args.extend(sets.flat_map(|set| ["--set".into(), set.into()]));
        args.extend(more.iter().map(ToString::to_string));
        args
    }

    pub(crate) fn train_of(&self, kind: &Kind, out: &str, more: &[&str]) -> (i32, String) {
        let args = self.args(kind, out, more);
        let (code, _, said) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        (code, said)
    }

    pub(crate) fn train(&self, out: &str, more: &[&str]) -> (i32, String) {
        self.train_of(&GPT, out, more)
    }

    pub(crate) fn trains_of(&self, kind: &Kind, out: &str, more: &[&str]) -> Vec<u8> {
        let (code, said) = self.train_of(kind, out, more);
        assert_eq!(code, 0, "{more:?}: {said}");
        std::fs::read(Path::new(&self.path(out)).join("model.safetensors")).unwrap()
    }

    pub(crate) fn trains(&self, out: &str, more: &[&str]) -> Vec<u8> {
        self.trains_of(&GPT, out, more)
    }

    /// Overrides of a run of the golden model on the tokens of make_text.py.
    pub(crate) fn of_golden(&self, kind: &Kind) -> Vec<String> {
        std::fs::write(self.path("stream.bin"), stream()).unwrap();
        let file = format!("data.file={}", self.path("stream.bin"));
        let sets = OF_GOLDEN.iter().chain(kind.of_golden).map(ToString::to_string);
        sets.chain([file]).flat_map(|set| ["--set".into(), set]).collect()
    }

    pub(crate) fn lines(&self, out: &str, split: &str) -> Vec<Value> {
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
    // What inspect says of them.
    let seen = |name: &str| {
        let (code, told, said) = run(&["inspect", "--json", &place.path(name)]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str::<Value>(&told).unwrap()
    };
    let (count, largest) = (bytes.len(), bytes.iter().max());
    for (name, written) in [("nano.bin", "nanoGPT"), ("llm.bin", "llm.c")] {
        assert_eq!(seen(name), json!({ "holds": "tokens", "written_as": written, "tokens": count, "largest": largest }));
    }
    let different = text().chars().collect::<std::collections::BTreeSet<char>>().len();
    let of_text = json!({ "holds": "text", "bytes": count, "largest_byte": largest, "characters": text().chars().count(),
        "different_characters": different, "not_utf8_from": null });
    assert_eq!(seen("bears.txt"), of_text);
    let (wrong, cut) = ([&bytes[..7], &[0xff], &bytes[7..]].concat(), bytes[..bytes.len() - 1].iter().chain(&[0xc3]).copied());
    std::fs::write(place.path("wrong.txt"), wrong).unwrap();
    std::fs::write(place.path("cut.txt"), cut.collect::<Vec<u8>>()).unwrap();
    assert_eq!((&seen("wrong.txt")["not_utf8_from"], &seen("cut.txt")["not_utf8_from"]), (&json!(7), &json!(count - 1)));
    std::fs::write(place.path("odd.bin"), &words[1..]).unwrap();
    let (code, _, said) = run(&["inspect", &place.path("odd.bin")]);
    assert!(code == 65 && said.contains("an odd number"), "{code} {said}");
    let (code, told, _) = run(&["inspect", &place.path("nano.bin")]);
    assert!(code == 0 && told.contains(&format!("tokens   {count}\n")), "{told}");
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
    let (code, told, said) = run(&["eval", &place.path("whole"), "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{code} {e}: {said}"));
    let bits = |row: &str| told[row]["bits_per_byte"].as_f64().unwrap();
    // The program makes 124 bytes of the 197 that are predicted; how it checks its files takes 4 to 8 of them.
    assert!(bits("this model") == whole.1 && (bits("xz -9") - 8.0 * 124.0 / 197.0).abs() < 8.0 * 8.0 / 197.0, "{told}");
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
    let (windows, random, dropout) = ("data.sampling=windows", "data.sampling=random", "model.dropout=0.1");
    for (kind, sampling, last) in
        [(&GPT, windows, dropout), (&GPT, random, dropout), (&LLAMA, windows, dropout), (&MAMBA2, random, "train.accumulate=2")]
    {
        let sets = ["--set", sampling, "--set", last, "--set", "checkpoint.every=1"];
        let whole = place.trains_of(kind, &format!("{} {sampling}", kind.golden), &sets);
        let out = format!("{} cut {sampling}", kind.golden);
        let (code, said) = place.train_of(kind, &out, &[&sets[..], &["--steps", "2"]].concat());
        assert_eq!(code, 0, "{said}");
        assert!(place.trains_of(kind, &out, &[&sets[..], &["--resume"]].concat()) == whole, "{} {sampling}", kind.run);
    }
    // The characters come back from the weights, for another text as well.
    std::fs::write(place.path("other.txt"), "aß Bär Beeren. ".repeat(9)).unwrap();
    let args = ["eval", &place.path("gpt data.sampling=random"), "--data", &place.path("other.txt"), "--json"];
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

/// Those of nanoGPT, and those that PyTorch counts of the others (kernels-tests/golden/make_text.py has the models).
fn the_shipped_runs_have_the_weights_that_they_say() {
    for (run_file, weights) in [
        ("gpt_cpu", 804_096),
        ("gpt_shakespeare", 10_745_088),
        ("llama_small", 9_467_136),
        ("mamba2_small", 9_466_984),
        ("gpt2_124m", 124_439_808),
        // Of 36,864 in each block.
        ("gpt2_lora", 442_368),
    ] {
        let (code, told, said) = run(&["estimate", &format!("data/runs/{run_file}.toml"), "--json"]);
        assert_eq!(code, 0, "{said}");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["parameters"], weights, "{told}");
    }
}

fn every_model_goes_on_with_its_cache_as_without() {
    let place = Place::new();
    // Past the 16 tokens that the model sees; of Mamba-2 past those that it was trained on.
    let greedy = ["--prompt", "Der 1. Bär", "--tokens", "30", "--temperature", "0"];
    for kind in KINDS {
        let sets = ["train.steps_per_epoch=20", "train.epochs=1", "data.context=16", "optimizer.learning_rate=1e-2"];
        let more = sets.map(|set| ["--set", set]).concat();
        place.trains_of(kind, kind.golden, &more);
        let said_by = |args: &[&str]| {
            let (code, told, said) = run(&[&["generate", "--run", &place.path(kind.golden)], &greedy[..], args].concat());
            assert_eq!(code, 0, "{}: {said}", kind.run);
            told
        };
        let cached = said_by(&[]);
        assert_eq!(cached.trim_end_matches('\n').chars().count(), 40, "{cached:?}");
        assert_eq!(said_by(&["--naive"]), cached, "{}", kind.run);
    }
}

/// Samples, several at once, and what ends them.
fn a_text_goes_on_in_all_its_ways() {
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
    let drawn = ["--prompt", "B", "--tokens", "12", "--seed", "3", "--top-k", "9", "--top-p", "0.95"];
    let four = texts(&[&drawn[..], &["--batch", "4"]].concat());
    assert!(four.len() == 4 && four[0] != four[1], "{four:?}");
    assert_eq!(texts(&drawn)[..], four[..1]);
    // Prompts of other lengths beside it change nothing, before the end of the context and past it; a long one is fed in one piece.
    let beside = ["--prompt", "Der 1. Bär", "--prompt", "B", "--prompt", "Der 1. Bär", "--tokens", "12", "--temperature", "0", "--json"];
    let (code, told, said) = generate(&beside);
    assert_eq!(code, 0, "{said}");
    let told: Value = serde_json::from_str(&told).unwrap();
    for (prompt, told) in ["Der 1. Bär", "B", "Der 1. Bär"].into_iter().zip(told.as_array().unwrap()) {
        let alone = texts(&["--prompt", prompt, "--tokens", "12", "--temperature", "0"]);
        assert_eq!((&told["prompt"], &told["texts"][0]), (&Value::from(prompt), &Value::from(alone[0].clone())), "{prompt}");
    }
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
        (&["--prompt", "B", "--prompt", "D", "--beam", "2"], "one --prompt"),
    ] {
        let (code, _, said) = generate(args);
        assert!(code == 2 && said.contains(says), "{args:?}: {code} {said}");
    }
}

/// Each validation and the report have a sample, the event file has it, too, and the weights are those of a run without.
fn samples_come_with_the_validations_and_change_nothing() {
    let place = Place::new();
    // An epoch says which weights a file belongs to, so the settings of the run differ in nothing else.
    let tensors = |file: &[u8]| {
        let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
        let mut all: Vec<_> = tensors.tensors().into_iter().map(|(name, t)| (name, t.data().to_vec())).collect();
        all.sort();
        all
    };
    let plain = place.trains("plain", &[]);
    let sampled = place.trains("sampled", &["--set", "validation.sample=Der 1"]);
    assert_eq!(tensors(&plain), tensors(&sampled));
    let file = |name: &str| std::fs::read(Path::new(&place.path("sampled")).join(name)).unwrap();
    let report: Value = serde_json::from_slice(&file("report.json")).unwrap();
    let sample = report["sample"].as_str().unwrap();
    // Up to the context of eight tokens.
    assert!(sample.starts_with("Der 1") && sample.chars().count() == 8, "{sample:?}");
    assert_eq!(report["tokens_per_step"], 4 * 8);
    let log = String::from_utf8(file("train.log")).unwrap();
    assert!(["sample of step 3:\n  Der 1", "sample of step 6:\n  Der 1"].iter().all(|told| log.contains(told)), "{log}");
    let folder = std::fs::read_dir(place.path("sampled")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let events = file(&folder.into_iter().find(|name| name.starts_with("events")).unwrap());
    let holds = |what: &[u8]| events.windows(what.len()).filter(|part| *part == what).count();
    assert_eq!((holds(b"validation/sample"), holds(b"    Der 1")), (2, 2));
    for (sample, says) in [("Q", "does not have"), ("Der 1. B", "1 to 7 tokens")] {
        let (code, said) = place.train("refused", &["--set", &format!("validation.sample={sample}")]);
        assert!(code == 2 && said.contains(says), "{sample}: {code} {said}");
    }
    let (code, _, said) = run(&["estimate", "data/runs/lvm_mlp.toml", "--set", "validation.sample=Der"]);
    assert!(code == 2 && said.contains("data.kind = \"text\""), "{code} {said}");
}

/// The tokens of make_text.py.
fn stream() -> Vec<u8> {
    let tokens = (0..400u32).map(|i| (7 * i + i * i % 5 + i / 13) % 11);
    tokens.flat_map(|token| (token as u16).to_le_bytes()).collect()
}

/// Overrides of a run that begins from a golden folder.
const OF_GOLDEN: [&str; 8] = [
    "data.tokenizer=",
    "data.vocabulary=11",
    "data.context=6",
    "data.sampling=windows",
    "train.batch=3",
    "train.shuffle=false",
    "optimizer.learning_rate=1e-2",
    "schedule.min_learning_rate=",
];

fn ten_steps_from_a_folder_of_transformers_are_those_of_pytorch() {
    let place = Place::new();
    for kind in KINDS {
        let (sets, folder) = (place.of_golden(kind), format!("{GOLDEN}/{}", kind.golden));
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let begins = ["--init", &folder, "--steps", "10"];
        place.trains_of(kind, kind.golden, &[&sets[..], &begins].concat());
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(format!("{folder}/expected.json")).unwrap()).unwrap();
        let (lines, want) = (place.lines(kind.golden, "train"), expected["losses"].as_array().unwrap());
        assert_eq!(lines.len(), 10);
        for (step, (line, want)) in lines.iter().zip(want).enumerate() {
            let (got, want) = (line["loss"].as_f64().unwrap(), want.as_f64().unwrap());
            assert!((got - want).abs() <= 1e-6 * want, "{} step {step}: {got}, PyTorch has {want}", kind.run);
        }
    }
    for (kind, set, says) in [
        (&GPT, "model.layers=1", "n_layer: 2 there, model.layers makes it 1"),
        (&GPT, "model.activation=gelu", "activation_function: \"gelu_new\" there"),
        (&GPT, "data.context=5", "n_positions: 6 there, data.context makes it 5"),
        (&GPT, "model.bias=false", "is not 0 there, and model.bias = false"),
        (&LLAMA, "model.kv_heads=2", "num_key_value_heads: 1 there, model.kv_heads makes it 2"),
        (&LLAMA, "model.rope_theta=500", "rope_parameters.rope_theta: 10000.0 there, model.rope_theta makes it 500.0"),
        (&LLAMA, "model.tied=true", "tie_word_embeddings: false there, model.tied makes it true"),
        (&LLAMA, "model.norm_eps=1e-5", "rms_norm_eps: 1e-6 there"),
        (&MAMBA2, "model.mixer.state=4", "state_size: 3 there, model.mixer.state makes it 4"),
        (&MAMBA2, "model.mixer.head=8", "num_heads: 4 there, model.mixer.head makes it 2"),
    ] {
        let (sets, folder) = (place.of_golden(kind), format!("{GOLDEN}/{}", kind.golden));
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let (code, said) = place.train_of(kind, "other", &[&sets[..], &["--init", &folder, "--set", set]].concat());
        assert!(code == 65 && said.contains(says), "{set}: {code} {said}");
    }
}

/// Weights of a folder, unchanged by a step too small to change them, and exported again; then those of a model without biases.
fn a_folder_goes_out_and_comes_in_bit_for_bit() {
    let place = Place::new();
    let round = |kind: &Kind, name: &str, begin: &[&str]| {
        let sets = place.of_golden(kind);
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let still = ["--set", "optimizer.learning_rate=1e-30", "--set", "optimizer.weight_decay=0", "--steps", "1"];
        place.trains_of(kind, name, &[&sets[..], &still, begin].concat());
        let out = place.path(&format!("{name} folder"));
        let (code, _, said) = run(&["export", &place.path(name), &out]);
        assert_eq!(code, 0, "{said}");
        // What is in a folder stays as it is.
        let (code, _, said) = run(&["export", &place.path(name), &out]);
        assert!(code == 73 && said.contains("is not empty: name a new folder"), "{code} {said}");
        out
    };
    let tensors = |folder: &str| {
        let bytes = std::fs::read(Path::new(folder).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec())).collect();
        all.sort();
        all
    };
    let config =
        |folder: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(Path::new(folder).join("config.json")).unwrap()).unwrap() };
    for kind in KINDS {
        let golden = format!("{GOLDEN}/{}", kind.golden);
        let out = round(kind, kind.golden, &["--init", &golden]);
        assert!(tensors(&out) == tensors(&golden), "{}", kind.run);
        // What both say, they say alike, but for tokens that begin and end a text, which the engine does not have.
        let (ours, theirs) = (config(&out), config(&golden));
        for (key, value) in ours.as_object().unwrap() {
            let told = theirs.get(key).is_none_or(|other| other == value || other.is_null());
            let near = theirs.get(key).and_then(Value::as_f64).zip(value.as_f64()).is_some_and(|(a, b)| a == b);
            assert!(told || near || key == "initializer_range", "{}: {key}", kind.run);
        }
    }
    let without = ["--set", "model.bias=false"];
    let first = round(&GPT, "without", &without);
    assert!(tensors(&first).iter().any(|(name, _, data)| name == "transformer.ln_f.bias" && data.iter().all(|byte| *byte == 0)));
    let again = round(&GPT, "again", &[&without[..], &["--init", &first]].concat());
    assert!(tensors(&again) == tensors(&first));
    // Tied, there is one matrix for both.
    for kind in [&LLAMA, &MAMBA2] {
        let tied = ["--set", "model.tied=true"];
        let first = round(kind, &format!("{} tied", kind.golden), &tied);
        assert!(config(&first)["tie_word_embeddings"] == true && tensors(&first).iter().all(|(name, ..)| name != "lm_head.weight"));
        let again = round(kind, &format!("{} tied again", kind.golden), &[&tied[..], &["--init", &first]].concat());
        assert!(tensors(&again) == tensors(&first), "{}", kind.run);
    }
}

/// Keys that were elsewhere, numbers that are no JSON, names without their beginning, and tensors that say nothing new.
fn folders_of_earlier_versions_are_read() {
    let place = Place::new();
    for (kind, prefix, changes) in [
        (&LLAMA, "model.", &[("\"rope_parameters\": {", "\"rope_scaling\": null, \"rope_theta\": 10000.0, \"ignored\": {")][..]),
        (&MAMBA2, "backbone.", &[("{\n      \"__float__\": \"Infinity\"\n    }", "Infinity")]),
    ] {
        let folder = place.path(kind.golden);
        std::fs::create_dir(&folder).unwrap();
        let golden = format!("{GOLDEN}/{}", kind.golden);
        let mut text = std::fs::read_to_string(format!("{golden}/config.json")).unwrap();
        for (now, before) in changes {
            assert!(text.contains(now), "{text}");
            text = text.replace(now, before);
        }
        std::fs::write(format!("{folder}/config.json"), text).unwrap();
        let bytes = std::fs::read(format!("{golden}/model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let renamed = file.tensors().into_iter().map(|(name, view)| (name.strip_prefix(prefix).map(String::from).unwrap_or(name), view));
        std::fs::write(format!("{folder}/model.safetensors"), safetensors::serialize(renamed, None).unwrap()).unwrap();
        let sets = place.of_golden(kind);
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let of = |out: &str, init: &str| place.trains_of(kind, out, &[&sets[..], &["--init", init, "--steps", "2"]].concat());
        assert!(of("earlier", &folder) == of("now", &golden), "{}", kind.run);
        std::fs::remove_dir_all(place.path("earlier")).unwrap();
        std::fs::remove_dir_all(place.path("now")).unwrap();
    }
}

fn models_that_do_not_fit_are_refused() {
    let place = Place::new();
    for (kind, set, code, says) in [
        (&LLAMA, "model.kv_heads=3", 2, "model.kv_heads = 3 must divide model.heads = 2"),
        (&LLAMA, "model.heads=16", 2, "an even number of features"),
        (&LLAMA, "model.d_model=20", 2, "a multiple of 8"),
        (&LLAMA, "model.feed_forward=20", 2, "model.feed_forward makes it 20 features"),
        (&LLAMA, "model.heads=4", 2, "model.kv_heads makes it 4 features"),
        (&LLAMA, "model.rope_theta=0", 2, "model.rope_theta"),
        (&MAMBA2, "model.mixer.head=7", 2, "must divide the 32 features"),
        (&MAMBA2, "model.mixer.groups=3", 2, "must divide the 4 heads"),
    ] {
        let (got, said) = place.train_of(kind, "refused", &["--set", set]);
        assert!(got == code && said.contains(says), "{set}: {got} {said}");
    }
    // Of several groups transformers has another norm.
    let init = format!("{GOLDEN}/mamba2");
    let (code, said) = place.train_of(&MAMBA2, "refused", &["--set", "model.mixer.groups=2", "--init", &init]);
    assert!(code == 2 && said.contains("with one group"), "{code} {said}");
}

fn my_text_goes_from_new_to_a_sample() {
    let place = Place::new();
    let (text, run_file, out) = (place.path("bears.txt"), place.path("bears.toml"), place.path("run"));
    for kind in ["llama", "mamba2"] {
        let (own, trained) = (place.path(&format!("{kind}.toml")), place.path(&format!("own {kind}")));
        let (code, told, said) = run(&["new", kind, "--data", &text, "--out", &own]);
        assert!(code == 0 && told.contains("each of which is a token"), "{told}{said}");
        let (code, _, said) = run(&["train", &own, "--out", &trained, "--steps", "2"]);
        assert!(code == 0 && std::fs::read_to_string(&own).unwrap().contains(&format!("kind = \"{kind}\"")), "{said}");
    }
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
