//! The program as a user runs it: exit codes, messages, resuming after a kill.

#[cfg(target_os = "linux")]
use crate::program::PROGRAM;
#[cfg(unix)]
use crate::program::{eventually, output, spawn};
use crate::program::{process, run, run_as_it_is};
use crate::runner::{all, tests};
use engine::harness::FAMILIES;
use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};

tests![
    mistakes_have_their_message_and_exit_code,
    wrong_words_get_the_way_out,
    a_folder_that_is_taken_leads_to_a_free_one,
    an_estimate_over_the_budget_has_its_exit_code,
    lines_fit_a_terminal_and_have_colours_if_asked,
    #[cfg(unix)]
    of_a_huge_or_strange_file_only_the_header_is_read,
    weights_leave_to_where_they_can_and_never_over_the_run,
    without_a_driver_it_says_how_to_get_one,
    a_run_is_not_overwritten_and_not_shared,
    every_step_is_a_line_of_the_metrics,
    every_command_takes_the_weights_of_an_unfinished_run,
    the_estimate_says_what_was_made_to_fit,
    the_estimate_needs_no_driver,
    the_estimate_is_what_training_takes,
    the_selected_metric_chooses_the_weights,
    patience_waits_for_the_warm_up_the_curriculum_or_what_is_set,
    a_resumed_run_goes_on_with_what_was_selected,
    a_model_no_better_than_a_guess_is_called_so,
    the_sequences_of_a_run_are_written,
    #[cfg(unix)]
    a_signal_saves_and_exits,
    #[cfg(unix)]
    files_that_are_not_the_engines_stay_as_they_are,
    #[cfg(unix)]
    a_signal_that_was_ignored_stays_ignored,
    #[cfg(unix)]
    a_file_beyond_the_limit_is_a_failed_write,
    absurd_overrides_are_refused_at_once,
    control_characters_are_shown_and_not_obeyed,
    #[cfg(target_os = "linux")]
    memory_that_the_system_refuses_is_said,
    sequences_that_were_trained_on_are_counted,
    weights_that_are_not_finite_stop_the_run_and_are_not_saved,
    a_card_goes_on_where_it_was_cut_off,
    a_check_writes_its_certificate,
];

const RUN: &str = "data/runs/integer_sequences.toml";
/// Short validations and frequent checkpoints.
const SHORT: [&str; 10] = [
    "--set",
    "validation.every=40",
    "--set",
    "validation.sequences=250",
    "--set",
    "checkpoint.every=20",
    "--set",
    "train.log_every=1",
    "--set",
    "train.batch=4",
];

fn train(out: &Path, steps: &str, more: &[&str]) -> (i32, String, String) {
    let mut args = vec!["train", RUN, "--steps", steps, "--out", out.to_str().unwrap()];
    args.extend(SHORT);
    args.extend(more);
    run(&args)
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

fn mistakes_have_their_message_and_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (more, code, says) in [
        (&["--set", "train.btach=3"] as &[&str], 2, "Did you mean `batch`?"),
        (&["--set", "optimizer.learning_rate=-1"], 2, "must be above 0"),
        (&["--budget", "100KB"], 2, "the budget is 100000"),
        (&["--budget", "lots"], 2, "expected a size"),
        (&["--device", "no such card"], 2, "no such adapter"),
        (&["--init", "/nowhere/weights.safetensors"], 66, "cannot read /nowhere/weights.safetensors"),
        (&["--init", RUN], 65, "no usable safetensors file"),
        (&["--set", "validation.select=acuracy"], 2, "There are loss, cross_entropy, accuracy, distance, last_accuracy, last_distance"),
        (&["--set", "validation.patience_after=-1"], 2, "patience_after"),
    ] {
        let (got, _, text) = train(&out, "2", more);
        assert!(got == code && text.contains(says), "{more:?}: {got} {text}");
        assert!(!out.exists(), "{more:?} leaves a folder");
    }
    let (code, _, text) = run(&["train", "data/runs/nothing.toml"]);
    assert!(code == 66 && text.contains("no run file"), "{code} {text}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, _, text) = train(&file.join("run"), "2", &[]);
    assert!(code == 73 && text.contains("--out"), "{code} {text}");
    let (code, _, text) = run(&["generate", "--run", folder.path().to_str().unwrap(), "--prompt", "1,2"]);
    assert!(code == 66 && text.contains("no run folder"), "{code} {text}");
    for (args, code, says) in [
        (&["inspect", "/nope"] as &[&str], 66, "/nope"),
        (&["inspect", "/dev/null"], 2, "inspect knows"),
        (
            &["train", "data/runs/integer_sequences_d64.toml", "--out", "unused", "--set", "validation.select=seen_in_training"],
            2,
            "describes the samples, not the model",
        ),
        (&["check", "--cases", "0"], 2, "--cases"),
        (&["train", RUN, "--out", "/nope/x", "--set", "batch=8"], 2, "Did you mean train.batch?"),
        (&["train", RUN, "--out", "/nope/x", "--set", "optimizer.learning_rate=-1e-20"], 2, "-1e-20 is out of range"),
    ] {
        let (got, _, text) = run(args);
        assert!(got == code && text.contains(says), "{args:?}: {got} {text}");
    }
}

fn wrong_words_get_the_way_out() {
    const VECTORS: &str = "data/runs/lvm_mlp.toml";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("mine.toml"), "").unwrap();
    let (own, near) = (path("mine"), path("mnie.toml"));
    for (args, code, says) in [
        (&["train", RUN, "--epochs", "3"] as &[&str], 2, "--set train.epochs=3"),
        (&["train", RUN, "--lr=1e-3"], 2, "--set optimizer.learning_rate=1e-3"),
        (&["train", RUN, "--set", "lr=1e-3"], 2, "Did you mean optimizer.learning_rate?"),
        (&["train", RUN, "--set", "optimizer.lr=1e-3"], 2, "Did you mean optimizer.learning_rate?"),
        (&["train", RUN, "--grid", "lr=1e-3,1e-4"], 2, "Did you mean optimizer.learning_rate?"),
        (&["train", RUN, "--set", "train.bs=8"], 2, "Did you mean train.batch?"),
        (&["train", RUN, "--batch-size", "8"], 2, "--set train.batch=8"),
        (&["train", "--dropout", RUN], 2, "--set model.dropout=VALUE"),
        (&["train", "lvm_mlp"], 66, "Did you mean data/runs/lvm_mlp.toml?"),
        (&["train", &own], 66, "mine.toml?"),
        (&["train", &near], 66, "mine.toml?"),
        (&["train", "data/samples/iris.csv"], 2, "engine new --data data/samples/iris.csv"),
        (&["train", "data/samples"], 2, "no run file and no run folder"),
        (&["status", RUN], 66, "is a file: a folder is wanted here"),
        (&["report", RUN], 66, "is a file: a folder is wanted here"),
        (&["eval", RUN], 66, "is a file and no run folder"),
        (&["train", RUN, "--out", &own, "--init", RUN], 65, "it is a text file"),
        (&["estimate", RUN, "--set", "optimizer.kind=adamW"], 2, "Did you mean `adamw`?"),
        (&["estimate", RUN, "--set", "loss.mse=1"], 2, "loss.kind = \"vectors\" has it; here it is \"cross_entropy\""),
        (&["estimate", VECTORS, "--set", "loss.mse=1"], 2, "as in loss.mse.weight = 1"),
        (&["estimate", RUN, "--set", "loss.kind=regression"], 2, "Take it away with --set loss.weight= --set loss.per= --set loss.alpha="),
        (
            &["estimate", RUN, "--set", "schedule={kind='epoch_cosine',warmup_epochs=1,warmup_share=0.1}"],
            2,
            "--set schedule.warmup_share= does",
        ),
        (&["estimate", RUN, "--set", "optimizer.momentum=0.5"], 2, "optimizer.kind = \"sgd\" has it; here it is \"adamw\""),
        (
            &["estimate", RUN, "--set", "schedule.kind=constant", "--set", "schedule.every_epochs=3"],
            2,
            "schedule.kind = \"step\" has it; here it is \"constant\"",
        ),
    ] {
        let (got, _, text) = run(args);
        assert!(got == code && text.contains(says), "{args:?}: {got} {text}");
    }
    // In the run file itself, too.
    let text = std::fs::read_to_string(RUN).unwrap();
    for (line, says) in [
        ("[loss]\nmse = 1", "loss.kind = \"vectors\" has it"),
        ("[loss]\nlearning_rate = 1", "Did you mean optimizer.learning_rate?"),
        ("[optimizer]\nmomentum = 0.9", "optimizer.kind = \"sgd\" has it; here it is \"adamw\""),
        ("[schedule]\npatience = 3", "schedule.kind = \"plateau\" has it; here it is \"warmup_cosine\""),
    ] {
        let table = line.split('\n').next().unwrap();
        std::fs::write(path("run.toml"), text.replace(table, line)).unwrap();
        let (code, _, said) = run(&["estimate", &path("run.toml")]);
        assert!(code == 2 && said.contains("line ") && said.contains(says), "{line}: {said}");
    }
    // An empty value takes a key away: its default holds.
    let (code, stdout, said) = run(&["estimate", RUN, "--json", "--set", "train.batch="]);
    let estimate: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let default = engine::config::TrainConfig::default().batch;
    assert!(code == 0 && estimate["batch"] == default, "{said} {estimate}");
    let (_, _, said) = run(&["devices", "--epochs", "3"]);
    assert!(!said.contains("--set"), "{said}");
}

fn a_folder_that_is_taken_leads_to_a_free_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(train(&path("run"), "1", &[]).0, 0);
    std::fs::create_dir(path("run-2")).unwrap();
    let free = format!("--out {}", path("run-3").display());
    let taken = || std::fs::read_dir(path("run")).unwrap().count();
    let before = taken();
    for more in [&[] as &[&str], &["--seeds", "1,2"], &["--grid", "train.batch=2,4"]] {
        let (code, _, text) = train(&path("run"), "1", more);
        assert!(code == 73 && text.contains(&free), "{more:?}: {code} {text}");
    }
    assert_eq!(taken(), before, "a sweep has written into the folder of a run");
    assert_eq!(train(&path("sweep"), "1", &["--seeds", "1"]).0, 0);
    let (code, _, text) = train(&path("sweep"), "1", &["--seeds", "1,2"]);
    assert!(code == 73 && text.contains(&format!("--out {}", path("sweep-2").display())), "{code} {text}");
    // Where a run file or data are asked for, a run folder leads on.
    let run_folder = path("run").display().to_string();
    let (code, _, text) = run(&["estimate", &run_folder]);
    assert!(code == 2 && text.contains(&format!("Its run file is {}", path("run/config.toml").display())), "{text}");
    let (code, _, text) = run(&["inspect", &run_folder]);
    assert!(code == 2 && text.contains("engine status"), "{code} {text}");
}

fn an_estimate_over_the_budget_has_its_exit_code() {
    for (args, code) in
        [(&["estimate", RUN, "--budget", "1KiB"] as &[&str], 2), (&["estimate", RUN, RUN, "--budget", "1KiB"], 2), (&["estimate", RUN], 0)]
    {
        let (got, stdout, text) = run(args);
        assert!(got == code && stdout.contains("budget") && (code == 0 || text.contains("does not fit")), "{args:?}: {got} {text}");
    }
}

fn lines_fit_a_terminal_and_have_colours_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, text) = train(&folder.path().join("a"), "45", &["--live"]);
    assert!(text.contains("--live needs a terminal in the foreground: training goes on without it\n"), "{text}");
    let told = |line: &&str| !line.starts_with("run folder") && !line.contains(folder.path().to_str().unwrap());
    for line in stdout.lines().take_while(|line| !line.starts_with("WARNING")).chain(text.lines()).filter(told) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(code == 0 && text.contains("validation ") && text.contains("to beat     "), "{text}");
    assert!(!stdout.contains('\u{1b}') && !text.contains('\u{1b}'), "{stdout} {text}");
    let (code, stdout, text) = train(&folder.path().join("b"), "45", &["--color", "always"]);
    assert!(code == 0 && stdout.contains("\u{1b}[33mWARNING") && text.contains("  \u{1b}[32mbest\u{1b}[0m"), "{stdout} {text}");
    let log = std::fs::read_to_string(folder.path().join("b/train.log")).unwrap();
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// Bytes that this thread has read so far, where the system tells.
#[cfg(unix)]
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0)
}

/// A file of 200 GB, almost all of it a hole, is refused by its header.
#[cfg(unix)]
fn of_a_huge_or_strange_file_only_the_header_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let header = r#"{"x":{"dtype":"F32","shape":[50000000000],"data_offsets":[0,200000000000]}}"#;
    let huge = path("huge.safetensors");
    let file = std::fs::File::create(&huge).unwrap();
    use std::io::Write;
    (&file).write_all(&[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    file.set_len(8 + header.len() as u64 + 200_000_000_000).unwrap();
    let (pipe, npz_pipe) = (path("pipe.safetensors"), path("pipe.npz"));
    for pipe in [&pipe, &npz_pipe] {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let out = path("run");
    for (args, code, says) in [
        (vec!["inspect", &huge], 0, "50000000000"),
        (vec!["train", RUN, "--init", &huge, "--out", &out], 65, "missing"),
        (vec!["inspect", &pipe], 65, "no regular file"),
        (vec!["inspect", &npz_pipe], 65, "no regular file"),
        (vec!["train", RUN, "--init", &pipe, "--out", &out], 65, "no regular file"),
    ] {
        let before = bytes_read();
        let (got, stdout, text) = run(&args);
        assert!(got == code && (stdout + &text).contains(says), "{args:?}: {got} {text}");
        let read = bytes_read() - before;
        assert!(read < 64 << 20, "{args:?} reads {read} bytes");
    }
}

fn weights_leave_to_where_they_can_and_never_over_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let (code, stdout, text) = train(&out, "3", &[]);
    assert!(code == 0 && stdout.contains("ended cut by --steps, 60000 in all: --resume goes on"), "{stdout} {text}");
    let before = weights(&out);
    let run_folder = out.to_str().unwrap();
    for (to, code) in
        [("/nope/x.safetensors", 73), ("run/model.safetensors", 73), ("run/checkpoints/best.safetensors", 73), ("w.safetensors", 0)]
    {
        let to = folder.path().join(to).display().to_string();
        let (got, _, text) = run(&["export", "--run", run_folder, "--checkpoint", "last", &to]);
        assert_eq!(got, code, "{to}: {text}");
    }
    assert!(before == weights(&out));
    // A run under way has half a line at the end; any other line is whole.
    let metrics = out.join("metrics.jsonl");
    let lines = std::fs::read_to_string(&metrics).unwrap();
    for (text, code) in [(format!("{lines}{{\"split\""), 0), (format!("{{\"split\"\n{lines}"), 65), (format!("{lines}x\n"), 65)] {
        std::fs::write(&metrics, text).unwrap();
        let (got, _, text) = run(&["compare", run_folder]);
        assert!(got == code && (code == 0 || text.contains("no line of metrics")), "{got} {text}");
    }
}

fn without_a_driver_it_says_how_to_get_one() {
    if cfg!(target_os = "linux") {
        let nowhere = Path::new("/nowhere.json");
        let without = [("VK_ICD_FILENAMES", nowhere), ("VK_DRIVER_FILES", nowhere)];
        let (code, _, text) = process(&["train", RUN], &without);
        assert!(code == 69 && text.contains("mesa-vulkan-drivers"), "{text}");
        assert_eq!(process(&["devices", "--json"], &without).0, 69);
    }
}

fn a_run_is_not_overwritten_and_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_eq!(train(&out, "3", &[]).0, 0);
    let (code, _, text) = train(&out, "3", &[]);
    assert!(code == 73 && text.contains("--resume"), "{code} {text}");
    let (code, _, text) = train(&out, "3", &["--resume", "--set", "train.seed=9"]);
    assert!(code == 65 && text.contains("another configuration") && text.contains("train.seed: 2 then, 9 now"), "{code} {text}");
    // A run that once saved a key of another kind goes on, also by its own file.
    let saved = out.join("config.toml");
    let old = std::fs::read_to_string(&saved).unwrap();
    std::fs::write(&saved, old.replace("[optimizer]\n", "[optimizer]\nmomentum = 0.9\n")).unwrap();
    let (code, _, text) = train(&out, "4", &["--resume"]);
    assert!(code == 0 && text.contains("resuming"), "{code} {text}");
    let own = ["train", saved.to_str().unwrap(), "--out", out.to_str().unwrap(), "--resume", "--steps", "5"];
    let (code, _, text) = run(&own);
    assert!(code == 0 && text.contains("resuming"), "{code} {text}");
    // What --resume does with a run that did not end.
    std::fs::remove_file(out.join("report.json")).unwrap();
    let state = || run(&["status", out.to_str().unwrap()]).1;
    assert!(state().contains("stopped: --resume goes on"), "{}", state());
    std::fs::rename(out.join("checkpoints"), folder.path().join("away")).unwrap();
    assert!(state().contains("stopped before its first checkpoint: --resume starts it anew"), "{}", state());
    std::fs::rename(folder.path().join("away"), out.join("checkpoints")).unwrap();
    let lock = std::fs::File::create(out.join(".lock")).unwrap();
    lock.try_lock().unwrap();
    let (code, _, text) = train(&out, "3", &["--resume"]);
    assert!(code == 73 && text.contains("in use"), "{code} {text}");
    // Both commands say of a run whose lock is held that it is live.
    for command in ["compare", "status"] {
        let (code, table, _) = run(&[command, out.to_str().unwrap()]);
        assert!(code == 0 && table.lines().nth(1).unwrap().ends_with("live"), "{command}: {table}");
    }
}

fn every_step_is_a_line_of_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let (code, stdout, text) = train(&out, "50", &["--json"]);
    assert_eq!(code, 0, "{text}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["parameters"], 1156);
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let steps: Vec<u64> = lines.iter().filter(|l| l["split"] == "train").map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, Vec::from_iter(1..=50));
    assert!(lines.iter().all(|l| l["loss"].as_f64().unwrap() > 0.0 && l["epoch"].is_u64()));
    for file in ["config.toml", "curves.svg", "report.txt", "report.json", "train.log", "model.safetensors", "checkpoints/best.safetensors"]
    {
        assert!(out.join(file).exists(), "{file}");
    }
    let (code, stdout, text) = run(&["generate", "--run", out.to_str().unwrap(), "--prompt", "1,2,4,8", "--count", "9"]);
    assert!(code == 0 && stdout.contains('→'), "{text}");
    let (code, stdout, _) = run(&["eval", "--run", out.to_str().unwrap(), "--sequences", "5", "--json"]);
    let eval: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(code == 0 && eval["full mixture"]["last_accuracy"].is_number());
}

/// A run that was stopped has weights, before it has a `model.safetensors`.
fn every_command_takes_the_weights_of_an_unfinished_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let path = out.to_str().unwrap();
    let exported = folder.path().join("weights.safetensors");
    assert_eq!(train(&out, "50", &[]).0, 0);
    std::fs::remove_file(out.join("model.safetensors")).unwrap();
    let eval = ["eval", "--run", path, "--sequences", "2"];
    let commands: [&[&str]; 3] =
        [&eval, &["generate", "--run", path, "--prompt", "1,2"], &["export", "--run", path, exported.to_str().unwrap()]];
    let file = out.join("checkpoints/step-000000040.safetensors");
    for command in commands {
        for (more, says) in [
            (&[] as &[&str], "weights of step 40: "),
            (&["--checkpoint", "best"], "best.safetensors"),
            (&["--checkpoint", "last"], "weights of step 50: "),
            (&["--checkpoint", file.to_str().unwrap()], "weights of step 40: "),
        ] {
            let (code, _, text) = run(&[command, more].concat());
            assert!(code == 0 && text.contains(says), "{command:?} {more:?}: {code} {text}");
        }
    }
    let (code, _, text) = run(&[&eval[..], &["--checkpoint", "/nowhere"]].concat());
    assert!(code == 66 && text.contains("--checkpoint best (") && text.contains("--checkpoint last ("), "{code} {text}");
    std::fs::remove_dir_all(out.join("checkpoints")).unwrap();
    let (code, _, text) = run(&eval);
    assert!(code == 66 && text.contains("no weights yet"), "{code} {text}");
}

fn the_estimate_says_what_was_made_to_fit() {
    let args = ["estimate", "data/runs/integer_sequences_d64.toml", "--fit", "--budget", "6MiB"];
    let (code, text, said) = run(&args);
    let line = text.lines().find_map(|line| line.strip_prefix("fit ")).unwrap_or_else(|| panic!("{text}{said}"));
    assert!(code == 0 && text.contains("on an RX 6600; --device"), "{text}");
    let estimate: serde_json::Value = serde_json::from_str(&run(&[&args[..], &["--json"]].concat()).1).unwrap();
    assert_eq!(estimate["fit"], line.trim());
    assert!(line.contains(&format!("train.batch = {}, train.accumulate = {}, ", estimate["batch"], estimate["accumulate"])), "{line}");
    let (_, text, _) = run(&["estimate", RUN, "--json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["fit"].is_null());
}

fn the_estimate_needs_no_driver() {
    let (_, stdout, _) = process(&["estimate", RUN, "--json"], &[("VK_ICD_FILENAMES", Path::new("/nowhere.json"))]);
    let estimate: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(estimate["parameters"], 1156);
    let roles: u64 = estimate["bytes_by_role"].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum();
    assert_eq!(estimate["total_bytes"], roles);
    assert!(estimate["largest_batch"].as_u64().unwrap() > 1000);
    let (code, stdout, _) = run(&["estimate", RUN, "data/runs/lvm_gru.toml"]);
    assert!(code == 0 && stdout.lines().count() == 5 && stdout.contains("7359232") && stdout.contains("on an RX 6600"), "{stdout}");
}

/// The beginning of the line with which a run says how many bytes it takes.
pub(crate) fn memory_line(bytes: u64) -> String {
    let size = bytes as f64 / 1024.0;
    if size < 1024.0 { format!("memory      {size:.1} KiB (") } else { format!("memory      {:.1} MiB (", size / 1024.0) }
}

/// On the device at hand: what training allocates, to the byte; the largest batch fits, the next one does not.
fn the_estimate_is_what_training_takes() {
    let folder = tempfile::tempdir().unwrap();
    let sample = "data.file=data/samples/wikitext_minilm_small.npz";
    let images = folder.path().join("images.npz").display().to_string();
    assert_eq!(run_as_it_is(&["data", "linkages", "--count", "80", "--out", &images]).0, 0);
    let (images, mut suggested) = (format!("data.file={images}"), 0);
    // Everyday a narrower one, whose steps take less time.
    let gru = format!("{sample}{}", if all() { "" } else { " model.width=64" });
    for (name, run_file, set) in [
        ("integers", RUN, "train.batch=40"),
        ("vectors", "data/runs/lvm_mlp.toml", sample),
        ("gru", "data/runs/lvm_gru_unified.toml", &gru),
        ("images", "data/runs/linkage_vae.toml", &images),
    ] {
        let sets: Vec<&str> = set.split(' ').flat_map(|set| ["--set", set]).collect();
        let estimate = |more: &[&str]| -> serde_json::Value {
            let (code, stdout, text) = run_as_it_is(&[&["estimate", run_file, "--device", "0", "--json"], &sets[..], more].concat());
            let estimate: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(code, if estimate["fits"] == true { 0 } else { 2 }, "{text}");
            estimate
        };
        let out = folder.path().join(name);
        let train = |out: &Path, steps: &str, more: &[&str]| {
            run_as_it_is(
                &[&["train", run_file, "--device", "0", "--steps", steps, "--out", out.to_str().unwrap()], &sets[..], more].concat(),
            )
        };
        let bytes = estimate(&[])["total_bytes"].as_u64().unwrap();
        let (code, _, text) = train(&out, "1", &["--budget", &bytes.to_string()]);
        assert!(code == 0 && text.contains(&memory_line(bytes)), "{name} {bytes}: {code} {text}");
        // With the samples on the device or streamed, whichever takes less, and one byte too few.
        let least = bytes.min(estimate(&["--budget", "1"])["total_bytes"].as_u64().unwrap());
        let (other, below) = (folder.path().join("other"), (least - 1).to_string());
        let (code, _, text) = train(&other, "1", &["--budget", &below]);
        assert!(code == 2 && text.contains("the plan needs") && !other.exists(), "{name}: {code} {text}");
        // A batch that is suggested fits, and divides what a step takes.
        let number = |key: &str| text.split(key).nth(1).map(|t| t.trim_start().split([';', ' ']).next().unwrap().to_string());
        if let (Some(batch), Some(accumulate)) = (number("train.batch ="), number("train.accumulate =")) {
            suggested += 1;
            let form = [format!("train.batch={batch}"), format!("train.accumulate={accumulate}")];
            let (code, _, text) = train(&other, "0", &["--budget", &below, "--set", &form[0], "--set", &form[1]]);
            assert_eq!(code, 0, "{name}: {text}");
        }
        let _ = std::fs::remove_dir_all(&other);
        let twice = (2 * bytes).to_string();
        let budget = ["--budget", &twice];
        let most = estimate(&budget)["largest_batch"].as_u64().unwrap();
        let fits = |batch: u64| estimate(&[&budget[..], &["--set", &format!("train.batch={batch}")]].concat())["fits"].as_bool().unwrap();
        assert!(fits(most) && !fits(most + 1), "{name}: {most}");
    }
    assert!(suggested > 1, "{suggested} suggestions");
}

/// Steps and values of a metric at each validation.
fn validations(folder: &Path, metric: &str) -> Vec<(u64, f64)> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    lines.filter(|l| l["split"] == "validation").map(|l| (l["step"].as_u64().unwrap(), l[metric].as_f64().unwrap())).collect()
}

const SELECTING: [&str; 10] = [
    "--set",
    "validation.every=5",
    "--set",
    "validation.sequences=250",
    "--set",
    "validation.min_delta=0",
    "--set",
    "optimizer.learning_rate=0.05",
    "--set",
    "schedule.kind=constant",
];

fn the_selected_metric_chooses_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    for (metric, sign) in [("loss", 1.0), ("distance", 1.0), ("accuracy", -1.0)] {
        let out = folder.path().join(metric);
        let set = format!("validation.select={metric}");
        let (code, stdout, text) = train(&out, "60", &[&SELECTING[..], &["--set", &set, "--json"]].concat());
        assert_eq!(code, 0, "{text}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        // Of equals the first.
        let (step, best) = validations(&out, metric).into_iter().min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1))).unwrap();
        assert_eq!(
            (report["best_step"].as_u64(), report["selected"].as_f64(), &report["select"]),
            (Some(step), Some(best), &metric.into())
        );
        assert_eq!(report["best"][metric].as_f64(), Some(best));
        let table = std::fs::read_to_string(out.join("report.txt")).unwrap();
        assert!(table.contains(&format!("best weights by {metric}, {best:.6}, of step {step} ")), "{table}");
        let (code, stdout, _) = run(&["compare", out.to_str().unwrap(), "--json"]);
        let row = &serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["rows"][0];
        assert_eq!((code, &row["select"], row["selected"].as_f64()), (0, &metric.into(), Some(best)));
    }
    let out = folder.path().join("loss");
    let (code, _, text) = train(&out, "60", &[&SELECTING[..], &["--set", "validation.select=accuracy", "--resume"]].concat());
    assert!(code == 65 && text.contains("validation.select: \"loss\" then, \"accuracy\" now"), "{code} {text}");
    let (code, stdout, _) = run(&["eval", "--run", out.to_str().unwrap(), "--sequences", "5"]);
    assert!(code == 0 && stdout.contains("uniform guess") && stdout.contains("no better than what needs no training"), "{stdout}");
}

/// Where no gain is enough for it, patience counts from the first validation; the best weights are the best all the same.
fn patience_waits_for_the_warm_up_the_curriculum_or_what_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let stops_at = |name: &str, more: &[&str]| {
        let sets = [
            "validation.patience=2",
            "validation.sequences=250",
            "validation.min_delta=1000",
            "validation.every=5",
            "train.steps_per_epoch=10",
            "model.d_model=8",
            "model.feed_forward=16",
            "model.layers=1",
        ];
        let out = folder.path().join(name);
        let mut args = vec!["train", "data/runs/integer_sequences_d64.toml", "--steps", "200", "--out", out.to_str().unwrap(), "--json"];
        args.extend(SHORT);
        sets.iter().chain(more).for_each(|set| args.extend(["--set", set]));
        let (code, stdout, text) = run(&args);
        assert_eq!(code, 0, "{text}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["ended"], "early: no better cross_entropy in 2 validations");
        let lines = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let least = lines.filter(|l| l["split"] == "validation").map(|l| l["cross_entropy"].as_f64().unwrap()).fold(f64::MAX, f64::min);
        assert_eq!(report["selected"].as_f64(), Some(least), "{report}");
        report["steps"].as_u64().unwrap()
    };
    // Counted are the validations after the step.
    assert_eq!(stops_at("warm-up", &["schedule.warmup_steps=40", "data.transition_epochs=1.0"]), 50);
    assert_eq!(stops_at("curriculum", &["schedule.warmup_steps=0", "data.transition_epochs=6.0"]), 70);
    assert_eq!(stops_at("given", &["schedule.warmup_steps=40", "validation.patience_after=0"]), 15);
    assert_eq!(stops_at("later", &["schedule.warmup_steps=0", "data.transition_epochs=0.0", "validation.patience_after=22"]), 30);
}

/// A run by an accuracy, cut and resumed, keeps its best value and what patience has counted.
fn a_resumed_run_goes_on_with_what_was_selected() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["validation.select=last_accuracy", "validation.patience=4", "validation.patience_after=10", "train.steps_per_epoch=10"];
    let sets: Vec<&str> = SELECTING.into_iter().chain(more.iter().flat_map(|s| ["--set", *s])).collect();
    let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    assert_eq!(train(&whole, "200", &sets).0, 0);
    for steps in ["20", "30", "200"] {
        assert_eq!(train(&pieces, steps, &[&sets[..], &["--resume"]].concat()).0, 0);
    }
    assert!(weights(&whole) == weights(&pieces), "the weights differ");
    let ended = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        ["steps", "best_step", "selected", "ended"].map(|key| report[key].clone())
    };
    assert_eq!(ended(&whole), ended(&pieces));
    assert!(ended(&whole)[3].as_str().unwrap().starts_with("early: no better last_accuracy in 4"), "{:?}", ended(&whole));
}

fn a_model_no_better_than_a_guess_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, _) = train(&folder.path().join("run"), "2", &[]);
    assert!(code == 0 && stdout.contains("WARNING: no better than what needs no training in\n  phase 1: "), "{stdout}");
    assert!(stdout.contains("the last weights, as no validation chose any") && !stdout.contains("Better than"), "{stdout}");
}

/// The file holds what the run trains on, number by number.
fn the_sequences_of_a_run_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sequences.npz");
    let small = ["train.epochs=2", "train.steps_per_epoch=10", "validation.every=8", "validation.sequences=6", "train.batch=4"];
    let mut args = vec!["data", "sequences", RUN, "--out", path.to_str().unwrap()];
    small.iter().for_each(|s| args.extend(["--set", s]));
    let (code, _, text) = run(&args);
    assert_eq!(code, 0, "{text}");
    let mut npz = engine::datasets::npz::Npz::open(&path).unwrap();
    let shapes = ["train", "validation", "test"].map(|name| npz.array(name).unwrap().shape);
    assert_eq!(shapes, [vec![20, 4, 9], vec![3, 6, 9], vec![4, 1000, 9]]);
    let overrides: Vec<String> = small.map(String::from).into();
    let config = engine::config::Config::load(Path::new(RUN), &overrides).unwrap();
    let batch = crate::models::opened(&config).load().unwrap().0.batches(13).unwrap().remove(0);
    let train = npz.array("train").unwrap().values;
    for (i, (input, target)) in batch.words("tokens").iter().zip(batch.words("targets")).enumerate() {
        let at = (13 * 4 + i / 8) * 9 + i % 8;
        assert_eq!((train.get(at), train.get(at + 1)), (*input as f32, *target as f32), "{i}");
    }
    let (code, _, text) = run(&["data", "sequences", "data/runs/lvm_mlp.toml", "--out", path.to_str().unwrap()]);
    assert!(code == 2 && text.contains("integer_sequences"), "{code} {text}");
}

#[cfg(unix)]
fn a_signal_saves_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let out = folder.path().join(signal);
        let mut child = spawn(&["train", RUN, "--out", out.to_str().unwrap()]);
        // The handlers stand before the run folder does.
        eventually("the run has begun", || out.join("metrics.jsonl").exists());
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let checkpoints = std::fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert!(checkpoints.into_iter().any(|name| name.starts_with("step-")));
    }
}

/// Links to files elsewhere, pipes, and files that are read: none is written to or replaced.
#[cfg(unix)]
fn files_that_are_not_the_engines_stay_as_they_are() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let precious = || std::fs::write(path("victim"), "precious\n").unwrap();
    let stays = |what: &str| assert_eq!(std::fs::read_to_string(path("victim")).unwrap(), "precious\n", "{what}");
    precious();
    for (number, (name, code)) in
        [(".lock", 73), ("train.log", 73), ("report.json", 73), ("metrics.jsonl", 73), ("status.json.new", 0), ("status.json", 0)]
            .into_iter()
            .enumerate()
    {
        let out = path(&format!("run-{number}"));
        std::fs::create_dir(&out).unwrap();
        symlink(path("victim"), out.join(name)).unwrap();
        let (got, _, said) = train(&out, "1", &[]);
        assert_eq!(got, code, "{name}: {said}");
        stays(name);
        assert!(out.join(name).is_symlink(), "{name} is replaced");
    }
    std::fs::create_dir(path("waits")).unwrap();
    assert!(Command::new("mkfifo").arg(path("waits/metrics.jsonl")).status().unwrap().success());
    assert_eq!(train(&path("waits"), "1", &[]).0, 73);
    // The same file under two names is no link: the lock leaves it as it is.
    std::fs::create_dir(path("hard")).unwrap();
    std::fs::hard_link(path("victim"), path("hard/.lock")).unwrap();
    assert_eq!(train(&path("hard"), "1", &[]).0, 0);
    stays("a hard link");
    std::fs::create_dir(path("man")).unwrap();
    symlink(path("victim"), path("man/engine.1")).unwrap();
    assert_eq!(run(&["completions", "--man", &text("man")]).0, 73);
    stays("completions");
    // Folders that lead elsewhere are followed: checkpoints on another disk.
    std::fs::create_dir_all(path("disk")).unwrap();
    std::fs::create_dir(path("linked")).unwrap();
    symlink(path("disk"), path("linked/checkpoints")).unwrap();
    assert_eq!(train(&path("linked"), "1", &[]).0, 0);
    assert!(std::fs::read_dir(path("disk")).unwrap().count() > 0);

    assert!(Command::new("mkfifo").arg(path("pipe.safetensors")).status().unwrap().success());
    symlink(path("victim"), path("link.safetensors")).unwrap();
    let done = text("hard");
    for out in ["pipe.safetensors", "link.safetensors"] {
        let out = text(out);
        for args in [
            &["report", &done, "--out", &out][..],
            &["compare", &done, "--svg", &out],
            &["data", "linkages", "--count", "3", "--out", &out],
            &["data", "sequences", RUN, "--set", "train.epochs=1", "--set", "train.steps_per_epoch=2", "--out", &out],
            &["export", "--run", &done, &out],
        ] {
            let (code, _, said) = run(args);
            assert_eq!(code, 73, "{args:?}: {said}");
        }
    }
    stays("outputs");
    let own = text("own.toml");
    std::fs::copy(RUN, &own).unwrap();
    let linkages = text("linkages.npz");
    for args in
        [&["data", "sequences", &own, "--out", &own][..], &["data", "linkages", "--count", "3", "--out", &linkages, "--sheet", &linkages]]
    {
        let (code, _, said) = run(args);
        assert!(code == 2 && said.contains("read or written here"), "{args:?}: {code} {said}");
    }
    assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(RUN).unwrap());
    // A pipe among the files of a run is not waited for.
    assert!(Command::new("mkfifo").arg(path("hard/notes.txt")).status().unwrap().success());
    for args in [&["report", &done, "--out", &text("page.html")][..], &["compare", &done], &["status", &done]] {
        let (code, _, said) = run(args);
        assert_eq!(code, 0, "{args:?}: {said}");
    }
}

/// `nohup` starts a program that lives on after SIGHUP, and a shell without jobs one that does after SIGINT.
#[cfg(unix)]
fn a_signal_that_was_ignored_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["HUP", "INT"] {
        let out = folder.path().join(signal);
        let line = format!("trap '' {signal}; exec \"$0\" train {RUN} --out \"$1\" --set train.log_every=1 --set validation.every=100000");
        let args = ["-c", &line, crate::program::PROGRAM, out.to_str().unwrap()];
        let mut child = crate::program::started(Command::new("sh").args(args).stdout(Stdio::null()).stderr(Stdio::null()));
        let length = || std::fs::metadata(out.join("metrics.jsonl")).map_or(0, |file| file.len());
        eventually("the run has begun", || length() > 0);
        assert!(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success());
        let before = length();
        eventually("it goes on", || {
            assert!(child.try_wait().unwrap().is_none(), "SIG{signal} has ended it");
            length() > before + 2000
        });
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
}

/// A limit on the length of files is a write that fails.
#[cfg(unix)]
fn a_file_beyond_the_limit_is_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let line = format!("ulimit -f 8; exec \"$0\" train {RUN} --out \"$1\" --steps 3");
    let (code, _, text) = output(Command::new("sh").args(["-c", &line, crate::program::PROGRAM, out.to_str().unwrap()]));
    assert_eq!(code, 74, "{text}");
}

/// What no run file has, at any length.
fn absurd_overrides_are_refused_at_once() {
    let deep = format!("model{}=1", ".a".repeat(10_000));
    let long = format!("train.batch={}", "9".repeat(100_000));
    for (set, says) in [(&deep, "a key of 10001 parts"), (&long, "--set train.batch=999")] {
        let (code, _, text) = run(&["estimate", RUN, "--set", set]);
        assert!(code == 2 && text.contains(says) && text.len() < 2000, "{code} {} bytes: {}", text.len(), &text[..text.len().min(300)]);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.toml");
    std::fs::write(&path, "# comment\n".repeat(2 << 20)).unwrap();
    let (code, _, text) = run(&["estimate", path.to_str().unwrap()]);
    assert!(code == 2 && text.contains("more than 16777216 bytes"), "{code} {text}");
}

fn weights_that_are_not_finite_stop_the_run_and_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let (code, _, text) = train(&out, "300", &["--set", "optimizer.learning_rate=1e30", "--set", "schedule.kind=constant"]);
    assert!(code == 76 && text.contains("10 steps in a row"), "{code} {text}");
    assert!(text.contains("update skipped"), "{text}");
}

fn control_characters_are_shown_and_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_eq!(train(&out, "3", &[]).0, 0);
    std::fs::write(out.join("notes.txt"), "red \x1b[31m alert\x07\n").unwrap();
    let (code, table, text) = run(&["compare", out.to_str().unwrap()]);
    assert!(code == 0 && table.contains(r"red \u{1b}[31m alert\u{7}") && !table.contains('\x1b'), "{table} {text}");
    // A value of a run file that comes back in a message and in a log.
    let (code, _, text) = train(&folder.path().join("a\x1bb"), "3", &[]);
    assert!(code == 0 && text.contains(r"a\u{1b}b") && !text.contains('\x1b'), "{code} {text}");
    let log = std::fs::read_to_string(folder.path().join("a\x1bb/train.log")).unwrap();
    assert!(log.contains(r"a\u{1b}b") && !log.contains('\x1b'), "{log}");
    // Nor is it raw in what the run has written, nor in what is drawn of it; DEL and C1 are no exception.
    let strange = folder.path().join("c\x1b\u{7f}\u{9b}d");
    let (code, out, text) = train(&strange, "3", &["--json"]);
    assert_eq!(code, 0, "{text}");
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok_and(|v| v["run"] == strange.to_str().unwrap()), "{out}");
    let (page, picture) = (folder.path().join("r.html"), folder.path().join("c.svg"));
    let name = strange.to_str().unwrap();
    assert_eq!(run(&["report", name, "--out", page.to_str().unwrap()]).0, 0);
    assert_eq!(run(&["compare", name, "--svg", picture.to_str().unwrap()]).0, 0);
    for file in [strange.join("report.txt"), strange.join("report.json"), strange.join("train.log"), page, picture] {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(['\x1b', '\u{7f}', '\u{9b}']), "{}: {text}", file.display());
    }
    let (code, _, text) = run(&["train", "x", "--steps", "e\r\u{9b}x"]);
    assert!(code == 2 && !text.contains(['\r', '\u{9b}']), "{text}");
    // A line break in a name does not end the comment that says it.
    let file = folder.path().join("x\n[model].npz");
    crate::vectors::data(&file, 100, |_, _| {});
    let written = folder.path().join("new.toml");
    let (code, _, text) = run(&["new", "lvm_mlp", "--data", file.to_str().unwrap(), "--out", written.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let written = std::fs::read_to_string(written).unwrap();
    let table = written.parse::<toml::Table>().unwrap();
    assert_eq!(table["data"]["file"].as_str(), file.to_str(), "{written}");
}

/// Whatever Rust allocates; a driver that is refused memory may end the process with a signal of its own.
#[cfg(target_os = "linux")]
fn memory_that_the_system_refuses_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for kib in [260_000, 300_000, 340_000, 500_000] {
        let line = format!("ulimit -v {kib}; exec \"$0\" train {RUN} --steps 1 --out \"$1\"");
        let (code, _, text) = output(Command::new("sh").args(["-c", &line, PROGRAM]).arg(folder.path().join(kib.to_string())));
        let by_rust = text.contains("memory allocation of") || text.contains("failed to spawn thread");
        assert!(!by_rust || code == 75 && text.contains("the system refuses"), "{kib} KiB: {code} {text}");
        assert!(![70, 134].contains(&code), "{kib} KiB: {code} {text}");
    }
}

fn sequences_that_were_trained_on_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // Constants and counts below 16: few, so that most are seen soon.
    let few = ["--set", "data.values=16", "--set", "data.context=4", "--set", "data.transition_epochs=0", "--set", "train.batch=64"];
    let (code, stdout, text) = train(&out, "80", &few);
    assert!(code == 0 && stdout.contains("also occurred in training"), "{code} {stdout} {text}");
    let lines = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let line = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let seen: Vec<f64> =
        lines.lines().map(line).filter(|l| l["split"] == "validation").map(|l| l["seen_in_training"].as_f64().unwrap()).collect();
    assert!(seen.len() == 2 && seen[0] > 0.2 && seen[1] > seen[0] && seen[1] <= 1.0, "{seen:?}");
    // The same after a resume, which has not drawn the sequences of before.
    let resumed = folder.path().join("resumed");
    assert_eq!(train(&resumed, "41", &few).0, 0);
    assert_eq!(train(&resumed, "80", &[&few[..], &["--resume"]].concat()).0, 0);
    assert_eq!(std::fs::read_to_string(resumed.join("metrics.jsonl")).unwrap(), lines);
}

/// What a card's file lacks is measured by the next call; the file of a finished card stays as it is.
fn a_card_goes_on_where_it_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (runs, out, partial) = (path("runs"), path("card.md"), path("card.md.partial.json"));
    std::fs::create_dir(&runs).unwrap();
    std::fs::copy(RUN, Path::new(&runs).join("only.toml")).unwrap();
    let card = |minutes: &str| process(&["card", &runs, "--out", &out, "--minutes", minutes], &[]);
    // Not long enough for anything.
    let (code, text, err) = card("0.001");
    assert!(code == 0 && text.contains("measures what is missing"), "{code} {text} {err}");
    let page = std::fs::read_to_string(&out).unwrap();
    for heading in
        ["# Card: ", "## Device", "## Kernels against f64", "## Time of training steps", "## PyTorch on the same card", "RX 6600"]
    {
        assert!(page.contains(heading), "{heading}: {page}");
    }
    // All but the first part and the last.
    let mut kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&partial).unwrap()).unwrap();
    let failed = || serde_json::json!({ "failed": "the device was lost" });
    for family in FAMILIES {
        for cases in ["2", "20", "all"] {
            kept["outcomes"]["check"][format!("{}, {cases} cases", family.name)] = failed();
        }
    }
    kept["outcomes"]["steps"]["only"] = serde_json::json!({ "done": { "models": [], "failures": ["only: differs"] } });
    kept["outcomes"]["profile"]["only"] = failed();
    kept["outcomes"]["rates"]["copy of 64 MiB"] = failed();
    for n in [256, 512, 1024, 2048, 4096, 8192] {
        kept["outcomes"]["rates"][format!("product of {n} × {n}")] = failed();
    }
    std::fs::write(&partial, kept.to_string()).unwrap();
    let (code, text, err) = card("5");
    assert!(code == 0 && text.contains("1 of these with failures") && text.contains(" 0 not done"), "{code} {text} {err}");
    let page = std::fs::read_to_string(&out).unwrap();
    assert!(page.contains("| workgroup memory | ") && page.contains("- only: FAILED: the device was lost"), "{page}");
    assert!(!Path::new(&partial).exists());
    let (code, _, text) = card("5");
    assert!(code == 73 && text.contains("name another file with --out"), "{code} {text}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), page);
}

/// The short form of a check, and what the check takes.
fn a_check_writes_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("check.md");
    let (code, text, err) = run(&["check", "--family", "slice,gather", "--cases", "1", "--certificate", file.to_str().unwrap()]);
    assert!(code == 0 && text.contains("slice"), "{code} {text} {err}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("Everything agrees with f64.") && page.contains("| gather | ") && page.contains("- engine: "), "{page}");
    let (code, _, text) = run(&["check", "--family", "slise"]);
    assert!(code == 2 && text.contains("There are activation"), "{code} {text}");
    let (code, text, _) = run(&["check", RUN, "--cases", "0"]);
    assert!(code == 0 && text.contains("gradient of 1156 weights") && !text.contains("error / allowed"), "{code} {text}");
}
