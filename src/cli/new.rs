//! `engine new`: a run file for one's own data.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use include_dir::{Dir, include_dir};

use super::new_samples::{TARGETS, Wishes, look};
use super::new_text::{self, is_text};
use crate::config::{Section as _, Table};
use crate::datasets::next_vectors::{Reading, ValidationSplit, header, load};
use crate::datasets::npz::Npz;
use crate::datasets::tables::is_table;
use crate::error::{Error, Result, argument, visible};
use crate::files;
use crate::gpu::VIDEO_MEMORY;
use crate::host::Host;
use crate::metrics::{bytes, folded};
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::Purpose;

/// Run files that are included in the program.
static RUNS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/data/runs");

/// Write a commented run file for your own data, after looking into them
#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Kind of run: a name of data/runs/ without .toml, as in lvm_mlp, or gpt, llama or mamba2 for a text [default: what suits the data]
    #[arg(value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new([kinds(), new_text::MODELS.to_vec()].concat()))]
    kind: Option<String>,
    /// Your data
    #[arg(long, value_name = "FILE.npz|FILE.csv|FILE.parquet|FILE.txt|FOLDER")]
    data: Option<PathBuf>,
    /// Arrays or columns to predict [default: those with a usual name, else the last]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "data")]
    target: Vec<String>,
    /// Cut windows out of a series: moments that are input, and moments after them that are predicted
    #[arg(long, value_name = "CONTEXT,HORIZON", value_delimiter = ',', requires = "data")]
    window: Vec<usize>,
    /// Run file to write [default: the name of the data file or of the kind, with .toml]
    #[arg(long, value_name = "RUN.toml")]
    out: Option<PathBuf>,
}

fn kinds() -> Vec<&'static str> {
    let mut names: Vec<&str> = RUNS.files().filter_map(|file| file.path().file_name()?.to_str()?.strip_suffix(".toml")).collect();
    names.sort_unstable();
    names
}

pub(super) fn run(host: &Host, args: NewArgs) -> Result<()> {
    let NewArgs { kind, data, target, window, out } = args;
    let (kind, data) = match (kind, data) {
        (Some(kind), Some(file)) if !target.is_empty() || !window.is_empty() => {
            return Err(Error::Config(format!(
                "{kind} finds its inputs and targets by the names of the arrays, so that --target and --window have no place in it. For data of any meaning \
                 leave {kind} out: engine new --data {} …",
                argument(&file)
            )));
        }
        (Some(kind), Some(file)) if new_text::MODELS.contains(&&*kind) => return of_text(host, &kind, &file, out),
        (Some(kind), None) if new_text::MODELS.contains(&&*kind) => {
            return Err(Error::Config(format!("name your text, as in `engine new {kind} --data my.txt`: sizes are chosen by its length")));
        }
        (Some(kind), data) => (kind, data),
        (None, Some(file)) if is_text(&file) && target.is_empty() && window.is_empty() => {
            return of_text(host, new_text::MODELS[0], &file, out);
        }
        (None, Some(file)) => match kind_of(&file, &target, &window)? {
            Some(kind) => (kind.into(), Some(file)),
            None => return of_samples(host, &file, target, &window, out),
        },
        (None, None) => {
            return Err(Error::Config(format!(
                "name your data, as in `engine new --data table.csv --target COLUMN`, or a kind of run:\n  {}",
                folded(&kinds().join(", "), 2)
            )));
        }
    };
    let template = RUNS.get_file(format!("{kind}.toml")).and_then(|file| file.contents_utf8());
    let template = template.ok_or_else(|| Error::Internal(format!("no run file {kind}.toml")))?;
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{kind}.toml")));
    let looked = match &data {
        Some(file) => look_into(template, &kind, file)?,
        None => Looked::default(),
    };
    let text = written(template, &looked);
    let facts = looked.facts;
    let config = Config::parse(&text, &out.display().to_string(), &[])?;
    config.validate().map_err(Error::Internal)?;
    if data.is_some() {
        Problem::open(&config, Purpose::Train)?;
    }
    save(host, &out, &text, &facts)
}

/// Kind of the shipped runs whose data a file has by the names and shapes of its arrays, if there is one.
fn kind_of(file: &Path, target: &[String], window: &[usize]) -> Result<Option<&'static str>> {
    std::fs::metadata(file).map_err(|e| Error::read(file, e))?;
    if !target.is_empty() || !window.is_empty() || is_table(file) {
        return Ok(None);
    }
    Ok(match (header(file).is_ok(), crate::datasets::images::header(file).is_ok()) {
        (true, _) => Some("lvm_mlp"),
        (_, true) => Some("linkage_vae"),
        _ => None,
    })
}

/// Writes a run file for samples of any meaning.
fn of_samples(host: &Host, file: &Path, target: Vec<String>, window: &[usize], out: Option<PathBuf>) -> Result<()> {
    let window = match *window {
        [] => None,
        [context, horizon] => Some([context, horizon]),
        _ => return Err(Error::Config("--window takes two numbers, as in --window 48,12".into())),
    };
    let (template, facts) = look(file, &Wishes { target, window })?;
    let text = written(&template, &Looked { facts, ..Looked::default() });
    // A folder such as `.` has no name of its own.
    let name = format!("{}.toml", file.file_stem().map_or("samples".into(), std::ffi::OsStr::to_string_lossy));
    let out = out.unwrap_or_else(|| PathBuf::from(name));
    let config = Config::parse(&text, &out.display().to_string(), &[])?;
    config.validate().map_err(Error::Config)?;
    let problem = Problem::open(&config, Purpose::Train)?;
    problem.source().expect_file()?;
    problem.record_training(crate::gpu::Target::default())?;
    let facts: Vec<String> = text.lines().skip(1).map_while(|line| line.strip_prefix("# ").map(String::from)).collect();
    save(host, &out, &text, &facts)
}

/// Writes a run file for a text.
fn of_text(host: &Host, model: &str, file: &Path, out: Option<PathBuf>) -> Result<()> {
    let (template, mut facts) = new_text::look(model, file)?;
    let name = file.file_stem().map_or("text".into(), std::ffi::OsStr::to_string_lossy).into_owned();
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    let config = Config::parse(&template, &out.display().to_string(), &[])?;
    config.validate().map_err(Error::Config)?;
    let mut problem = Problem::open(&config, Purpose::Train)?;
    problem.source().expect_file()?;
    let target = crate::gpu::Target::default();
    let (weights, report) = (problem.record_training(target)?.0.parameter_count(), problem.place(target, VIDEO_MEMORY)?.memory.report);
    if report.total_bytes > VIDEO_MEMORY {
        facts.push("It does not fit 8 GiB as it is: `engine estimate --fit` finds a smaller batch that does.".into());
    }
    facts.push(format!("The model has {weights} weights, and training takes {} of memory on an RX 6600.", bytes(report.total_bytes)));
    let text = written(&template, &Looked { facts: facts.clone(), ..Looked::default() });
    save(host, &out, &text, &facts)?;
    let run = argument(&Path::new("runs").join(out.file_stem().unwrap_or_default()));
    host.print(&format!("Then let it write:\n  engine generate {run} --prompt \"…\""))
}

/// Saves a run file, and says what is in it and what to do with it.
fn save(host: &Host, out: &Path, text: &str, facts: &[String]) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        return Err(Error::CannotCreate(format!("{} is there already: name another file with --out", out.display()).into()));
    }
    files::replace(out, Error::create, |file| file.write_all(text.as_bytes()))?;
    let name = argument(out);
    host.print(&format!(
        "{}{name} is written. What it needs and whether it fits:\n  engine estimate {name}\nTrain it:\n  engine train {name}",
        facts.iter().map(|fact| format!("{fact}\n")).collect::<String>()
    ))
}

/// Notes about data, and the changes of a run file that they need.
#[derive(Debug, Default)]
struct Looked {
    /// Notes about the data, one sentence each.
    facts: Vec<String>,
    /// Changed keys of the run file: table, key, value.
    changes: Vec<(&'static str, &'static str, String)>,
    /// True if limits of the template, which were set for other data, are left out.
    without_limits: bool,
    /// True if the length of the targets matters, so that the loss compares them without normalisation.
    by_length: bool,
}

/// Range of mean norms of the targets that are taken for 1, the norm of vectors whose length has no meaning.
const UNIT: std::ops::RangeInclusive<f64> = 0.9..=1.1;

/// Largest number of samples whose targets are checked.
const LOOKED_AT: usize = 1000;

fn look_into(template: &str, kind: &str, file: &Path) -> Result<Looked> {
    let config = Config::parse(template, kind, &[])?;
    if config.data.kind().files().is_empty() {
        return Err(Error::Config(format!("{kind} draws its data itself and takes no --data")));
    }
    std::fs::metadata(file).map_err(|e| Error::read(file, e))?;
    let quoted = toml::Value::String(file.display().to_string()).to_string();
    let mut changes = vec![("data", "file", quoted)];
    let (mut facts, mut by_length) = (Vec::new(), false);
    let without_limits = !config.expect.is_empty() || config.abort_if.iter().any(|rule| rule.below.is_some() || rule.above.is_some());
    if without_limits {
        facts.push("Limits that were set for other data are left out: add your own to abort_if and expect.".into());
    }
    if template.contains("kind = \"vectors\"") {
        let h = header(file)?;
        facts.push(format!("{}: {} samples, contexts of {} vectors of {}", file.display(), h.samples, h.context, h.dim));
        facts.push(match h.has_validation {
            true => "It has validation samples of its own, which are used.".into(),
            false => "It has no validation samples of its own: a tenth of the samples is split off by data.split.".into(),
        });
        changes.extend([("data", "dim", h.dim.to_string()), ("data", "context", h.context.to_string())]);
        if h.samples < 10 * config.train.batch {
            let batch = (h.samples / 20).clamp(1, config.train.batch);
            facts.push(format!("It is small: batches of {batch} instead of {}.", config.train.batch));
            changes.push(("train", "batch", batch.to_string()));
        }
        let (data, _) = load(file, None, ValidationSplit::Whole, Reading { skip_non_finite: true, ..Reading::default() })?;
        let samples: Vec<usize> = (0..data.train.samples).step_by(data.train.samples.div_ceil(LOOKED_AT)).collect();
        let norm = data.train.take(&samples).mean_norm();
        by_length = !UNIT.contains(&norm);
        if by_length {
            facts.push(format!(
                "The targets have a mean norm of {norm:.4}: the loss is their squared error, as a cosine would not see their length."
            ));
            changes.push(("validation", "select", "\"mse\"".into()));
        }
    }
    if template.contains("kind = \"images\"") {
        let names = Npz::open(file)?.names();
        let labels = names.iter().filter(|name| TARGETS.contains(&name.to_lowercase().as_str()));
        facts.extend(labels.map(|name| {
            format!(
                "Array {name} is left out: a VAE learns from the images alone. Predict it with: engine new --data {} --target {name}",
                argument(file)
            )
        }));
    }
    Ok(Looked { facts, changes, without_limits, by_length })
}

/// The first sentence of what a key is, or of the kind that it names, in the run file that is parsed in `run`.
fn comment(tables: &[Table], run: &toml::Table, table: &str, key: &str) -> Option<String> {
    let kind = table.split('.').try_fold(run, |at, part| at.get(part)?.as_table())?.get("kind").and_then(toml::Value::as_str);
    let of = tables.iter().find(|of| of.name == table && (of.kind.is_none() || of.kind.as_deref() == kind))?;
    let (about, words) = match (of.keys.iter().find(|of| of.last() == key), key == "kind") {
        (Some(known), true) => (&known.words.iter().find(|word| Some(word.name.as_str()) == kind)?.about, &[][..]),
        (Some(known), false) => (&known.about, &known.words[..]),
        (None, true) => (&of.about, &[][..]),
        (None, false) => return None,
    };
    let first = about.split_once(". ").map_or(about.trim_end_matches('.'), |(first, _)| first);
    let told = words.iter().all(|word| first.contains(&format!("`{}`", word.name)));
    let words: Vec<&str> = words.iter().map(|word| word.name.as_str()).collect();
    Some(if told { first.into() } else { format!("{first}: {}", words.join(", ")) })
}

/// Run file from the template with the changes, and with a comment beside every key that has none.
fn written(template: &str, Looked { facts, changes, without_limits, by_length }: &Looked) -> String {
    let (tables, run) = (Config::tables(), template.parse::<toml::Table>().unwrap_or_default());
    let mut out = String::new();
    let mut table = String::new();
    // Of a list over several lines: its name.
    let mut list = String::new();
    let facts = facts.iter().map(|fact| format!("# {}\n", visible(&fact.replace('\n', "\\n")))).collect::<String>();
    for (number, line) in template.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = name.to_string();
        }
        if let Some(name) = line.strip_suffix(" = [") {
            list = name.to_string();
        }
        let (in_list, ends) = (list.clone(), line == "]");
        if ends {
            list.clear();
        }
        let limit = in_list == "expect" || in_list == "abort_if" && (line.contains(" below = ") || line.contains(" above = "));
        let term = table == "loss" && line.contains(" = {");
        if *without_limits && limit || *by_length && term {
            continue;
        }
        let key = line.split_once(" = ").map(|(key, _)| key).filter(|key| !key.starts_with(['#', ' ']));
        let changed = key.and_then(|key| changes.iter().find(|(t, k, _)| *t == table && *k == key));
        let line = changed.map_or(line.to_string(), |(_, key, value)| format!("{key} = {value}"));
        let about = key.filter(|_| !line.contains('#') && !table.is_empty()).and_then(|key| comment(&tables, &run, &table, key));
        let line = about.map_or(line.clone(), |about| format!("{line:<28}  # {about}"));
        out += line.trim_end();
        out.push('\n');
        if *by_length && table == "loss" && key == Some("kind") {
            out += "mse = { weight = 1.0, on = \"raw\" }\n";
        }
        if number == 0 {
            out += &facts;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gives_a_run_file_that_says_the_same() {
        for kind in kinds() {
            let template = RUNS.get_file(format!("{kind}.toml")).unwrap().contents_utf8().unwrap();
            let text = written(template, &Looked::default());
            assert!(Config::parse(&text, kind, &[]).unwrap() == Config::parse(template, kind, &[]).unwrap(), "{kind}");
            assert!(text.matches(" # ").count() > 10, "{kind}: {text}");
        }
    }
}
