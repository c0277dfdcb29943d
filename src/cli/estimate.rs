//! `engine estimate`: parameters, memory and time of runs.

use std::any::Any;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, KeyValue, parse_bytes};
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::generate;
use crate::gpu::{CARD, LAUNCH, Role, Target, VIDEO_MEMORY};
use crate::host::Host;
use crate::metrics::bytes;
use crate::models::SequenceTransformerConfig;
use crate::plan::{Cost, FixedPlan, Memory, Traffic, counted};
use crate::problem::Problem;
use crate::ranks::Ranks;
use crate::registry::Config;
use crate::train::{chosen, fit};

/// Parameters, memory and least time of a step of runs: on an RX 6600, or on a device of this machine
#[derive(Debug, Args)]
pub(super) struct EstimateArgs {
    /// Run files; several give one line each
    #[arg(value_name = "RUN.toml", required = true)]
    runs: Vec<PathBuf>,
    /// Override a key, as in --set data.dim=768 (repeatable)
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true)]
    set: Vec<String>,
    /// Memory budget, as in 8GiB [default: 8GiB, or what the card of --device has free]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<u64>,
    /// Choose micro-batch, recomputation and precision so that the runs fit the budget, as `engine train --fit` does
    #[arg(long)]
    fit: bool,
    /// On each of so many processes, as `mpirun -n RANKS engine train` starts them
    #[arg(long, value_name = "RANKS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    ranks: u16,
    /// List every tensor
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// Capacity of the last-level cache in bytes.
const INFINITY_CACHE: u64 = CARD.infinity.1;

pub(super) fn run(host: &Host, args: EstimateArgs) -> Result<()> {
    let EstimateArgs { runs, set, budget, fit, ranks, all, device, json } = args;
    let on = On { ranks: Ranks { count: ranks.into(), ..Ranks::default() }, fit, ..On::new(host, device.device.as_deref(), budget)? };
    match &runs[..] {
        [run] => estimate(host, (run, &set), &on.configured(run, &set)?, &on, all, json.json),
        _ => estimates(host, &runs, &set, &on, json.json),
    }
}

/// Device for which memory is estimated, and whether runs are made to fit it.
struct On {
    device: String,
    target: Target,
    budget: u64,
    ranks: Ranks,
    fit: bool,
}

impl On {
    /// A device of this machine by number or name; without one, an RX 6600, for which no device is opened.
    fn new(host: &Host, device: Option<&str>, budget: Option<u64>) -> Result<On> {
        let Some(wanted) = device else {
            let device = "an RX 6600; --device takes one of this machine".into();
            return Ok(On {
                device,
                target: Target::default(),
                budget: budget.unwrap_or(VIDEO_MEMORY),
                ranks: Ranks::default(),
                fit: false,
            });
        };
        let gpu = host.open(Some(wanted))?;
        let budget = budget.unwrap_or_else(|| gpu.budget());
        Ok(On { device: gpu.describe(), target: gpu.target, budget, ranks: Ranks::default(), fit: false })
    }

    /// Configuration of a run; with `fit`, in the form that fits the budget.
    fn configured(&self, run: &Path, set: &[String]) -> Result<Config> {
        let config = Config::load(run, set)?;
        if self.fit { fit(&config, self.target, self.budget, self.ranks) } else { Ok(config) }
    }

    /// What was chosen to fit the budget, if that was asked for.
    fn chosen(&self, config: &Config) -> Option<String> {
        self.fit.then(|| chosen(&config.train))
    }
}

/// Prints estimates of several runs, one line each.
fn estimates(host: &Host, runs: &[PathBuf], set: &[String], on: &On, as_json: bool) -> Result<()> {
    let (target, budget) = (on.target, on.budget);
    let width = runs.iter().map(|r| r.display().to_string().chars().count()).max().unwrap_or(0);
    let mut out =
        format!("{:width$}{:>12}{:>8}{:>12}  {:<6}{:>14}{:>10}\n", "run", "parameters", "batch", "memory", "fits", "largest batch", "step");
    let (mut list, mut over) = (Vec::new(), None);
    for run in runs {
        let config = on.configured(run, set)?;
        let mut problem = Problem::open_for(&config, on.ranks)?;
        let memory = problem.place(target, budget)?.memory;
        let parameters = problem.record_evaluation(target)?.0.parameter_count();
        let total = memory.report.total_bytes;
        let fits = total <= budget && memory.buffers.iter().all(|b| b.bytes <= target.max_binding);
        let largest = problem.largest_batch(target, budget).map(|part| part * on.ranks.count);
        let seconds = problem.cost(&CARD)?.seconds;
        over = over.or_else(|| (!fits).then(|| does_not_fit(&run.display().to_string(), &memory, on)));
        let (yes, most) = (if fits { "yes" } else { "no" }, largest.map_or("none".to_string(), |b| b.to_string()));
        let (name, batch) = (run.display().to_string(), problem.settings.train.batch);
        let _ = writeln!(out, "{name:width$}{parameters:>12}{batch:>8}{:>12}  {yes:<6}{most:>14}{:>7.1} ms", bytes(total), 1e3 * seconds);
        let chosen = on.chosen(&config);
        out += &chosen.as_ref().map_or(String::new(), |chosen| format!("  fit: {chosen}\n"));
        list.push(json!({ "run": run, "fit": chosen, "parameters": parameters, "total_bytes": total, "fits": fits, "largest_batch": largest, "roofline_seconds": seconds }));
    }
    if as_json {
        host.print_json(&list)?;
    } else {
        host.print(&format!("{out}\non {}; budget {}; a step takes an {} at least so long", on.device, bytes(budget), CARD.name))?;
    }
    over.map_or(Ok(()), Err)
}

/// Predicted seconds of a step of one rank, without the exchange, by the compiled kernels; none if the feature or Mesa's driver is missing.
fn predicted(host: &Host, (run, set): (&Path, &[String]), train: &TrainConfig, ranks: Ranks) -> Option<f64> {
    #[cfg(feature = "isa")]
    {
        let word = |value: serde_json::Result<serde_json::Value>| value.ok()?.as_str().map(str::to_string);
        let fitted = [
            format!("train.batch={}", train.batch),
            format!("train.accumulate={}", train.accumulate / ranks.count),
            format!("train.recompute={}", word(serde_json::to_value(train.recompute))?),
            format!("train.precision={}", word(serde_json::to_value(train.precision))?),
        ];
        super::isa::predicted(&host.program()?, run, &[set, &fitted].concat())
    }
    #[cfg(not(feature = "isa"))]
    {
        let _ = (host, run, set, train, ranks);
        None
    }
}

/// Values that are known of a run before it starts.
struct Estimate<'a> {
    config: &'a Config,
    on: &'a On,
    problem: Problem,
    memory: Memory,
    plan: FixedPlan,
    /// Bytes that every rank sends, and as many that it receives, in a step.
    exchanged: u64,
    largest: Option<usize>,
    /// Additional bytes for decoding, and a rule of thumb for the memory of a transformer.
    decode: Option<(u64, [u64; 3])>,
    /// Lower bound of the time of a step, with its bytes, and the prediction by the compiled kernels.
    cost: Cost,
    predicted: Option<f64>,
}

fn estimate(host: &Host, of: (&Path, &[String]), config: &Config, on: &On, all: bool, json: bool) -> Result<()> {
    let mut problem = Problem::open_for(config, on.ranks)?;
    let memory = problem.place(on.target, on.budget)?.memory;
    let (plan, _) = problem.record_training(on.target)?;
    let decode = match (config.model.kind() as &dyn Any).downcast_ref::<SequenceTransformerConfig>() {
        Some(m) => {
            let more = generate::memory(&problem, on.target, 1)?.report.total_bytes;
            Some((more, rule_of_thumb(m, sizes(&problem)?, problem.settings.train.batch as u64)))
        }
        None => None,
    };
    let estimate = Estimate {
        exchanged: exchanged(&memory, on.ranks),
        largest: problem.largest_batch(on.target, on.budget).map(|part| part * on.ranks.count),
        cost: problem.cost(&CARD)?,
        predicted: predicted(host, of, &problem.settings.train, on.ranks),
        config,
        on,
        problem,
        memory,
        plan,
        decode,
    };
    if json { host.print_json(&estimate.json()) } else { host.print(&estimate.text(all)) }?;
    match estimate.fits() {
        true => Ok(()),
        false => Err(does_not_fit(&of.0.display().to_string(), &estimate.memory, on)),
    }
}

/// The error with which an estimate ends if a run does not fit.
fn does_not_fit(run: &str, memory: &Memory, on: &On) -> Error {
    let (needed, budget, limit) = (memory.report.total_bytes, on.budget, on.target.max_binding);
    // Of weights, gradients and moments no micro-batch makes less.
    let fixed = [Role::Parameters, Role::Gradients, Role::Optimizer];
    let largest = memory.buffers.iter().filter(|b| fixed.contains(&b.role)).max_by_key(|b| b.bytes);
    let lasting: u64 = memory.buffers.iter().filter(|b| fixed.contains(&b.role)).map(|b| b.bytes).sum();
    let why = match largest {
        Some(buffer) if buffer.bytes > limit => format!(
            "its {} need {} in one buffer, and a device binds {} at most. Make the model smaller",
            buffer.name,
            bytes(buffer.bytes),
            bytes(limit)
        ),
        _ if lasting > budget => format!(
            "weights, gradients and the optimiser's moments alone need {}, the budget is {}. Make the model smaller, or raise --budget",
            bytes(lasting),
            bytes(budget)
        ),
        _ => format!("it needs {}, the budget is {}. --fit looks for a form of it that fits", bytes(needed), bytes(budget)),
    };
    Error::OverBudget { needed, budget, message: format!("{run} does not fit: {why}") }
}

fn share(bytes: u64) -> String {
    format!("{:.1} % of the 32 MiB Infinity Cache", 100.0 * bytes as f64 / INFINITY_CACHE as f64)
}

impl Estimate<'_> {
    /// True if the run fits the budget and every buffer fits one binding.
    fn fits(&self) -> bool {
        self.memory.report.total_bytes <= self.on.budget && self.memory.buffers.iter().all(|b| b.bytes <= self.on.target.max_binding)
    }

    fn json(&self) -> serde_json::Value {
        let Estimate { config, on, decode, .. } = self;
        let report = &self.memory.report;
        json!({
            "device": on.device,
            "batch": self.problem.settings.train.batch,
            "accumulate": config.train.accumulate,
            "fit": on.chosen(config),
            "ranks": on.ranks.count,
            "exchanged_bytes": self.exchanged,
            "recompute": config.train.recompute,
            "precision": config.train.precision,
            "parameters": self.plan.parameter_count(),
            "frozen": self.plan.frozen_count(),
            "total_bytes": report.total_bytes,
            "bytes_by_role": report.bytes_by_role,
            "budget_bytes": on.budget,
            "fits": self.fits(),
            "largest_batch": self.largest,
            "peak_live_bytes": report.peak_live_bytes,
            "peak_at": report.peak_at,
            "unshared_activation_bytes": report.unshared_activation_bytes,
            "working_set_bytes": report.working_set_bytes,
            "working_set_at": report.working_set_at,
            "traffic": self.cost.traffic,
            "memory_by_tensor": self.dearest().map(|(name, bytes)| json!({ "tensor": name, "bytes": bytes })).collect::<Vec<_>>(),
            "roofline_seconds": self.cost.seconds,
            "predicted_seconds": self.predicted,
            "infinity_cache_bytes": INFINITY_CACHE,
            "decode_bytes": decode.map(|(bytes, _)| bytes),
            "dispatches": self.plan.launches().count(),
            "rule_of_thumb": decode.map(|(_, [embedding, layers, inputs])| {
                let rule = embedding + layers + inputs;
                json!({ "embedding": embedding, "layers": layers, "batch": inputs, "intermediate_low": 2 * rule, "intermediate_high": 3 * rule })
            }),
            "data_set": self.problem.source().describe(),
            "tensors": report.tensors,
        })
    }

    fn text(&self, all: bool) -> String {
        let mut out = self.of_memory(all);
        self.of_time(&mut out);
        self.of_the_rest(&mut out);
        out
    }

    fn of_memory(&self, all: bool) -> String {
        let Estimate { config, on, .. } = self;
        let report = &self.memory.report;
        let mut out = format!(
            "{}, {} dispatches a step, batch {}{}{}; on {}\n{}\n",
            counted(self.plan.parameter_count(), self.plan.frozen_count()),
            self.plan.launches().count(),
            self.problem.settings.train.batch,
            form(config),
            if on.ranks.shared() { format!(" on each of {} ranks", on.ranks.count) } else { String::new() },
            on.device,
            on.chosen(config).map_or(String::new(), |chosen| format!("fit           {chosen}\n"))
        );
        for (role, n) in &report.bytes_by_role {
            let _ = writeln!(out, "{role:<14}{n:>16}  {:>10}", bytes(*n));
        }
        let _ = writeln!(out, "{:<14}{:>16}  {:>10}\n", "total", report.total_bytes, bytes(report.total_bytes));
        let mut tensors: Vec<_> = report.tensors.iter().collect();
        tensors.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
        let shown = if all { tensors.len() } else { tensors.len().min(10) };
        let width = tensors[..shown].iter().map(|t| t.name.len()).max().unwrap_or(0);
        for t in &tensors[..shown] {
            let shape = format!("{:?}", t.shape);
            let _ = writeln!(out, "{:width$}  {shape:<16}{:>12}  {:<12} {:<9} in {}", t.name, t.bytes, t.role, t.plan, t.buffer);
        }
        if shown < tensors.len() {
            let _ = writeln!(out, "… and {} smaller ones (--all lists them)", tensors.len() - shown);
        }
        let _ = writeln!(out, "\npeak          {} of pooled tensors alive, at {}", bytes(report.peak_live_bytes), report.peak_at);
        let _ = writeln!(out, "without reuse {}", bytes(report.unshared_activation_bytes));
        let _ = writeln!(
            out,
            "working set   {} at most in one dispatch ({}), at {}",
            bytes(report.working_set_bytes),
            share(report.working_set_bytes),
            report.working_set_at
        );
        out
    }

    /// Tensors of a step with their bytes from and to GDDR6, the most first.
    fn dearest(&self) -> impl Iterator<Item = (&str, u64)> {
        self.cost.memory_of.iter().map(|(tensor, bytes)| (self.plan.info(*tensor).name.as_str(), *bytes))
    }

    fn of_time(&self, out: &mut String) {
        let Estimate { config, on, .. } = self;
        let Traffic { touched, cache, memory } = self.cost.traffic;
        let passes = |n: u64, rate: f64| format!("{}, {:.3} ms at {:.0} GB/s", bytes(n), 1e3 * n as f64 / rate, rate / 1e9);
        let _ = writeln!(out, "step traffic  {} read and written by kernels, of which pass", bytes(touched));
        let _ = writeln!(out, "              Infinity Cache {}", passes(cache, CARD.infinity.0));
        let _ = writeln!(out, "              GDDR6          {}", passes(memory, CARD.memory));
        let dearest: Vec<String> = self.dearest().take(5).map(|(name, n)| format!("{name} {}", bytes(n))).collect();
        if !dearest.is_empty() {
            let _ = writeln!(out, "most GDDR6    {}", dearest.join(", "));
        }
        let samples = config.train.samples() as f64 / on.ranks.count as f64;
        let step =
            |seconds: f64, what: &str| format!("{:.3} ms {what}on an {} ({:.0} samples/s)", 1e3 * seconds, CARD.name, samples / seconds);
        let least = step(self.cost.seconds, "at least ");
        let (peak, launch) = (CARD.peak() / 1e12, 1e6 * LAUNCH);
        let _ = writeln!(
            out,
            "step          {least}: every launch at {peak:.2} TFLOP/s, or at the rate of GDDR6 or the cache, and {launch:.0} µs each"
        );
        let _ = match self.predicted {
            Some(seconds) => {
                writeln!(out, "predicted     {}, by the compiled kernels; `engine isa` shows them one by one", step(seconds, ""))
            }
            None => writeln!(
                out,
                "predicted     not here: see what `engine isa` says, which takes the feature `isa` and Mesa's Vulkan drivers, but no card"
            ),
        };
        if on.ranks.shared() {
            // At the nominal rates of Ethernet, and of the eight lanes of PCIe 4 that an RX 6600 has.
            let times =
                [1.0, 10.0, 100.0].map(|gbit: f64| format!("{:.2} ms at {gbit} Gbit/s", 1e3 * self.exchanged as f64 / (gbit * 1.25e8)));
            let bus = 1e3 * 2.0 * self.memory.slices.iter().map(|slice| self.memory.buffers[*slice].bytes).sum::<u64>() as f64 / 15.75e9;
            let _ = writeln!(
                out,
                "exchange      {} go out of and into every rank a step: {}; to the host and back {bus:.2} ms at PCIe 4 ×8",
                bytes(self.exchanged),
                times.join(", ")
            );
        }
    }

    fn of_the_rest(&self, out: &mut String) {
        let on = self.on;
        let report = &self.memory.report;
        let _ = writeln!(out, "all buffers   {}", share(report.total_bytes));
        if let Some((decode, [embedding, layers, inputs])) = self.decode {
            let rule = embedding + layers + inputs;
            let _ = writeln!(out, "decoding      {} more for `engine generate`", bytes(decode));
            let _ = writeln!(
                out,
                "rule of thumb embedding {} + layers {} + batch {} = {}, with 2 to 3 times the forward pass {} to {}: {:.2} of the plan's total",
                bytes(embedding),
                bytes(layers),
                bytes(inputs),
                bytes(rule),
                bytes(2 * rule),
                bytes(3 * rule),
                3.0 * rule as f64 / report.total_bytes as f64
            );
        }
        if let Some(text) = self.problem.source().describe() {
            let note = if self.problem.resident() { "on the device, gathered there" } else { "not on the device: batches are streamed" };
            let _ = writeln!(out, "data set      {text}; {note}");
        }
        let limit = on.target.max_binding;
        let too_large = self.memory.buffers.iter().find(|b| b.bytes > limit);
        let fits = match (too_large, report.total_bytes <= on.budget) {
            (Some(buffer), _) => format!("no: buffer {} exceeds the {} of one binding", buffer.name, bytes(limit)),
            (None, true) => "yes".to_string(),
            (None, false) => "no".to_string(),
        };
        let largest = self.largest.map_or("none".to_string(), |b| b.to_string());
        let _ = writeln!(out, "budget        {}: fits: {fits}; largest train.batch that fits: {largest}", bytes(on.budget));
    }
}

/// Bytes that every rank sends in a step, and as many that it receives: 2 (R − 1) / R of the gradient, for R ranks.
fn exchanged(memory: &Memory, ranks: Ranks) -> u64 {
    let staged: u64 = memory.slices.iter().map(|slice| memory.buffers[*slice].bytes).sum();
    2 * staged * (ranks.count as u64 - 1) / ranks.count as u64
}

/// Other settings that affect the form of a step, as text.
fn form(config: &Config) -> String {
    let mut text = String::new();
    if config.train.accumulate > 1 {
        let _ = write!(text, ", accumulate {}", config.train.accumulate);
    }
    if !config.train.precision.is_f32() {
        text += ", f16";
    }
    if !config.train.recompute.is_none() {
        let _ = write!(text, ", recompute {}", serde_json::to_value(config.train.recompute).unwrap_or_default());
    }
    text
}

/// Length of the sequences of a run, and number of different values.
fn sizes(problem: &Problem) -> Result<[u64; 2]> {
    let (fields, who) = (problem.source().fields(), "engine estimate");
    let [length] = fields.shape(who, "tokens")?;
    Ok([length as u64, fields.below(who, "tokens")? as u64])
}

/// Rule of thumb of the original design notes, with four bytes for each number: [embedding, layers, inputs] in bytes.
fn rule_of_thumb(m: &SequenceTransformerConfig, [length, values]: [u64; 2], batch: u64) -> [u64; 3] {
    let d = m.d_model as u64;
    let per_layer = 2 * (d * m.heads as u64 * length * 4) + m.feed_forward as u64 * length * 4;
    [values * d * 4, m.layers as u64 * per_layer, batch * length * d * 4]
}
