//! Runs as one HTML file that needs no network: a summary, and a section for each run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::columns::{Cell, Row, telling};
use super::compare::{Cells, Comparison, compare};
use super::folder::{best_of, curves, lines, log, memory, readable, report};
use super::groups::varied;
use super::names::{short_key, short_names};
use super::sets::Set;
use super::status::status;
use crate::error::{Error, Result, visible};
use crate::files;
use crate::metrics::duration;
use crate::plots::{self, Chart, charts_of, figure};

/// Style sheet of the page; that of the charts is added to it. Their text is larger where they are narrow.
const STYLE: &str = include_str!("page/style.css");

/// Sorts a table by the column whose heading is pressed.
const SCRIPT: &str = include_str!("page/sort.js");

/// Largest size in bytes of a picture that is included.
const PICTURE: u64 = 4 << 20;

/// Largest number of settings that have a column each.
const SETTINGS: usize = 6;

fn escaped(text: &str) -> String {
    plots::escaped(&visible(text))
}

/// One cell of a table: its HTML, and the number to sort by if its text is none.
struct Field {
    html: String,
    number: Option<f64>,
}

impl Field {
    fn text(text: &str) -> Field {
        Field { html: escaped(text), number: None }
    }
}

/// HTML of a table that can be sorted, with true for each column that is aligned to the left.
fn table(head: &[(String, bool)], rows: &[Vec<Field>]) -> String {
    let class = |left: bool| if left { " class=\"left\"" } else { "" };
    let heading = |(name, left): &(String, bool)| format!("<th{}><button>{}</button></th>", class(*left), escaped(name));
    let row = |fields: &Vec<Field>| {
        let cell = |(field, (_, left)): (&Field, &(String, bool))| {
            let number = field.number.map_or(String::new(), |number| format!(" data-sort=\"{number}\""));
            format!("<td{}{number}>{}</td>", class(*left), field.html)
        };
        format!("<tr>{}</tr>\n", fields.iter().zip(head).map(cell).collect::<String>())
    };
    let (head_row, body): (String, String) = (head.iter().map(heading).collect(), rows.iter().map(row).collect());
    format!("<div class=\"scroll\"><table class=\"sortable\"><thead><tr>{head_row}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n")
}

/// HTML of charts, side by side where there is room.
fn figures(charts: &[Chart<'_>]) -> String {
    let (small, large): (Vec<_>, Vec<_>) = charts.iter().partition(|chart| chart.small);
    let all: String = large.into_iter().chain(small).filter_map(figure).collect();
    if all.is_empty() { all } else { format!("<div class=\"charts\">\n{all}</div>\n") }
}

/// Day of a moment by the calendar (Hinnant, "chrono-compatible low-level date algorithms"), in UTC.
pub(crate) fn date(moment: SystemTime) -> String {
    let days = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400) + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + u64::from(month <= 2))
}

/// Writes the HTML report of runs: their comparison, and curves, settings and pictures of each. Gives the reasons for which folders are
/// left out, if others can be read.
///
/// # Errors
/// Errors of `compare`; `CannotCreate` when the file cannot be written.
pub fn html_report(folders: &[PathBuf], out: &Path) -> Result<Vec<String>> {
    let comparison = compare(folders, None)?;
    let page = Page::of(&comparison);
    let ranked: Vec<PathBuf> = comparison.rows.iter().map(|row| PathBuf::from(&row.run)).collect();
    let (sections, damaged) = readable(&ranked, |folder| page.run(folder))?;
    let left_out = [&comparison.left_out[..], &damaged].concat();
    let title = match &page.names[..] {
        [name] => format!("Run {name}"),
        names => format!("{} runs", names.len()),
    };
    let mut devices: Vec<&str> = comparison.rows.iter().filter_map(|row| row.device.as_deref()).collect();
    devices.sort_unstable();
    devices.dedup();
    let facts =
        [vec![date(SystemTime::now()), format!("engine {}", env!("CARGO_PKG_VERSION"))], devices.iter().map(ToString::to_string).collect()];
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0}</title>\n<style>\n{1}{STYLE}</style></head><body>\n<header><h1>{0}</h1><p class=\"soft-text\">{2}</p></header>\n",
        escaped(&title),
        plots::style(),
        facts.concat().iter().map(|fact| escaped(fact)).collect::<Vec<_>>().join(" · ")
    );
    left_out.iter().for_each(|why| text += &format!("<p class=\"warning\">Left out: {}</p>\n", escaped(why)));
    if comparison.rows.len() > 1 {
        text += &page.summary();
    }
    text.extend(sections);
    let _ = writeln!(text, "<script>\n{SCRIPT}</script>\n</body></html>");
    files::write(out, text.as_bytes())?;
    Ok(left_out)
}

/// What the parts of the page need of each other.
struct Page<'c> {
    comparison: &'c Comparison,
    /// Short names of the runs, in the order of the rows.
    names: Vec<String>,
}

impl Page<'_> {
    fn of(comparison: &Comparison) -> Page<'_> {
        let names = short_names(&comparison.rows.iter().map(|row| row.run.as_str()).collect::<Vec<_>>());
        Page { comparison, names }
    }

    /// HTML of all runs side by side, set by set.
    fn summary(&self) -> String {
        let comparison = self.comparison;
        let mut out = String::from("<section>\n");
        for set in &comparison.sets {
            let title = if comparison.sets.len() > 1 { format!("Set {}: {}", set.number, set.name) } else { set.name.clone() };
            let _ = writeln!(out, "<h2>{}</h2>", escaped(&title));
            out += &self.runs_of(set);
            out += &comparison.group_cells(set).map_or(String::new(), |cells| self.groups_of(cells));
            out += &figures(&comparison.charts(set));
        }
        for note in &comparison.notes {
            let _ = writeln!(out, "<p>{}</p>", escaped(note));
        }
        out + "</section>\n"
    }

    /// HTML of the runs of a set by the columns in which they differ.
    fn runs_of(&self, set: &Set) -> String {
        let rows: Vec<(usize, &Row)> = self.comparison.rows.iter().enumerate().filter(|(_, row)| row.set == set.number).collect();
        let only: Vec<&Row> = rows.iter().map(|(_, row)| *row).collect();
        let (columns, keys) = (telling(&only), varied(&only));
        // Runs of different models differ in too many.
        let keys = if keys.len() > SETTINGS { vec![] } else { keys };
        let mut head: Vec<(String, bool)> = vec![];
        for column in &columns {
            let name = if column.name == "value" { set.select.clone() } else { set.heading(column.name) };
            head.push((name, column.left));
            if column.name == "run" {
                // A setting and a column of the same name are told apart.
                let others: Vec<&str> = keys.iter().copied().chain(columns.iter().map(|column| column.name)).collect();
                head.extend(keys.iter().map(|key| (short_key(key, &others).replace('_', " "), false)));
            }
        }
        let fields = |(number, row): &(usize, &Row)| {
            let mut fields = vec![];
            for column in &columns {
                let text = (column.cell)(&Cell { row, top: None });
                match column.name {
                    "run" => {
                        fields.push(Field { html: self.link(*number), number: None });
                        fields.extend(keys.iter().map(|key| Field::text(row.settings.get(*key).map_or("–", |v| v.trim_matches('"')))));
                    }
                    "time" => fields.push(Field { number: row.seconds, ..Field::text(&text) }),
                    _ => fields.push(Field::text(&text)),
                }
            }
            fields
        };
        table(&head, &rows.iter().map(fields).collect::<Vec<_>>())
    }

    fn groups_of(&self, (head, cells): Cells) -> String {
        // The best run of a group is the last cell.
        let field = |(at, text): (usize, &String)| match self.comparison.rows.iter().position(|row| row.run == *text) {
            Some(number) if at + 1 == head.len() => Field { html: self.link(number), number: None },
            _ => Field::text(text),
        };
        let rows: Vec<Vec<Field>> = cells.iter().map(|row| row.iter().enumerate().map(field).collect()).collect();
        table(&head, &rows)
    }

    /// Link to the section of a run.
    fn link(&self, number: usize) -> String {
        format!("<a href=\"#run-{}\">{}</a>", number + 1, escaped(&self.names[number]))
    }

    /// HTML with facts, charts, report, settings and pictures of one run.
    fn run(&self, folder: &Path) -> Result<String> {
        let missing = || Error::Internal(format!("{} is not compared", folder.display()));
        let rows = &self.comparison.rows;
        let number = rows.iter().position(|row| Path::new(&row.run) == folder).ok_or_else(missing)?;
        let (row, report) = (&rows[number], report(folder)?);
        let mut out = format!("<section class=\"run\" id=\"run-{}\">\n", number + 1);
        if rows.len() > 1 {
            let _ = writeln!(out, "<h2>{}</h2>", escaped(&self.names[number]));
        }
        out += &facts(folder, row, &report)?;
        // Settings for other data are not to be compared.
        match rows.iter().position(|other| other.set == row.set) {
            Some(first) if first < number => out += &difference(row, &rows[first], &self.names[first]),
            _ => {}
        }
        // A live run has no report yet.
        let (lines, told) = (lines(folder)?, report["best_step"].as_u64());
        let best = told.or_else(|| best_of(&lines, &row.select)?.1.values["step"].as_u64());
        let charts = charts_of(&curves(&lines), &(&row.metric, vec![&row.metric]), None, best);
        out += &figures(&charts);
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
        Ok(out + &pictures(folder)? + "</section>\n")
    }
}

/// HTML of what there is to know about a run at once.
fn facts(folder: &Path, row: &Row, report: &Value) -> Result<String> {
    let state = status(folder)?;
    let known = |value: &str| Some(value.to_string()).filter(|value| value != "–");
    let facts = [
        ("folder", Some(folder.display().to_string())),
        ("state", Some(state.state)),
        ("rank", row.rank.map(|rank| rank.to_string())),
        ("epochs", Some(format!("{} of {}", state.epoch, state.epochs.map_or("?".into(), |e| e.to_string())))),
        ("best", state.best.map(|(value, epoch)| format!("{} {value:.6} in epoch {epoch}", state.select))),
        ("verdict", known(&row.verdict)),
        ("validation loss less training loss", row.gap.map(|gap| format!("{gap:.4}"))),
        ("model", Some(row.model.clone())),
        ("weights", row.parameters.map(|n| n.to_string())),
        ("time", report["seconds"].as_f64().map(duration)),
        ("memory", memory(&log(folder))),
        ("device", row.device.clone()),
        ("note", row.note.clone()),
    ];
    let fact = |(what, value): (&str, Option<String>)| Some(format!("<div><dt>{what}</dt><dd>{}</dd></div>\n", escaped(&value?)));
    Ok(format!("<dl>\n{}</dl>\n", facts.into_iter().filter_map(fact).collect::<String>()))
}

/// HTML of the settings of a run that differ from those of the first one.
fn difference(row: &Row, first: &Row, name: &str) -> String {
    let keys = varied(&[first, row]);
    if keys.is_empty() {
        return format!("<p class=\"soft-text\">All settings are those of {}.</p>\n", escaped(name));
    }
    let head = [("setting".to_string(), true), (name.to_string(), true), ("here".to_string(), true)];
    let value = |row: &Row, key: &str| Field::text(row.settings.get(key).map_or("–", |value| value.trim_matches('"')));
    let rows: Vec<Vec<Field>> = keys.iter().map(|key| vec![Field::text(key), value(first, key), value(row, key)]).collect();
    format!("<h3>What differs from the first run</h3>\n{}", table(&head, &rows))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A run folder of three epochs, as far as a page reads it.
    fn run(folder: &Path, rate: &str, more: &str, losses: [f64; 3]) {
        std::fs::create_dir_all(folder).unwrap();
        let config = format!("[model]\nkind = \"stack\"\n[optimizer]\nlearning_rate = {rate}\n[train]\nepochs = 3\n{more}");
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let line = |(at, loss): (usize, &f64)| {
            let (step, epoch) = (10 * (at + 1), at + 1);
            format!(
                "{{\"split\":\"validation\",\"step\":{step},\"epoch\":{epoch},\"loss\":{loss}}}\n\
                 {{\"split\":\"epoch\",\"step\":{step},\"epoch\":{epoch},\"loss\":1.5}}\n"
            )
        };
        std::fs::write(folder.join("metrics.jsonl"), losses.iter().enumerate().map(line).collect::<String>()).unwrap();
    }

    #[test]
    fn a_page_shows_what_differs_and_links_to_each_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        run(&path("rate=0.1,seed=1"), "0.1", "", [3.0, 2.0, 1.0]);
        run(&path("rate=0.2,seed=1"), "0.2", "", [3.0, 0.5, 2.5]);
        let page = path("page.html");
        html_report(&[path("rate=0.1,seed=1"), path("rate=0.2,seed=1")], &page).unwrap();
        let text = std::fs::read_to_string(&page).unwrap();
        let headings =
            |text: &str| text.split("<button>").skip(1).map(|rest| rest.split('<').next().unwrap().to_string()).collect::<Vec<_>>();
        let table = |at: usize| text.split("<table").nth(at).unwrap().split("</table>").next().unwrap();
        assert_eq!(headings(table(1)), ["rank", "run", "learning rate", "loss", "best epoch", "gap", "verdict"]);
        // The best one is first, with the part of its name that is its own.
        let rows: Vec<&str> = table(1).split("<tr><td").skip(1).collect();
        assert!(rows[0].contains("<a href=\"#run-1\">rate=0.2</a>") && rows[1].contains("<a href=\"#run-2\">rate=0.1</a>"), "{rows:?}");
        let sections: Vec<&str> = text.split("<section class=\"run\" id=\"run-").skip(1).collect();
        assert!(sections[0].starts_with('1') && !sections[0].contains("What differs"));
        let differ = sections[1].split("What differs from the first run").nth(1).unwrap();
        assert!(differ.contains("optimizer.learning_rate</td><td class=\"left\">0.2</td><td class=\"left\">0.1</td>"), "{differ}");
        for part in ["prefers-color-scheme: dark", "@media print", "break-before: page", "engine 0.", "<script>"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("http://") && !text.contains("https://"), "nothing comes from a network");
    }

    #[test]
    fn runs_on_different_data_have_tables_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        run(&path("a"), "0.1", "[data]\nfile = \"a.csv\"\n", [3.0, 2.0, 1.0]);
        run(&path("b"), "0.2", "[data]\nfile = \"b.csv\"\n", [3.0, 2.0, 1.0]);
        html_report(&[path("a"), path("b")], &path("page.html")).unwrap();
        let text = std::fs::read_to_string(path("page.html")).unwrap();
        assert!(text.contains("<h2>Set 1: a.csv, ranked by loss</h2>") && text.contains("<h2>Set 2: b.csv, ranked by loss</h2>"));
        assert!(!text.contains("What differs from the first run"));
        let table = compare(&[path("a"), path("b")], None).unwrap().table();
        assert!(table.contains("Set 2: b.csv") && table.lines().filter(|line| line.starts_with("   1  ")).count() == 2, "{table}");
    }

    #[test]
    fn days_follow_the_calendar() {
        for (days, text) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_787, "2026-11-30"), (47_541, "2100-03-01")]
        {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(86_400 * days)), text);
        }
    }
}
