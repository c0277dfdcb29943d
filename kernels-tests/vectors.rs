//! Next-vector runs as a user runs them: bad data, rules, reports, comparison, weights out and in.

use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};

use engine::datasets::matrix::Values;
use engine::datasets::npz::{Npz, write};
use engine::train::{Options, train_with_restarts};

use crate::models::config;
#[cfg(unix)]
use crate::program::{PROGRAM, ended, eventually, started};
use crate::program::{host, run};
use crate::runner::tests;

tests![
    bad_data_is_refused_with_what_is_wrong,
    a_run_reports_beside_its_baselines_and_is_compared,
    a_collapsed_model_is_called_so_and_nothing_else,
    a_composite_logs_its_terms_and_selects_by_another_metric,
    predictions_and_weights_leave_and_come_back,
    a_run_that_a_rule_ends_starts_over_with_the_next_seed,
    a_sweep_is_many_runs_that_go_on_as_a_whole,
    several_run_files_are_trained_one_after_the_other,
    a_new_run_file_has_no_limits_of_other_data,
    windows_of_any_length_are_cut_from_a_row_of_vectors,
    a_share_of_the_training_samples_is_the_same_each_time,
    a_resumed_run_of_vectors_ends_with_the_same_weights,
    a_term_of_weight_0_is_no_term,
    a_sample_alone_in_its_batch_is_left_out_of_deviations,
    a_file_with_contexts_of_another_length_is_tested_as_it_is,
    targets_that_are_alike_have_a_discrepancy,
    other_data_than_a_run_was_trained_on_are_noticed,
    a_sweep_looks_at_all_its_runs_before_the_first_trains,
    settings_that_change_nothing_are_named,
    preflight_says_what_is_wrong_with_data_and_settings,
    a_dominated_term_stands_in_the_report_and_in_tables,
    what_comes_next_follows_from_what_was_expected,
    vectors_too_long_for_their_square_end_a_run,
    infonce_alone_is_warned_of,
    data_with_an_offset_are_not_called_collapsed,
    #[cfg(unix)]
    a_link_to_a_run_folder_is_followed,
    the_library_starts_over_too,
    #[cfg(unix)]
    data_that_change_during_a_run_end_it,
];

const SAMPLE: &str = "data/samples/wikitext_minilm_small.npz";
const RUN: &str = "data/runs/lvm_mlp.toml";
const SMALL: [&str; 4] = ["model.hidden=16", "train.batch=32", "train.epochs=2", "train.log_every=1"];

fn train(file: &str, out: &Path, more: &[&str]) -> (i32, String, String) {
    let data = format!("data.file={file}");
    let mut args = vec!["train", RUN, "--out", out.to_str().unwrap(), "--set", &data];
    SMALL.iter().for_each(|set| args.extend(["--set", set]));
    args.extend(more);
    run(&args)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A file with that many samples of contexts (3, 4) and targets (4).
pub(crate) fn data(path: &Path, samples: usize, change: impl Fn(&mut Vec<f32>, &mut Vec<f32>)) -> String {
    let mut contexts: Vec<f32> = (0..samples * 12).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut targets: Vec<f32> = (0..samples * 4).map(|i| (i as f32 * 0.3).cos()).collect();
    change(&mut contexts, &mut targets);
    let (n, m) = (contexts.len() / 12, targets.len() / 4);
    write(path, &[("contexts", &[n, 3, 4], &contexts), ("targets", &[m, 4], &targets)]).unwrap();
    path.to_str().unwrap().to_string()
}

/// Smaller shares are parts of larger ones, the validation stays, and estimates know of it.
fn a_share_of_the_training_samples_is_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let file = data(&folder.path().join("data.npz"), 200, |_, _| {});
    let rows = |share: &str, seed: &str| {
        let (out, set, seed) = (path(&format!("{share}-{seed}")), format!("train.share={share}"), format!("train.seed={seed}"));
        let (code, _, text) = train(&file, Path::new(&out), &["--set", &set, "--set", &seed, "--set", "data.split=random"]);
        assert_eq!(code, 0, "{text}");
        assert_eq!(share != "1.0", text.contains("training samples are used"), "{text}");
        let to = path("predictions.npz");
        assert_eq!(run(&["eval", &out, "--predictions", &to]).0, 0);
        let mut npz = Npz::open(Path::new(&to)).unwrap();
        ["train_samples", "val_samples"].map(|name| npz.array(name).unwrap().values.to_f32())
    };
    let ([whole, validation], [half, same], [quarter, _]) = (rows("1.0", "1"), rows("0.5", "1"), rows("0.25", "1"));
    assert_eq!((whole.len(), half.len(), quarter.len()), (180, 90, 45));
    assert!(validation == same && half.iter().all(|row| whole.contains(row)) && quarter.iter().all(|row| half.contains(row)));
    assert_eq!(rows("0.5", "2")[0], half);
    // 90 samples are 2 batches of 32; without the file's samples the header tells the same.
    let report = std::fs::read_to_string(Path::new(&path("0.5-1")).join("report.json")).unwrap();
    assert_eq!(json(&report)["steps"], 2 * 2);
    for (share, code) in [("0", 2), ("1.5", 2), ("0.01", 65)] {
        let set = format!("train.share={share}");
        assert_eq!(train(&file, Path::new(&path("never")), &["--set", &set, "--set", "data.split=random"]).0, code, "{share}");
    }
    let (code, _, text) = run(&["train", "data/runs/integer_sequences_d64.toml", "--set", "train.share=0.5", "--out", &path("never")]);
    assert!(code == 2 && text.contains("sequences are generated"), "{text}");
}

/// Of 12 vectors of two documents, 7 and 5.
fn windows_of_any_length_are_cut_from_a_row_of_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let vectors: Vec<f32> = (0..36).map(|i| i as f32).collect();
    let documents: Vec<f32> = (0..12).map(|i| if i < 7 { 4.0 } else { 9.0 }).collect();
    let pages: Vec<f32> = (0..12).map(|i| (70_000_000 + i) as f32).collect();
    let arrays: [(&str, &[usize], &[f32]); 3] =
        [("vectors", &[12, 3], &vectors), ("documents", &[12], &documents), ("pages", &[12], &pages)];
    write(Path::new(&path("row.npz")), &arrays).unwrap();
    let (file, out) = (path("row.npz"), path("out.npz"));
    let cut = |more: &[&str]| {
        let (code, _, text) = run(&[&["data", "windows", &file, "--out", &out], more].concat());
        assert_eq!(code, 0, "{text}");
        let mut npz = Npz::open(Path::new(&out)).unwrap();
        let [contexts, targets, rows] = ["context_sequences", "target_vectors", "target_rows"].map(|name| npz.array(name).unwrap());
        let (length, rows) = (contexts.shape[1], rows.values.to_f32());
        assert_eq!((contexts.shape[0], targets.shape), (rows.len(), vec![rows.len(), 3]));
        let (contexts, targets) = (contexts.values.to_f32(), targets.values.to_f32());
        for (i, row) in rows.iter().map(|row| *row as usize).enumerate() {
            assert_eq!(contexts[i * length * 3..(i + 1) * length * 3], vectors[(row - length) * 3..row * 3]);
            assert_eq!(targets[i * 3..(i + 1) * 3], vectors[row * 3..(row + 1) * 3]);
        }
        rows
    };
    assert_eq!(cut(&["--context", "4"]), [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    assert_eq!(cut(&["--context", "4", "--documents", "documents"]), [4.0, 5.0, 6.0, 11.0]);
    assert_eq!(cut(&["--context", "2", "--stride", "3", "--array", "vectors", "--documents", "documents"]), [2.0, 5.0, 9.0]);
    for (args, code, says) in [
        (vec!["--context", "12"], 65, "no 13 vectors of one document"),
        (vec!["--context", "3", "--array", "other"], 65, "other"),
        (vec!["--context", "3", "--array", "documents"], 65, "(vectors, features) is needed"),
        (vec!["--context", "3", "--documents", "vectors"], 65, "[12] is needed"),
        (vec!["--context", "3", "--documents", "pages"], 65, "documents are told apart by numbers below 2^24"),
        (vec!["--context", "0"], 2, "--context"),
    ] {
        let (got, _, text) = run(&[&["data", "windows", &file, "--out", &path("never.npz")], &args[..]].concat());
        assert!(got == code && text.contains(says), "{args:?}: {got} {text}");
    }
    let (code, _, text) = run(&["data", "windows", &file, "--context", "3", "--out", &file]);
    assert!(code == 2 && !Path::new(&path("never.npz")).exists(), "{text}");
}

/// `engine new` looks at the data: what another experiment came to on its own data is no limit here, and a cosine would not see lengths.
fn a_new_run_file_has_no_limits_of_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let unit = |_: &mut Vec<f32>, targets: &mut Vec<f32>| targets.chunks_mut(4).for_each(|t| t.copy_from_slice(&[0.5; 4]));
    let long = |_: &mut Vec<f32>, targets: &mut Vec<f32>| targets.chunks_mut(4).for_each(|t| t.copy_from_slice(&[64.0; 4]));
    let files = [data(&folder.path().join("unit.npz"), 400, unit), data(&folder.path().join("long.npz"), 400, long)];
    for kind in ["lvm_amn", "lvm_transformer_unified", "lvm_transformer_composite", "lvm_mlp"] {
        for (file, by_length) in files.iter().zip([false, true]) {
            let out = path(&format!("{kind}-{by_length}.toml"));
            let (code, printed, text) = run(&["new", kind, "--data", file, "--out", &out]);
            assert_eq!(code, 0, "{text}");
            let table = std::fs::read_to_string(&out).unwrap().parse::<toml::Table>().unwrap();
            assert!(table.get("expect").is_none(), "{kind}: {table}");
            let rules = table.get("abort_if").and_then(toml::Value::as_array).cloned().unwrap_or_default();
            assert!(rules.iter().all(|rule| rule.get("below").is_none() && rule.get("above").is_none()), "{kind}: {table}");
            assert_eq!(rules.len(), if kind.ends_with("amn") || kind.ends_with("unified") { 2 } else { 0 }, "{kind}");
            let loss = table["loss"].as_table().unwrap();
            let terms: Vec<&String> = loss.keys().filter(|key| *key != "kind").collect();
            let squared =
                terms == ["mse"] && loss["mse"]["on"].as_str() == Some("raw") && table["validation"]["select"].as_str() == Some("mse");
            // Two of the experiments minimise that anyway.
            assert!(if rules.is_empty() { by_length == squared } else { squared || !by_length }, "{kind}: {table}");
            assert_eq!(by_length, printed.contains("The targets have a mean norm of 128.0000"), "{printed}");
        }
    }
    // What it writes trains.
    let (code, _, text) = run(&["train", &path("lvm_mlp-true.toml"), "--steps", "1", "--out", &path("run"), "--set", "model.hidden=8"]);
    assert_eq!(code, 0, "{text}");
    // Without data the file stays that of the experiment.
    let (code, _, text) = run(&["new", "lvm_amn", "--out", &path("plain.toml")]);
    assert!(code == 0 && std::fs::read_to_string(path("plain.toml")).unwrap().contains("at_least = 0.55"), "{text}");
}

/// Each in a folder of its name, all looked at before the first; `--csv` writes their metrics as tables.
fn several_run_files_are_trained_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["a.toml", "b.toml", "c.toml"] {
        std::fs::copy(RUN, path(name)).unwrap();
    }
    std::fs::create_dir(path("other")).unwrap();
    std::fs::copy(RUN, path("other/a.toml")).unwrap();
    let out = path("runs");
    let data = format!("data.file={SAMPLE}");
    let train_in = |out: &str, files: &[&str], more: &[&str]| {
        let files: Vec<String> = files.iter().map(|name| path(name)).collect();
        let mut args = vec!["train"];
        args.extend(files.iter().map(String::as_str));
        args.extend(["--out", out, "--set", &data, "--set", "abort_if=[]"]);
        SMALL.iter().for_each(|set| args.extend(["--set", set]));
        args.extend(more);
        run(&args)
    };
    let train = |files: &[&str], more: &[&str]| train_in(&out, files, more);
    let (code, _, text) = train(&["a.toml", "other/a.toml"], &[]);
    assert!(code == 2 && text.contains("two run files are called a"), "{code} {text}");
    let (code, _, text) = train(&["a.toml", "not_there.toml"], &[]);
    assert!(code == 66 && text.contains("not_there.toml") && !Path::new(&out).exists(), "{code} {text}");
    let (code, printed, text) = train(&["a.toml", "b.toml"], &["--csv"]);
    assert!(code == 0 && printed.contains("runs/a") && printed.contains("runs/b"), "{code} {printed} {text}");
    let table = std::fs::read_to_string(path("runs/b/metrics.csv")).unwrap();
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heads = lines.next().unwrap();
    assert!(
        heads.starts_with(&["step", "epoch"]) && heads.contains(&"train/gradient_norm") && heads.contains(&"validation/cosine"),
        "{heads:?}"
    );
    let rows: Vec<Vec<&str>> = lines.collect();
    assert!(rows.iter().all(|row| row.len() == heads.len()), "{table}");
    // Every number of metrics.jsonl stands in its row and column, and nothing else.
    let mut numbers = 0;
    for line in std::fs::read_to_string(path("runs/b/metrics.jsonl")).unwrap().lines().map(json) {
        let row = rows.iter().find(|row| row[0].parse::<u64>().ok() == line["step"].as_u64()).unwrap();
        assert_eq!(row[1].parse::<u64>().ok(), line["epoch"].as_u64());
        for (name, value) in line.as_object().unwrap().iter().filter(|(name, _)| !["split", "step", "epoch"].contains(&name.as_str())) {
            let column = heads.iter().position(|head| *head == format!("{}/{name}", line["split"].as_str().unwrap())).unwrap();
            assert_eq!(row[column].parse::<f64>().ok(), value.as_f64(), "{name} of {line}");
            numbers += 1;
        }
    }
    assert_eq!(rows.iter().flat_map(|row| &row[2..]).filter(|value| !value.is_empty()).count(), numbers);
    // As a whole it goes on where it was, and takes up what is new.
    let (code, _, text) = train(&["a.toml", "b.toml", "c.toml"], &["--resume"]);
    assert!(
        code == 0 && text.matches("it has ended: nothing to do").count() == 2 && Path::new(&path("runs/c/report.txt")).exists(),
        "{text}"
    );
    assert!(!Path::new(&path("runs/c/metrics.csv")).exists());
    // Members of a sweep lie in the folders of their files, and never in that of a run.
    let (code, _, text) = train(&["a.toml", "b.toml"], &["--seeds", "1,2", "--resume"]);
    assert!(code == 73 && text.contains("would lie among its files"), "{code} {text}");
    let out = path("sweeps");
    let (code, _, text) = train_in(&out, &["a.toml", "b.toml"], &["--seeds", "1,2", "--resume"]);
    assert_eq!(code, 0, "{text}");
    for member in ["a/seed=1", "a/seed=2", "b/seed=1", "b/seed=2"] {
        assert!(Path::new(&out).join(member).join("report.txt").exists(), "{member}");
    }
}

fn bad_data_is_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let whole = data(&path("good.npz"), 100, |_, _| {});
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(path("cut.npz"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(path("text.npz"), "not a zip").unwrap();
    let mut flipped = bytes.clone();
    flipped[400] ^= 1;
    std::fs::write(path("flipped.npz"), flipped).unwrap();
    write(&path("other.npz"), &[("x", &[2, 2], &[1.0; 4])]).unwrap();
    write(&path("flat.npz"), &[("contexts", &[100, 12], &[1.0; 1200]), ("targets", &[100, 4], &[1.0; 400])]).unwrap();
    let nan = |at: usize| move |c: &mut Vec<f32>, _: &mut Vec<f32>| c[at] = f32::NAN;
    let cases = [
        ("nothing.npz".to_string(), 66, "no data file"),
        (path("cut.npz").display().to_string(), 65, "cut.npz"),
        (path("text.npz").display().to_string(), 65, "text.npz"),
        (path("flipped.npz").display().to_string(), 65, "flipped.npz"),
        (path("other.npz").display().to_string(), 65, "no member context_sequences or contexts"),
        (path("flat.npz").display().to_string(), 65, "[100, 12]"),
        (data(&path("uneven.npz"), 100, |c, _| c.truncate(90 * 12)), 65, "[90, 3, 4]"),
        (data(&path("few.npz"), 30, |_, _| {}), 65, "do not fill one batch of 32"),
        (data(&path("nan.npz"), 100, nan(5 * 12 + 6)), 65, "1 values that are NaN or infinite, the first at [5, 1, 2]"),
        (
            {
                let whole = [1.0; 1200];
                let members: [(&str, &[usize], &[f32]); 3] = [
                    ("contexts", &[100, 3, 4], &whole),
                    ("targets", &[100, 4], &whole[..400]),
                    ("val_context_sequences", &[9, 3, 4], &whole[..108]),
                ];
                write(&path("half.npz"), &members).unwrap();
                path("half.npz").display().to_string()
            },
            65,
            "there is val_context_sequences and no val_target_vectors",
        ),
    ];
    for (i, (file, code, says)) in cases.iter().enumerate() {
        let out = path(&format!("run{i}"));
        let (got, _, text) = train(file, &out, &[]);
        assert!(got == *code && text.contains(says), "{file}: {got} {text}");
        assert!(!out.exists(), "{file}: a run folder was made");
    }
    let (code, _, text) = train(&cases[8].0, &path("skipped"), &["--set", "data.skip_non_finite=true"]);
    assert!(code == 0 && text.contains("1 of 100 samples") && text.contains("mean norm"), "{text}");
    let (code, _, text) = train(&whole, &path("given"), &["--set", "data.split=given"]);
    assert!(code == 65 && text.contains("val_context_sequences"), "{text}");
    for set in ["loss.moment={weight=1.0}", "loss.variance={weight=1.0}"] {
        let (code, _, text) = train(&whole, &path("alone"), &["--set", set, "--set", "train.batch=1"]);
        assert!(code == 2 && text.contains("two samples"), "{text}");
    }
    let unknown = "abort_if=[{metric='train_cosin',below=0.5}]";
    let (code, _, text) = train(SAMPLE, &path("rule"), &["--set", unknown]);
    assert!(code == 2 && text.contains("train_cosin ") && text.contains("train_cosine"), "{text}");
    for set in [
        "loss.cosine={weight=-1.0}",
        "data.validation_share=1.0",
        "data.splitt=random",
        "model.dropout=1.0",
        "abort_if=[{metric='train_cosine',below=nan}]",
        "abort_if=[{metric='train_cosine',above=inf}]",
        "abort_if=[{metric='train_cosine',worse=-0.1}]",
        "abort_if=[{metric='train_cosine',below=0.1,after_epoch=3}]",
        "expect=[{metric='train_cosine',at_least=nan,epoch=1}]",
        "expect=[{metric='train_cosine',at_least=0.1,epoch=0}]",
        "optimizer.eps=1e-50",
        "loss.mmd={weight=1.0,anchors=5000}",
    ] {
        let (code, _, text) = train(&whole, &path("config"), &["--set", set]);
        assert!(code == 2, "{set}: {text}");
    }
    // Epochs of 3 steps, and validations after steps 4, 8 and 9.
    let set = |epoch: u32| format!("expect=[{{metric='validation_cosine',at_least=-1.0,epoch={epoch}}}]");
    for (epoch, code) in [(1, 2), (2, 0)] {
        let more = ["--set", "train.batch=30", "--set", "train.epochs=3", "--set", "validation.every=4", "--set", &set(epoch)];
        let (got, _, text) = train(&whole, &path("rhythm"), &more);
        assert!(got == code && text.contains("no validation") == (code == 2) && !text.contains("MISSED"), "{epoch}: {got} {text}");
    }
}

fn a_run_reports_beside_its_baselines_and_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a");
    let expect = "expect=[{metric='validation_cosine',at_least=0.0},{metric='train_cosine',at_least=2.0,epoch=1}]";
    let (code, stdout, text) = train(SAMPLE, &out, &["--json", "--set", expect]);
    assert_eq!(code, 0, "{text}");
    let report = json(&stdout);
    for name in ["this model", "mean vector", "last vector", "context mean"] {
        let cosine = report["test"][name]["cosine"].as_f64().unwrap();
        assert!(cosine > 0.0 && cosine < 1.0 && report["test"][name]["ood_cosine"].is_number(), "{report}");
    }
    let verdict = report["notes"][0].as_str().unwrap();
    assert!(
        verdict.starts_with("WARNING: no better than what needs no training in\n  this model: cosine ")
            && verdict.contains("(context mean "),
        "{verdict}"
    );
    assert_eq!(report["select"], "unit_mse");
    // For unit vectors, of one cosine.
    let (cosine, unit_mse) = (report["best"]["cosine"].as_f64().unwrap(), report["selected"].as_f64().unwrap());
    assert!((unit_mse - (2.0 - 2.0 * cosine) / 384.0).abs() < 1e-12 && report["test"]["this model"]["unit_mse"].is_number(), "{report}");
    assert_eq!((&report["expectations"][0][2], &report["expectations"][1][2]), (&true.into(), &false.into()));
    let table = std::fs::read_to_string(out.join("report.txt")).unwrap();
    assert!(table.contains("MISSED  train_cosine ≥ 2 after epoch 1"), "{table}");

    let other = folder.path().join("b");
    let rule = ["--set", "abort_if=[{metric='train_cosine',below=0.99}]"];
    let (code, _, text) = train(SAMPLE, &other, &rule);
    assert!(code == 76 && text.contains("train_cosine") && text.contains("below 0.99 after epoch 1"), "{code} {text}");
    let svg = folder.path().join("curves.svg");
    let folders = [out.to_str().unwrap(), other.to_str().unwrap()];
    let (code, stdout, text) = run(&["compare", folders[0], folders[1], "--json", "--svg", svg.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let rows = json(&stdout);
    assert_eq!(rows["rows"].as_array().unwrap().len(), 2);
    let all = rows["rows"].to_string();
    assert!(all.contains("aborted: train_cosine") && all.contains("all steps done"), "{all}");
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<svg"));
    let (_, stdout, _) = run(&["compare", folders[0], folders[1], "--markdown"]);
    assert!(stdout.starts_with("| rank | run | model | parameters |") && stdout.lines().count() == 4, "{stdout}");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let nothing = empty.to_str().unwrap();
    for command in ["compare", "status"] {
        let (code, stdout, text) = run(&[command, nothing, folders[0]]);
        assert!(code == 0 && stdout.contains(folders[0]), "{command}: {stdout}");
        assert!(text.contains("left out") && text.contains("no run folder"), "{command}: {text}");
    }
    let seed = ["compare", folders[0], folders[1], "--columns", "Rank,model,parameters,best,best epoch,device,status"];
    let table = run(&seed).1;
    let heading: Vec<&str> = table.lines().next().unwrap().split("  ").map(str::trim).filter(|name| !name.is_empty()).collect();
    assert_eq!(heading, ["rank", "model", "parameters", "best", "best epoch", "device", "status"]);
    let (code, _, text) = run(&["compare", folders[0], "--columns", "speed"]);
    assert!(code == 2 && text.contains("There are: rank, run"), "{text}");
    assert_eq!(run(&["compare", folders[0], "--device", "0"]).0, 2);
    let (_, stdout, text) = run(&["compare", folders[0], "--inference", "--json"]);
    assert!(json(&stdout)["rows"][0]["inference"]["seconds_of_64"].as_f64().unwrap() > 0.0, "{stdout} {text}");
    let (code, _, text) = run(&["compare", nothing]);
    assert!(code == 66 && text.contains("no run folder"), "{text}");
}

/// Contexts that are all the same leave nothing but a constant to predict.
fn a_collapsed_model_is_called_so_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let same = data(&folder.path().join("same.npz"), 100, |contexts, _| contexts.fill(0.5));
    let (code, stdout, text) = train(&same, &folder.path().join("run"), &["--json", "--set", "validation.select=cosine"]);
    assert_eq!(code, 0, "{text}");
    let notes = json(&stdout)["notes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_string()).collect::<Vec<_>>();
    // Beside these, what recall is of.
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[1].contains("collapsed to a constant") && notes[2].starts_with("recall and rank"), "{notes:?}");
    let (_, stdout, _) = run(&["eval", "--run", folder.path().join("run").to_str().unwrap()]);
    assert!(notes.iter().all(|n| stdout.contains(n)) && stdout.contains("unit MSE"), "{stdout}");
}

/// Every term of a composite is logged at each validation, beside their sum and what selects.
fn a_composite_logs_its_terms_and_selects_by_another_metric() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let sets =
        ["loss.infonce={weight=1.0}", "loss.moment={weight=0.01}", "loss.mse={weight=0.05,on='normalized'}", "loss.cosine={weight=0.0}"];
    let mut more = vec!["--json", "--set", "validation.select=cosine", "--set", "schedule.kind=plateau"];
    sets.iter().for_each(|s| more.extend(["--set", s]));
    let (code, stdout, text) = train(SAMPLE, &out, &more);
    assert_eq!(code, 0, "{text}");
    let lines: Vec<serde_json::Value> =
        std::fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().map(json).filter(|l| l["split"] == "validation").collect();
    let of = |line: &serde_json::Value, name: &str| line[name].as_f64().unwrap();
    for line in &lines {
        let sum = of(line, "infonce") + 0.01 * of(line, "moment") + 0.05 * of(line, "mse");
        assert!((of(line, "loss") - sum).abs() < 1e-4 * sum, "{line}");
        assert!((of(line, "unit_mse") - of(line, "mse")).abs() < 1e-6, "{line}");
    }
    let best = lines.iter().map(|l| of(l, "cosine")).fold(f64::MIN, f64::max);
    assert_eq!(json(&stdout)["selected"].as_f64(), Some(best));
    let (code, stdout, _) = run(&["compare", out.to_str().unwrap()]);
    assert!(code == 0 && stdout.contains("selected by") && stdout.contains(&format!("cosine      {best:>9.6}")), "{stdout}");
    let (code, _, text) = train(SAMPLE, &folder.path().join("no"), &["--set", "validation.select=ood_cosine"]);
    assert!(code == 2 && text.contains("no metric ood_cosine") && text.contains("cosine_loss, unit_mse"), "{code} {text}");
}

fn predictions_and_weights_leave_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    assert_eq!(train(SAMPLE, &folder.path().join("a"), &[]).0, 0);
    // The run's own samples, and all of a file: each with its row.
    for (command, row, set, samples) in [
        (&["eval", "--run", &path("a")][..], "validation", "val", 80),
        (&["test", "--run", &path("a"), "--data", SAMPLE], "this model", "test", 240),
    ] {
        let file = path(&format!("{set}.npz"));
        let (code, stdout, text) = run(&[command, &["--predictions", &file, "--json"]].concat());
        assert_eq!(code, 0, "{text}");
        let mut npz = Npz::open(Path::new(&file)).unwrap();
        let mut array = |name: &str| npz.array(&format!("{set}_{name}")).unwrap();
        let (cosines, predictions, outputs) = (array("cosines"), array("predictions"), array("outputs"));
        assert_eq!((cosines.shape, predictions.shape, outputs.shape), (vec![samples], vec![samples, 384], vec![samples, 384]));
        let Values::F32(cosines) = cosines.values else { panic!("floats") };
        let mean = cosines.iter().map(|c| f64::from(*c)).sum::<f64>() / samples as f64;
        let scores = json(&stdout);
        assert!((scores[row]["cosine"].as_f64().unwrap() - mean).abs() < 1e-5, "{scores}");
        assert_eq!(scores.as_object().unwrap().contains_key("training"), row == "validation", "{scores}");
        // The training targets are known: their mean is a baseline of both.
        assert!(scores["mean vector"]["cosine"].is_number(), "{scores}");
    }

    let few = data(Path::new(&path("few.npz")), 20, |_, _| {});
    let (code, _, text) = run(&["eval", "--run", &path("a"), "--data", &few]);
    assert!(code == 65 && text.contains("does not fit this model"), "{code} {text}");

    let (code, _, text) = run(&["export", "--run", &path("a"), &path("w.safetensors")]);
    assert_eq!(code, 0, "{text}");
    let bytes = std::fs::read(path("w.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, ["network.0.bias", "network.0.weight", "network.3.bias", "network.3.weight"]);
    // With a rate of next to nothing the weights stay, and so do the results.
    let weights = path("w.safetensors");
    let still = ["--init", &weights, "--set", "optimizer.learning_rate=1e-30", "--json"];
    let (code, again, text) = train(SAMPLE, &folder.path().join("b"), &still);
    assert_eq!(code, 0, "{text}");
    let before = json(&std::fs::read_to_string(folder.path().join("a/report.json")).unwrap());
    assert_eq!(json(&again)["test"]["this model"]["cosine"], before["test"]["this model"]["cosine"]);
    let (code, _, text) = run(&["generate", "--run", &path("a"), "--prompt", "1,2"]);
    assert!(code == 2 && text.contains("predicts no numbers one after another"), "{text}");
}

/// A rule ends the run, the next seed starts over as often as was said, every attempt is kept, and the same command goes on.
fn a_run_that_a_rule_ends_starts_over_with_the_next_seed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let set = ["--set", "abort_if=[{metric='train_cosine',below=0.99}]", "--set", "restart.times=2"];
    let (code, _, text) = train(SAMPLE, &out, &set);
    assert!(code == 76 && text.contains("restart 2 of 2 with train.seed = 3"), "{code} {text}");
    for (name, seed) in [("run-attempt-1", 1), ("run-attempt-2", 2), ("run", 3)] {
        let config = std::fs::read_to_string(folder.path().join(name).join("config.toml")).unwrap();
        assert!(config.contains(&format!("seed = {seed}\nbatch")), "{name}: {config}");
        assert!(folder.path().join(name).join("report.json").exists(), "{name}");
    }
    let (code, _, text) = train(SAMPLE, &out, &[&set[..], &["--resume"]].concat());
    assert!(
        code == 76 && !text.contains("restart 1") && text.contains("2 of 2 restarts were made before: train.seed = 3"),
        "{code} {text}"
    );
    // The attempts of a run that is no longer there are not taken for those of another.
    std::fs::remove_dir_all(&out).unwrap();
    let (code, _, text) = train(SAMPLE, &out, &set);
    assert!(code == 73 && text.contains("run-attempt-1"), "{code} {text}");
    // A folder of that name that holds no run is somebody else's.
    let other = folder.path().join("other");
    std::fs::create_dir(folder.path().join("other-attempt-1")).unwrap();
    let (code, _, text) = train(SAMPLE, &other, &[&set[..], &["--resume"]].concat());
    assert!(code == 73 && text.contains("in the way of a restart"), "{code} {text}");
    assert!(!other.exists());
    // In a sweep no start takes the seed of another run, and a failed sweep stays one.
    let sweep = folder.path().join("sweep");
    let all = [&set[..], &["--seeds", "1,2"]].concat();
    assert_eq!(train(SAMPLE, &sweep, &all).0, 76);
    for (name, seed) in [("seed=1", 5), ("seed=2", 6), ("seed=1-attempt-2", 3), ("seed=2-attempt-1", 2)] {
        let config = std::fs::read_to_string(sweep.join(name).join("config.toml")).unwrap();
        assert!(config.contains(&format!("seed = {seed}\nbatch")), "{name}: {config}");
    }
    let (code, _, text) = train(SAMPLE, &sweep, &[&all[..], &["--resume"]].concat());
    assert!(code == 76 && text.matches("nothing to do").count() == 2, "{code} {text}");
    let (code, _, text) = train(SAMPLE, &folder.path().join("b"), &["--set", "restart={times=1,new_seed=false}"]);
    assert!(code == 2 && text.contains("restart.new_seed"), "{code} {text}");
}

/// Seeds and a grid: a folder each, the table of groups, and a sweep that goes on where it was.
fn a_sweep_is_many_runs_that_go_on_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sweep");
    let grid = ["--seeds", "1,2", "--grid", "optimizer.learning_rate=1e-3,1e-4"];
    let (code, stdout, text) = train(SAMPLE, &out, &grid);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("run 4 of 4") && stdout.contains("deviation"), "{stdout}\n{text}");
    let names: Vec<String> =
        ["1e-3,seed=1", "1e-3,seed=2", "1e-4,seed=1", "1e-4,seed=2"].iter().map(|n| format!("learning_rate={n}")).collect();
    let folders: Vec<String> = names.iter().map(|name| out.join(name).to_str().unwrap().to_string()).collect();
    let args: Vec<&str> = ["compare", "--json"].into_iter().chain(folders.iter().map(String::as_str)).collect();
    let told = run(&args).1;
    let groups = json(&told)["groups"].as_array().unwrap().clone();
    assert_eq!(groups.len(), 2);
    // The folder of the sweep stands for its runs, and may hold the page.
    let (whole, page) = (out.to_str().unwrap(), out.join("page.html"));
    assert_eq!(run(&["compare", "--json", whole]).1, told);
    assert_eq!(json(&run(&["status", "--json", whole]).1).as_array().unwrap().len(), 4);
    for _ in 0..2 {
        let (code, _, text) = run(&["report", whole, "--out", page.to_str().unwrap()]);
        assert!(code == 0 && std::fs::read_to_string(&page).unwrap().matches("<section class=\"run\"").count() == 4, "{text}");
    }
    // Where one run is wanted, the best is named.
    let best = json(&told)["rows"][0]["run"].as_str().unwrap().to_string();
    for command in ["predict", "eval", "export"] {
        let (code, _, text) = run(&[command, whole]);
        let named = text.contains("is a folder of 4 runs") && text.contains(&format!("the best is {best}"));
        assert!(code == 66 && named || command == "export" && code == 2, "{command}: {code} {text}");
    }
    let runs = |group: &serde_json::Value| (group["runs"].as_u64().unwrap(), group["deviation"].as_f64().unwrap() > 0.0);
    assert!(groups.iter().all(|group| runs(group) == (2, true)), "{groups:?}");
    assert!(train(SAMPLE, &out, &grid).2.contains("already holds a run"));
    // One of them is lost: it alone is trained again, to the same bits.
    let weights = |folder: &str| std::fs::read(Path::new(folder).join("model.safetensors")).unwrap();
    let before = weights(&folders[2]);
    std::fs::remove_dir_all(&folders[2]).unwrap();
    let (code, _, text) = train(SAMPLE, &out, &[&grid[..], &["--resume"]].concat());
    assert!(code == 0 && text.matches("nothing to do").count() == 3, "{code} {text}");
    assert!(weights(&folders[2]) == before, "other bits");
    let (code, stdout, _) = run(&["status", "--json", &folders[0], &folders[2]]);
    let statuses = json(&stdout);
    assert!(
        code == 0 && statuses[0]["state"].as_str().unwrap().starts_with("ended") && statuses[1]["epoch"] == statuses[1]["epochs"],
        "{stdout}"
    );
    // Another configuration is not taken for a run that has ended.
    let (code, _, text) = train(SAMPLE, &out, &[&grid[..], &["--resume", "--set", "optimizer.beta1=0.8"]].concat());
    assert!(code == 65 && text.contains("optimizer.beta1"), "{code} {text}");
    // One file that needs no network, with what stands in the folders as text.
    std::fs::write(Path::new(&folders[0]).join("notes.txt"), "<b>first</b>\n").unwrap();
    std::fs::write(Path::new(&folders[0]).join("linkage.svg"), "<svg xmlns='x'><script>1</script></svg>").unwrap();
    let page = folder.path().join("report.html");
    // What is no run is left out.
    let none = folder.path().display().to_string();
    let all = folders.iter().map(String::as_str).chain([none.as_str()]);
    let args: Vec<&str> = ["report", "--out", page.to_str().unwrap()].into_iter().chain(all).collect();
    let (code, _, text) = run(&args);
    assert!(code == 0 && text.contains("left out: ") && text.contains(&none), "{text}");
    let text = std::fs::read_to_string(&page).unwrap();
    for part in [
        "ranked by unit_mse</h2>",
        "deviation",
        "validation cosine",
        "&lt;b&gt;first",
        "data:image/svg+xml,",
        "learning_rate = 0.0001",
        "context mean",
    ] {
        assert!(text.contains(part), "{part}");
    }
    // Of the scripts, its own alone is there as one.
    assert!(text.matches("<script").count() == 1 && !text.replace("http://www.w3.org/2000/svg", "").contains("http"), "{text}");
    // A missed expectation counts where it is asked to.
    let missed = ["--set", "expect=[{metric='validation_cosine',at_least=2.0}]"];
    assert_eq!(train(SAMPLE, &folder.path().join("c"), &missed).0, 0);
    let (code, _, text) = train(SAMPLE, &folder.path().join("d"), &[&missed[..], &["--strict"]].concat());
    assert!(code == 76 && text.contains("1 of 1 expectations"), "{code} {text}");
    let strict = [&missed[..], &["--strict", "--resume", "--seeds", "4"]].concat();
    for _ in 0..2 {
        assert_eq!(train(SAMPLE, &folder.path().join("e"), &strict).0, 76);
    }
}

/// In pieces, across epochs, a plateau and accumulation, or whole: the same bits.
fn a_resumed_run_of_vectors_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.epochs=6", "train.accumulate=2", "schedule.kind=plateau", "schedule.patience=0", "checkpoint.every=3"];
    let mut more: Vec<&str> = set.iter().flat_map(|s| ["--set", *s]).collect();
    let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    assert_eq!(train(SAMPLE, &whole, &more).0, 0);
    for steps in ["5", "11", "100"] {
        let mut args = more.clone();
        args.extend(["--resume", "--steps", steps]);
        // A run that was cut short goes on as if it had not been.
        let (code, _, text) = train(SAMPLE, &pieces, &args);
        assert_eq!(code, 0, "{text}");
    }
    more.clear();
    let weights = |run: &Path| std::fs::read(run.join("model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&pieces), "the weights differ");
}

/// A term with weight 0 is treated as if it were not there: nothing of it is computed, logged or said.
fn a_term_of_weight_0_is_no_term() {
    let folder = tempfile::tempdir().unwrap();
    let file = data(&folder.path().join("data.npz"), 100, |_, _| {});
    let weights = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let (code, _, text) = train(&file, &out, more);
        assert!(code == 0 && !text.contains("infonce"), "{code} {text}");
        assert!(!std::fs::read_to_string(out.join("metrics.jsonl")).unwrap().contains("infonce"));
        let file = std::fs::read(out.join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        tensors.tensor("network.0.weight").unwrap().data().to_vec()
    };
    let zero = ["--set", "loss.infonce={weight=0,temperature=0.07}"];
    assert!(weights("without", &[]) == weights("zero", &zero), "the weights differ");
    let (code, _, text) = train(&file, &folder.path().join("none"), &["--set", "loss.cosine.weight=0"]);
    assert!(code == 2 && text.contains("every weight is 0"), "{code} {text}");
}

/// One row has no standard deviation: the terms that need one are means over the other batches, and the user is told.
fn a_sample_alone_in_its_batch_is_left_out_of_deviations() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let more = ["--set", "loss.variance={weight=0.5}", "--set", "loss.moment={weight=0.5}"];
    let metrics = |name: &str, samples: usize| {
        // All after the first 132 samples validate, the same ones from the start.
        let file = data(&path(&format!("{name}.npz")), samples, |_, _| {});
        let share = format!("data.validation_share={}", (samples - 132) as f64 / samples as f64);
        let split = ["--set", &share, "--set", "data.split=sequential", "--json"];
        let (code, out, text) = train(&file, &path(name), &[&more[..], &split].concat());
        assert_eq!(code, 0, "{text}");
        (json(&out)["test"]["this model"].clone(), std::fs::read_to_string(path(name).join("train.log")).unwrap())
    };
    let (even, _) = metrics("even", 132 + 32);
    let (alone, log) = metrics("alone", 132 + 33);
    assert!(log.contains("the last of 33 validation samples is alone in its batch of 32"), "{log}");
    let value = |m: &serde_json::Value, name: &str| m[name].as_f64().unwrap();
    for name in ["variance", "moment"] {
        assert_eq!(value(&even, name), value(&alone, name), "{name}");
    }
    let sum = value(&alone, "cosine_loss") + 0.5 * (value(&alone, "variance") + value(&alone, "moment"));
    assert!((value(&alone, "loss") - sum).abs() < 1e-9 && value(&even, "cosine") != value(&alone, "cosine"), "{alone}");
    let file = data(&path("one.npz"), 100, |_, _| {});
    let (code, _, text) = train(&file, &path("one"), &[&more[..], &["--set", "data.validation_share=0.005"]].concat());
    assert!(code == 65 && text.contains("one validation sample has no standard deviation"), "{code} {text}");
}

/// Whether the file that was trained on is still there or not: recurrent layers take any length, weights of a length none but that.
fn a_file_with_contexts_of_another_length_is_tested_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let trained = data(&folder.path().join("trained.npz"), 60, |_, _| {});
    for model in ["vector_lstm',hidden=16,layers=1,head='relu',dropout=0.0", "vector_mlp',hidden=16,dropout=0.0"] {
        let out = folder.path().join(&model[..10]);
        let (code, _, text) = train(&trained, &out, &["--set", &format!("model={{kind='{model}}}"), "--set", "train.epochs=1"]);
        assert_eq!(code, 0, "{text}");
    }
    for context in [2usize, 5] {
        let file = path(&format!("context-{context}.npz"));
        let contexts: Vec<f32> = (0..20 * context * 4).map(|i| (i as f32 * 0.7).sin()).collect();
        let targets: Vec<f32> = (0..20 * 4).map(|i| (i as f32 * 0.3).cos()).collect();
        write(Path::new(&file), &[("contexts", &[20, context, 4], &contexts), ("targets", &[20, 4], &targets)]).unwrap();
        let eval = |run_folder: &str, out: &str| run(&["eval", "--run", &path(run_folder), "--data", &file, "--predictions", &path(out)]);
        let (code, _, text) = eval("vector_mlp", "none.npz");
        assert!(code == 65 && text.contains("does not fit this model"), "{context}: {code} {text}");
        let (code, _, text) = eval("vector_lst", "beside.npz");
        assert_eq!(code, 0, "{text}");
        std::fs::rename(&trained, path("aside.npz")).unwrap();
        let (code, _, text) = eval("vector_lst", "alone.npz");
        assert_eq!(code, 0, "{text}");
        std::fs::rename(path("aside.npz"), &trained).unwrap();
        let predictions = |name: &str| Npz::open(Path::new(&path(name))).unwrap().array("test_predictions").unwrap().values.to_f32();
        assert!(
            predictions("beside.npz") == predictions("alone.npz"),
            "contexts of {context} give other predictions beside the training file"
        );
    }
}

/// Half of the squared distance of unit vectors is a small difference of large numbers: rounding must not make a kernel larger than 1.
fn targets_that_are_alike_have_a_discrepancy() {
    let folder = tempfile::tempdir().unwrap();
    for (name, spread) in [("same", 0.0f32), ("near", 1e-6), ("apart", 1e-3)] {
        let file = data(&folder.path().join(format!("{name}.npz")), 100, |_, targets| {
            targets.iter_mut().enumerate().for_each(|(i, t)| *t = 1.0 + (i % 4) as f32 + spread * (i as f32 * 0.3).cos());
        });
        let out = folder.path().join(name);
        let (code, _, text) = train(&file, &out, &["--set", "loss.mmd={weight=0.1,anchors=32}"]);
        assert!(code == 0 && !text.contains("skipped"), "{name}: {code} {text}");
        let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let found: Vec<f64> = metrics.lines().filter_map(|line| json(line)["mmd"].as_f64()).collect();
        assert!(found.len() > 2 && found.iter().all(|v| (-1e-6..=2.0).contains(v)), "{name}: {found:?}");
    }
}

/// A file of the same name with other contents: its split is another, and runs on it are no seeds of one configuration.
fn other_data_than_a_run_was_trained_on_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = data(&path("data.npz"), 100, |_, _| {});
    let kept = std::fs::read(&file).unwrap();
    let sweep = path("sweep");
    let (code, _, text) = train(&file, &sweep, &["--seeds", "1"]);
    assert_eq!(code, 0, "{text}");
    let run_folder = sweep.join("seed=1").display().to_string();
    let other = data(&path("other.npz"), 100, |contexts, _| contexts.iter_mut().for_each(|v| *v += 1.0));
    std::fs::copy(&other, &file).unwrap();
    let (code, _, text) = run(&["eval", "--run", &run_folder]);
    assert!(code == 65 && text.contains("was trained on other data") && text.contains("--data"), "{code} {text}");
    assert_eq!(run(&["eval", "--run", &run_folder, "--data", &other]).0, 0);
    let (code, _, text) = train(&file, &sweep, &["--seeds", "1,2", "--resume"]);
    assert!(code == 65 && text.contains("other data"), "{code} {text}");
    assert_eq!(train(&file, &sweep, &["--seeds", "2"]).0, 0);
    let (_, out, _) = run(&["compare", &run_folder, sweep.join("seed=2").to_str().unwrap(), "--json"]);
    let sets: Vec<_> = json(&out)["rows"].as_array().unwrap().iter().map(|row| (row["set"].as_u64(), row["rank"].as_u64())).collect();
    assert_eq!(sets, [(Some(1), Some(1)), (Some(2), Some(1))], "{out}");
    // The file of then, under another time.
    std::fs::write(&file, kept).unwrap();
    assert_eq!(run(&["eval", "--run", &run_folder]).0, 0);
}

#[cfg(unix)]
fn data_that_change_during_a_run_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = data(&path("data.npz"), 100, |_, _| {});
    let other = data(&path("other.npz"), 100, |contexts, _| contexts.iter_mut().for_each(|v| *v += 1.0));
    for (change, code) in [(&other, 65), (&file, 130)] {
        let out = path(&format!("run-{code}"));
        let set = format!("data.file={file}");
        let args =
            ["train", RUN, "--out", out.to_str().unwrap(), "--set", &set, "--set", "train.batch=32", "--set", "train.epochs=1000000"];
        let more = ["--set", "model.hidden=16", "--set", "checkpoint.every=100000", "--set", "train.log_every=1"];
        let child = started(Command::new(PROGRAM).args(args).args(more).stdout(Stdio::null()).stderr(Stdio::piped()));
        let lines = || std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default().matches("validation").count();
        eventually("it validates", || lines() > 0);
        // As a whole, so that no half of it is seen; the same contents are no change.
        std::fs::copy(change, path("new.npz")).unwrap();
        std::fs::rename(path("new.npz"), &file).unwrap();
        let before = lines();
        if code == 130 {
            eventually("it goes on", || lines() > before + 2);
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        }
        let (got, _, text) = ended(child.wait_with_output().unwrap());
        assert!(got == code && (code != 65 || text.contains("was changed during the run")), "{got} {text}");
        std::fs::write(&file, std::fs::read(data(&path("again.npz"), 100, |_, _| {})).unwrap()).unwrap();
    }
}

fn a_sweep_looks_at_all_its_runs_before_the_first_trains() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sweep");
    for (more, code, says) in [
        (&["--grid", "train.batch=32,100000"][..], 65, "do not fill one batch of 100000"),
        (&["--grid", "model.hidden=16,200000", "--budget", "64MiB"], 2, "the budget is 67108864"),
        (&["--grid", "validation.select=cosine,acuracy"], 2, "no metric acuracy"),
    ] {
        let (got, _, text) = train(SAMPLE, &out, more);
        assert!(got == code && text.contains(says) && !text.contains("run 1 of"), "{more:?}: {got} {text}");
        assert!(!out.exists(), "{more:?}");
    }
    // Files whose samples cannot be used, weights that are not there, and what lies where a run is to go.
    let nan = data(&folder.path().join("nan.npz"), 100, |contexts, _| contexts[7] = f32::NAN);
    let other = format!("data.file={SAMPLE},{nan}");
    let (code, _, text) = train(SAMPLE, &out, &["--grid", &other, "--set", "train.batch=9"]);
    assert!(code == 65 && text.contains("NaN") && !text.contains("run 1 of") && !out.exists(), "{code} {text}");
    let (code, _, text) = train(SAMPLE, &out, &["--seeds", "1,2", "--init", "/nowhere.safetensors"]);
    assert!(code == 66 && !text.contains("run 1 of") && !out.exists(), "{code} {text}");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("seed=2"), "mine").unwrap();
    let (code, _, text) = train(SAMPLE, &out, &["--seeds", "1,2"]);
    assert!(code == 73 && text.contains("seed=2 is no folder") && !out.join("seed=1").exists(), "{code} {text}");
}

fn settings_that_change_nothing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, text) = train(SAMPLE, &folder.path().join("sweep"), &["--grid", "data.seed=1,2", "--grid", "train.seed=3,4"]);
    assert_eq!(code, 0, "{text}");
    // The sample has validation members of its own: nothing is drawn.
    assert_eq!(
        out.matches("have the same weights to the last bit, although they differ in data.seed: it changed nothing here").count(),
        2,
        "{out}"
    );
    // Weights that were not trained say nothing.
    let untrained = [("a", "1e-3"), ("b", "1e-4")].map(|(name, rate)| {
        let out = folder.path().join(name);
        let rate = format!("optimizer.learning_rate={rate}");
        assert_eq!(train(SAMPLE, &out, &["--steps", "0", "--set", &rate]).0, 0);
        out.display().to_string()
    });
    let (code, out, _) = run(&["compare", &untrained[0], &untrained[1]]);
    assert!(code == 0 && !out.contains("changed nothing"), "{out}");
}

fn preflight_says_what_is_wrong_with_data_and_settings() {
    let folder = tempfile::tempdir().unwrap();
    let long = data(&folder.path().join("long.npz"), 100, |contexts, targets| contexts.iter_mut().chain(targets).for_each(|v| *v *= 8.0));
    let preflight = |file: &str, more: &[&str]| {
        let data = format!("data.file={file}");
        run(&[&["preflight", RUN, "--set", &data, "--set", "train.batch=9", "--set", "model.hidden=8"], more].concat())
    };
    let (code, out, text) = preflight(&long, &[]);
    assert!(
        code == 65 && out.contains("is NOT sound") && out.contains("WRONG     the training targets have a mean norm of"),
        "{code} {out} {text}"
    );
    let (code, out, text) = preflight(SAMPLE, &[]);
    assert!(code == 0 && out.contains("LOOK      two targets have a cosine of 0.1163"), "{code} {out} {text}");
    assert!(
        out.contains("fine      the untrained model gives vectors of norm") && out.contains("fine      optimizer.learning_rate"),
        "{out}"
    );
    let (code, out, _) = preflight(SAMPLE, &["--set", "optimizer.learning_rate=0.3"]);
    assert!(code == 2 && out.contains("WRONG     optimizer.learning_rate = 3e-1"), "{code} {out}");
    for set in
        ["validation.select=foo", "expect=[{metric='validation_cosine',at_least=0.1,epoch=1},{metric='validation_nope',at_least=1.0}]"]
    {
        let (code, _, text) = preflight(SAMPLE, &["--set", set]);
        assert!(code == 2 && text.contains("no metric"), "{code} {text}");
    }
    let before = folder.path().join("before");
    assert_eq!(train(SAMPLE, &before, &[]).0, 0);
    let like = before.to_str().unwrap();
    let (code, out, _) = preflight(SAMPLE, &["--like", like]);
    assert!(code == 0 && out.contains("train.batch: 32 then, 9 now") && !out.contains("data.dim"), "{code} {out}");
    let (_, out, _) = preflight(SAMPLE, &["--like", like, "--json"]);
    let found = json(&out);
    let level = |part: &str| {
        found["verdicts"].as_array().unwrap().iter().find(|v| v["what"].as_str().unwrap().contains(part)).unwrap()["level"].clone()
    };
    assert_eq!((level("mean norm of 1.0000"), level("settings differ")), ("fine".into(), "look".into()), "{found}");
}

/// Each term that hardly trains has its warning; they are said again at the end, and stand in the column of issues.
fn a_dominated_term_stands_in_the_report_and_in_tables() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let sets = ["--set", "loss={kind='vectors',infonce={weight=1.0},mse={weight=0.05,on='normalized'},moment={weight=0.001}}"];
    let (code, stdout, text) = train(SAMPLE, &out, &[&sets[..], &["--json", "--steps", "7"]].concat());
    assert_eq!(code, 0, "{text}");
    let issues = ["infonce dominates mse", "infonce dominates moment"];
    let report = json(&stdout);
    for issue in issues {
        let has = |list: &str, part: &str| report[list].as_array().unwrap().iter().any(|v| v.as_str().unwrap().contains(part));
        assert!(has("issues", issue) && has("warnings", issue.split(' ').next_back().unwrap()), "{report}");
    }
    // It goes on, and its report knows of what was before.
    let (code, stdout, text) = train(SAMPLE, &out, &[&sets[..], &["--resume"]].concat());
    assert!(code == 0 && stdout.matches("more than a hundred times as much as").count() == 2, "{stdout} {text}");
    let (_, stdout, _) = run(&["compare", out.to_str().unwrap(), "--columns", "run,issue"]);
    assert!(issues.iter().all(|issue| stdout.contains(issue)) && stdout.contains("below baselines: "), "{stdout}");
    // What a rule says stands there, too.
    let ruled = folder.path().join("ruled");
    assert_eq!(train(SAMPLE, &ruled, &["--set", "abort_if=[{metric='train_cosine',below=0.99}]"]).0, 76);
    let (_, stdout, _) = run(&["compare", ruled.to_str().unwrap(), "--columns", "run,issue"]);
    assert!(stdout.contains("aborted: train_cosine"), "{stdout}");
}

fn what_comes_next_follows_from_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let set = "expect=[{metric='validation_cosine',at_least=0.99,if_met='deploy',if_missed='look for more data'},\
               {metric='validation_cosine',at_least=-1.0,if_met='go on',if_missed='stop'}]";
    let (code, out, text) = train(SAMPLE, &folder.path().join("run"), &["--set", set]);
    assert_eq!(code, 0, "{text}");
    assert!(out.contains("is missed: look for more data") && out.contains("is met: go on"), "{out}");
    assert!(!out.contains("deploy") && !out.contains("stop"), "{out}");
}

/// Their squares overflow, and a cosine of 0 would be no cosine.
fn vectors_too_long_for_their_square_end_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let long = data(&folder.path().join("long.npz"), 100, |_, targets| targets.iter_mut().for_each(|v| *v *= 3e19));
    let (code, _, text) = train(&long, &folder.path().join("run"), &["--set", "train.batch=9", "--set", "optimizer.clip_norm=1"]);
    assert!(code == 76 && text.contains("not finite"), "{code} {text}");
}

fn infonce_alone_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    for (loss, warned) in [("infonce={weight=1.0}", true), ("infonce={weight=1.0},cosine={weight=0.1}", false)] {
        let set = format!("loss={{kind='vectors',{loss}}}");
        let (code, _, text) = train(SAMPLE, &folder.path().join(loss), &["--set", &set, "--steps", "1"]);
        assert!(code == 0 && text.contains("InfoNCE only tells the targets of a batch apart") == warned, "{loss}: {code} {text}");
    }
}

/// Vectors that are alike are predicted by vectors that are.
fn data_with_an_offset_are_not_called_collapsed() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        data(&folder.path().join("offset.npz"), 100, |contexts, targets| contexts.iter_mut().chain(targets).for_each(|v| *v += 12.0));
    let out = |name: &str, more: &[&str]| {
        let (code, out, text) = train(&file, &folder.path().join(name), &[&["--set", "train.batch=9"], more].concat());
        assert_eq!(code, 0, "{text}");
        out
    };
    assert!(!out("residual", &["--set", "model.residual=true"]).contains("collapsed"));
    // What gives the same for all is called so, whatever the targets are.
    let set = "model={kind='stack',layers=[{kind='flatten'},{kind='linear',out=1},{kind='relu'},{kind='linear'}]}";
    let dead = out("same", &["--set", set, "--set", "optimizer.learning_rate=0.5"]);
    assert!(dead.contains("collapsed to a constant"), "{dead}");
}

/// The run and its attempts lie where the link leads to, and the link stays one.
#[cfg(unix)]
fn a_link_to_a_run_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, link) = (folder.path().join("disk"), folder.path().join("link"));
    std::fs::create_dir_all(disk.join("run")).unwrap();
    std::os::unix::fs::symlink(disk.join("run"), &link).unwrap();
    let set = ["--set", "abort_if=[{metric='train_cosine',below=0.99}]", "--set", "restart.times=1"];
    let (code, _, text) = train(SAMPLE, &link, &set);
    assert!(code == 76 && text.contains("restart 1 of 1"), "{code} {text}");
    assert!(link.is_symlink() && disk.join("run/report.json").exists() && disk.join("run-attempt-1/report.json").exists());
    // What is in the way of an attempt is seen before the first.
    std::fs::create_dir_all(folder.path().join("other-attempt-1")).unwrap();
    let (code, _, text) = train(SAMPLE, &folder.path().join("other"), &set);
    assert!(code == 73 && text.contains("in the way of a restart") && !folder.path().join("other").exists(), "{code} {text}");
}

fn the_library_starts_over_too() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let file = format!("data.file={SAMPLE}");
    let set = [&SMALL[..], &[&file, "abort_if=[{metric='train_cosine',below=0.99}]", "restart.times=1"]].concat();
    let options = Options { out: out.clone(), quiet: true, host: host(), ..Options::default() };
    let error = train_with_restarts(&config("lvm_mlp", &set), &options).unwrap_err();
    assert_eq!(error.exit_code(), 76, "{error}");
    let seed = |folder: &str| std::fs::read_to_string(out.with_file_name(folder).join("config.toml")).unwrap().contains("seed = 2\nbatch");
    assert_eq!([seed("run-attempt-1"), seed("run")], [false, true]);
}
