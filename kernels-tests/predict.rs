//! Predictions of trained runs: of files and of lines, with the numbers that `engine eval` has.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use engine::datasets::npz::{Npz, write};
use engine::predict::Predictor;

use crate::program::{PROGRAM, host, run, started};
use crate::runner::tests;
use crate::vectors::data;

tests![
    predictions_are_the_outputs_of_an_evaluation,
    each_line_is_answered_before_the_next_is_asked_for,
    inputs_that_a_model_cannot_take_are_refused,
    images_are_of_the_right_size_and_range,
    contexts_of_any_length_go_through_a_recurrent_model,
    a_classifier_gives_classes_and_probabilities,
    threads_share_a_model_that_takes_any_number_of_samples,
];

fn array(file: &Path, name: &str) -> Vec<f32> {
    Npz::open(file).unwrap().array(name).unwrap().values.to_f32()
}

/// A run on 96 samples of `vectors::data`.
fn trained(folder: &Path, run_file: &str, set: &[&str]) -> String {
    let file = data(&folder.join("data.npz"), 96, |_, _| {});
    let out = folder.join("run").display().to_string();
    let file = format!("data.file={file}");
    let mut args =
        vec!["train", run_file, "--out", &out, "--steps", "3", "--set", &file, "--set", "train.batch=16", "--set", "abort_if=[]"];
    set.iter().for_each(|set| args.extend(["--set", set]));
    let (code, _, text) = run(&args);
    assert_eq!(code, 0, "{text}");
    out
}

/// Contexts of so many vectors of 4, without targets.
fn contexts(path: &Path, samples: usize, length: usize) -> String {
    let values: Vec<f32> = (0..samples * length * 4).map(|i| (i as f32 * 0.7).sin()).collect();
    write(path, &[("contexts", &[samples, length, 4], &values)]).unwrap();
    path.display().to_string()
}

fn predictions_are_the_outputs_of_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = trained(folder.path(), "data/runs/lvm_mlp.toml", &["model.hidden=16"]);
    // More than a batch, and no whole number of them; the same contexts as those of the training file.
    let inputs = contexts(&path("in.npz"), 96, 3);
    let whole = path("data.npz").display().to_string();
    for name in ["out.npz", "out.csv", "out.jsonl"] {
        let (code, text, said) = run(&["predict", &out, "--data", &inputs, "--out", path(name).to_str().unwrap()]);
        assert_eq!((code, text.as_str()), (0, ""), "{said}");
    }
    let (code, ..) = run(&["eval", &out, "--data", &whole, "--predictions", path("eval.npz").to_str().unwrap()]);
    assert_eq!(code, 0);
    let want = array(&path("eval.npz"), "test_outputs");
    assert_eq!(array(&path("eval.npz"), "test_samples"), (0..96).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(array(&path("out.npz"), "outputs"), want);
    assert_eq!(array(&path("out.npz"), "sample"), (0..96).map(|i| i as f32).collect::<Vec<_>>());
    let csv = std::fs::read_to_string(path("out.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("sample,output_0,output_1,output_2,output_3"));
    let rows: Vec<Vec<f32>> = lines.map(|line| line.split(',').map(|v| v.parse().unwrap()).collect()).collect();
    assert_eq!(rows.iter().flat_map(|row| row[1..].to_vec()).collect::<Vec<f32>>(), want);
    assert!(rows.iter().enumerate().all(|(i, row)| row[0] == i as f32));
    // Lines of a file are those that are printed, and rows of a split are named.
    let (code, printed, _) = run(&["predict", "--run", &out, "--data", &inputs]);
    assert_eq!((code, printed), (0, std::fs::read_to_string(path("out.jsonl")).unwrap()));
    let (code, ..) = run(&["eval", "--run", &out, "--predictions", path("split.npz").to_str().unwrap()]);
    assert_eq!(code, 0);
    for (name, count) in [("train", 86), ("val", 10)] {
        let rows = array(&path("split.npz"), &format!("{name}_samples"));
        assert_eq!(rows.len(), count);
        let outputs = array(&path("split.npz"), &format!("{name}_outputs"));
        assert!(rows.iter().enumerate().all(|(i, row)| outputs[4 * i..4 * i + 4] == want[4 * *row as usize..4 * *row as usize + 4]));
    }
}

fn each_line_is_answered_before_the_next_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), "data/runs/lvm_mlp.toml", &["model.hidden=16"]);
    let mut child =
        started(Command::new(PROGRAM).args(["predict", &out]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for sample in 0..3 {
        let line = format!("[[{sample},0,0,1],[0.5,0,1e-3,0],[-1,2,3,4]]\n");
        stdin.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((answer["sample"].as_u64(), answer["output"].as_array().unwrap().len()), (Some(sample), 4));
    }
    // Whoever stops reading ends it.
    drop(stdout);
    for _ in 0..3 {
        let _ = stdin.write_all(b"[[1,2,3,4],[1,2,3,4],[1,2,3,4]]\n");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut child =
        started(Command::new(PROGRAM).args(["predict", &out]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"[[1,2,3,4],[1,2,3,4],[1,2,3,4]]\n").unwrap();
    // The next is none.
    stdin.write_all(b"\n[[1,2,3,4],[1,2,3,4]\n").unwrap();
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(65) && text.contains("standard input, line 3: no JSON") && text.contains("column 20"), "{text}");
}

fn inputs_that_a_model_cannot_take_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = trained(folder.path(), "data/runs/lvm_mlp.toml", &["model.hidden=16"]);
    let lines = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        path(name).display().to_string()
    };
    let latin = |name: &str| {
        std::fs::write(path(name), b"[\xff]\n").unwrap();
        path(name).display().to_string()
    };
    write(&path("other.npz"), &[("x", &[2, 2], &[1.0; 4])]).unwrap();
    write(&path("nan.npz"), &[("contexts", &[2, 3, 4], &[[1.0; 20].as_slice(), &[f32::NAN; 4]].concat())]).unwrap();
    write(&path("none.npz"), &[("contexts", &[0, 3, 4], &[])]).unwrap();
    let cases = [
        (contexts(&path("long.npz"), 5, 7), 65, "the model takes `context` of [3, 4], and no other length: `context` of [7, 4] was given"),
        (path("other.npz").display().to_string(), 65, "no array `context`"),
        (path("nan.npz").display().to_string(), 65, "sample 1, number 8: NaN is not finite"),
        (path("none.npz").display().to_string(), 65, "there is no sample"),
        (path("not_there.npz").display().to_string(), 66, "not_there.npz"),
        (path("not_there.jsonl").display().to_string(), 66, "not_there.jsonl"),
        (lines("ragged.jsonl", "[[1,2,3,4],[1,2,3]]\n"), 65, "line 1: `context`: lists that are of different lengths"),
        (lines("word.jsonl", "[[1,2,3,\"4\"]]\n"), 65, "\"4\" is no number"),
        (lines("key.jsonl", "{\"x\":[[1]]}\n"), 65, "no input `x`. It takes `context`"),
        (lines("empty.jsonl", "\n\n"), 65, "there is no sample"),
        (lines("none.jsonl", "[[]]\n"), 65, "there is nothing to predict from"),
        (lines("array.npy", "\u{93}NUMPY"), 65, "this run reads no tables and no .npy files"),
        (latin("latin.jsonl"), 65, "no UTF-8 text"),
        (lines("long.jsonl", &"1".repeat((64 << 20) + 2)), 65, "longer than 67108864 bytes"),
        (lines("missing.jsonl", "{}\n"), 65, "`context` is missing"),
        (lines("deep.jsonl", &format!("{}1{}\n", "[".repeat(5000), "]".repeat(5000))), 65, "line 1: no JSON: recursion limit"),
    ];
    for (file, code, says) in cases {
        let target = path("never.npz");
        let (got, printed, text) = run(&["predict", &out, "--data", &file, "--out", target.to_str().unwrap()]);
        assert!(got == code && text.contains(says) && printed.is_empty(), "{file}: {got} {text}");
        assert!(!target.exists(), "{file}");
    }
    let inputs = contexts(&path("in.npz"), 5, 3);
    for (args, code, says) in [
        (vec!["predict"], 2, "name a run folder"),
        (vec!["predict", "nowhere"], 66, "nowhere is no run folder"),
        (vec!["predict", &out, "--data", &inputs, "--out", "a.txt"], 2, "no format .txt"),
        (vec!["predict", &out, "--data", &inputs, "--out", &inputs], 2, "is a file that is read or written here"),
        (vec!["predict", &out, "--data", &inputs, "--probabilities"], 2, "tells no classes apart"),
    ] {
        let (got, _, text) = run(&args);
        assert!(got == code && text.contains(says), "{args:?}: {got} {text}");
    }
}

fn threads_share_a_model_that_takes_any_number_of_samples() {
    fn expect_shared<T: Send + Sync>(_: &T) {}
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), "data/runs/lvm_mlp.toml", &["model.hidden=16"]);
    let open = |batch| Predictor::open(out.as_ref(), "best", &host(), None, &[], batch).unwrap();
    let (model, other) = (open(4), open(64));
    expect_shared(&model);
    // Fewer than a batch, a batch, several with one that is not full, and none; each thread has contexts of its own.
    std::thread::scope(|scope| {
        for (thread, samples) in [1_usize, 3, 4, 9, 21, 0].into_iter().enumerate() {
            let (model, other) = (&model, &other);
            scope.spawn(move || {
                let contexts: Vec<f32> = (0..samples * 12).map(|i| ((i + 1000 * thread) as f32 * 0.7).sin()).collect();
                let want = other.predict(samples, &[("context", &contexts)]).unwrap();
                for _ in 0..10 {
                    assert_eq!(model.predict(samples, &[("context", &contexts)]).unwrap(), want, "{samples} samples");
                }
            });
        }
    });
    let wrong = model.predict(6, &[("context", &[[0.5; 60].as_slice(), &[f32::NAN; 12]].concat())]);
    assert!(wrong.unwrap_err().to_string().contains("sample 5, number 0: NaN is not finite"));
    assert!(model.predict(usize::MAX, &[("context", &[0.0; 12])]).is_err());
}

fn contexts_of_any_length_go_through_a_recurrent_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = trained(folder.path(), "data/runs/lvm_lstm.toml", &["model.hidden=8", "model.layers=1"]);
    let values: Vec<f32> = (0..9 * 5 * 4).map(|i| (i as f32 * 0.7).sin()).collect();
    write(&path("long.npz"), &[("contexts", &[9, 5, 4], &values), ("targets", &[9, 4], &values[..36])]).unwrap();
    let long = path("long.npz").display().to_string();
    for args in [["predict", "--out", "out.npz"], ["eval", "--predictions", "eval.npz"]] {
        let (code, _, text) = run(&[args[0], &out, "--data", &long, args[1], path(args[2]).to_str().unwrap()]);
        assert_eq!(code, 0, "{text}");
    }
    assert_eq!(array(&path("out.npz"), "outputs"), array(&path("eval.npz"), "test_outputs"));
    // Lines of both lengths, one after the other; the length of one does not change the next.
    let line = |length: usize| serde_json::to_string(&vec![[0.5, -1.0, 0.25, 2.0]; length]).unwrap();
    std::fs::write(path("mixed.jsonl"), [line(3), line(5), line(3)].join("\n")).unwrap();
    let (code, printed, text) = run(&["predict", &out, "--data", path("mixed.jsonl").to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let outputs: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["output"].clone()).collect();
    assert!(outputs.len() == 3 && outputs[0] == outputs[2] && outputs[0] != outputs[1], "{printed}");
    std::fs::write(path("many.jsonl"), serde_json::to_string(&values[..20].chunks(4).collect::<Vec<_>>()).unwrap()).unwrap();
    let (_, printed, _) = run(&["predict", &out, "--data", path("many.jsonl").to_str().unwrap()]);
    let alone: Vec<f32> = serde_json::from_value(serde_json::from_str::<serde_json::Value>(&printed).unwrap()["output"].clone()).unwrap();
    let whole = array(&path("out.npz"), "outputs");
    assert!(alone.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6), "{alone:?} alone, {:?} in a batch", &whole[..4]);
}

fn a_classifier_gives_classes_and_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = path("run").display().to_string();
    let set = ["data.context=8", "data.values=32", "train.batch=4", "train.steps_per_epoch=2", "validation.sequences=10", "model.layers=1"];
    let mut args = vec!["train", "data/runs/integer_sequences_d64.toml", "--out", &out, "--steps", "2"];
    set.iter().for_each(|set| args.extend(["--set", set]));
    assert_eq!(run(&args).0, 0);
    std::fs::write(path("in.jsonl"), "[1,2,3,4,5,6,7,8]\n{\"tokens\":[2,4,8,16,31,0,0,0]}\n").unwrap();
    let inputs = path("in.jsonl").display().to_string();
    let (code, printed, text) = run(&["predict", &out, "--data", &inputs, "--probabilities"]);
    assert_eq!(code, 0, "{text}");
    for line in printed.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let classes: Vec<usize> = serde_json::from_value(line["prediction"].clone()).unwrap();
        let probabilities: Vec<Vec<f64>> = serde_json::from_value(line["probabilities"].clone()).unwrap();
        assert!(classes.len() == 8 && probabilities.len() == 8, "{line}");
        for (class, row) in classes.iter().zip(&probabilities) {
            assert!(row.len() == 32 && (row.iter().sum::<f64>() - 1.0).abs() < 1e-5 && row.iter().all(|p| *p <= row[*class]), "{row:?}");
        }
    }
    assert_eq!(run(&["predict", &out, "--data", &inputs, "--out", path("out.csv").to_str().unwrap()]).0, 0);
    let csv = std::fs::read_to_string(path("out.csv")).unwrap();
    assert!(csv.starts_with("sample,prediction_0,") && csv.lines().count() == 3, "{csv}");
    assert_eq!(run(&["predict", &out, "--data", &inputs, "--probabilities", "--out", path("out.npz").to_str().unwrap()]).0, 0);
    let mut npz = Npz::open(&path("out.npz")).unwrap();
    assert_eq!((npz.shape("predictions").unwrap(), npz.shape("probabilities").unwrap()), (vec![2, 8], vec![2, 8, 32]));
    for (line, says) in [
        ("[1,2,3,4,5,6,7,32]", "number 7: 32 is no integer from 0 to 31"),
        ("[1,2,3,4,5,6,7,0.5]", "number 7: 0.5 is no integer"),
        ("[[1,2,3,4],[5,6,7,8]]", "`tokens` has shape [2, 4]"),
        ("[1,2,4,8]", "`engine generate --prompt` continues shorter ones"),
    ] {
        std::fs::write(path("bad.jsonl"), line).unwrap();
        let (code, _, text) = run(&["predict", &out, "--data", path("bad.jsonl").to_str().unwrap()]);
        assert!(code == 65 && text.contains(says), "{text}");
    }
    // A mark of the encoding, line ends of Windows, and a name of one's own.
    std::fs::write(path("windows.jsonl"), "\u{feff}{\"tokens\":[1,2,3,4,5,6,7,8],\"id\":\"a\"}\r\n").unwrap();
    let (code, printed, text) = run(&["predict", &out, "--data", path("windows.jsonl").to_str().unwrap()]);
    let line: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(code == 0 && line["id"] == "a" && line["sample"] == 0, "{text}");
}

fn images_are_of_the_right_size_and_range() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pixels: Vec<f32> = (0..40 * 64).map(|i| (i % 7) as f32 / 7.0).collect();
    write(&path("images.npz"), &[("images", &[40, 8, 8], &pixels)]).unwrap();
    let (file, out) = (path("images.npz").display().to_string(), path("run").display().to_string());
    let mut args = vec!["train", "data/runs/linkage_vae.toml", "--out", &out, "--steps", "1"];
    let set = format!("data.file={file}");
    for set in [set.as_str(), "data.side=8", "train.batch=4", "model.latents=2", "model.layers={kind='dense',hidden=4}"] {
        args.extend(["--set", set]);
    }
    let (code, _, text) = run(&args);
    assert_eq!(code, 0, "{text}");
    assert_eq!(run(&["predict", &out, "--data", &file, "--out", path("out.npz").to_str().unwrap()]).0, 0);
    assert_eq!(array(&path("out.npz"), "outputs").len(), pixels.len());
    write(&path("grey.npz"), &[("images", &[2, 8, 8], &[255.0; 128])]).unwrap();
    write(&path("wide.npz"), &[("images", &[2, 4, 16], &[0.5; 128])]).unwrap();
    for (name, says) in [("grey.npz", "sample 0, number 0: 255 is not from 0 to 1"), ("wide.npz", "`images` has shape [4, 16]")] {
        let (code, _, text) = run(&["predict", &out, "--data", path(name).to_str().unwrap()]);
        assert!(code == 65 && text.contains(says), "{name}: {text}");
    }
}
