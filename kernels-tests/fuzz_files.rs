//! Feeds mutated run files, checkpoints, weights, metrics and ONNX files to what reads them, the same ones at each run, and fails on a panic,
//! on a checkpoint that is accepted with other contents, and on a message with a name of Rust's.
//! Twenty thousand of each kind, ten times as many in `make test-all`; `cargo test --test fuzz-files -- 10000000 5` runs ten million of each
//! from seed 5, and a third argument takes one kind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use engine::export::{Exported, OnnxFile};
use engine::gpu::{self, Tuning};
use engine::models::initial_weights;
use engine::plan::{Init, Parameter};
use engine::problem::Problem;
use engine::random::Random;
use engine::registry::Config;
use engine::runs::compare;
use engine::tasks::Purpose;
use engine::train::{Best, Checkpoint, Origin, Progress, Weights, save_weights};

const TOKENS: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "=",
    ".",
    "\n",
    "-",
    "0",
    "1",
    "1e400",
    "-1e-20",
    "NaN",
    "inf",
    "null",
    "true",
    "[train]",
    "[[abort_if]]",
    "kind",
    "\"F32\"",
    "\"BF16\"",
    "\"data_offsets\":[0,8]",
    "\"shape\":[18446744073709551615]",
    "99999999999999999999",
    "9223372036854775807",
    "é",
    "\0",
    "\\u0000",
    "'''",
    "\"__metadata__\":{}",
    "{\"split\":\"validation\",\"step\":1,\"epoch\":0}",
];

/// Words by which one sees that a message is of a parser of Rust's and not of a run file.
const RUST: &str =
    "usize u64 u32 u16 u8 isize i64 i32 i16 i8 f64 f32 struct enum variant newtype tuple map sequence identifier TrainConfig serde";

/// One change: a bit, a byte, a piece cut out, doubled or moved, a token, a number of the header.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let below = |random: &mut Random, n: usize| random.between(0, n.max(1) as i64 - 1) as usize;
    let at = below(random, bytes.len());
    let end = (at + 1 + below(random, 30)).min(bytes.len());
    match below(random, 8) {
        0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << below(random, 8)),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at.min(end)..end)),
        4 => {
            let copy = bytes[at.min(end)..end].to_vec();
            let to = below(random, bytes.len());
            drop(bytes.splice(to..to, copy));
        }
        5 | 6 => {
            let token = TOKENS[below(random, TOKENS.len())].bytes();
            let until = if random.uniform() < 0.5 { at } else { end };
            drop(bytes.splice(at.min(until)..until, token));
        }
        _ => {
            let value = [0, 7, 8, 255, u64::MAX, bytes.len() as u64][below(random, 6)];
            bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(b, v)| *b = v);
        }
    }
}

fn parameters() -> Vec<Parameter> {
    let p = |name: &str, shape: &[usize], offset| Parameter { name: name.into(), shape: shape.into(), offset, init: Init::Zeros };
    vec![p("a.weight", &[3, 2], 0), p("a.bias", &[3], 64)]
}

/// A corpus of files, and what is done with a changed one: whether it was accepted, or why that is wrong.
struct Target {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    #[allow(clippy::type_complexity)]
    check: Box<dyn Fn(&[u8]) -> Result<bool, String>>,
}

fn run_files() -> Target {
    let files = std::fs::read_dir("data/runs").expect("data/runs").map(|e| std::fs::read(e.expect("a file").path()).expect("a run file"));
    let check = |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(false) };
        match Config::parse(text, "run.toml", &[]) {
            // What is accepted is written and read again as the same.
            Ok(config) => match config.to_toml().and_then(|t| Config::parse(&t, "again", &[])) {
                Ok(again) if again == config => Ok(true),
                other => Err(format!("is not the same when written: {other:?}")),
            },
            Err(error) => {
                let message = error.to_string();
                let word = |w: &str| message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == w);
                let named = RUST.split(' ').find(|w| word(w) && !text.contains(w));
                named.map_or(Ok(false), |w| Err(format!("the message has {w}, for which src/config/words.rs has no row: {message}")))
            }
        }
    };
    Target { name: "run_files", corpus: files.collect(), check: Box::new(check) }
}

fn checkpoints(folder: &Path) -> Target {
    let mut flat = vec![0.0; 128];
    (0..6).chain(64..67).for_each(|i| flat[i] = i as f32 * 0.37 - 1.0);
    let best = Some(Best { value: 0.1, step: 3, metrics: vec![("loss".into(), 0.1)] });
    let progress = Progress { step: 5, best, epoch_sums: vec![0.3, 1.7], seconds: 1.25, ..Progress::default() };
    let origin = Origin { config: "[train]\nseed = 1".into(), ..Origin::default() };
    let (weights, m, v, variants) = (flat.clone(), flat.clone(), flat, "a device".to_string());
    let original = Checkpoint { weights, m, v, progress, buffers: vec![], origin, variants, tuned: Tuning::default() };
    let path = original.save(folder, &parameters(), 3).expect("a checkpoint");
    let corpus = vec![std::fs::read(&path).expect("a checkpoint")];
    let check = move |bytes: &[u8]| {
        std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
        let Ok(found) = Checkpoint::load(&path, &parameters()) else { return Ok(false) };
        let bits = |c: &Checkpoint| [&c.weights, &c.m, &c.v].map(|f| f.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        let same =
            bits(&found) == bits(&original) && found.progress == original.progress && found.origin.differences(&original.origin).is_empty();
        if same { Ok(true) } else { Err("was accepted with other contents".into()) }
    };
    Target { name: "checkpoints", corpus, check: Box::new(check) }
}

fn weights(folder: &Path) -> Target {
    let path = folder.join("weights.safetensors");
    save_weights(&path, &parameters(), &[0.5; 128], &[], &Origin::default(), 2, None).expect("weights");
    let plain = [24u64.to_le_bytes().as_slice(), b"{\"a\":{\"dtype\":\"F16\",\"shap"].concat();
    let corpus = vec![std::fs::read(&path).expect("weights"), plain];
    let check = move |bytes: &[u8]| {
        std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
        Ok(Weights::open(&path).and_then(|mut file| file.load(&parameters())).is_ok())
    };
    Target { name: "weights", corpus, check: Box::new(check) }
}

fn onnx(folder: &Path) -> Target {
    let text = "[model]\nkind = 'stack'\nlayers = [{kind='lstm',hidden=3},{kind='last'},{kind='linear'}]\n[data]\nkind = 'vectors'\n\
                file = 'none.npz'\ndim = 4\ncontext = 3\n[loss]\nkind = 'vectors'\ncosine = { weight = 1.0 }\n";
    let config = Config::parse(text, "run.toml", &[]).expect("a configuration");
    let problem = Problem::open(&config, Purpose::Predict).expect("a problem");
    let plan = problem.record_prediction(gpu::Target::default(), 1).expect("a plan").0;
    let (path, file) = (folder.join("m.onnx"), folder.join("of_onnx.safetensors"));
    let origin = Origin { config: problem.toml.clone(), ..Origin::default() };
    save_weights(&file, plan.parameters(), &initial_weights(plan.parameters(), 1), &[], &origin, 2, None).expect("weights");
    let mut weights = Weights::open(&file).expect("weights");
    Exported::of(&config, &mut weights, None).and_then(|model| model.write_onnx(&path, false)).expect("a model");
    let corpus = vec![std::fs::read(&path).expect("a model")];
    let check = move |bytes: &[u8]| {
        std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
        match OnnxFile::open(&path).map_err(|e| e.to_string()) {
            Err(message) if !message.contains("no usable ONNX file: ") => Err(format!("is refused by {message:?}")),
            read => Ok(read.is_ok()),
        }
    };
    Target { name: "onnx", corpus, check: Box::new(check) }
}

fn metrics(folder: &Path) -> Target {
    let run = folder.join("run");
    std::fs::create_dir_all(&run).expect("a folder");
    std::fs::copy("data/runs/lvm_mlp.toml", run.join("config.toml")).expect("a configuration");
    let lines: String = (0..4)
        .map(|i| format!("{{\"split\":\"validation\",\"step\":{i},\"epoch\":{i},\"loss\":0.5,\"cosine\":0.2{i},\"unit_mse\":0.1}}\n"))
        .collect();
    let report = b"{\"parameters\":5,\"ended\":\"all steps done\",\"seconds\":1.5,\"test\":{\"this model\":{\"ood_cosine\":0.1}}}".to_vec();
    let check = move |bytes: &[u8]| {
        let name = if bytes.starts_with(b"{\"par") { "report.json" } else { "metrics.jsonl" };
        std::fs::write(run.join(name), bytes).map_err(|e| e.to_string())?;
        let accepted = compare(std::slice::from_ref(&run), None).map(|c| (c.table(), c.markdown()).0).is_ok();
        if name == "report.json" {
            std::fs::remove_file(run.join(name)).map_err(|e| e.to_string())?;
        }
        Ok(accepted)
    };
    Target { name: "metrics", corpus: vec![lines.into_bytes(), report], check: Box::new(check) }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, otherwise: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(otherwise);
    let most = if std::env::var("ENGINE_TESTS").is_ok_and(|what| what == "all") { 200_000 } else { 20_000 };
    let (count, seed) = (number(0, most), number(1, 1));
    // In memory, where the system has such a folder: a file is written for every input.
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a folder");
    std::panic::set_hook(Box::new(|_| {}));
    let only = args.get(2);
    let all = |makers: &[fn(&Path) -> Target]| {
        let mut targets = makers.iter().map(|make| make(folder.path())).filter(|target| only.is_none_or(|only| only == target.name));
        targets.all(|target| holds(&target, count, seed))
    };
    // Some of them on each of two cores.
    let sound = std::thread::scope(|scope| {
        let half = scope.spawn(|| all(&[|_| run_files(), checkpoints]));
        let other = all(&[weights, metrics, onnx]);
        half.join().is_ok_and(|half| half && other)
    });
    if !sound {
        std::process::exit(1);
    }
}

/// Whether a target takes so many inputs, each a text of its corpus with some changes, without a panic or worse.
fn holds(target: &Target, count: u64, seed: u64) -> bool {
    let (started, mut accepted) = (Instant::now(), 0u64);
    for input in 0..count {
        let mut random = Random::new(seed, 77, input);
        let mut bytes = target.corpus[random.between(0, target.corpus.len() as i64 - 1) as usize].clone();
        for _ in 0..random.between(1, 4) {
            mutate(&mut random, &mut bytes);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(&bytes))).unwrap_or_else(|_| Err("panics".into()));
        match outcome {
            Ok(yes) => accepted += u64::from(yes),
            Err(what) => {
                println!("{} input {input} of seed {seed} {what}\n{}", target.name, String::from_utf8_lossy(&bytes));
                return false;
            }
        }
    }
    println!("{}: {count} inputs of seed {seed}, {accepted} accepted, {:.0} s", target.name, started.elapsed().as_secs_f64());
    true
}
