//! What a user may have meant: by a key that its table does not have, and by a path that is no run file.

use std::path::Path;

use super::keys::Table;
use super::kinds::Stray;
use super::words::{ALIKE, in_words, quoted, usual_name};
use crate::error::argument;
use crate::files;

/// Gives the message of a TOML error with its line, and with what may have been meant if a key is unknown.
pub(super) fn located(error: &toml::de::Error, text: &str, known: &dyn Fn() -> Vec<Table>) -> String {
    let message = error.message();
    // Inside tagged tables the parser only knows where the table is; the unknown key itself is looked up.
    let key_line = quoted(message).first().filter(|_| message.starts_with("unknown field")).and_then(|key| {
        text.lines().position(|line| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))
    });
    let span_line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count());
    let Some(line) = key_line.or(span_line) else { return in_words(message) };
    let table = text.lines().take(line + 1).filter_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']')).last();
    let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
    let run = || text.parse::<toml::Table>().unwrap_or_default();
    let told = match (table, key) {
        (Some(table), Some((key, value))) => meant(message, table, key, value, &run(), &known()),
        _ => None,
    };
    format!("line {}: {}", line + 1, told.unwrap_or_else(|| in_words(message)))
}

/// The message about a key that the kind of its table has not, with its line in the file.
pub(super) fn stray_in_file(stray: &Stray, text: &str, run: &toml::Table, known: &[Table]) -> String {
    let tables = toml::de::DeTable::parse(text).ok();
    let value = tables.as_ref().and_then(|tables| tables.get_ref().get(stray.table.as_str())?.get_ref().get(stray.key.as_str()));
    let line = value.map_or(0, |value| text[..value.span().start].matches('\n').count());
    let told = meant(&stray.message, &stray.table, &stray.key, "", run, known);
    format!("line {}: {}", line + 1, told.unwrap_or_else(|| in_words(&stray.message)))
}

/// The message about a key that its table does not have, or whose value should be a table, if what was meant is known.
pub(super) fn meant(message: &str, table: &str, key: &str, value: &str, run: &toml::Table, known: &[Table]) -> Option<String> {
    let full = if table.is_empty() { key.to_string() } else { format!("{table}.{key}") };
    if message.starts_with("unknown field") && quoted(message).first() == Some(&key) {
        return whereabouts(table, key, run, known).map(|found| format!("{message}. {found}"));
    }
    let said = in_words(message);
    let own = known.iter().find(|of| of.name == full).filter(|_| said.ends_with("expected a table"))?;
    let number = own.keys.iter().find(|key| key.type_.ends_with("number"))?;
    Some(format!("{said} of its own keys, as in {} = {value}", number.name))
}

/// The kind of a table in a run file, be it the usual one, which the file need not give.
fn kind_in<'r>(run: &'r toml::Table, table: &str, known: &'r [Table]) -> Option<&'r str> {
    let given = || table.split('.').try_fold(run, |at, part| at.get(part)?.as_table())?.get("kind")?.as_str();
    given().or_else(|| known.iter().find(|of| of.name == table && of.usual)?.kind.as_deref())
}

/// Where there is a key of this name: under other kinds of its table, or else in other tables of the run.
fn whereabouts(table: &str, key: &str, run: &toml::Table, known: &[Table]) -> Option<String> {
    let named = usual_name(key);
    let has = |of: &&Table| of.keys.iter().any(|own| own.last() == named);
    let kinds: Vec<String> =
        known.iter().filter(|of| of.name == table).filter(has).filter_map(|of| Some(format!("{:?}", of.kind.as_ref()?))).collect();
    if !kinds.is_empty() && named == key {
        let now = kind_in(run, table, known).map_or(String::new(), |kind| format!("; here it is {kind:?}"));
        return Some(format!("{table}.kind = {} has it{now}", kinds.join(" or ")));
    }
    let fits = |of: &&Table| {
        !of.name.contains("[]")
            && [&of.kind, &of.within].into_iter().flatten().all(|kind| {
                of.name.split('.').next().and_then(|root| kind_in(run, root, known)).is_some_and(|now| now == kind)
                    || kind_in(run, &of.name, known) == Some(kind)
            })
    };
    let others: Vec<String> = known.iter().filter(has).filter(fits).map(|of| format!("{}.{named}", of.name)).collect();
    (!others.is_empty()).then(|| format!("Did you mean {}?", others.join(" or ")))
}

/// Folder of the run files that are shipped.
const SHIPPED: &str = "data/runs";

/// What is wrong with a path that is there and is something else than a run file, if it is: a folder, data, or weights.
pub(super) fn other_than_a_run_file(path: &Path) -> Option<String> {
    let (shown, name) = (path.display(), argument(path));
    let holds_arrays = || std::fs::read_dir(path).is_ok_and(|all| all.flatten().any(|entry| files::extension(&entry.path()) == "npy"));
    match files::extension(path).as_str() {
        _ if !path.exists() => None,
        "csv" | "parquet" | "npz" | "npy" => Some(format!("{shown} is data, and no run file. Write one for it: engine new --data {name}")),
        "safetensors" => Some(format!("{shown} is weights, and no run file. Give the run file, and the weights with --init {name}")),
        _ if path.join("config.toml").is_file() => {
            Some(format!("{shown} is a run folder, and no run file. Its run file is {}", argument(&path.join("config.toml"))))
        }
        _ if path.is_dir() && holds_arrays() => {
            Some(format!("{shown} is a folder of data, and no run file. Write one for it: engine new --data {name}"))
        }
        _ if !path.is_file() => Some(format!("{shown} is no run file and no run folder. Run files are in {SHIPPED}/")),
        _ => None,
    }
}

/// The message for a run file that is not there, with the nearest that is.
pub(super) fn missing(path: &Path) -> String {
    let shown = path.display();
    let with_ending = path.with_extension("toml");
    if path.extension().is_none() && with_ending.is_file() {
        return format!("no run file {shown}. Did you mean {}?", with_ending.display());
    }
    let wanted = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = files::folder_of(path);
    let of_folder = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let run_files = of_folder(Path::new(SHIPPED)).chain(of_folder(beside)).filter(|file| files::extension(file) == "toml");
    let alike = |file: &Path| strsim::jaro_winkler(&wanted, &file.file_stem().unwrap_or_default().to_string_lossy());
    match run_files.map(|file| (alike(&file), file)).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) {
        Some((near, file)) if near >= ALIKE => {
            format!("no run file {shown}. Did you mean {}?", file.strip_prefix(".").unwrap_or(&file).display())
        }
        _ => format!("no run file {shown}. Run files are in {SHIPPED}/; `engine new --data FILE` writes one for your data"),
    }
}
