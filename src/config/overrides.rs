//! Overrides on the command line: `--set table.key=value`.

use super::keys::Table;
use super::kinds::without_strays;
use super::lookup::meant;
use super::words::in_words;
use crate::error::{Error, Result, shortened};

/// Largest number of parts of a key, such as 2 of `train.batch`.
const DEEPEST: usize = 16;

/// A value as the command line gives it: TOML if it parses as such, else a string.
pub(crate) fn value_of(text: &str) -> toml::Value {
    let parsed = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v"));
    parsed.unwrap_or_else(|| toml::Value::String(text.into()))
}

/// Takes out of a run file what the kinds have not that overrides give its optimizer and schedule: the file has it for its own kind.
pub(super) fn change_kinds(run: &mut toml::Table, overrides: &[String], known: &[Table]) {
    for (name, value) in overrides.iter().filter_map(|item| item.split_once('=')) {
        let Some(table) = name.trim().strip_suffix(".kind").filter(|table| known.iter().any(|of| of.usual && of.name == *table)) else {
            continue;
        };
        let of = run.entry(table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        of.as_table_mut().map(|of| of.insert("kind".into(), value_of(value.trim())));
    }
    without_strays(run, known);
}

/// Puts the value of `item` = `table.key=value` into the table, or takes the key away if the value is empty, and gives the configuration
/// that `read` makes of it, or the error that it has with it. `known` are the tables that messages know of.
pub(super) fn apply<C>(
    table: &mut toml::Table,
    item: &str,
    read: &dyn Fn(toml::Table) -> std::result::Result<C, String>,
    known: &dyn Fn() -> Vec<Table>,
) -> Result<Result<C>> {
    let wrong = |why: &str| Error::Config(format!("--set {}: {why}", shortened(item)));
    let expected = "expected table.key=value, as in --set train.batch=64";
    let (path, value) = item.split_once('=').ok_or_else(|| wrong(expected))?;
    let text = value.trim();
    let given = value_of(text);
    // `model.dropout=0` means a fraction and `train.batch=1e3` a whole number: the key decides.
    let other = match given {
        toml::Value::Integer(i) => Some(toml::Value::Float(i as f64)),
        toml::Value::Float(v) if v.fract() == 0.0 && v.abs() < 9e15 => Some(toml::Value::Integer(v as i64)),
        _ => None,
    };
    let keys: Vec<&str> = path.trim().split('.').collect();
    let whole = |key: &str| wrong(&format!("{key} is a list: give the whole of it, as in --set '{key}=[…]'"));
    if let Some((list, _)) = path.split_once('[') {
        return Err(whole(list.trim()));
    }
    if keys.len() > DEEPEST {
        return Err(wrong(&format!("a key of {} parts; run files have tables at most {DEEPEST} deep", keys.len())));
    }
    let (leaf, parents) = keys.split_last().ok_or_else(|| wrong(expected))?;
    let (mut error, mut as_given) = (None, None);
    for value in [Some(given), other].into_iter().flatten() {
        let mut candidate = table.clone();
        let mut at = &mut candidate;
        for key in parents {
            let entry = at.entry((*key).to_string()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if entry.is_array() {
                let to = keys.iter().position(|k| k == key).unwrap_or(0);
                return Err(whole(&keys[..=to].join(".")));
            }
            at = entry.as_table_mut().ok_or_else(|| wrong(expected))?;
        }
        match text.is_empty() {
            true => at.remove(*leaf),
            false => at.insert((*leaf).to_string(), value),
        };
        match read(candidate.clone()) {
            Ok(config) => {
                *table = candidate;
                return Ok(Ok(config));
            }
            Err(e) => {
                error.get_or_insert(e);
                as_given.get_or_insert(candidate);
            }
        }
    }
    let message = error.unwrap_or_default();
    let (parent, known) = (parents.join("."), known());
    let left = if *leaf == "kind" { left_over(table, &parent, text, &known) } else { None };
    let told = left.or_else(|| meant(&message, &parent, leaf, text, table, &known));
    *table = as_given.unwrap_or_default();
    Ok(Err(wrong(&told.unwrap_or_else(|| in_words(&message)))))
}

/// The message about keys that a table has for its kind, and that another kind does not have.
fn left_over(run: &toml::Table, name: &str, kind: &str, known: &[Table]) -> Option<String> {
    let kind = kind.trim_matches(['"', '\'']);
    let new = known.iter().find(|of| of.name == name && of.kind.as_deref() == Some(kind))?;
    let table = name.split('.').try_fold(run, |at, part| at.get(part)?.as_table())?;
    let lacks = |key: &&String| *key != "kind" && new.keys.iter().all(|of| of.last() != key.as_str());
    let keys: Vec<String> = table.keys().filter(lacks).map(|key| format!("{name}.{key}")).collect();
    let away: Vec<String> = keys.iter().map(|key| format!("--set {key}=")).collect();
    (!keys.is_empty()).then(|| {
        format!(
            "{name}.kind = {kind:?} has no {}, which the run file gives for its own kind. Take it away with {}",
            keys.join(", "),
            away.join(" ")
        )
    })
}
