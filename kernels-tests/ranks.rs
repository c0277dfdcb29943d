//! Runs of several processes, started with `mpirun`: the bits of one process that takes as many micro-batches, resumption with any number
//! of them, and what becomes of a run when one of them is ill.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::datasets::npz::{Numbers, write_arrays};

use crate::program::{Ended, PROGRAM, ended, eventually, output, run, run_as_it_is, started};
use crate::runner::{all, note, skip, tests};

tests![
    ranks_have_the_bits_of_accumulation,
    a_run_goes_on_with_any_number_of_ranks,
    what_cannot_be_shared_is_refused,
    ranks_take_the_form_that_fits,
    the_profile_shows_the_exchange,
    a_nan_of_one_rank_skips_the_update_of_all,
    other_weights_on_a_rank_end_the_run,
    a_rank_that_dies_ends_the_run_within_seconds,
    ranks_know_of_the_attempts_before,
    a_rank_that_was_suspended_is_waited_for,
    a_signal_to_mpirun_saves_and_ends,
    a_sweep_is_dealt_out_among_ranks,
];

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Open MPI's launcher, for root and for more processes than cores. What it needs is here, or the test is skipped.
fn mpirun() -> Command {
    if !cfg!(feature = "mpi") {
        skip("the feature `mpi` is not built in");
    }
    if Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("there is no mpirun (on Debian and Ubuntu: make mpi)");
    }
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none"]);
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    // As in this process, whose runs have the same bits.
    command.env("LP_NATIVE_VECTOR_WIDTH", std::env::var("LP_NATIVE_VECTOR_WIDTH").unwrap_or("256".into()));
    command
}

/// The program, one process for each set of environment variables.
fn ranks(variables: &[Variables], args: &[&str]) -> Command {
    let mut command = mpirun();
    for (number, own) in variables.iter().enumerate() {
        command.args(if number > 0 { &[":", "-n", "1"][..] } else { &["-n", "1"] });
        own.iter().for_each(|(name, value)| {
            command.args(["-x", &format!("{name}={value}")]);
        });
        command.arg(PROGRAM).args(args);
    }
    command
}

/// So many processes to their end.
fn together(count: usize, args: &[&str]) -> Ended {
    output(&mut ranks(&vec![&[][..]; count], args))
}

/// What follows looks at processes in `/proc`.
fn of_linux() {
    if !cfg!(target_os = "linux") {
        skip("processes are looked at as Linux shows them");
    }
}

/// Weights of a finished run, without what is said of it.
fn weights(out: &Path) -> Vec<u8> {
    let file = std::fs::read(out.join("model.safetensors")).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    file[8 + header..].to_vec()
}

/// A folder with small data of every kind.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let numbers = |n: usize, rate: f32| (0..n).map(|i| (i as f32 * rate).sin()).collect::<Vec<f32>>();
        let (contexts, targets) = (numbers(130 * 5 * 16, 0.7), numbers(130 * 16, 0.3));
        let members = [("contexts", &[130, 5, 16][..], Numbers::F32(&contexts)), ("targets", &[130, 16], Numbers::F32(&targets))];
        write_arrays(&place.path("vectors.npz"), &members).unwrap();
        // Of 5 to 8 joints.
        let mask = (0..130 * 8).map(|i| if i % 8 < 5 + i / 8 % 4 { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        let (latents, joints, mask) = (numbers(130 * 50, 0.9), numbers(130 * 16, 0.5), mask);
        let types: Vec<i32> = (0..130).map(|i| i % 17).collect();
        let members = [
            ("latents", &[130, 50][..], Numbers::F32(&latents)),
            ("types", &[130], Numbers::I32(&types)),
            ("joints", &[130, 8, 2], Numbers::F32(&joints)),
            ("mask", &[130, 8], Numbers::F32(&mask)),
        ];
        write_arrays(&place.path("mechanisms.npz"), &members).unwrap();
        let text = (0..90).map(|i| format!("Der {}. Bär aß {} Beeren; ", i % 7, i % 3)).collect::<String>();
        std::fs::write(place.path("text.txt"), text).unwrap();
        let pixels: Vec<f32> = numbers(130 * 256, 0.2).into_iter().map(|v| 0.5 + 0.5 * v).collect();
        write_arrays(&place.path("images.npz"), &[("images", &[130, 16, 16], Numbers::F32(&pixels))]).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Arguments of a run on one of the files, into a folder.
    fn args(&self, run: &str, data: &str, out: &str, sets: &[&str]) -> Vec<String> {
        let mut args = vec!["train".into(), format!("data/runs/{run}.toml"), "--out".into(), self.path(out).display().to_string()];
        let file = (!data.is_empty()).then(|| format!("data.file={}", self.path(data).display()));
        let common = ["train.log_every=1".to_string()];
        for set in sets.iter().map(ToString::to_string).chain(file).chain(common) {
            args.extend(["--set".into(), set]);
        }
        args
    }

    /// A run on vectors of 5 steps an epoch, and three epochs.
    fn vectors(&self, out: &str, more: &[&str]) -> Vec<String> {
        let sets = ["model.hidden=16", "validation.min_delta=1000"];
        let of_its_own = |key: &str| more.iter().any(|set| set.starts_with(key));
        let others =
            [("train.batch", "18"), ("train.epochs", "3"), ("checkpoint.every", "4")].into_iter().filter(|(key, _)| !of_its_own(key));
        let others: Vec<String> = others.map(|(key, value)| format!("{key}={value}")).collect();
        let sets: Vec<&str> = sets.into_iter().chain(others.iter().map(String::as_str)).collect();
        self.args("lvm_mlp", "vectors.npz", out, &[&sets[..], more].concat())
    }
}

fn strings(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn ranks_have_the_bits_of_accumulation() {
    let place = Place::new();
    let mechanism = ["model.d_model=16", "model.heads=2", "model.layers=1", "model.feed_forward=16", "train.epochs=1"];
    let lstm = ["model.hidden=16", "train.epochs=1"];
    let integers = ["train.epochs=1", "train.steps_per_epoch=12", "validation.every=6", "validation.sequences=250", "model.dropout=0.1"];
    let images = ["model.layers.hidden=16", "train.epochs=1"];
    let mamba2 = ["model.width=16", "model.layers=1", "model.mixer={state=4,head=8,conv=3,chunk=2}", "train.epochs=1"];
    let text = ["data.vocabulary=", "data.context=8", "data.sampling=windows", "train.epochs=2", "checkpoint.every=5"];
    let gpt = [&["model.d_model=16", "model.heads=2", "model.layers=1", "model.dropout=0.1"], &text[..]].concat();
    let llama = [&gpt[..], &["model.kv_heads=1", "model.feed_forward=24"]].concat();
    let of_text = [&text[..], &["model.d_model=16", "model.layers=1", "model.mixer={state=4,head=8,conv=3,chunk=2}"]].concat();
    // Its gradient leaves the device in three slices, and the last step of an epoch has no micro-batch for the last rank.
    let wide = ["model.hidden=192", "model.layers=3", "train.epochs=1", "train.drop_last=false", "data.validation_share=0.3"];
    for (name, run_file, data, sets, counts) in [
        ("integers", "integer_sequences", "", &integers[..], &[3][..]),
        ("lstm", "lvm_lstm", "vectors.npz", &lstm, &[]),
        ("wide", "lvm_lstm", "vectors.npz", &wide, &[3]),
        ("half", "lvm_lstm", "vectors.npz", &[&wide[..], &["model.hidden=16", "train.precision=f16"]].concat(), &[2]),
        ("mechanisms", "mechanism_phase7", "mechanisms.npz", &mechanism, &[3]),
        ("images", "linkage_vae", "images.npz", &images, &[2]),
        ("mamba2", "lvm_mamba2", "vectors.npz", &mamba2, &[2]),
        ("gpt", "gpt_cpu", "text.txt", &gpt, &[3]),
        ("llama", "llama_small", "text.txt", &llama, &[]),
        ("mamba2 of text", "mamba2_small", "text.txt", &of_text, &[]),
    ] {
        // Everyday one number of ranks for each kind of run, and of the LSTMs the one with the most exchanges.
        for &count in if all() { &[2, 3] } else { counts } {
            let (several, one) = (format!("{name}-{count}"), format!("{name}-{count}-alone"));
            // The driver keeps what it compiles here for the processes of the ranks.
            let (batch, accumulate) = (format!("train.batch={}", 12 / count), format!("train.accumulate={count}"));
            let (code, _, text) = run_as_it_is(&strings(&place.args(run_file, data, &one, &[sets, &[&batch, &accumulate]].concat())));
            assert_eq!(code, 0, "{text}");
            let args = place.args(run_file, data, &several, &[sets, &["train.batch=12"]].concat());
            let (code, out, text) = together(count, &strings(&args));
            assert!(code == 0 && text.contains(&format!("{count}, each with {} of the 12 samples", 12 / count)), "{name}: {code} {text}");
            // One process speaks.
            assert!(text.matches("run folder").count() == 1 && out.matches("steps/s").count() == 1, "{out}\n{text}");
            let [of_ranks, alone] = [&several, &one].map(|out| weights(&place.path(out)));
            if data == "text.txt" {
                // Gradients are added to the table of tokens one after the other, not micro-batch by micro-batch.
                let [of_ranks, alone] = [of_ranks, alone].map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
                let off = of_ranks.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(of_ranks.len() == alone.len() && off < 1e-4, "{name}: the weights of {count} ranks are {off} off");
                continue;
            }
            assert!(of_ranks == alone, "{name}: the weights of {count} ranks differ");
            let lines = |out: &str| std::fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
            assert_eq!(lines(&several), lines(&one), "{name}: {count} ranks");
        }
    }
}

fn a_run_goes_on_with_any_number_of_ranks() {
    let place = Place::new();
    let whole = place.vectors("whole", &["model.dropout=0"]);
    let (code, _, text) = together(2, &strings(&whole));
    assert_eq!(code, 0, "{text}");
    let cut = |out: &str, steps: &str| {
        [place.vectors(out, &["model.dropout=0"]), vec!["--resume".into(), "--steps".into(), steps.into()]].concat()
    };
    // The same number: the same bits.
    for steps in ["6", "15"] {
        let (code, _, text) = together(2, &strings(&cut("same", steps)));
        assert_eq!(code, 0, "{text}");
    }
    assert!(weights(&place.path("whole")) == weights(&place.path("same")));
    // Another number: the same run but for the order of sums.
    for (count, steps) in [(2, "5"), (3, "10"), (1, "15")] {
        let (code, _, text) = together(count, &strings(&cut("other", steps)));
        assert!(code == 0 && (steps == "5" || text.contains("resuming    at step")), "{text}");
    }
    let floats = |out: &str| weights(&place.path(out)).chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    let (whole, other) = (floats("whole"), floats("other"));
    let distance = whole.iter().zip(&other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let norm = whole.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
    assert!(distance < 1e-5 * norm, "{distance} of {norm}");
    let text = std::fs::read_to_string(place.path("other").join("config.toml")).unwrap();
    assert!(text.contains("batch = 18") && !text.contains("accumulate = 2"), "{text}");
}

fn what_cannot_be_shared_is_refused() {
    let place = Place::new();
    // What the estimator says of two ranks is what each of them takes, and one byte less is refused with a batch that fits.
    let run_file = place.vectors("budget", &["train.batch=24"]);
    let sets = &strings(&run_file)[4..];
    let estimate = |more: &[&str]| -> serde_json::Value {
        let args = ["estimate", "data/runs/lvm_mlp.toml", "--ranks", "2", "--device", "0", "--json"];
        let (code, out, text) = run(&[&args, sets, more].concat());
        let estimate: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, if estimate["fits"] == true { 0 } else { 2 }, "{text}");
        estimate
    };
    let whole = estimate(&[]);
    let bytes = whole["total_bytes"].as_u64().unwrap();
    assert!(whole["exchanged_bytes"].as_u64().unwrap() > 4 * whole["parameters"].as_u64().unwrap(), "{whole}");
    let below = (estimate(&["--budget", "1"])["total_bytes"].as_u64().unwrap() - 1).to_string();
    let with = |more: &[&str]| run_file.iter().map(String::as_str).chain(more.iter().copied()).map(String::from).collect::<Vec<_>>();
    let budget = with(&["--steps", "1", "--budget", &bytes.to_string(), "--device", "0"]);
    let (code, _, text) = together(2, &strings(&budget));
    assert!(code == 0 && text.contains(&crate::cli::memory_line(bytes)), "{bytes}: {code} {text}");
    let few = [place.vectors("few", &["train.batch=24"]), ["--budget", &below, "--device", "0"].map(String::from).to_vec()].concat();
    let (code, _, text) = together(2, &strings(&few));
    assert!(code == 2 && text.contains(&format!("the budget is {below}")), "{code} {text}");
    let fits = |key: &str| text.split(key).nth(1).map(|t| t.split([' ', ';']).next().unwrap().parse::<usize>().unwrap());
    let (batch, accumulate) = (fits("train.batch = ").unwrap(), fits("train.accumulate = ").unwrap());
    assert!(batch * accumulate == 24 && batch % 2 == 0, "{text}");
    let args = place.vectors("uneven", &["train.batch=8"]);
    let (code, _, text) = together(3, &strings(&args));
    assert!(code == 2 && text.contains("start 1, 2, 4, 8 with mpirun -n") && text.contains("train.batch = 6"), "{code}: {text}");
    assert!(text.matches("cannot be divided").count() == 1 && !place.path("uneven").exists(), "{text}");
    // Data that are not the same on all.
    std::fs::copy(place.path("vectors.npz"), place.path("other.npz")).unwrap();
    let other = place.args("lvm_mlp", "other.npz", "mixed", &["train.batch=18", "model.hidden=16"]);
    let same = place.args("lvm_mlp", "vectors.npz", "mixed", &["train.batch=18", "model.hidden=16"]);
    let (code, _, text) = output(ranks(&[&[]], &strings(&same)).args([":", "-n", "1", PROGRAM]).args(&other));
    assert!(code == 2 && text.contains("rank 1 was started with another configuration"), "{code} {text}");
    // And options: ranks that take another number of steps would wait for each other for ever.
    let (code, _, text) = output(ranks(&[&[]], &strings(&same)).args([":", "-n", "1", PROGRAM]).args(&same).args(["--steps", "2"]));
    assert!(code == 2 && text.contains("rank 1 was started with another --steps than the other ranks"), "{code} {text}");
    assert!(!place.path("mixed").exists());
    // A file of the same name and size in another folder.
    let [here, there] = ["here", "there"].map(|folder| place.path(folder));
    [&here, &there].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    std::fs::copy(place.path("vectors.npz"), here.join("data.npz")).unwrap();
    let numbers = |n: usize| (0..n).map(|i| (i as f32 * 0.1).cos()).collect::<Vec<f32>>();
    let (contexts, targets) = (numbers(130 * 5 * 16), numbers(130 * 16));
    let members = [("contexts", &[130, 5, 16][..], Numbers::F32(&contexts)), ("targets", &[130, 16], Numbers::F32(&targets))];
    write_arrays(&there.join("data.npz"), &members).unwrap();
    let run_file = std::path::absolute("data/runs/lvm_mlp.toml").unwrap();
    let out = place.path("apart");
    let args =
        ["train", run_file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--set", "train.batch=18", "--set", "data.file=data.npz"];
    let mut command = mpirun();
    for (colon, folder) in [(&[][..], &here), (&[":"], &there)] {
        command.args(colon).args(["-n", "1", "--wdir", folder.to_str().unwrap(), PROGRAM]).args(args);
    }
    let (code, _, text) = output(&mut command);
    assert!(code == 65 && text.contains("rank 1 has other data") && text.contains("Rank 0 has data.file data.npz: "), "{code} {text}");
    assert!(!out.exists());
}

fn ranks_take_the_form_that_fits() {
    let place = Place::new();
    let sets = ["model.dropout=0", "train.epochs=1"];
    let estimate = |more: &[&str]| -> serde_json::Value {
        let args = place.vectors("estimate", &sets);
        let (code, out, text) =
            run(&[&["estimate", "data/runs/lvm_mlp.toml", "--ranks", "2", "--device", "0", "--json"], &strings(&args)[4..], more].concat());
        let estimate: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, if estimate["fits"] == true { 0 } else { 2 }, "{text}");
        estimate
    };
    let few = (estimate(&["--budget", "1"])["total_bytes"].as_u64().unwrap() - 1).to_string();
    let args = [place.vectors("fit", &sets), ["--fit", "--budget", &few].map(String::from).to_vec()].concat();
    let (code, _, text) = together(2, &strings(&args));
    assert!(code == 0 && text.matches("fit         train.batch = ").count() == 1, "{code}: {text}");
    let config: toml::Table = std::fs::read_to_string(place.path("fit/config.toml")).unwrap().parse().unwrap();
    let [batch, accumulate] = ["batch", "accumulate"].map(|key| config["train"][key].as_integer().unwrap());
    let usual = |key: &str, usual: &str| config["train"].get(key).is_none_or(|value| value.as_str() == Some(usual));
    assert!(
        batch * accumulate == 18 && batch % 2 == 0 && !(batch == 18 && usual("recompute", "none") && usual("precision", "f32")),
        "{config}"
    );
    let (code, _, text) = together(2, &strings(&[args, vec!["--resume".into()]].concat()));
    assert!(code == 0 && text.contains("resuming    at step 6\n") && text.contains(&format!("train.batch = {batch}, ")), "{code}: {text}");
}

fn the_profile_shows_the_exchange() {
    let place = Place::new();
    let sets: Vec<String> = place.vectors("profile", &["model.hidden=384"]).split_off(4);
    let args = [&["profile", "data/runs/lvm_mlp.toml", "--rounds", "2", "--json"], &strings(&sets)[..]].concat();
    let (code, out, text) = together(2, &args);
    assert_eq!(code, 0, "{text}");
    let profile: serde_json::Value = serde_json::from_str(&out).unwrap();
    let (code, out, text) = run(&[&["estimate", "data/runs/lvm_mlp.toml", "--ranks", "2", "--json"], &strings(&sets)[..]].concat());
    assert_eq!(code, 0, "{text}");
    let estimate: serde_json::Value = serde_json::from_str(&out).unwrap();
    let exchange = &profile["exchange"];
    let slices = exchange["slices"].as_array().unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    // Of two ranks each sends and receives as much as leaves its device.
    assert_eq!(slices.iter().map(|slice| number(&slice["bytes"])).sum::<f64>(), number(&estimate["exchanged_bytes"]));
    assert!(exchange["ranks"] == 2 && !slices.is_empty(), "{exchange}");
    let sums = |keys: [&str; 2]| slices.iter().flat_map(|slice| keys.map(|key| number(&slice[key]))).sum::<f64>();
    let whole = number(&exchange["exchange_seconds"]);
    assert!(whole > 0.0 && (sums(["sum_seconds", "return_seconds"]) - whole).abs() < 1e-6 * whole, "{exchange}");
    assert!((0.0..=whole).contains(&number(&exchange["hidden_seconds"])), "{exchange}");
    let alone: serde_json::Value = serde_json::from_str(&run(&args).1).unwrap();
    assert!(alone["exchange"].is_null() && number(&alone["step_seconds"]) > 0.0, "{alone}");
}

fn a_nan_of_one_rank_skips_the_update_of_all() {
    let place = Place::new();
    let args = place.vectors("nan", &[]);
    let (code, _, text) = output(&mut ranks(&[&[], &[("ENGINE_FAULT", "nan:7")]], &strings(&args)));
    assert!(code == 0 && text.contains("step 7: ") && text.contains("update skipped (1 in a row)"), "{text}");
    let report = std::fs::read_to_string(place.path("nan/report.json")).unwrap();
    assert!(report.contains("\"skipped\": 1,"), "{report}");
}

fn other_weights_on_a_rank_end_the_run() {
    let place = Place::new();
    let args = place.vectors("flip", &[]);
    let (code, _, text) = output(&mut ranks(&[&[], &[], &[("ENGINE_FAULT", "flip:6")]], &strings(&args)));
    assert!(code == 70 && text.contains("the weights of rank 2 are not those"), "{code}: {text}");
    assert_eq!(text.matches("the weights of rank").count(), 1, "{text}");
    // The checkpoint from before is there, and the run goes on from it.
    let resumed = [args, vec!["--resume".into()]].concat();
    let (code, _, text) = together(3, &strings(&resumed));
    assert!(code == 0 && text.contains("resuming    at step 4"), "{text}");
}

/// Seconds that Open MPI leaves a process to end by itself: one, unless this says more, which a busy machine may need.
const PATIENCE: &str = "OMPI_MCA_odls_base_sigkill_timeout";

/// The processes of a run, by rank, once its first checkpoint is there.
fn under_way(mpirun: &Child, folder: &Path, count: usize) -> Vec<u32> {
    let is_checkpoint = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().to_string_lossy().starts_with("step");
    eventually("there is a checkpoint", || folder.join("checkpoints").read_dir().is_ok_and(|mut files| files.any(is_checkpoint)));
    let mut processes = vec![0; count];
    for process in Path::new("/proc").read_dir().unwrap().filter_map(|p| p.unwrap().file_name().to_str()?.parse::<u32>().ok()) {
        let read = |file: &str| std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).to_string();
        if status.lines().any(|line| line == format!("PPid:\t{}", mpirun.id())) {
            let environment = String::from_utf8_lossy(&read("environ")).to_string();
            let rank = environment.split('\0').find_map(|v| v.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse::<usize>().ok());
            rank.into_iter().for_each(|rank| processes[rank] = process);
        }
    }
    assert!(processes.iter().all(|process| *process > 0), "{processes:?}");
    processes
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

fn a_rank_that_dies_ends_the_run_within_seconds() {
    of_linux();
    let place = Place::new();
    for victim in [1, 0] {
        let name = format!("dead-{victim}");
        let args = place.vectors(&name, &["train.epochs=20000", "validation.every=1000000"]);
        let mut command = ranks(&[&[][..]; 3], &strings(&args));
        command.env(PATIENCE, "3");
        let child = started(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let processes = under_way(&child, &place.path(&name), 3);
        let killed = Instant::now();
        signal(processes[victim], "-KILL");
        let (code, _, text) = ended(child.wait_with_output().unwrap());
        note!("rank {victim} of 3 killed: the run has ended after {:.1} s", killed.elapsed().as_secs_f64());
        assert!(code != 0 && (victim == 0 || text.contains("another rank does not answer")), "{code}: {text}");
        // Some may still be ending, and nobody may have asked yet how one ended that is gone.
        let runs = |process: &u32| std::fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|text| !text.contains("State:\tZ"));
        eventually("no process is left", || !processes.iter().any(runs));
        // A process is called a zombie when its first thread has ended; others may hold its files for a moment more.
        let lock = std::fs::File::open(place.path(&name).join(".lock")).unwrap();
        eventually("nobody holds the folder", || lock.try_lock().is_ok());
        drop(lock);
        let resumed = [
            place.vectors(&name, &["train.epochs=20000", "validation.every=1000000"]),
            ["--resume", "--steps", "1"].map(String::from).to_vec(),
        ]
        .concat();
        let (code, _, text) = run(&strings(&resumed));
        assert!(code == 0 && text.contains("resuming    at step"), "{code}: {text}");
    }
}

fn a_rank_that_was_suspended_is_waited_for() {
    of_linux();
    let place = Place::new();
    let mut command = ranks(&[&[][..]; 2], &strings(&place.vectors("suspended", &["train.epochs=20000"])));
    command.env(PATIENCE, "1");
    let mut child = started(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let processes = under_way(&child, &place.path("suspended"), 2);
    signal(processes[0], "-CONT");
    signal(processes[1], "-STOP");
    std::thread::sleep(Duration::from_secs(2));
    signal(processes[1], "-CONT");
    let length = || std::fs::metadata(place.path("suspended/metrics.jsonl")).unwrap().len();
    let before = length();
    eventually("it goes on", || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        length() > before
    });
    signal(child.id(), "-TERM");
    child.wait().unwrap();
}

fn a_signal_to_mpirun_saves_and_ends() {
    of_linux();
    let place = Place::new();
    // Few lines: from the first signal to the last mpirun reads none, and who writes to a full pipe waits.
    let args = place.vectors("stopped", &["train.epochs=20000", "checkpoint.every=100", "validation.every=5000"]);
    let mut command = ranks(&[&[][..]; 2], &strings(&args));
    command.env(PATIENCE, "5");
    let mut child = started(command.stdout(Stdio::null()).stderr(Stdio::null()));
    under_way(&child, &place.path("stopped"), 2);
    signal(child.id(), "-TERM");
    child.wait().unwrap();
    // It goes on from the last step that it took, not from a checkpoint of before.
    let steps = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
    let last = std::fs::read_to_string(place.path("stopped/metrics.jsonl")).unwrap().lines().filter_map(steps).max().unwrap();
    let resumed = [args, ["--resume", "--steps", "1"].map(String::from).to_vec()].concat();
    let (code, _, text) = run(&strings(&resumed));
    assert!(code == 0 && text.contains(&format!("resuming    at step {last}\n")), "{last}: {text}");
}

fn a_sweep_is_dealt_out_among_ranks() {
    let place = Place::new();
    let more = |args: Vec<String>, more: &[&str]| args.into_iter().chain(more.iter().map(ToString::to_string)).collect::<Vec<_>>();
    let spread = more(place.vectors("spread", &[]), &["--seeds", "1,2,3", "--spread"]);
    let (code, out, text) = together(2, &strings(&spread));
    assert!(code == 0 && out.matches("seed=").count() >= 3, "{code} {out}\n{text}");
    let alone = more(place.vectors("alone", &[]), &["--seeds", "1,2,3"]);
    assert_eq!(run(&strings(&alone)).0, 0);
    for seed in 1..=3 {
        let of = |sweep: &str| weights(&place.path(sweep).join(format!("seed={seed}")));
        assert!(of("spread") == of("alone"), "seed {seed}");
    }
    let (code, _, text) = together(2, &strings(&more(spread, &["--resume"])));
    assert!(code == 0 && text.matches("it has ended: nothing to do").count() == 3, "{text}");
    let shared = more(place.vectors("shared", &[]), &["--seeds", "1,2"]);
    let (code, out, text) = together(2, &strings(&shared));
    assert!(code == 0 && place.path("shared/seed=2/report.json").exists(), "{code} {out}\n{text}");
    let (code, out, text) = together(2, &strings(&more(shared, &["--resume"])));
    assert!(code == 0 && text.matches("it has ended: nothing to do").count() == 2, "{code} {out}\n{text}");
}

/// Attempts that one process has made count for several, which go on with the same seed.
fn ranks_know_of_the_attempts_before() {
    let place = Place::new();
    let rule = ["--set", "abort_if=[{metric='train_cosine',below=0.99}]", "--set", "restart.times=1"].map(String::from);
    let args = [place.vectors("restarted", &["train.epochs=1"]), rule.to_vec()].concat();
    let (code, _, text) = run(&strings(&args));
    assert!(code == 76 && place.path("restarted-attempt-1").exists(), "{code} {text}");
    let (code, _, text) = together(2, &strings(&[args, vec!["--resume".into()]].concat()));
    assert!(code == 76 && text.contains("1 of 1 restarts were made before: train.seed = 2"), "{code} {text}");
}
