//! `engine inspect`: what is in a file.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::JsonArg;
use crate::datasets::SampleStream;
use crate::datasets::integer_sequences::{FAMILIES, draw_family};
use crate::datasets::matrix::IN_MEMORY;
use crate::datasets::next_vectors::{self, Reading, self_similarity};
use crate::datasets::npz::{Look, Npz};
use crate::datasets::tables::{ArrayInfo, Element, Table, TableValues, is_table};
use crate::datasets::tokens::{Tokens, holds_tokens};
use crate::error::{Error, Result, argument, shortened, visible};
use crate::export::{OnnxFile, OnnxTensor};
use crate::files;
use crate::host::Host;
use crate::metrics::bytes;
use crate::random::Random;
use crate::registry::Config;
use crate::tasks::{DataKind, IntegerSequencesConfig, TextConfig};
use crate::train::TensorFile;

/// Show what is in a data file, a text, a folder of .npy files, a .safetensors or .onnx file, or a run file
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// File
    file: PathBuf,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: InspectArgs) -> Result<()> {
    let (file, json) = (args.file.as_path(), args.json.json);
    std::fs::metadata(file).map_err(|e| Error::read(file, e))?;
    if file.join("config.toml").is_file() {
        let run = argument(file);
        return Err(Error::Config(format!(
            "{} is a run folder: `engine status {run}` says how far it is, `engine compare {run}` how good, and `engine inspect {}` lists its weights",
            file.display(),
            argument(&file.join("model.safetensors"))
        )));
    }
    match file.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => inspect_tensors(host, file, json),
        Some("onnx") => inspect_onnx(host, file, json),
        Some("toml") => inspect_run(host, file, json),
        _ => inspect_data(host, file, json),
    }
}

/// Lists what is in a file of data.
fn inspect_data(host: &Host, file: &Path, json: bool) -> Result<()> {
    if is_table(file) {
        return inspect_table(host, file, json);
    }
    match files::extension(file).as_str() {
        "npz" => inspect_npz(host, file, json),
        "bin" => inspect_tokens(host, file, json),
        "txt" => inspect_text(host, file, json),
        _ => Err(Error::Config(format!(
            "{}: inspect knows data (.npz, .csv, .parquet, .npy or a folder of them, .txt, .bin of tokens), .safetensors and .onnx files, and .toml run files",
            file.display()
        ))),
    }
}

/// Says how many tokens a row of tokens has, and the largest of them.
fn inspect_tokens(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    let tokens = Tokens::open(file)?;
    let mut largest = None;
    tokens.pieces(0..tokens.len(), |_, piece| {
        largest = largest.max(piece.iter().copied().max());
        Ok(())
    })?;
    let size = std::fs::metadata(file).map_err(|e| Error::read(file, e))?.len();
    let written = if size == 2 * tokens.len() as u64 { "nanoGPT" } else { "llm.c" };
    if as_json {
        return host.print_json(&json!({ "holds": "tokens", "written_as": written, "tokens": tokens.len(), "largest": largest }));
    }
    let range = largest.map_or("none".into(), |largest| format!("from 0 to at most {largest}: data.vocabulary = {}, or more", largest + 1));
    host.print(&format!("holds    tokens of 16 bits, as {written} writes them\ntokens   {}\nnumbers  {range}\n", tokens.len()))
}

/// Says what a text would be as bytes and as characters.
fn inspect_text(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    let bytes = Tokens::bytes(file)?;
    let (mut largest, mut characters, mut different, mut wrong) = (None, 0, BTreeSet::new(), None);
    // The first bytes of a character that goes on in the next piece.
    let mut begun: Vec<u8> = vec![];
    bytes.pieces(0..bytes.len(), |at, piece| {
        largest = largest.max(piece.iter().copied().max());
        if wrong.is_some() {
            return Ok(());
        }
        let first = at - begun.len();
        begun.extend(piece.iter().map(|byte| *byte as u8));
        let whole = match std::str::from_utf8(&begun) {
            Ok(text) => text.len(),
            Err(e) => {
                wrong = e.error_len().map(|_| first + e.valid_up_to());
                e.valid_up_to()
            }
        };
        let text = String::from_utf8_lossy(&begun[..whole]).into_owned();
        characters += text.chars().count();
        different.extend(text.chars());
        begun.drain(..whole);
        Ok(())
    })?;
    let wrong = wrong.or((!begun.is_empty()).then(|| bytes.len() - begun.len()));
    let known = wrong.is_none().then_some(());
    if as_json {
        return host.print_json(&json!({
            "holds": "text", "bytes": bytes.len(), "largest_byte": largest, "characters": known.map(|()| characters),
            "different_characters": known.map(|()| different.len()), "not_utf8_from": wrong,
        }));
    }
    let of_bytes = format!("{}, the largest {}", bytes.len(), largest.map_or("none".into(), |byte| byte.to_string()));
    let (holds, of_characters) = match wrong {
        None => ("a text in UTF-8", format!("{characters}, {} different", different.len())),
        Some(at) => ("bytes that are no text in UTF-8", format!("byte {at} begins none; data.tokenizer = \"bytes\" takes any")),
    };
    host.print(&format!("holds       {holds}\nbytes       {of_bytes}\ncharacters  {of_characters}\n"))
}

/// Lists the columns of a table with their range, or their words.
fn inspect_table(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    const SHOWN: usize = 8;
    let mut table = Table::open(file, &BTreeSet::new())?;
    let mut rows = vec![];
    for array in table.arrays().to_vec() {
        let (what, facts, shown) = match table.read(&array.name) {
            Ok(TableValues::Numbers(values)) => {
                let finite = || values.iter().copied().filter(|value| value.is_finite());
                let (count, sum) = finite().fold((0usize, 0.0), |(n, sum), value| (n + 1, sum + f64::from(value)));
                let (low, high) = finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
                let (mean, bad) = (sum / count as f64, values.len() - count);
                let shown = match (count, bad) {
                    (0, _) => "no finite number".to_string(),
                    (_, 0) => format!("{low} to {high}, mean {mean:.6}"),
                    _ => format!("{low} to {high}, mean {mean:.6}; {bad} values are NaN or infinite"),
                };
                let known = (count > 0).then_some(());
                let facts =
                    json!({ "least": known.map(|()| low), "most": known.map(|()| high), "mean": known.map(|()| mean), "not_finite": bad });
                (if array.element == Element::Float { "numbers" } else { "integers" }, facts, shown)
            }
            Ok(TableValues::Words(words)) => {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                words.iter().for_each(|word| *counts.entry(word).or_default() += 1);
                let some = counts.iter().take(SHOWN).map(|(word, n)| format!("{} ({n})", shortened(word))).collect::<Vec<_>>().join(", ");
                let more = if counts.len() > SHOWN { format!(" and {} more", counts.len() - SHOWN) } else { String::new() };
                ("words", json!({ "different": counts.len() }), format!("{} different: {some}{more}", counts.len()))
            }
            Err(e) => ("unusable", json!({ "problem": e.to_string() }), e.to_string()),
        };
        rows.push((array, what, facts, shown));
    }
    if as_json {
        let one = |(array, what, facts, _): &(ArrayInfo, &str, serde_json::Value, String)| {
            let mut object = json!({ "name": array.name, "holds": what, "shape": array.shape });
            if let (Some(object), Some(facts)) = (object.as_object_mut(), facts.as_object()) {
                object.extend(facts.clone());
            }
            object
        };
        return host.print_json(&rows.iter().map(one).collect::<Vec<_>>());
    }
    let width = rows.iter().map(|(array, ..)| array.name.chars().count()).max().unwrap_or(0).max(6);
    let mut out = format!("{:width$}  {:<9} {:<16}  values\n", "column", "holds", "shape");
    for (array, what, _, shown) in rows {
        let _ = writeln!(out, "{:width$}  {what:<9} {:<16}  {shown}", array.name, format!("{:?}", array.shape));
    }
    host.print(&out)
}

fn inspect_tensors(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    let tensors = TensorFile::open(file)?;
    let size = |info: &safetensors::tensor::TensorInfo| info.data_offsets.1 - info.data_offsets.0;
    let mut rows: Vec<_> =
        tensors.metadata.tensors().into_iter().map(|(n, i)| (n, i.shape.clone(), format!("{:?}", i.dtype), size(i))).collect();
    rows.sort();
    let (progress, about) = (tensors.progress(), tensors.about());
    let count: usize = rows.iter().filter(|r| !r.0.starts_with("optimizer.")).map(|r| r.1.iter().product::<usize>()).sum();
    if as_json {
        let list: Vec<_> = rows.iter().map(|(n, s, t, b)| json!({ "name": n, "shape": s, "dtype": t, "bytes": b })).collect();
        let progress: Option<serde_json::Value> = progress.and_then(|p| serde_json::from_str(p).ok());
        return host.print_json(&json!({ "tensors": list, "parameters": count, "progress": progress, "about": about_json(&about) }));
    }
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, shape, dtype, n) in &rows {
        let _ = writeln!(out, "{name:width$}  {dtype:5} {:<16}{n:>12}", format!("{shape:?}"));
    }
    let _ = writeln!(out, "\n{count} weights in {} tensors, {}", rows.len(), bytes(tensors.metadata.data_len() as u64));
    if let Some(progress) = progress {
        let _ = writeln!(out, "checkpoint: {progress}");
    }
    out.push_str(&about_text(&about));
    host.print(&out)
}

/// What a file says about itself, key by key, with the configuration last.
fn about_text(about: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = about.iter().collect();
    sorted.sort_by_key(|(key, _)| (key == "config", key.clone()));
    sorted
        .into_iter()
        .map(|(key, value)| {
            if value.contains('\n') { format!("\n{key}:\n{}\n", visible(value.trim_end())) } else { format!("{key}: {}\n", visible(value)) }
        })
        .collect()
}

/// The same as JSON: what is JSON itself is not put into quotes.
fn about_json(about: &[(String, String)]) -> serde_json::Value {
    let value = |value: &String| {
        serde_json::from_str(value)
            .ok()
            .filter(|value: &serde_json::Value| value.is_object() || value.is_array())
            .unwrap_or_else(|| value.as_str().into())
    };
    about.iter().map(|(key, text)| (key.clone(), value(text))).collect::<serde_json::Map<_, _>>().into()
}

/// Lists inputs, outputs and weights of an ONNX file.
fn inspect_onnx(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    let model = OnnxFile::open(file)?;
    let kind = |kind: i32| match kind {
        1 => "F32".to_string(),
        7 => "I64".into(),
        10 => "F16".into(),
        11 => "F64".into(),
        other => format!("type {other}"),
    };
    let mut operations: BTreeMap<&str, usize> = BTreeMap::new();
    model.operations.iter().for_each(|operation| *operations.entry(operation).or_default() += 1);
    if as_json {
        // An axis of any length has a name.
        let axis = |text: &String| text.parse::<u64>().map_or_else(|_| json!(text), |length| json!(length));
        let shape = |tensor: &OnnxTensor| tensor.shape.iter().map(axis).collect::<Vec<_>>();
        let list = |tensors: &[OnnxTensor]| {
            tensors
                .iter()
                .map(|t| json!({ "name": t.name, "shape": shape(t), "dtype": kind(t.kind), "bytes": t.bytes }))
                .collect::<Vec<_>>()
        };
        return host.print_json(&json!({
            "opset": model.opset, "producer": model.producer, "inputs": list(&model.inputs), "outputs": list(&model.outputs),
            "tensors": list(&model.weights), "operations": operations, "about": about_json(&model.about),
        }));
    }
    let rows = [("input", &model.inputs), ("output", &model.outputs), ("", &model.weights)];
    let rows: Vec<(&str, &OnnxTensor)> =
        rows.into_iter().flat_map(|(what, tensors)| tensors.iter().map(move |tensor| (what, tensor))).collect();
    let shape = |tensor: &OnnxTensor| format!("[{}]", visible(&tensor.shape.join(", ")));
    let widest = |of: &dyn Fn(&OnnxTensor) -> String| rows.iter().map(|(_, tensor)| of(tensor).chars().count()).max().unwrap_or(0);
    let (width, shapes) = (widest(&|tensor| visible(&tensor.name).into()), widest(&shape));
    let mut out = String::new();
    for (what, tensor) in &rows {
        let size = if tensor.bytes > 0 { tensor.bytes.to_string() } else { (*what).into() };
        let _ = writeln!(out, "{:width$}  {:5}  {:shapes$}  {size:>12}", visible(&tensor.name), kind(tensor.kind), shape(tensor));
    }
    let held: usize = model.weights.iter().map(|tensor| tensor.bytes).sum();
    let listed: Vec<String> = operations.iter().map(|(name, count)| format!("{count} {}", visible(name))).collect();
    let _ = writeln!(
        out,
        "\nONNX opset {}, by {}: {} operations ({}), {} of weights",
        model.opset,
        visible(&model.producer),
        model.operations.len(),
        listed.join(", "),
        bytes(held as u64)
    );
    out.push_str(&about_text(&model.about));
    host.print(&out)
}

/// Lists the arrays of a data file with their shapes and, for vectors, their norms.
fn inspect_npz(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    let mut npz = Npz::open(file)?;
    let mut rows = Vec::new();
    for member in npz.members()? {
        let mut facts = None;
        if let (None, Some(&width)) = (&member.needed_problem, member.shape.last())
            && member.shape.len() >= 2
            && width > 0
        {
            let matrix = npz.matrix(&member.name, IN_MEMORY, Look::Here)?.1;
            let (mut n, mut sum, mut low, mut high, mut bad) = (0.0, 0.0, f64::INFINITY, 0.0f64, 0);
            let vectors = (0..matrix.rows()).flat_map(|i| matrix.row_f64(i).chunks(width).map(<[f64]>::to_vec).collect::<Vec<_>>());
            let similarity = self_similarity(vectors.inspect(|vector| {
                let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
                (n, sum, low, high) = (n + 1.0, sum + norm, low.min(norm), high.max(norm));
                bad += vector.iter().filter(|v| !v.is_finite()).count();
            }));
            matrix.check()?;
            facts = (n > 0.0).then(|| (sum / n, low, high, bad, similarity.filter(|s| s.is_finite())));
        }
        rows.push((member, facts));
    }
    if as_json {
        let list: Vec<_> = rows
            .iter()
            .map(|(m, f)| {
                json!({
                    "name": m.name, "dtype": m.dtype, "shape": m.shape, "bytes": m.bytes, "problem": m.needed_problem,
                    "norm_mean": f.map(|f| f.0), "norm_min": f.map(|f| f.1), "norm_max": f.map(|f| f.2), "not_finite": f.map(|f| f.3),
                    "self_similarity": f.and_then(|f| f.4),
                })
            })
            .collect();
        return host.print_json(&list);
    }
    // What a random split of these windows would put on both sides.
    let leakage = next_vectors::header(file).ok().and_then(|h| {
        let split = if h.has_validation { next_vectors::ValidationSplit::Given } else { next_vectors::ValidationSplit::Random(0.1, 1) };
        let sentence = next_vectors::load(file, None, split, Reading { skip_non_finite: true, ..Reading::default() })
            .ok()?
            .0
            .leakage()
            .sentence(false)?;
        Some(if h.has_validation { sentence } else { format!("split at random, a tenth to validate on:\n{sentence}") })
    });
    let width = rows.iter().map(|(m, _)| m.name.chars().count()).max().unwrap_or(0).max(6);
    let mut out =
        format!("{:width$}  {:<8}{:<20}{:>12}  norms (mean, least, most), self-similarity\n", "member", "dtype", "shape", "bytes");
    for (m, facts) in rows {
        let shape = format!("{:?}", m.shape);
        let _ = write!(out, "{:width$}  {:<8}{shape:<20}{:>12}", m.name, m.dtype, m.bytes);
        if let Some((mean, low, high, bad, similarity)) = facts {
            let _ = write!(out, "  {mean:.4}, {low:.4}, {high:.4}");
            if let Some(similarity) = similarity {
                let _ = write!(out, ", {similarity:.4}");
            }
            if bad > 0 {
                let _ = write!(out, "; {bad} values are NaN or infinite");
            }
        }
        if let Some(problem) = m.needed_problem {
            let _ = write!(out, "  skipped: {problem}");
        }
        out.push('\n');
    }
    if let Some(leakage) = leakage {
        let _ = write!(out, "\n{leakage}");
    }
    host.print(&out)
}

/// Lists the families of the generator: an example of each, and the number of different sequences among many draws.
fn inspect_run(host: &Host, file: &Path, as_json: bool) -> Result<()> {
    const DRAWS: usize = 50_000;
    let config = Config::load(file, &[])?;
    if let Some(text) = (config.data.kind() as &dyn Any).downcast_ref::<TextConfig>()
        && !holds_tokens(&text.file)
    {
        return inspect_text(host, &text.file, as_json);
    }
    if let Some((_, file)) = config.data.files().first() {
        return inspect_data(host, file, as_json);
    }
    let Some(data) = (config.data.kind() as &dyn Any).downcast_ref::<IntegerSequencesConfig>() else {
        return Err(Error::Internal("data of neither a generator nor a file".into()));
    };
    let mut rows = Vec::new();
    for family in &FAMILIES {
        let mut random = Random::new(data.seed, SampleStream::Train as u32, 0);
        let draws: Vec<_> = (0..DRAWS).map(|_| draw_family(family, data.sizes(), &mut random)).collect();
        let different = draws.iter().collect::<std::collections::HashSet<_>>().len();
        rows.push((family.phase, family.name, different, draws[0].clone()));
    }
    if as_json {
        let list: Vec<_> =
            rows.iter().map(|(p, n, d, e)| json!({ "phase": p, "family": n, "distinct": d, "draws": DRAWS, "example": e })).collect();
        return host.print_json(&list);
    }
    let mut out = format!("phase  {:<26}{:>10}   example\n", "family", "distinct");
    for (phase, name, different, example) in rows {
        let _ = writeln!(out, "{phase:>5}  {name:<26}{different:>10}   {example:?}");
    }
    let _ = write!(out, "\ndistinct sequences among {DRAWS} draws of each family");
    host.print(&out)
}
