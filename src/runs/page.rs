//! Runs as one HTML file that needs nothing else: no network, no script.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::compare::{Comparison, compare, lines, readable, report};
use super::status::status;
use crate::error::{Error, Result, visible};
use crate::files;
use crate::metrics::duration;
use crate::plots::{Curves, charts_of, svg};

const STYLE: &str = "\
:root { color-scheme: light; } \
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff; } \
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2.2em; border-bottom: 1px solid #ddd; padding-bottom: .2em; } \
h3 { font-size: 1em; margin-bottom: .3em; } pre { background: #f6f6f6; padding: .8em 1em; overflow-x: auto; font-size: 13px; line-height: 1.4; } \
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; } th, td { padding: .25em .7em; border-bottom: 1px solid #e4e4e4; \
white-space: nowrap; text-align: right; } th { background: #f6f6f6; } td.left, th.left { text-align: left; white-space: normal; } figure { margin: 1em 0; } \
svg, img { max-width: 100%; height: auto; } .gallery { display: flex; flex-wrap: wrap; gap: 1em; } .gallery figure { margin: 0; width: 320px; } \
figcaption { font-size: 12px; color: #666; } details { margin: .8em 0; } summary { cursor: pointer; color: #245; } .warning { color: #a33; }";

/// Largest size in bytes of a picture that is included.
const PICTURE: u64 = 4 << 20;

fn escaped(text: &str) -> String {
    visible(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// HTML of a table of cells whose first row has the headings.
fn table(rows: &[Vec<String>], left: &[bool]) -> String {
    let mut out = String::from("<table>\n");
    for (number, row) in rows.iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        let cell = |(c, text): (usize, &String)| {
            let class = if left.get(c).copied().unwrap_or(false) { " class=\"left\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escaped(text))
        };
        let _ = writeln!(out, "<tr>{}</tr>", row.iter().enumerate().map(cell).collect::<String>());
    }
    out + "</table>\n"
}

/// Writes the HTML report of runs: their comparison, and curves, tables, settings and pictures of each. Gives the reasons for which folders
/// are left out, if others can be read.
///
/// # Errors
/// Errors of `compare`; `CannotCreate` when the file cannot be written.
pub fn html_report(folders: &[PathBuf], out: &Path) -> Result<Vec<String>> {
    let comparison = compare(folders, None)?;
    let (sections, left_out) = readable(folders, |folder| run(folder, &comparison))?;
    let title = match folders {
        [run] => format!("Run {}", run.display()),
        _ => format!("{} of {} runs", sections.len(), folders.len()),
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{0}</title>\n<style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(&title)
    );
    if folders.len() > 1 {
        page += &compared(&comparison)?;
    }
    page.extend(sections);
    page += "</body></html>\n";
    files::write(out, page.as_bytes())?;
    Ok(left_out)
}

fn compared(comparison: &Comparison) -> Result<String> {
    let mut out = String::from("<h2>Side by side</h2>\n");
    for (rows, left) in comparison.tables() {
        out += &table(&rows, &left);
    }
    for note in &comparison.notes {
        let _ = writeln!(out, "<p>{}</p>", escaped(note));
    }
    let charts = svg(&comparison.charts()).map_err(|e| Error::Internal(format!("drawing runs: {e}")))?;
    let _ = writeln!(out, "<figure>{charts}</figure>");
    Ok(out)
}

/// HTML with charts, scores, notes, settings and pictures of one run.
fn run(folder: &Path, comparison: &Comparison) -> Result<String> {
    let name = folder.display().to_string();
    let mut out = format!("<h2>{}</h2>\n", escaped(&name));
    let (state, report) = (status(folder)?, report(folder)?);
    let mut facts = vec![vec!["what".to_string(), "value".into()]];
    let mut fact = |what: &str, value: Option<String>| facts.extend(value.map(|value| vec![what.to_string(), value]));
    fact("state", Some(state.state));
    fact("epochs", Some(format!("{} of {}", state.epoch, state.epochs.map_or("?".into(), |e| e.to_string()))));
    fact("best", state.best.map(|(value, epoch)| format!("{} {value:.6} in epoch {epoch}", state.select)));
    if let Some(row) = comparison.rows.iter().find(|row| row.run == name) {
        fact("model", Some(row.model.clone()));
        fact("weights", row.parameters.map(|n| n.to_string()));
        fact("verdict", Some(row.verdict.clone()));
        fact("validation loss less training loss", row.gap.map(|gap| format!("{gap:.4}")));
        fact("note", row.note.clone());
    }
    fact("device", report["device"].as_str().map(Into::into));
    fact("time", report["seconds"].as_f64().map(duration));
    let log = files::text(&folder.join("train.log"), files::LARGE).unwrap_or_default();
    fact("memory", log.lines().rev().find_map(|line| line.strip_prefix("memory")).map(|m| m.trim().to_string()));
    out += &table(&facts, &[true, true]);

    let mut curves = Curves::new();
    for line in lines(folder)? {
        let Some(step) = line.values["step"].as_f64() else { continue };
        for (metric, value) in line.values.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64().filter(|_| !["step", "epoch"].contains(&metric.as_str())) {
                curves.entry((line.split.clone(), metric.clone())).or_default().push((step, value));
            }
        }
    }
    let score = comparison.score_of(&name);
    let charts = charts_of(&curves, &(score, vec![score]), None);
    let charts = svg(&charts).map_err(|e| Error::Internal(format!("drawing {name}: {e}")))?;
    let _ = writeln!(out, "<figure>{charts}</figure>");
    if let Ok(text) = files::text(&folder.join("report.txt"), files::SMALL) {
        let _ = writeln!(out, "<h3>Closing report</h3>\n<pre>{}</pre>", escaped(&text));
    }
    if let Some(missed) = report["expectations"].as_array().filter(|list| list.iter().any(|e| e[2] == Value::Bool(false))) {
        let count = missed.iter().filter(|e| e[2] == Value::Bool(false)).count();
        let _ = writeln!(out, "<p class=\"warning\">{count} of {} expectations are missed.</p>", missed.len());
    }
    for (summary, file) in [("Settings", "config.toml"), ("Log", "train.log"), ("Notes", "notes.txt")] {
        if let Ok(text) = files::text(&folder.join(file), files::LARGE) {
            let _ = writeln!(out, "<details><summary>{summary}</summary><pre>{}</pre></details>", escaped(&text));
        }
    }
    out += &pictures(folder)?;
    Ok(out)
}

/// HTML with the pictures that other commands have left in the folder, such as linkages.
fn pictures(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))?;
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|e| e == "svg") && path.file_name().is_some_and(|n| n != "curves.svg");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_picture).collect();
    files.sort();
    let mut out = String::new();
    for file in files {
        let Ok(text) = files::text(&file, PICTURE) else { continue };
        // As the source of an image no script in it runs.
        let text: String =
            text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(
            out,
            "<figure><img alt=\"{0}\" src=\"data:image/svg+xml,{text}\"><figcaption>{0}</figcaption></figure>",
            escaped(&name)
        );
    }
    Ok(if out.is_empty() { out } else { format!("<h3>Pictures</h3>\n<div class=\"gallery\">\n{out}</div>\n") })
}
