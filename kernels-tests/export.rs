//! Models for other programs: what ONNX Runtime and torch give with them, what the files say about themselves, and the text of the modules.

use std::path::Path;
use std::process::Command;

use engine::batch::{Field, Normalization};
use engine::datasets::npz::{Numbers, write, write_arrays};
use engine::export::{Exported, OnnxFile, Part};
use engine::kernels::State;
use engine::models::initial_weights;
use engine::plan::{Buffer, Flat, Parameter, Program};
use engine::predict::Predictor;
#[cfg(all(unix, feature = "serve"))]
use engine::predict::line;
use engine::problem::{Loaded, Problem};
use engine::random::Random;
use engine::registry::Config;
use engine::tasks::{DataKind, Purpose};
use engine::train::{Best, Origin, Weights, save_weights};

use crate::models::{config, opened};
use crate::program::{plain_gpu, run};
use crate::runner::{note, skip, tests};

tests![
    other_programs_and_the_server_give_the_same_numbers,
    files_have_names_shapes_and_what_they_are,
    past_keys_and_values_are_those_of_causal_attention,
    modules_have_the_text_that_torch_has_run,
    a_name_says_what_is_written,
];

/// Samples of a case.
const SAMPLES: usize = 64;

const VECTORS: &str =
    "[data]\nkind = \"vectors\"\nfile = \"none.npz\"\ndim = 12\ncontext = 3\n[loss]\nkind = \"vectors\"\ncosine = { weight = 1.0 }\n";
const IMAGES: &str = "[data]\nkind = \"images\"\nfile = \"none.npz\"\nside = 6\n[loss]\nkind = \"vae\"\ndivergence = 0.0\n";
const INTEGERS: &str = "[data]\nkind = \"integer_sequences\"\n[loss]\nkind = \"cross_entropy\"\n";

fn stack(layers: &str, rest: &str) -> Config {
    Config::parse(&format!("[model]\nkind = \"stack\"\nlayers = [{layers}]\n{rest}"), "stack.toml", &[]).unwrap()
}

const TRANSFORMER: &[&str] = &["model.width=64", "model.heads=4", "model.layers=2", "model.feed_forward=24"];
const WIDTH: &[&str] = &["model.width=12"];
const HIDDEN: &[&str] = &["model.hidden=12"];
const MECHANISM: &[&str] = &["model.d_model=32", "model.heads=4", "model.layers=2", "model.feed_forward=40"];

/// Shipped runs with sizes that make them small; those that differ from one of them by sizes, data or loss alone are left out.
const RUNS: &[(&str, &[&str])] = &[
    ("gpt_cpu", &["model.d_model=16", "model.layers=2"]),
    ("llama_small", &["model.d_model=32", "model.heads=4", "model.kv_heads=2", "model.layers=2", "model.feed_forward=24"]),
    ("mamba2_small", &["model.d_model=16", "model.layers=2", "model.mixer={state=4,head=8,chunk=4}"]),
    ("integer_sequences", &[]),
    ("integer_sequences_d64", &["model.d_model=24", "model.heads=4", "model.layers=2", "model.feed_forward=20"]),
    ("linkage_vae", &["model.layers.hidden=16", "model.latents=3", "data.side=6"]),
    ("linkage_vae_conv", &["model.layers={kind='convolution',channels=[3,4],kernels=[5,3]}", "model.latents=3", "data.side=8"]),
    ("lvm_amn", &["model.width=12", "model.hidden=20"]),
    ("lvm_gru", WIDTH),
    ("lvm_gru_unified", WIDTH),
    ("lvm_lstm", HIDDEN),
    ("lvm_lstm_small", HIDDEN),
    ("lvm_lstm_unified", HIDDEN),
    ("lvm_mamba2", &["model.width=16", "model.mixer.head=8", "model.mixer.state=4", "model.mixer.chunk=2", "model.layers=2"]),
    ("lvm_mamba2_unified", &["model.width=16", "model.mixer.head=8", "model.mixer.groups=2", "model.mixer.state=6", "model.layers=2"]),
    ("lvm_best", HIDDEN),
    ("lvm_mlp", HIDDEN),
    ("lvm_transformer", TRANSFORMER),
    ("lvm_transformer_infonce", TRANSFORMER),
    ("mechanism_phase1", MECHANISM),
    ("mechanism_phase1b", MECHANISM),
    ("mechanism_phase3", MECHANISM),
    ("mechanism_phase6a", MECHANISM),
    ("mechanism_phase7", MECHANISM),
    ("mechanism_phase8", MECHANISM),
    ("sunspots", &[]),
];

/// Sizes of the vectors of shipped runs.
const SMALL_VECTORS: [&str; 2] = ["data.dim=8", "data.context=5"];

/// The text of the shipped runs on one, which is not in the repository.
const SMALL_TEXT: [&str; 4] = ["data.context=6", "data.tokenizer=bytes", "data.vocabulary=256", "data.file=README.md"];

/// Stacks with layers that no shipped run has.
const STACKS: &[(&str, &str, &str)] = &[
    (
        "stack_convolutions",
        "{kind='conv1d',out=5,kernel=3},{kind='learned_positions'},{kind='gelu'},{kind='conv1d',out=6,kernel=2,dilation=2,causal=true},\
         {kind='lstm',hidden=3,bidirectional=true},{kind='gru',hidden=4,bidirectional=true},{kind='attention_pool',heads=2},{kind='linear'}",
        VECTORS,
    ),
    (
        "stack_causal",
        "{kind='transformer_block',heads=3,feed_forward=10,causal=true,norm_first=true},{kind='mamba2',head=4,state=3,chunk=2},{kind='last'},{kind='linear'}",
        VECTORS,
    ),
    (
        "stack_residual",
        "{kind='residual',layers=[{kind='norm'},{kind='linear',out=20},{kind='gelu_tanh'},{kind='linear',out=12}]},{kind='rms_norm'},{kind='silu'},\
         {kind='attention_pool'},{kind='tanh'},{kind='linear'}",
        VECTORS,
    ),
    (
        "stack_decoder",
        "{kind='embedding',features=8,positions=false},{kind='learned_positions'},{kind='positions'},{kind='self_attention',heads=4,causal=true},\
         {kind='transformer_block',heads=2,feed_forward=10,causal=true,norm_first=true},{kind='linear',out=256}",
        INTEGERS,
    ),
    ("stack_flat", "{kind='positions'},{kind='flatten'},{kind='linear',out=7},{kind='sigmoid'},{kind='linear'}", VECTORS),
    ("stack_images", "{kind='flatten'},{kind='linear',out=5},{kind='relu'},{kind='linear',out=36},{kind='sigmoid'}", IMAGES),
    (
        "stack_tokens",
        "{kind='embedding',features=8,positions=false},{kind='self_attention',heads=2,causal=true},{kind='lstm',hidden=6},{kind='linear',out=256}",
        INTEGERS,
    ),
];

/// Cases whose graphs are exported with past keys and values, too.
const DECODING: &[&str] = &["gpt_cpu", "llama_small", "integer_sequences", "integer_sequences_d64", "stack_decoder"];

/// Stacks over padded sequences, two of them of classes.
const PADDED: &[(&str, &str, &str)] = &[
    ("padded_mean", "{kind='gru',hidden=5},{kind='mean_pool'},{kind='linear'}", ""),
    ("padded_both_ways", "{kind='lstm',hidden=3,bidirectional=true},{kind='last'},{kind='linear'}", "classes"),
    ("padded_attention", "{kind='linear',out=4},{kind='attention_pool',heads=2},{kind='linear'}", "classes"),
];

/// A run on padded sequences in a file of the folder: two normalised numbers at each of six positions, and vectors of length 1.
fn padded(folder: &Path, layers: &str, classes: bool) -> Config {
    let file = folder.join("padded.npz");
    let x: Vec<f32> = (0..30 * 6 * 2).map(|i| (i as f32).sin()).collect();
    let lengths: Vec<i32> = (0..30).map(|i| 1 + i % 6).collect();
    let (y, kinds): (Vec<f32>, Vec<i32>) = (0..30).map(|i| (i as f32, i % 3)).unzip();
    let arrays = [
        ("x", &[30, 6, 2][..], Numbers::F32(&x)),
        ("y", &[30], Numbers::F32(&y)),
        ("kind", &[30], Numbers::I32(&kinds)),
        ("lengths", &[30], Numbers::I32(&lengths)),
    ];
    write_arrays(&file, &arrays).unwrap();
    let rest = match classes {
        true => {
            "targets = { kind = 'kind' }\nclasses = true\nnormalize = { x = 'unit' }\n[loss]\nkind = 'cross_entropy'\nweight = 'none'\n"
        }
        false => "targets = { y = 'y' }\nnormalize = 'standard'\n[loss]\nkind = 'regression'\n",
    };
    let data = format!("[data]\nkind = 'samples'\nfile = '{}'\ninputs = {{ x = 'x' }}\nlengths = 'lengths'\n{rest}", file.display());
    stack(layers, &format!("{data}[train]\nbatch = 8\n"))
}

/// Steps that a case is trained for.
const STEPS: u64 = 3;

/// A case: its configuration as a run saves it, and weights in a file, of which none is left as it begins.
struct Case {
    config: Config,
    weights: std::path::PathBuf,
}

impl Case {
    /// A case whose weights are moved at random.
    fn new(folder: &Path, name: &str, config: &Config) -> Case {
        Case::of(folder, name, config, |_, parameters| {
            let begin = initial_weights(parameters, 1);
            moved(&begin, &begin)
        })
    }

    /// A case after some steps of training.
    fn trained(folder: &Path, name: &str, config: &Config) -> Case {
        Case::of(folder, name, config, trained)
    }

    fn of(folder: &Path, name: &str, config: &Config, weights: impl Fn(&Config, &[Parameter]) -> Vec<f32>) -> Case {
        let problem = opened(config);
        let config = Config::parse_saved(&problem.toml, "config.toml").unwrap();
        let problem = Problem::open(&config, Purpose::Predict).unwrap();
        let plan = problem.record_prediction(plain_gpu().target, 1).unwrap().0;
        let flat = weights(&config, plan.parameters());
        let of_buffer = |buffer: &Buffer| {
            let value = |i: usize| if buffer.name.ends_with("deviation") { 1.7 } else { 0.3 } + 0.1 * i as f32;
            let scale = buffer.name.starts_with("normalization");
            let values = if scale { (0..buffer.values.len()).map(value).collect() } else { buffer.values.clone() };
            Buffer { values, ..buffer.clone() }
        };
        let buffers: Vec<Buffer> = problem.buffers().iter().map(of_buffer).collect();
        let weights = folder.join(format!("{name}.weights.safetensors"));
        let data = [("data.file".to_string(), "crc32c:12345678".to_string())].into();
        let origin = Origin { config: problem.toml.clone(), data, ..Origin::default() };
        let best = Best { value: 0.25, step: 7, metrics: vec![("loss".into(), 0.25)] };
        save_weights(&weights, plan.parameters(), &flat, &buffers, &origin, 7, Some(&best)).unwrap();
        Case { config, weights }
    }

    fn weights(&self) -> Weights {
        Weights::open(&self.weights).unwrap()
    }

    fn exported(&self, part: Option<Part>) -> Exported {
        Exported::of(&self.config, &mut self.weights(), part).unwrap()
    }

    /// A folder as a run leaves it, with these weights.
    fn run_folder(&self, folder: &Path, name: &str) -> String {
        let run = folder.join(name);
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("config.toml"), Problem::open(&self.config, Purpose::Predict).unwrap().toml).unwrap();
        std::fs::copy(&self.weights, run.join("model.safetensors")).unwrap();
        run.display().to_string()
    }

    /// The configuration for sequences of another length than those of training.
    fn longer(&self) -> Config {
        let mut longer = self.config.clone();
        let fields = Problem::open(&longer, Purpose::Predict).unwrap().source().fields().0;
        let inputs = fields.iter().filter(|field| !field.answer);
        let shapes: Vec<(&str, Vec<usize>)> = inputs.map(|f| (f.name, [&[9], f.shape.get(1..).unwrap_or_default()].concat())).collect();
        longer.data.take_inputs(&shapes).unwrap();
        longer
    }

    /// Samples as lines of JSON, and the predictions of them by the engine, with the probabilities of classes.
    #[cfg(all(unix, feature = "serve"))]
    fn lines(&self, config: &Config) -> (String, String) {
        let problem = Problem::open(config, Purpose::Predict).unwrap();
        let predictor = Predictor::new(problem, &mut self.weights(), &plain_gpu(), SAMPLES).unwrap();
        let inputs: Vec<(Field, Vec<f32>)> = predictor.fields().into_iter().map(|field| (field.clone(), values(field))).collect();
        let sample = |at: usize| {
            let of = |(field, values): &(Field, Vec<f32>)| {
                let own = values[at * field.len()..][..field.len()].to_vec();
                (field.name.to_string(), nested(&own, &field.shape))
            };
            inputs.iter().map(of).collect::<serde_json::Map<_, _>>()
        };
        let lines = (0..SAMPLES).map(|at| serde_json::Value::from(sample(at)).to_string() + "\n").collect();
        let named: Vec<(&str, &[f32])> = inputs.iter().map(|(field, values)| (field.name, &values[..])).collect();
        let outputs = predictor.predict(SAMPLES, &named).unwrap();
        let each = outputs.chunks(outputs.len() / SAMPLES).enumerate();
        let with_probabilities = predictor.classes().is_some();
        (lines, each.map(|(at, output)| line(&predictor, with_probabilities, at, None, output).to_string() + "\n").collect())
    }

    /// Writes inputs and what the engine makes of them.
    fn write_numbers(&self, file: &Path, config: &Config) {
        let mut weights = self.weights();
        let mut problem = Problem::open(config, Purpose::Predict).unwrap();
        let gpu = plain_gpu();
        problem.use_saved_buffers(weights.buffers(problem.buffers()).unwrap());
        let (plan, io) = problem.record_prediction(gpu.target, SAMPLES).unwrap();
        let prediction = problem.prediction(&plan, &io);
        let fields: Vec<Field> = prediction.fields.iter().map(|(field, _)| field.clone()).collect();
        let inputs: Vec<Vec<f32>> = fields.iter().map(values).collect();
        let mut arrays: Vec<(String, Vec<usize>, Vec<f32>)> = vec![];
        for (field, values) in fields.iter().zip(&inputs) {
            arrays.push((field.name.into(), [&[SAMPLES], &field.shape[..]].concat(), values.clone()));
        }
        let mut want = |name: &str, shape: &[usize], values: Vec<f32>| {
            arrays.push((format!("want.{name}"), [&[SAMPLES], shape].concat(), values));
        };
        if problem.source().decodes() {
            let flat = weights.load(plan.parameters()).unwrap();
            let program = Program::alone(plan, &gpu).unwrap().0;
            program.arena().write_flat(Flat::Parameters, &flat).unwrap();
            for ((field, tensor), values) in prediction.fields.iter().zip(&inputs) {
                let mut scaled = values.clone();
                field.normalization.apply(&mut scaled, field.features());
                let words: Vec<u32> = scaled.iter().map(|v| if field.below.is_some() { *v as u32 } else { v.to_bits() }).collect();
                program.write(*tensor, &words);
            }
            program
                .write(io.feed.state, &[State { rows: SAMPLES as u32, count: SAMPLES as u32, scale: 1.0, drawn: 1.0, ..State::default() }]);
            program.run(program.all()).unwrap();
            let outputs: Vec<f32> = program.read(io.output).unwrap();
            let length = prediction.shape[0];
            // The first two tokens predict nothing.
            let rows = outputs.chunks(3 * length).flat_map(|sample| sample[2 * 3..].chunks(3));
            let (mut joints, stop): (Vec<[f32; 2]>, Vec<f32>) = rows.map(|row| ([row[0], row[1]], row[2])).unzip();
            let Normalization::Scale(scale) = &fields[2].normalization else { panic!("joints without a scale") };
            joints
                .iter_mut()
                .for_each(|joint| (0..2).for_each(|axis| joint[axis] = joint[axis] * scale.deviation[axis] + scale.mean[axis]));
            want("joints", &[length - 2, 2], joints.concat());
            want("stop", &[length - 2], stop);
        } else {
            let answer = prediction.answer.as_ref().map_or("reconstruction".into(), |answer| match prediction.classes {
                Some(_) => format!("{}_logits", answer.name),
                None => answer.name.to_string(),
            });
            let predictor = Predictor::new(problem, &mut weights, &gpu, SAMPLES).unwrap();
            let named: Vec<(&str, &[f32])> = fields.iter().map(|field| field.name).zip(inputs.iter().map(|values| &values[..])).collect();
            let outputs = predictor.predict(SAMPLES, &named).unwrap();
            want(&answer, predictor.shape(), outputs);
        }
        let arrays: Vec<(&str, &[usize], &[f32])> = arrays.iter().map(|(n, s, v)| (n.as_str(), &s[..], &v[..])).collect();
        write(file, &arrays).unwrap();
    }
}

/// The weights after training; what it leaves as it was before, such as a bias that cancels, is moved at random.
fn moved(before: &[f32], after: &[f32]) -> Vec<f32> {
    let mut random = Random::new(1, 2, 3);
    let one = |(before, after): (&f32, &f32)| if before == after { after + 0.05 * random.normal() as f32 } else { *after };
    before.iter().zip(after).map(one).collect()
}

/// Weights of a model after some steps on made-up samples, in their places in the flat weights of these parameters.
fn trained(config: &Config, parameters: &[Parameter]) -> Vec<f32> {
    let mut small = config.clone();
    (small.train.batch, small.train.accumulate) = (4, 1);
    let mut problem = Loaded::made_up(&small, 64).unwrap();
    let session = problem.training(&plain_gpu()).unwrap();
    let of = session.step().unwrap().0.plan.parameters().to_vec();
    let begin = initial_weights(&of, 1);
    session.arena.write_flat(Flat::Parameters, &begin).unwrap();
    for step in 0..STEPS {
        let mut state = State { slot: step as u32, ..State::default() };
        small.optimizer.fill(&mut state, 1e-2);
        let index = session.submit_step(&problem.batches(step).unwrap(), state, step, 1).unwrap();
        session.arena.gpu.wait(index).unwrap();
    }
    let weights = session.arena.read_flat(Flat::Parameters).unwrap();
    assert!(weights.iter().all(|weight| weight.is_finite()));
    let stayed = of.iter().flat_map(|p| p.offset..p.offset + p.len()).filter(|at| begin[*at] == weights[*at]).count();
    let count = of.iter().map(Parameter::len).sum::<usize>();
    assert!(2 * stayed < count, "{stayed} of {count} weights are as they were");
    let weights = moved(&begin, &weights);
    let mut flat = initial_weights(parameters, 1);
    for to in parameters {
        let from = of.iter().find(|from| from.name == to.name).unwrap();
        flat[to.offset..to.offset + to.len()].copy_from_slice(&weights[from.offset..from.offset + from.len()]);
    }
    flat
}

/// Numbers of a shape as nested lists.
#[cfg(all(unix, feature = "serve"))]
fn nested(values: &[f32], shape: &[usize]) -> serde_json::Value {
    match shape {
        [] => values[0].into(),
        [first, rest @ ..] => values.chunks(values.len() / first).map(|part| nested(part, rest)).collect::<Vec<_>>().into(),
    }
}

/// Values of a field of all samples.
fn values(field: &Field) -> Vec<f32> {
    let mut random = Random::new(5, 6, field.len() as u64);
    let least = field.limits.map_or(0.0, |[least, _]| least);
    // Which types there are, only the samples tell; models have a row for each of 17.
    let below = field.below.map(|below| if field.name == "types" { 17.0 } else { below as f32 });
    let one = |_| match (below, field.limits) {
        (Some(below), _) => (least + random.uniform() as f32 * (below - least)).floor(),
        (None, Some([least, most])) => least + random.uniform() as f32 * (most - least),
        (None, None) => random.normal() as f32,
    };
    (0..SAMPLES * field.len()).map(one).collect()
}

/// Cases whose modules are committed: between them they have most operations.
const MODULES: &[&str] =
    &["linkage_vae_conv", "llama_small", "lvm_gru", "lvm_mamba2", "mechanism_phase3", "stack_convolutions", "sunspots"];

/// All cases by name.
fn configs() -> Vec<(&'static str, Config)> {
    let data = |name: &str| match name {
        "gpt_cpu" | "llama_small" | "mamba2_small" => &SMALL_TEXT[..],
        _ if name.starts_with("lvm_") => &SMALL_VECTORS,
        _ => &[],
    };
    let runs = RUNS.iter().map(|(name, sets)| (*name, config(name, &[sets, data(name)].concat())));
    let stacks = STACKS.iter().map(|(name, layers, rest)| (*name, stack(layers, rest)));
    runs.chain(stacks).collect()
}

/// A Python that has ONNX Runtime: `ENGINE_PYTHON`, that of `.ci/run`, or the system's.
fn python() -> String {
    let named = std::env::var("ENGINE_PYTHON").ok();
    let candidates = [named, Some("target/python/bin/python".into()), Some("python3".into())];
    let has = |python: &String| {
        let asked = Command::new(python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let found = candidates.into_iter().flatten().find(has);
    found.unwrap_or_else(|| skip("no Python with numpy, onnx and onnxruntime: install them, or name one that has them in ENGINE_PYTHON"))
}

fn other_programs_and_the_server_give_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("weights")).unwrap();
    let padded = PADDED.iter().map(|(name, layers, kind)| (*name, padded(folder.path(), layers, !kind.is_empty())));
    let mut cases = vec![];
    for (name, config) in configs().into_iter().chain(padded) {
        let case = Case::trained(&path("weights"), name, &config);
        let exported = case.exported(None);
        exported.write_onnx(&path(&format!("{name}.onnx")), false).unwrap();
        exported.write_torch(&path(&format!("{name}.py")), &path(&format!("{name}.safetensors"))).unwrap();
        case.write_numbers(&path(&format!("{name}.npz")), &case.config);
        if exported.signature().contains("length") {
            // Sequences of another length than those of training.
            case.write_numbers(&path(&format!("{name}@9.npz")), &case.longer());
        }
        if DECODING.contains(&name) {
            let decoding = Exported::decoding(&case.config, &mut case.weights()).unwrap();
            decoding.write_onnx(&path(&format!("{name}.decode")), false).unwrap();
            // Torch takes whole sequences.
            assert!(decoding.write_torch(&path("none.py"), &path("none.safetensors")).is_err());
        }
        if name.contains("vae") {
            // Chained, they are the whole.
            case.exported(Some(Part::Encoder)).write_onnx(&path(&format!("{name}.encoder")), false).unwrap();
            case.exported(Some(Part::Decoder)).write_onnx(&path(&format!("{name}.decoder")), false).unwrap();
        }
        if name == "lvm_lstm" {
            exported.write_onnx(&path("lvm_lstm_f16.onnx"), true).unwrap();
            std::fs::copy(path("lvm_lstm.npz"), path("lvm_lstm_f16.npz")).unwrap();
        }
        cases.push((name, case));
    }
    #[cfg(all(unix, feature = "serve"))]
    served(&path("weights"), &cases);
    std::fs::remove_file(path("padded.npz")).unwrap();
    let output = Command::new(python()).args(["kernels-tests/onnx_check.py", &folder.path().display().to_string()]).output().unwrap();
    note!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

/// The server's answers about all cases, which run in it side by side: predictions as the engine has them, of sequences of another length
/// too, and sequences that are continued as `engine generate` continues them, or why they cannot be.
#[cfg(all(unix, feature = "serve"))]
fn served(folder: &Path, cases: &[(&'static str, Case)]) {
    let folders: Vec<String> = cases.iter().map(|(name, case)| case.run_folder(folder, name)).collect();
    let server = crate::serve::Server::within(&folders.iter().map(String::as_str).collect::<Vec<_>>());
    let about: serde_json::Value = serde_json::from_str(&server.get("/v1/runs").1).unwrap();
    for (at, (name, case)) in cases.iter().enumerate() {
        let longer = case.exported(None).signature().contains("length").then(|| case.longer());
        for config in [Some(case.config.clone()), longer].into_iter().flatten() {
            let (lines, want) = case.lines(&config);
            let probable = if want.contains("\"probabilities\"") { "?probabilities=true" } else { "" };
            let path = format!("/v1/runs/{name}/predict{probable}");
            let (status, _, got) = server.ask("POST", &path, &["Content-Type: application/x-ndjson"], lines.as_bytes());
            assert_eq!((status, String::from_utf8(got).unwrap()), (200, want), "{name}");
        }
        let asked = match about["runs"][at]["text"] == true {
            true => serde_json::json!({ "prompt": "ab", "count": 2, "temperature": 0 }),
            false => serde_json::json!({ "prompt": [1, 2], "count": 2 }),
        };
        let (status, got) = server.post(&format!("/v1/runs/{name}/generate"), &asked.to_string());
        if about["runs"][at]["generates"] == true {
            let prompt = asked["prompt"].as_str().unwrap_or("1,2");
            let (code, printed, said) =
                run(&["generate", &folders[at], "--prompt", prompt, "--count", "2", "--temperature", "0", "--json"]);
            assert!(status == 200 && code == 0, "{name}: {status} {got}, {said}");
            let want: serde_json::Value = serde_json::from_str(&printed).unwrap();
            assert!(got["generated"] == want["generated"] && got["text"] == want["texts"][0], "{name}: {got} {want}");
        } else {
            let why = format!("`{name}` continues no sequences: ask it to predict");
            assert!(status == 422 && got["error"]["message"] == why.as_str(), "{name}: {status} {got}");
        }
    }
    let runs = about["runs"].as_array().unwrap().iter();
    let able: Vec<&str> = runs.filter(|run| run["generates"] == true).map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(able, ["gpt_cpu", "llama_small", "mamba2_small", "integer_sequences", "integer_sequences_d64"]);
    assert_eq!(server.end().0, Some(0));
}

/// A folder as a run leaves it, with weights that are moved at random.
fn run_folder(folder: &Path, name: &str, config: &Config) -> String {
    let case = Case::new(folder, name, config);
    let run = case.run_folder(folder, name);
    std::fs::remove_file(case.weights).unwrap();
    run
}

fn files_have_names_shapes_and_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let lstm = run_folder(folder.path(), "lvm_lstm", &config("lvm_lstm", &[HIDDEN, &SMALL_VECTORS].concat()));
    for (file, flags) in [("m.onnx", &[][..]), ("half.onnx", &["--f16"]), ("m.safetensors", &[]), ("module.py", &[])] {
        let (code, printed, text) = run(&[&["export", &lstm, &path(file)], flags].concat());
        assert_eq!(code, 0, "{text}");
        assert!(file == "m.safetensors" || printed.contains("context (batch, length, 8) → target (batch, 8)"), "{printed}");
    }
    let model = OnnxFile::open(Path::new(&path("m.onnx"))).unwrap();
    let described: Vec<(&str, String)> = model.inputs.iter().chain(&model.outputs).map(|t| (t.name.as_str(), t.shape.join(" "))).collect();
    assert_eq!(described, [("context", "batch length 8".to_string()), ("target", "batch 8".to_string())]);
    assert_eq!(model.operations.iter().filter(|kind| *kind == "LSTM").count(), 2, "{:?}", model.operations);
    assert_eq!(model.opset, 17);
    let bytes = |file: &str| OnnxFile::open(Path::new(&path(file))).unwrap().weights.iter().map(|w| w.bytes).sum::<usize>();
    assert!(bytes("half.onnx") * 10 < bytes("m.onnx") * 6);
    // Both kinds of files say the same, and inspect shows it.
    let say = |file: &str| {
        let (code, json, text) = run(&["inspect", "--json", &path(file)]);
        assert_eq!(code, 0, "{text}");
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["about"].clone()
    };
    let about = say("m.onnx");
    assert_eq!(about["kind"], "vector_lstm");
    assert_eq!(about["step"], "7");
    assert_eq!(about["metrics"]["loss"], 0.25);
    assert_eq!(about["data"]["data.file"], "crc32c:12345678");
    assert_eq!(about["engine_version"], env!("CARGO_PKG_VERSION"));
    assert!(about["config"].as_str().unwrap().contains("kind = \"vector_lstm\""));
    assert_eq!(say("m.safetensors"), about);
    let (code, shown, _) = run(&["inspect", &path("half.onnx")]);
    assert!(code == 0 && shown.contains("LSTM") && shown.contains("F16") && shown.contains("metrics: {\"loss\":0.25}"), "{shown}");
    // What the logits of a classifier are of.
    let table = "a,kind\n1,cat\n2,dog\n3,cat\n4,dog\n5,cat\n6,dog\n7,cat\n8,dog\n9,cat\n0,dog\n";
    std::fs::write(path("animals.csv"), table).unwrap();
    let data = format!(
        "[data]\nkind = 'samples'\nfile = '{}'\ninputs = {{ x = 'a' }}\ntargets = {{ y = 'kind' }}\nclasses = true\n",
        path("animals.csv")
    );
    let loss = "[loss]\nkind = 'cross_entropy'\nweight = 'none'\n[train]\nbatch = 2\n";
    let animals = run_folder(folder.path(), "animals", &stack("{kind='linear'}", &format!("{data}{loss}")));
    assert_eq!(run(&["export", &animals, &path("animals.onnx")]).0, 0);
    assert_eq!(OnnxFile::open(Path::new(&path("animals.onnx"))).unwrap().outputs[0].name, "y_logits");
    assert_eq!(say("animals.onnx")["classes"], serde_json::json!(["cat", "dog"]));
    // A file that is none, and one that is cut off.
    let whole = std::fs::read(path("m.onnx")).unwrap();
    for bytes in [&b"no model"[..], &whole[..whole.len() - 7], &[]] {
        std::fs::write(path("bad.onnx"), bytes).unwrap();
        let (code, _, text) = run(&["inspect", &path("bad.onnx")]);
        assert!(code == 65 && text.contains("no usable ONNX file"), "{code} {text}");
    }
}

/// Which models have past keys and values, by the command.
fn past_keys_and_values_are_those_of_causal_attention() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let all = configs();
    let of = |name: &str| run_folder(folder.path(), name, &all.iter().find(|(known, _)| *known == name).unwrap().1);
    let (code, printed, text) = run(&["export", &of("integer_sequences_d64"), &path("m.onnx"), "--decode"]);
    assert_eq!(code, 0, "{text}");
    let past =
        "tokens (batch, length), past_key_values.0.key (batch, 4, past_length, 6), past_key_values.0.value (batch, 4, past_length, 6)";
    let present = "targets_logits (batch, length, 256), present.0.key (batch, 4, past_length + length, 6)";
    assert!(printed.contains(past) && printed.contains(present), "{printed}");
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    for (name, says) in [
        ("lvm_transformer", "this run continues no sequences"),
        ("mechanism_phase1", "a mechanism has its few joints at once"),
        ("stack_tokens", "by causal self-attention alone"),
    ] {
        let (code, _, text) = run(&["export", &of(name), &path("no.onnx"), "--decode"]);
        assert!(code == 2 && text.contains(says), "{name}: {code} {text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before + 3, "but for the runs");
}

fn modules_have_the_text_that_torch_has_run() {
    let folder = tempfile::tempdir().unwrap();
    let committed = Path::new("kernels-tests/golden/modules");
    for (name, config) in configs().into_iter().filter(|(name, _)| MODULES.contains(name)) {
        let text = Case::new(folder.path(), name, &config).exported(None).torch(&format!("{name}.safetensors"));
        let file = committed.join(format!("{name}.py"));
        if std::env::var_os("ENGINE_DRAW").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let want = std::fs::read_to_string(&file).unwrap().replace("\r\n", "\n");
        assert_eq!(text, want, "{name}: run the tests with torch, and then with ENGINE_DRAW=1");
    }
}

fn a_name_says_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mlp = run_folder(folder.path(), "lvm_mlp", &config("lvm_mlp", &[HIDDEN, &SMALL_VECTORS].concat()));
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    for (file, flags, says) in [
        ("m.pt", &[][..], "PyTorch reads .safetensors"),
        ("m.PTH", &[], "PyTorch reads .safetensors"),
        ("m.bin", &[], "PyTorch reads .safetensors"),
        ("m.h5", &[], ".h5 files are not written"),
        ("m.gguf", &[], ".onnx the model for ONNX"),
        ("m", &[], "a name without an ending"),
        ("m.safetensors", &["--f16"], "--f16 is for .onnx files"),
        ("m.py", &["--f16"], "--f16 is for .onnx files"),
        ("m.py", &["--decode"], "--decode is for .onnx files"),
        ("m.safetensors", &["--part", "encoder"], "--part is for .onnx and .py files"),
        ("m.onnx", &["--part", "decoder"], "--part is for an autoencoder"),
    ] {
        let (code, _, text) = run(&[&["export", &mlp, &path(file)], flags].concat());
        assert!(code == 2 && text.contains(says), "{file} {flags:?}: {code} {text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before, "{file}");
    }
    // Neither of the two files of a module lies in the run's own folder.
    let inside = Path::new(&mlp).join("model.py").display().to_string();
    let (code, _, text) = run(&["export", &mlp, &inside]);
    assert!(code == 73 && text.contains("the run's own folder"), "{code} {text}");
    // Nor is anything replaced in the folder of another run, nor a module or weights beside it.
    let other = folder.path().join("other");
    std::fs::create_dir_all(other.join("checkpoints")).unwrap();
    for name in ["config.toml", "model.safetensors", "checkpoints/best.safetensors"] {
        std::fs::write(other.join(name), "kept").unwrap();
    }
    std::fs::write(path("mine.py"), "kept").unwrap();
    std::fs::write(path("ours.safetensors"), "kept").unwrap();
    for (file, says) in [
        ("other/model.safetensors", "is a file of the run in"),
        ("other/checkpoints/best.safetensors", "is a file of the run in"),
        ("other/model.py", "model.safetensors is there already"),
        ("mine.py", "is there already"),
        ("ours.py", "ours.safetensors is there already"),
    ] {
        let (code, _, text) = run(&["export", &mlp, &path(file)]);
        assert!(code == 73 && text.contains(says), "{file}: {code} {text}");
    }
    for file in ["other/model.safetensors", "other/checkpoints/best.safetensors", "mine.py", "ours.safetensors"] {
        assert_eq!(std::fs::read_to_string(path(file)).unwrap(), "kept", "{file}");
    }
    assert!(!Path::new(&path("ours.py")).exists() && !Path::new(&path("mine.safetensors")).exists());
}
