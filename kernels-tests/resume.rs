//! What a run goes on from, what it refuses to go on from, and that a refusal leaves nothing behind.

use std::path::{Path, PathBuf};

use crate::program::run;
use crate::runner::tests;

tests![
    a_checkpoint_or_best_weights_of_another_run_are_refused,
    a_run_without_its_newest_checkpoint_comes_to_the_same_end,
    configurations_are_compared_by_what_they_say,
    a_refused_start_leaves_no_folder,
    what_is_not_checked_is_not_trusted,
    other_data_are_noticed_in_every_file,
    a_run_that_diverges_says_what_to_do,
    a_run_without_a_checkpoint_as_yet_starts_over,
    metrics_that_are_not_finite_pass_through_a_resume,
    the_same_command_goes_on,
    no_command_writes_over_what_it_reads,
    steps_that_end_before_the_best_weights_are_refused,
    a_folder_is_no_checkpoint,
    a_run_goes_on_for_more_epochs,
];

/// A folder with a small file of vectors, another one of the same shape, and a third for out-of-distribution samples.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        for (name, factor) in [("data", 0.7f32), ("other", 0.9), ("ood", 0.4)] {
            crate::vectors::data(&place.path(&format!("{name}.npz")), 100, |contexts, _| {
                contexts.iter_mut().enumerate().for_each(|(i, v)| *v = (i as f32 * factor).sin());
            });
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Ten steps an epoch, checkpoints every five, two epochs.
    fn train(&self, out: &str, more: &[&str]) -> (i32, String) {
        let sets = [
            format!("data.file={}", self.text("data.npz")),
            format!("data.ood_file={}", self.text("ood.npz")),
            "model.hidden=8".into(),
            "train.batch=9".into(),
            "train.epochs=2".into(),
            "checkpoint.every=5".into(),
            "checkpoint.keep=4".into(),
            "validation.min_delta=1000".into(),
        ];
        let out = self.text(out);
        let mut args = vec!["train", "data/runs/lvm_mlp.toml", "--out", &out];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        args.extend(more);
        let (code, _, text) = run(&args);
        (code, text)
    }

    /// Fails unless a resume of the folder gives that code and says that.
    fn resumes(&self, out: &str, more: &[&str], code: i32, says: &str) {
        let (got, text) = self.train(out, &[&["--resume"], more].concat());
        assert!(got == code && text.contains(says), "{out} {more:?}: {got} {text}");
    }

    /// A run that was cut after so many steps.
    fn started(&self, out: &str, steps: &str, more: &[&str]) {
        let (code, text) = self.train(out, &[&["--steps", steps], more].concat());
        assert_eq!(code, 0, "{text}");
    }

    fn model(&self, out: &str) -> Vec<u8> {
        std::fs::read(self.path(out).join("model.safetensors")).unwrap()
    }
}

/// Changes the JSON header of a safetensors file; the tensors stay as they are.
fn edit(path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut own: serde_json::Value = serde_json::from_str(header["__metadata__"]["engine"].as_str().unwrap()).unwrap();
    change(&mut own);
    header["__metadata__"]["engine"] = own.to_string().into();
    let text = header.to_string();
    std::fs::write(path, [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[8 + length..]].concat()).unwrap();
}

fn a_checkpoint_or_best_weights_of_another_run_are_refused() {
    let place = Place::new();
    place.started("run", "12", &[]);
    place.started("seed", "12", &["--set", "train.seed=5"]);
    let file = |run: &str, name: &str| place.path(run).join("checkpoints").join(name);
    std::fs::copy(file("seed", "step-000000012.safetensors"), file("run", "step-000000013.safetensors")).unwrap();
    place.resumes("run", &[], 0, "it is that of step 12, under another name");
    let _ = std::fs::remove_dir_all(place.path("run"));
    place.started("run", "10", &[]);
    std::fs::copy(file("seed", "step-000000012.safetensors"), file("run", "step-000000012.safetensors")).unwrap();
    place.resumes("run", &[], 65, "is a checkpoint of another run:\n  train.seed: 5 then, 1 now");
    std::fs::remove_file(file("run", "step-000000012.safetensors")).unwrap();
    // The best weights are of step 10, and so is a checkpoint that is kept.
    std::fs::copy(file("seed", "best.safetensors"), file("run", "best.safetensors")).unwrap();
    place.resumes("run", &["--steps", "15"], 0, "it is of another run:\n  train.seed: 5 then, 1 now");
    assert!(std::fs::read_to_string(place.path("run/train.log")).unwrap().contains("Written again from the checkpoint of step 10"));
    std::fs::remove_file(file("run", "step-000000010.safetensors")).unwrap();
    std::fs::remove_file(file("run", "best.safetensors")).unwrap();
    place.resumes("run", &[], 65, "best.safetensors: it is not there. The run needs the best weights, of step 10");
    // Of the same configuration and other weights.
    place.started("init", "12", &["--init", &place.text("seed/model.safetensors")]);
    std::fs::copy(file("init", "best.safetensors"), file("run", "best.safetensors")).unwrap();
    place.resumes("run", &[], 65, "it is of another validation, at step 10");
}

fn a_run_without_its_newest_checkpoint_comes_to_the_same_end() {
    let place = Place::new();
    place.started("whole", "20", &[]);
    place.started("cut", "15", &[]);
    let file = |name: &str| place.path("cut/checkpoints").join(name);
    for name in ["step-000000015.safetensors", "step-000000010.safetensors"] {
        std::fs::remove_file(file(name)).unwrap();
    }
    place.resumes("cut", &[], 0, "best.safetensors is of step 10, later than the checkpoint: the run comes to it again");
    assert!(place.model("whole") == place.model("cut"), "the weights differ");
    // Best weights alone say nothing of where the run was.
    place.started("lost", "10", &[]);
    let folder = place.path("lost/checkpoints");
    std::fs::remove_file(folder.join("step-000000010.safetensors")).unwrap();
    std::fs::remove_file(folder.join("step-000000005.safetensors")).unwrap();
    place.resumes("lost", &[], 65, "no checkpoint to go on from. Start anew from them: --init");
}

fn configurations_are_compared_by_what_they_say() {
    let place = Place::new();
    place.started("run", "5", &["--set", "train.seed=3", "--set", "data.seed=4", "--set", "validation.every=10"]);
    // The same lines in other tables.
    let swapped = ["--set", "train.seed=4", "--set", "data.seed=3", "--set", "validation.every=10"];
    place.resumes("run", &swapped, 65, "data.seed: 4 then, 3 now\n  train.seed: 3 then, 4 now");
    let swapped = ["--set", "train.seed=3", "--set", "data.seed=4", "--set", "validation.every=5", "--set", "checkpoint.every=10"];
    place.resumes("run", &swapped, 65, "checkpoint.every: 5 then, 10 now\n  validation.every: 10 then, 5 now");
    // A model of other sizes, which the checkpoint does not fit.
    place.resumes("run", &["--set", "train.seed=3", "--set", "model.hidden=16"], 65, "model.hidden: 8 then, 16 now");
    // A run that has ended says its last step.
    let beat: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(place.path("run/status.json")).unwrap()).unwrap();
    assert_eq!(beat["step"], 5);
    // What the file of the folder says does not matter where a checkpoint says it.
    let config = place.path("run/config.toml");
    let same = ["--set", "train.seed=3", "--set", "data.seed=4", "--set", "validation.every=10", "--steps", "6"];
    for broken in [None, Some("[model"), Some("")] {
        match broken {
            Some(text) => std::fs::write(&config, text).unwrap(),
            None => std::fs::remove_file(&config).unwrap(),
        }
        place.resumes("run", &["--steps", "6"], 65, "train.seed: 3 then, 1 now");
        place.resumes("run", &same, 0, "written again from the checkpoint");
        assert!(std::fs::read_to_string(&config).unwrap().contains("seed = 3"));
    }
    std::fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    std::fs::write(&config, "[model").unwrap();
    place.resumes("run", &same, 65, "There is no checkpoint that says what it was");
}

fn a_refused_start_leaves_no_folder() {
    let place = Place::new();
    place.started("run", "2", &[]);
    std::fs::write(place.path("weights.pt"), b"PK\x03\x04archive/data.pkl").unwrap();
    std::fs::write(place.path("text.safetensors"), b"[model] is no header at all").unwrap();
    let (pt, npz, text) = (place.text("weights.pt"), place.text("data.npz"), place.text("text.safetensors"));
    let good = place.text("run/model.safetensors");
    for (more, code, says) in [
        (&["--init", "/nowhere.safetensors"] as &[&str], 66, "cannot read /nowhere.safetensors"),
        (&["--init", &pt], 65, "it is a PyTorch file. Convert it with"),
        (&["--init", &npz], 65, "it is an .npz file. Convert weights with"),
        (&["--init", &text], 65, "it is a text file"),
        (&["--init", "/dev/null"], 65, "no regular file"),
        (&["--init", &good, "--set", "model.hidden=9"], 65, "the file has shape [8, 12], the model [9, 12]"),
        (&["--budget", "1KiB"], 2, "the budget is 1024"),
        (&["--device", "no such card"], 2, "no such adapter"),
        (&["--set", "data.file=/nowhere.npz"], 66, "/nowhere.npz"),
        (&["--set", "train.batch=1000"], 65, "Lower train.batch"),
    ] {
        let (got, text) = place.train("new/run", more);
        assert!(got == code && text.contains(says), "{more:?}: {got} {text}");
        assert!(!place.path("new").exists(), "{more:?} leaves a folder");
    }
    // What starts from weights has them in its first checkpoint.
    let (code, text) = place.train("new/run", &["--init", &good, "--steps", "1"]);
    assert!(code == 0 && place.path("new/run/checkpoints/step-000000000.safetensors").exists(), "{text}");
}

fn what_is_not_checked_is_not_trusted() {
    let place = Place::new();
    place.started("run", "5", &[]);
    let path = place.path("run/checkpoints/step-000000005.safetensors");
    let good = std::fs::read(&path).unwrap();
    let changes: [fn(&mut serde_json::Value); 5] = [
        |own| drop(own["checksums"].as_object_mut().unwrap().remove("network.0.weight")),
        |own| own["checksums"]["network.0.weight"] = "00000000".into(),
        |own| own["config"] = own["config"].as_str().unwrap().replace("seed = 1", "seed = 2").into(),
        |own| own["data"]["data.file"] = "1 bytes, 00000000".into(),
        |own| own["checksum"] = "".into(),
    ];
    for change in changes {
        edit(&path, change);
        place.resumes("run", &[], 65, "the checksum of what it says about itself differs");
        std::fs::write(&path, &good).unwrap();
    }
    edit(&path, |own| own["checkpoint"] = 1.into());
    place.resumes("run", &[], 65, "is of an earlier engine");
    std::fs::write(&path, &good).unwrap();
    place.resumes("run", &[], 0, "resuming    at step 5");
}

fn other_data_are_noticed_in_every_file() {
    let place = Place::new();
    place.started("run", "5", &[]);
    for (file, key) in [("data.npz", "data.file"), ("ood.npz", "data.ood_file")] {
        let (path, before) = (place.path(file), std::fs::read(place.path(file)).unwrap());
        std::fs::copy(place.path("other.npz"), &path).unwrap();
        place.resumes("run", &[], 65, &format!("contents of {key}: "));
        std::fs::write(&path, before).unwrap();
    }
    std::fs::write(place.path("run/.writing-abc"), "half").unwrap();
    std::fs::write(place.path("run/checkpoints/.writing-def"), "half").unwrap();
    place.resumes("run", &["--steps", "6"], 0, "resuming    at step 5");
    let left = |folder: &str| {
        let files = std::fs::read_dir(place.path(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        files.filter(|name| name.starts_with(".writing-")).count()
    };
    assert_eq!((left("run"), left("run/checkpoints")), (0, 0));
}

/// A rate that no weight survives: the run says so, keeps what is good, and names a command that works.
fn a_run_that_diverges_says_what_to_do() {
    let place = Place::new();
    for (name, rate, init) in [("never", "1e38", false), ("later", "1e38", true)] {
        if init {
            place.started("good", "10", &[]);
        }
        let weights = place.text("good/model.safetensors");
        let rate = format!("optimizer.learning_rate={rate}");
        let mut more = vec!["--set", &rate, "--set", "train.epochs=1"];
        if init {
            more.extend(["--init", &weights]);
        }
        let (code, text) = place.train(name, &more);
        assert!(code == 76 && text.contains("engine train"), "{code} {text}");
        assert!(place.path(name).join("diverged.txt").exists() && !text.contains("/-again"), "{text}");
        let command = text.lines().find(|l| l.trim_start().starts_with("engine train")).unwrap().trim();
        let mut args: Vec<&str> = command.split(' ').skip(1).collect();
        assert_eq!(args.contains(&"--init"), init, "{command}");
        args.extend(["--set", "optimizer.learning_rate=1e-4"]);
        let (code, _, text) = run(&args);
        assert_eq!(code, 0, "{command}: {text}");
        let checkpoints = place.path(name).join("checkpoints");
        let files: Vec<_> = std::fs::read_dir(checkpoints).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(files, if init { vec!["step-000000000.safetensors"] } else { vec![] }, "{text}");
    }
}

/// Killed after its first best weights and before its first checkpoint, a run starts over.
fn a_run_without_a_checkpoint_as_yet_starts_over() {
    let place = Place::new();
    place.started("whole", "20", &["--set", "validation.every=5"]);
    place.started("cut", "5", &["--set", "validation.every=5"]);
    std::fs::remove_file(place.path("cut/checkpoints/step-000000005.safetensors")).unwrap();
    place.resumes("cut", &["--set", "validation.every=5"], 0, "starting at step 0");
    assert!(place.model("whole") == place.model("cut"), "the weights differ");
}

/// A metric that is not finite is no reason to lose the run: here the squared error of one target that is out of all proportion.
fn metrics_that_are_not_finite_pass_through_a_resume() {
    let place = Place::new();
    crate::vectors::data(&place.path("data.npz"), 100, |contexts, targets| {
        contexts.iter_mut().enumerate().for_each(|(i, v)| *v = (i as f32 * 0.7).sin());
        let last = targets.len() - 1;
        targets[last] = 3e38;
    });
    let more = ["--set", "loss.mse={weight=1e-9}", "--set", "validation.select=cosine", "--set", "optimizer.clip_norm=1"];
    place.started("whole", "20", &more);
    place.started("cut", "12", &more);
    place.resumes("cut", &more, 0, "resuming    at step 12");
    assert!(place.model("whole") == place.model("cut"), "the weights differ");
    assert!(std::fs::read_to_string(place.path("cut/metrics.jsonl")).unwrap().contains("\"mse\":null"));
}

/// The same command with --resume goes on with a run that began with --init; a file that is not there is said to be so, before anything of
/// the run is said to be wrong.
fn the_same_command_goes_on() {
    let place = Place::new();
    place.started("good", "5", &[]);
    let init = place.text("good/model.safetensors");
    place.started("run", "7", &["--init", &init]);
    place.resumes("run", &["--init", &init], 0, "--init is left aside");
    std::fs::rename(place.path("data.npz"), place.path("away.npz")).unwrap();
    place.resumes("good", &[], 66, "no data file");
    place.resumes("good", &["--set", "data.dim=17"], 66, "no data file");
    // A refused start leaves nothing in a folder that was there before.
    std::fs::create_dir(place.path("empty")).unwrap();
    let (code, text) = place.train("empty", &[]);
    assert!(code == 66 && std::fs::read_dir(place.path("empty")).unwrap().count() == 0, "{code} {text}");
}

/// What is written takes the place of nothing that is read, and of nothing that belongs to a run.
fn no_command_writes_over_what_it_reads() {
    let place = Place::new();
    place.started("run", "10", &[]);
    let (folder, data, best) = (place.text("run"), place.text("data.npz"), place.text("run/checkpoints/best.safetensors"));
    let before = [&data, &best].map(|path| std::fs::read(path).unwrap());
    let eval = ["eval", "--run", &folder, "--data", &data, "--predictions"];
    for (args, code) in [
        ([&eval[..], &[&data]].concat(), 2),
        (vec!["eval", "--run", &folder, "--predictions", &data], 2),
        (vec!["eval", "--run", &folder, "--predictions", &best], 73),
        (vec!["export", "--run", &folder, &best], 73),
        (vec!["compare", &folder, "--svg", &best], 73),
        (vec!["compare", &folder, "--svg", "/proc/picture.svg"], 73),
    ] {
        let (got, _, text) = run(&args);
        assert_eq!(got, code, "{args:?}: {text}");
    }
    assert!(before == [&data, &best].map(|path| std::fs::read(path).unwrap()));
    // Run files that are none.
    for path in [folder.as_str(), best.as_str(), "/dev/null"] {
        let (code, _, text) = run(&["train", path, "--out", &place.text("x")]);
        assert_eq!(code, 2, "{path}: {text}");
    }
}

/// The newest checkpoints of a run are lost: its best weights are of a later step than the one it goes on from.
fn steps_that_end_before_the_best_weights_are_refused() {
    let place = Place::new();
    let set =
        ["--set", "validation.every=1", "--set", "validation.min_delta=0", "--set", "checkpoint.every=1", "--set", "checkpoint.keep=50"];
    let (code, text) = place.train("run", &set);
    assert_eq!(code, 0, "{text}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(place.path("run").join("report.json")).unwrap()).unwrap();
    let best = report["best_step"].as_u64().unwrap();
    assert!(best > 3, "the best step is {best}");
    for step in 3..=20 {
        std::fs::remove_file(place.path("run").join(format!("checkpoints/step-{step:09}.safetensors"))).unwrap();
    }
    let before = std::fs::read(place.path("run").join("model.safetensors")).unwrap();
    let steps = |n: u64| [&set[..], &["--steps", Box::leak(n.to_string().into_boxed_str())]].concat();
    place.resumes("run", &steps(best - 1), 2, &format!("are of step {best} already"));
    assert_eq!(std::fs::read(place.path("run").join("model.safetensors")).unwrap(), before);
    place.resumes("run", &set, 0, "resuming    at step 2");
    // A run that is past the step has nothing to train, and says so.
    place.resumes("run", &steps(7), 0, "the run is past step 7");
    assert_eq!(std::fs::read(place.path("run").join("model.safetensors")).unwrap(), before);
}

fn a_folder_is_no_checkpoint() {
    let place = Place::new();
    assert_eq!(place.train("run", &["--steps", "5"]).0, 0);
    std::fs::create_dir(place.path("run").join("checkpoints/step-000000099.safetensors")).unwrap();
    place.resumes("run", &[], 0, "resuming    at step 5");
    let (code, _, text) = run(&["eval", "--run", &place.text("run"), "--checkpoint", "last"]);
    assert!(code == 0 && text.contains("of step 20"), "{code} {text}");
}

/// With a constant rate the longer run has the bits of one that was started so; fewer epochs are another run.
fn a_run_goes_on_for_more_epochs() {
    let place = Place::new();
    let epochs = |n: u64| ["--set".to_string(), format!("train.epochs={n}")];
    let more = epochs(4);
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    assert_eq!(place.train("whole", &more).0, 0);
    assert_eq!(place.train("longer", &[]).0, 0);
    place.resumes("longer", &more, 0, "epochs      4 instead of 2: the learning rate goes from 1.000e-3 to 1.000e-3 after step 20");
    let file = |run: &str, name: &str| std::fs::read(place.path(run).join(name)).unwrap();
    assert!(file("whole", "model.safetensors") == file("longer", "model.safetensors"));
    assert_eq!(file("whole", "config.toml"), file("longer", "config.toml"));
    place.resumes("longer", &[], 65, "train.epochs: 4 then, 2 now");
    // What patience has ended goes on as well, and a schedule jumps.
    let patient =
        ["--set", "validation.patience=1", "--set", "validation.min_delta=1000", "--set", "schedule={kind='warmup_cosine',warmup_steps=2}"];
    let (code, text) = place.train("patient", &patient);
    assert!(code == 0, "{text}");
    let steps = |run: &str| serde_json::from_slice::<serde_json::Value>(&file(run, "report.json")).unwrap()["steps"].as_u64();
    assert_eq!(steps("patient"), Some(20));
    place.resumes("patient", &[&patient[..], &more].concat(), 0, "epochs      4 instead of 2: the learning rate goes from ");
    assert_eq!(steps("patient"), Some(30));
}
