//! `engine generate`: what a trained run predicts, step after step.

use std::any::Any;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::args::{DeviceArg, JsonArg, RunFolderArgs, expect_apart, trained, weights_of};
use crate::datasets::linkages;
use crate::datasets::npz::Npz;
use crate::datasets::tokenizer::Tokenizer;
use crate::draw;
use crate::error::{Error, Result, shortened};
use crate::files;
use crate::generate::{Choice, Decoder, Strategy, TextStream};
use crate::host::Host;
use crate::metrics::rate;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{DataKind, MechanismScorecard, MechanismsConfig, Purpose, TextConfig, until_stop};

/// Continue a text or a sequence, or make mechanisms from latents, with a trained run
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    weights: RunFolderArgs,
    /// Text to continue, or - for what comes from standard input; of a run on numbers, these, as in 1,2,4,8. Several continue side by side
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Latents and types of mechanisms [default: those of the run]
    #[arg(long, value_name = "FILE.npz", conflicts_with = "prompt")]
    data: Option<PathBuf>,
    /// Numbers of samples in the file, as in 3,14 [default: the first six, or six that validate]
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with = "prompt")]
    sample: Vec<usize>,
    /// Draw the predicted mechanisms over the true ones
    #[arg(long, value_name = "FILE.svg", conflicts_with = "prompt")]
    svg: Option<PathBuf>,
    /// How many numbers or tokens to add [default: 5 numbers, 200 tokens of text]
    #[arg(long, visible_alias = "tokens", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// Beam search of this width
    #[arg(long, value_name = "WIDTH", conflicts_with = "temperature", value_parser = clap::value_parser!(u32).range(1..=256))]
    beam: Option<u32>,
    /// Draw from the softmax at this temperature; 0 takes the most probable [default: 0.8 for text, else 0]
    #[arg(long)]
    temperature: Option<f64>,
    /// Draw from so many of the most probable alone
    #[arg(long, value_name = "K", conflicts_with_all = ["beam", "data"], value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw from as few of the most probable as have this probability together
    #[arg(long, value_name = "P", conflicts_with_all = ["beam", "data"])]
    top_p: Option<f64>,
    /// End a text before this one
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["beam", "data"])]
    stop: Option<String>,
    /// How many texts to make side by side
    #[arg(long, value_name = "N", conflicts_with_all = ["beam", "data"], value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Option<u32>,
    /// Compute every position anew for each number, instead of keeping what they leave
    #[arg(long, conflicts_with = "data")]
    naive: bool,
    /// Seed of what is drawn [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: GenerateArgs) -> Result<()> {
    let config = Config::of_run(args.weights.folder()?)?;
    if (config.data.kind() as &dyn Any).is::<MechanismsConfig>() {
        let drawn = args.temperature.is_some() || args.top_k.is_some() || args.top_p.is_some() || args.seed.is_some();
        let of_text = args.stop.is_some() || args.batch.is_some();
        if !args.prompt.is_empty() || args.count.is_some() || args.beam.is_some() || drawn || of_text || args.naive {
            return Err(Error::Config(
                "this run makes mechanisms, which takes --data, --sample and --svg and none of the options for numbers and texts".into(),
            ));
        }
        return mechanisms(host, config, &args);
    }
    if args.data.is_some() || !args.sample.is_empty() || args.svg.is_some() {
        return Err(Error::Config("--data, --sample and --svg are for runs of data.kind = \"mechanisms\"".into()));
    }
    let mut weights = weights_of(host, &args.weights)?;
    let problem = Problem::open(&config, Purpose::Generate)?;
    let text = (config.data.kind() as &dyn Any).downcast_ref::<TextConfig>();
    let tokenizer = match text {
        Some(text) => text.trained_tokenizer(&weights.buffers(problem.buffers())?)?,
        None => None,
    };
    let strategy = strategy(&args, tokenizer.is_some())?;
    if tokenizer.is_none() && (args.stop.is_some() || args.batch.is_some()) {
        return Err(Error::Config("--stop and --batch are for runs on text whose tokenizer is known".into()));
    }
    let gpu = Arc::new(host.open(args.device.device.as_deref())?);
    if args.beam.is_some() && args.prompt.len() > 1 {
        return Err(Error::Config("--beam searches on from one --prompt".into()));
    }
    let samples = args.prompt.len().max(1) * args.batch.unwrap_or(1) as usize;
    let batch = if let Strategy::Beam(width) = strategy { width } else { samples };
    let mut decoder = Decoder::new(&problem, &gpu, batch)?;
    decoder.load(&weights.load(decoder.plan().parameters())?)?;
    decoder.naive = args.naive;
    match tokenizer {
        Some(tokenizer) => of_text(host, &mut decoder, &tokenizer, strategy, &args),
        None => of_numbers(host, &mut decoder, strategy, &args),
    }
}

/// The strategy that the options name.
fn strategy(args: &GenerateArgs, of_text: bool) -> Result<Strategy> {
    let [beam, top_k] = [args.beam, args.top_k].map(|number| number.map(|number| number as usize));
    Choice { beam, temperature: args.temperature, top_k, top_p: args.top_p, seed: args.seed }.strategy(of_text)
}

/// The numbers that a prompt names.
fn numbers(text: &str) -> Result<Vec<u32>> {
    let wrong = |_| Error::Config(format!("--prompt {text}: this run continues numbers, as in --prompt 1,2,4,8"));
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.trim().parse::<u32>().map_err(wrong)).collect()
}

/// Continues numbers.
fn of_numbers(host: &Host, decoder: &mut Decoder, strategy: Strategy, args: &GenerateArgs) -> Result<()> {
    let mut prompts: Vec<Vec<u32>> = args.prompt.iter().map(|text| numbers(text)).collect::<Result<_>>()?;
    if prompts.is_empty() {
        prompts.push(vec![]);
    }
    let count = args.count.unwrap_or(5) as usize;
    let mut made = vec![vec![]; prompts.len()];
    match strategy {
        Strategy::Beam(_) => made[0] = decoder.generate(&prompts[0], count, strategy)?,
        _ => decoder.stream(&prompts, count, strategy, |newest| {
            made.iter_mut().zip(newest).for_each(|(made, newest)| made.extend(*newest));
            Ok(true)
        })?,
    }
    // Of the last number that is added the model sees all before it.
    let seen = prompts.iter().map(Vec::len).max().unwrap_or(0) + count - 1;
    match (decoder.limit(), decoder.context()) {
        (Some(limit), _) if seen > limit => {
            host.note(&format!("the model sees {limit} numbers: each further one is predicted from the last {limit} alone"));
        }
        (None, context) if seen > context => {
            host.note(&format!("the model sees all numbers, and was trained on sequences of {context}: longer ones are new to it"));
        }
        _ => {}
    }
    if args.json.json {
        return several(host, prompts.iter().zip(&made).map(|(prompt, made)| json!({ "prompt": prompt, "generated": made })).collect());
    }
    let list = |v: &[u32]| v.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    prompts.iter().zip(&made).try_for_each(|(prompt, made)| host.print(&format!("{} → {}", list(prompt), list(made))))
}

/// Prints what belongs to each prompt as JSON: one alone as it is, several as a list.
fn several(host: &Host, mut each: Vec<Value>) -> Result<()> {
    match each.pop() {
        Some(one) if each.is_empty() => host.print_json(&one),
        last => host.print_json(&each.into_iter().chain(last).collect::<Vec<_>>()),
    }
}

/// The texts to continue, and their tokens.
fn prompts(tokenizer: &Tokenizer, args: &GenerateArgs) -> Result<Vec<(String, Vec<u32>)>> {
    let given = |text: &String| match text.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| Error::Config(format!("--prompt -: standard input: {e}"))),
        text => Ok(text.into()),
    };
    let texts: Vec<String> = match &args.prompt[..] {
        [] => vec!["\n".into()],
        texts => texts.iter().map(given).collect::<Result<_>>()?,
    };
    let encoded = |text: String| {
        let shown = shortened(&format!("{text:?}"));
        match tokenizer.encode(&text).map_err(|e| Error::Config(format!("--prompt {shown}: {e}")))? {
            tokens if tokens.is_empty() => Err(Error::Config("--prompt is empty: give the text at least one token to begin with".into())),
            tokens => Ok((text, tokens)),
        }
    };
    texts.into_iter().map(encoded).collect()
}

/// When tokens came.
#[derive(Default)]
struct Pace {
    /// Time until the first tokens, which their prompt came before.
    first: Option<Duration>,
    /// Tokens that came after the first.
    after: usize,
}

impl Pace {
    /// Takes in that so many tokens are new, `since` the prompts were given.
    fn count(&mut self, new: usize, since: Instant) {
        match self.first {
            Some(_) => self.after += new,
            None if new > 0 => self.first = Some(since.elapsed()),
            None => {}
        }
    }

    /// A sentence on it, when all tokens have come; none if that was at once.
    fn told(&self, all: Duration) -> Option<String> {
        let first = self.first.filter(|_| self.after > 0)?.as_secs_f64();
        let rate = rate(self.after as f64 / (all.as_secs_f64() - first).max(1e-9));
        Some(format!("first token after {first:.2} s, then {rate} tokens/s"))
    }
}

/// Continues texts: one alone as it comes, several when they are made.
fn of_text(host: &Host, decoder: &mut Decoder, tokenizer: &Tokenizer, strategy: Strategy, args: &GenerateArgs) -> Result<()> {
    let prompts = prompts(tokenizer, args)?;
    let longest = prompts.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(0);
    let count = args.count.unwrap_or(200) as usize;
    if let Some(limit) = decoder.limit().filter(|limit| longest + count - 1 > *limit) {
        // Of a full context half stays, so that the cache is filled anew once for so many tokens.
        decoder.kept = limit.div_ceil(2);
        host.note(&format!("the model sees {limit} tokens: whenever they are full it goes on from the last {}", decoder.kept));
    }
    let batch = args.batch.unwrap_or(1) as usize;
    let alone = batch * prompts.len() == 1 && args.beam.is_none() && !args.json.json;
    let mut made: Vec<(TextStream<'_>, String)> =
        (0..batch * prompts.len()).map(|_| (TextStream::new(tokenizer, args.stop.as_deref()), String::new())).collect();
    if alone {
        host.stream(&prompts[0].0)?;
    }
    let (since, mut pace) = (Instant::now(), Pace::default());
    let mut take = |newest: &[Option<u32>]| {
        pace.count(newest.iter().flatten().count(), since);
        for ((stream, text), token) in made.iter_mut().zip(newest) {
            let Some(token) = token else { continue };
            let new = stream.push(*token);
            if alone {
                host.stream(&new)?;
            }
            text.push_str(&new);
        }
        Ok(!host.closed() && made.iter().any(|(stream, _)| !stream.ended))
    };
    match strategy {
        Strategy::Beam(_) => {
            for token in decoder.generate(&prompts[0].1, count, strategy)? {
                take(&[Some(token)])?;
            }
        }
        _ => {
            let each: Vec<Vec<u32>> = prompts.iter().flat_map(|(_, tokens)| std::iter::repeat_n(tokens.clone(), batch)).collect();
            decoder.stream(&each, count, strategy, take)?;
        }
    }
    let told = pace.told(since.elapsed()).filter(|_| args.beam.is_none());
    for (stream, text) in &mut made {
        let rest = stream.finish();
        if alone {
            host.stream(&rest)?;
        }
        text.push_str(&rest);
    }
    let texts: Vec<&String> = made.iter().map(|(_, text)| text).collect();
    let of_prompt = prompts.iter().map(|(prompt, _)| prompt).zip(texts.chunks(batch));
    match (args.json.json, alone, &texts[..]) {
        (true, ..) => several(host, of_prompt.map(|(prompt, texts)| json!({ "prompt": prompt, "texts": texts })).collect()),
        (_, true, _) => host.stream("\n"),
        (.., [text]) => host.print(&format!("{}{text}", prompts[0].0)),
        _ => {
            let each = of_prompt.flat_map(|(prompt, texts)| texts.iter().map(move |text| (prompt, text)));
            each.zip(1..).try_for_each(|((prompt, text), number)| host.print(&format!("--- {number}\n{prompt}{text}")))
        }
    }?;
    told.iter().for_each(|told| host.note(told));
    Ok(())
}

/// Generates mechanisms from latents and types: joints until the stop bit, beside the true ones if the file has them.
fn mechanisms(host: &Host, mut config: Config, args: &GenerateArgs) -> Result<()> {
    const SHOWN: usize = 6;
    if let Some(file) = &args.data {
        config.data.on_file(file)?;
    }
    let file = config.data.files().first().map(|(_, file)| file.to_path_buf()).filter(|file| file.exists());
    let truth = file.map(|file| Npz::open(&file)).transpose()?.is_some_and(|npz| npz.names().iter().any(|n| n == "joints"));
    config.train.batch = args.sample.len().clamp(1, 64);
    if let Some(path) = &args.svg {
        let read: Vec<&Path> = config.data.files().into_iter().map(|(_, file)| file).collect();
        expect_apart(path, &read, args.weights.folder()?)?;
    }
    // The run's own file is split, as training saw it.
    let purpose = match (&args.data, truth) {
        (_, false) => Purpose::Generate,
        (Some(_), true) => Purpose::Test,
        (None, true) => Purpose::Train,
    };
    let (problem, session) =
        trained(host, weights_of(host, &args.weights)?, Problem::open(&config, purpose)?, args.device.device.as_deref())?;
    let scorecard: Box<dyn Any> = problem.scorecard();
    let none = || Error::Config("this run makes no mechanisms".into());
    let scorecard = scorecard.downcast_ref::<MechanismScorecard>().ok_or_else(none)?;
    let data = scorecard.data();
    let samples = data.counts.len();
    if let Some(beyond) = args.sample.iter().find(|n| **n >= samples) {
        return Err(Error::Config(format!("--sample {beyond}: the file has {samples} samples, numbered from 0")));
    }
    let numbers = match (&args.sample[..], &args.data) {
        ([], None) => scorecard.validation().iter().copied().take(SHOWN).collect(),
        ([], Some(_)) => (0..samples.min(SHOWN)).collect(),
        (given, _) => given.to_vec(),
    };
    let known = |kind: u32| linkages::KINDS.get(kind as usize).filter(|_| data.linkages);
    let name = |kind: u32| known(kind).map_or(format!("type {kind}"), |k| k.name.to_string());
    let mut rows: Vec<Made> = Vec::new();
    for (i, joints) in numbers.iter().zip(scorecard.generate(&session, &numbers)?) {
        let stop = until_stop(joints.iter().map(|(_, stop)| *stop));
        let predicted: Vec<[f64; 2]> = joints[..stop].iter().map(|(p, _)| *p).collect();
        let truth = data.joints_of(*i);
        let distances: Vec<f64> = truth.iter().zip(&predicted).map(|(t, p)| (p[0] - t[0]).hypot(p[1] - t[1])).collect();
        let error = (!distances.is_empty()).then(|| distances.iter().sum::<f64>() / distances.len() as f64);
        rows.push((*i, data.types[*i], predicted, truth, error));
    }
    if let Some(path) = &args.svg {
        let shape = |kind: u32, joints, predicted| draw::Drawing { kind: known(kind), joints, predicted };
        let cells: Vec<draw::Cell<'_>> = rows
            .iter()
            .map(|(i, kind, predicted, truth, error)| draw::Cell {
                caption: format!("{i}: {}{}", name(*kind).replace('_', " "), error.map_or(String::new(), |e| format!(", {e:.2} mm"))),
                drawings: vec![shape(*kind, &truth[..], false), shape(*kind, &predicted[..], true)],
            })
            .collect();
        files::write(path, draw::picture(&cells, 3).as_bytes())?;
    }
    if args.json.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(i, kind, predicted, truth, error)| {
                json!({ "sample": i, "type": kind, "name": name(*kind), "joints": predicted, "true_joints": truth, "error_mm": error })
            })
            .collect();
        return host.print_json(&list);
    }
    let mut out = rows.iter().map(|row| described(row, &name(row.1))).collect::<String>();
    if let Some(path) = &args.svg {
        let _ = write!(out, "\npredicted (dashed) over true linkages, and the curves that both trace, are in {}", path.display());
    }
    host.print(&out)
}

/// A generated mechanism: number and type of its sample, predicted and true joints, and their mean distance in mm.
type Made = (usize, u32, Vec<[f64; 2]>, Vec<[f64; 2]>, Option<f64>);

/// Describes a sample with its joints, one line each.
fn described(row: &Made, name: &str) -> String {
    let (i, _, predicted, truth, error) = row;
    let compared = error.map_or(String::new(), |e| format!(", {} in truth; {e:.2} mm apart", truth.len()));
    let mut out = format!("sample {i}, {name}: {} joints{compared}\n", predicted.len());
    for (j, p) in predicted.iter().enumerate() {
        let _ = write!(out, "  J{}  ({:>7.2}, {:>7.2})", j + 1, p[0], p[1]);
        if let Some(t) = truth.get(j) {
            let _ = write!(out, "   true ({:>7.2}, {:>7.2})", t[0], t[1]);
        }
        out.push('\n');
    }
    out
}
