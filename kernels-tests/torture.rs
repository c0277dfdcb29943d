//! Kills runs of all four kinds of data at random moments, lets them go on and demands the bits of a run that was left alone; then that ten
//! thousand steps take no more memory than two thousand. `cargo test --test torture -- 1000 1` kills a thousand times from seed 1.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::datasets::npz::{Numbers, write_arrays};
use engine::random::Random;

/// Growth of resident memory that counts as none: the allocator's own.
const GROWTH: u64 = 2 << 20;

fn engine(run: &str, sets: &[String], out: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(["train", &format!("data/runs/{run}.toml"), "--out", out.to_str().expect("a path in UTF-8")]).args(more);
    for set in sets {
        command.args(["--set", set]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program")
}

/// Run files with what makes each a run of a second or two; data are made in the folder.
fn runs(folder: &Path) -> Vec<(&'static str, Vec<String>)> {
    let numbers = |n: usize, rate: f32| (0..n).map(|i| (i as f32 * rate).sin()).collect::<Vec<f32>>();
    let (vectors, mechanisms, images) = (folder.join("vectors.npz"), folder.join("mechanisms.npz"), folder.join("images.npz"));
    let (contexts, targets) = (numbers(200 * 5 * 16, 0.7), numbers(200 * 16, 0.3));
    let members = [("contexts", &[200, 5, 16][..], Numbers::F32(&contexts)), ("targets", &[200, 16], Numbers::F32(&targets))];
    write_arrays(&vectors, &members).expect("a file of vectors");
    let (latents, joints, mask) = (numbers(200 * 50, 0.9), numbers(200 * 16, 0.5), vec![1.0; 200 * 8]);
    let types: Vec<i32> = (0..200).map(|i| i % 17).collect();
    let members = [
        ("latents", &[200, 50][..], Numbers::F32(&latents)),
        ("types", &[200], Numbers::I32(&types)),
        ("joints", &[200, 8, 2], Numbers::F32(&joints)),
        ("mask", &[200, 8], Numbers::F32(&mask)),
    ];
    write_arrays(&mechanisms, &members).expect("a file of mechanisms");
    let pixels: Vec<f32> = numbers(100 * 256, 0.2).into_iter().map(|v| 0.5 + 0.5 * v).collect();
    write_arrays(&images, &[("images", &[100, 16, 16], Numbers::F32(&pixels))]).expect("a file of images");
    let of = |sets: &[&str], file: Option<&PathBuf>| {
        let file = file.map(|f| format!("data.file={}", f.display()));
        let common = ["checkpoint.every=7", "train.log_every=1"];
        sets.iter().chain(&common).map(ToString::to_string).chain(file).collect::<Vec<_>>()
    };
    let small = ["model.width=16", "model.layers=1", "train.batch=16", "train.epochs=8", "abort_if=[]"];
    let mechanism = [
        "model.d_model=16",
        "model.heads=2",
        "model.layers=1",
        "model.feed_forward=16",
        "train.batch=16",
        "train.epochs=8",
        "schedule.warmup_share=0.4",
    ];
    let integers = ["train.batch=4", "train.epochs=2", "train.steps_per_epoch=60", "validation.every=20", "validation.sequences=8"];
    vec![
        ("integer_sequences", of(&integers, None)),
        ("lvm_gru_unified", of(&small, Some(&vectors))),
        ("mechanism_phase7", of(&mechanism, Some(&mechanisms))),
        ("linkage_vae", of(&["model.layers.hidden=16", "train.batch=16", "train.epochs=3"], Some(&images))),
    ]
}

/// What a run has left: its weights, and the lines of its training steps.
fn results(out: &Path) -> (Vec<u8>, String) {
    let model = std::fs::read(out.join("model.safetensors")).expect("a finished run");
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).expect("its metrics");
    (model, metrics.lines().filter(|line| line.contains("\"train\"")).collect())
}

/// Kills one kind of run so often; gives the number of runs that came to their end in between.
fn kill(run: &str, sets: &[String], folder: &Path, kills: u64, random: &mut Random) -> u64 {
    let whole = folder.join(format!("{run}-whole"));
    let started = Instant::now();
    assert!(engine(run, sets, &whole, &[]).wait().expect("a process").success(), "{run} does not train");
    let mut most = started.elapsed() * 6 / 5;
    let want = results(&whole);
    let (mut killed, mut ended) = (0, 0);
    while killed < kills {
        let out = folder.join(format!("{run}-{ended}"));
        loop {
            let (begun, mut child) = (Instant::now(), engine(run, sets, &out, &["--resume"]));
            // The last run is left alone.
            if killed < kills {
                let moment = Duration::from_millis(random.between(20, (most.as_millis() as i64).max(21)) as u64);
                while begun.elapsed() < moment && child.try_wait().expect("a process").is_none() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                if child.try_wait().expect("a process").is_none() {
                    let _ = child.kill();
                    let _ = child.wait();
                    killed += 1;
                    continue;
                }
                // Kernels that the driver keeps make later runs shorter than the first.
                most = most.min(begun.elapsed() * 6 / 5);
            }
            let status = child.wait().expect("a process");
            assert!(status.success(), "{run}, after {killed} kills: {status}; its folder is {}", out.display());
            break;
        }
        let got = results(&out);
        assert!(got.0 == want.0, "{run}: after {killed} kills the weights differ");
        assert!(got.1 == want.1, "{run}: after {killed} kills the metrics differ");
        let _ = std::fs::remove_dir_all(&out);
        ended += 1;
    }
    ended
}

/// Resident bytes of a process, where the system tells.
fn resident(child: &Child) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// Resident bytes after two thousand steps and near the end of so many.
fn memory(folder: &Path, steps: u64) -> Option<(u64, u64)> {
    let sets = ["train.batch=4", "train.epochs=1000", "train.steps_per_epoch=1000", "validation.sequences=8", "validation.patience=0"];
    let (out, steps_text) = (folder.join("long"), steps.to_string());
    let mut child = engine("integer_sequences", &sets.map(String::from), &out, &["--steps", &steps_text]);
    let mut seen = [None; 2];
    while child.try_wait().expect("a process").is_none() {
        let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
        let step = text.lines().rev().find_map(|l| serde_json::from_str::<serde_json::Value>(l).ok()?["step"].as_u64()).unwrap_or(0);
        for (at, value) in [2000, steps * 9 / 10].into_iter().zip(&mut seen) {
            if step >= at && value.is_none() {
                *value = resident(&child);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Some((seen[0]?, seen[1]?))
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (kills, seed) = (numbers.first().copied().unwrap_or(20), numbers.get(1).copied().unwrap_or(1));
    let folder = tempfile::tempdir().expect("a folder");
    let (runs, started) = (runs(folder.path()), Instant::now());
    std::thread::scope(|scope| {
        for half in runs.chunks(2) {
            let folder = folder.path();
            scope.spawn(move || {
                for (run, sets) in half {
                    let mut random = Random::new(seed, 0, crc32fast::hash(run.as_bytes()).into());
                    let ended = kill(run, sets, folder, kills / 4, &mut random);
                    println!("{run}: {} kills, {ended} runs ended with the bits of the one that was left alone", kills / 4);
                }
            });
        }
    });
    println!("{} kills of seed {seed} in {:.0} s", kills / 4 * 4, started.elapsed().as_secs_f64());
    let steps = if kills < 1000 { 4000 } else { 10_000 };
    match memory(folder.path(), steps) {
        Some((early, late)) => {
            println!("resident memory: {early} bytes after 2000 steps, {late} near the end of {steps}");
            assert!(late <= early + GROWTH, "memory grows by {} bytes", late - early);
        }
        None => println!("resident memory: not known here"),
    }
}
