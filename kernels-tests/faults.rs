//! Every allocation, submission, map, write, sync and rename of a short run fails once, and the device is lost at every submission: the run
//! ends with its exit code and without a panic, and what goes on from there ends with the same bits.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Three steps with a checkpoint after each and two validations; data lie beside the folder.
fn train(out: &Path, fault: Option<&str>, resume: bool) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(["train", "data/runs/lvm_mlp.toml", "--out", out.to_str().unwrap()]);
    command.args(["--set", &format!("data.file={}", out.with_file_name("data.npz").display())]);
    for set in [
        "model.hidden=4",
        "train.epochs=1",
        "train.batch=9",
        "checkpoint.every=1",
        "checkpoint.keep=2",
        "validation.every=2",
        "train.log_every=1",
    ] {
        command.args(["--set", set]);
    }
    if resume {
        command.arg("--resume");
    }
    if let Some(fault) = fault {
        command.env("ENGINE_FAULT", fault);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into())
}

fn model(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("model.safetensors")).unwrap()
}

#[test]
fn whatever_fails_once_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    crate::vectors::data(&folder.path().join("data.npz"), 30, |_, _| {});
    assert_eq!(train(&whole, None, false).0, 0);
    let want = model(&whole);
    for (point, code) in [("alloc", 75), ("submit", 75), ("lost", 75), ("map", 75), ("write", 74), ("sync", 74), ("rename", 74)] {
        let (next, failures) = (AtomicU64::new(1), AtomicU64::new(0));
        let last = AtomicU64::new(u64::MAX);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Relaxed);
                        if n > last.load(Relaxed) {
                            return;
                        }
                        let out = folder.path().join(format!("{point}-{n}"));
                        let (got, text) = train(&out, Some(&format!("{point}:{n}")), false);
                        assert!(!text.contains("internal error") && !text.contains("panicked"), "{point} {n}: {text}");
                        if got == 0 {
                            // The run has fewer of them.
                            last.fetch_min(n, Relaxed);
                            return;
                        }
                        assert!(got == code, "{point} {n}: {got} {text}");
                        if code == 74 && point == "write" {
                            assert!(text.contains("Free some space"), "{text}");
                        }
                        failures.fetch_add(1, Relaxed);
                        let (got, text) = train(&out, None, true);
                        assert!(got == 0, "after {point} {n}: {got} {text}");
                        assert!(model(&out) == want, "after {point} {n} the weights differ");
                        let _ = std::fs::remove_dir_all(&out);
                    }
                });
            }
        });
        println!("{point}: {} failures", failures.load(Relaxed));
        assert!(failures.load(Relaxed) > 5, "{point}: {failures:?}");
    }
}
