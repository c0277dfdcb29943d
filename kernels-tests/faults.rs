//! Allocations, submissions, maps, writes, syncs and renames of a short run fail once each, and the device is lost at submissions: the run
//! ends with its exit code and without a panic, and what goes on from there ends with the same bits. Every third of them, or all with
//! `ENGINE_TESTS=all`.

use std::path::Path;

use engine::fault;

use crate::program::{Ended, process_with, run};
use crate::runner::{all, note, tests};

tests![
    whatever_fails_once_loses_nothing,
    a_device_that_is_lost_is_opened_again,
    a_device_that_is_lost_for_good_loses_nothing,
    a_device_that_hangs_ends_the_run,
];

/// Three steps with a checkpoint after each and two validations; data lie beside the folder.
fn arguments(out: &Path) -> Vec<String> {
    let mut args: Vec<String> = ["train", "data/runs/lvm_mlp.toml", "--resume", "--out", out.to_str().unwrap()].map(String::from).into();
    let data = format!("data.file={}", out.with_file_name("data.npz").display());
    for set in [
        data.as_str(),
        "model.hidden=4",
        "train.epochs=1",
        "train.batch=9",
        "checkpoint.every=1",
        "checkpoint.keep=2",
        "validation.every=2",
        "train.log_every=1",
    ] {
        args.extend(["--set".into(), set.into()]);
    }
    args
}

fn model(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("model.safetensors")).unwrap()
}

/// Lets occurrences of a point fail one after the other, until the run has no more of them.
fn each(point: &str, expected: i32, train: impl Fn(&[&str], Option<&str>) -> Ended) {
    let folder = tempfile::tempdir().unwrap();
    crate::vectors::data(&folder.path().join("data.npz"), 30, |_, _| {});
    let train = |out: &Path, fault: Option<&str>| {
        let args = arguments(out);
        train(&args.iter().map(String::as_str).collect::<Vec<_>>(), fault)
    };
    let whole = folder.path().join("whole");
    let (code, _, text) = train(&whole, None);
    assert_eq!(code, 0, "{text}");
    let want = model(&whole);
    let step = if all() { 1 } else { 3 };
    let mut failures = 0;
    for n in (1..).step_by(step) {
        let out = folder.path().join(format!("{point}-{n}"));
        let (code, _, text) = train(&out, Some(&format!("{point}:{n}")));
        assert!(!text.contains("internal error") && !text.contains("panicked"), "{point} {n}: {text}");
        if code == 0 {
            // The run has fewer of them.
            break;
        }
        assert!(code == expected, "{point} {n}: {code} {text}");
        if point == "write" {
            assert!(text.contains("Free some space"), "{text}");
        }
        failures += 1;
        let (code, _, text) = train(&out, None);
        assert!(code == 0, "after {point} {n}: {code} {text}");
        assert!(model(&out) == want, "after {point} {n} the weights differ");
        let _ = std::fs::remove_dir_all(&out);
    }
    note!("{point}: {failures} failures");
    assert!(failures * step > 5, "{point}: {failures}");
}

fn whatever_fails_once_loses_nothing() {
    for (point, code) in [("alloc", 75), ("submit", 75), ("map", 75), ("write", 74), ("sync", 74), ("rename", 74)] {
        each(point, code, |args, fault| match fault {
            Some(fault) => fault::with(fault, || run(args)),
            None => run(args),
        });
    }
}

/// A short run in a process of its own, with a fault. A device that is lost here is taken from the driver at its work, and one of its
/// threads may meet that with a signal of its own, once in some hundred times. What is tested is the engine's end, so it is asked again.
fn process_of(out: &Path, fault: Option<&str>) -> Ended {
    let args = arguments(out);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut ended = (-1, String::new(), String::new());
    for _ in 0..4 {
        ended = process_with(&args, |command| command.envs(fault.map(|fault| ("ENGINE_FAULT", fault))));
        if ended.0 != -1 {
            break;
        }
        note!("{fault:?}: the driver ended the process by a signal");
        let _ = std::fs::remove_dir_all(out);
    }
    assert!(!ended.2.contains("internal error") && !ended.2.contains("panicked"), "{fault:?}: {}", ended.2);
    ended
}

/// A folder with data, and the weights of a run that nothing happened to.
fn undisturbed() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    crate::vectors::data(&folder.path().join("data.npz"), 30, |_, _| {});
    let whole = folder.path().join("whole");
    let (code, _, text) = process_of(&whole, None);
    assert_eq!(code, 0, "{text}");
    let want = model(&whole);
    (folder, want)
}

fn a_device_that_is_lost_is_opened_again() {
    let (folder, want) = undisturbed();
    let mut losses = 0;
    for n in (1..).step_by(if all() { 1 } else { 9 }) {
        let out = folder.path().join(format!("lost-{n}"));
        let (code, _, text) = process_of(&out, Some(&format!("lost:{n}")));
        assert!(code == 0, "lost {n}: {code} {text}");
        assert!(model(&out) == want, "lost {n}: the weights differ");
        if !text.contains("the device was lost") {
            // The run has fewer submissions.
            break;
        }
        assert!(text.contains("the device is opened again, 1 of at most 3 times"), "{text}");
        losses += 1;
    }
    assert!(losses > 1, "{losses}");
}

fn a_device_that_is_lost_for_good_loses_nothing() {
    let (folder, want) = undisturbed();
    let out = folder.path().join("lost");
    let (code, _, text) = process_of(&out, Some("lost:20+"));
    assert!(code == 75 && text.contains("3 of at most 3 times") && text.contains("goes on with --resume"), "{code} {text}");
    let (code, _, text) = process_of(&out, None);
    assert!(code == 0 && model(&out) == want, "{code} {text}");
}

fn a_device_that_hangs_ends_the_run() {
    let (folder, want) = undisturbed();
    let out = folder.path().join("hangs");
    let (code, _, text) = process_of(&out, Some("hang:20"));
    assert!(code == 75 && text.contains("has not answered for 5 minutes") && !text.contains("opened again"), "{code} {text}");
    let (code, _, text) = process_of(&out, None);
    assert!(code == 0 && model(&out) == want, "{code} {text}");
}
