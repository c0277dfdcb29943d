//! The members of a sweep: every choice of a seed and of the values of a grid, each a run in a folder of its own.

use std::collections::BTreeSet;

use crate::config::value_of;
use crate::error::{Error, Result, shortened};

/// Largest number of runs in a sweep.
const MOST: f64 = 10_000.0;

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    /// Name of the run's folder.
    pub(super) name: String,
    /// Overrides of the run file, as `key=value`.
    pub(super) set: Vec<String>,
}

/// All combinations of `--seeds` and of the axes `key=a,b,c` of `--grid`; empty without either.
///
/// # Errors
/// `Config` for an axis without values, or for a key or value that is given twice.
pub(super) fn members(seeds: &[u64], grid: &[String]) -> Result<Vec<Member>> {
    let mut axes: Vec<(String, Vec<String>)> = Vec::new();
    for item in grid {
        let wrong = |why: &str| Error::Config(format!("--grid {}: {why}", shortened(item)));
        let (key, values) =
            item.split_once('=').ok_or_else(|| wrong("expected key=a,b,c, as in --grid optimizer.learning_rate=1e-3,5e-4"))?;
        let values: Vec<String> = split_values(values).iter().map(|v| v.trim().to_string()).collect();
        if values.iter().any(String::is_empty) {
            return Err(wrong("a value is empty"));
        }
        axes.push((key.trim().to_string(), values));
    }
    if !seeds.is_empty() {
        axes.push(("train.seed".into(), seeds.iter().map(u64::to_string).collect()));
    }
    for (at, (key, values)) in axes.iter().enumerate() {
        if axes[..at].iter().any(|(other, _)| other == key) {
            return Err(Error::Config(format!("{} has two axes: give all of its values in one", shortened(key))));
        }
        if values.iter().map(|value| meaning(value)).collect::<BTreeSet<_>>().len() < values.len() {
            return Err(Error::Config(format!("{}: a value is there twice, and would be the same run", shortened(key))));
        }
    }
    let Some(first) = axes.first() else { return Ok(vec![]) };
    let combinations = axes.iter().fold(1.0, |n, (_, values)| n * values.len() as f64);
    if combinations > MOST {
        return Err(Error::Config(format!("--grid and --seeds make {combinations} runs; at most {MOST} go into one sweep: divide it")));
    }
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or(key).to_string();
    // The last part of a key names it where no other axis has the same.
    let short = |key: &str| if axes.iter().filter(|(k, _)| leaf(k) == leaf(key)).count() == 1 { leaf(key) } else { key.to_string() };
    let part = |key: &str, value: &str| {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
        let safe = |text: &str| text.chars().map(safe).collect::<String>();
        (format!("{}={}", safe(&short(key)), safe(value)), format!("{key}={value}"))
    };
    let mut members: Vec<Member> = first.1.iter().map(|v| part(&first.0, v)).map(|(name, set)| Member { name, set: vec![set] }).collect();
    for (key, values) in &axes[1..] {
        let with = |member: &Member| {
            let member = member.clone();
            let add = move |value: &String| {
                let (name, set) = part(key, value);
                Member { name: format!("{},{name}", member.name), set: [member.set.clone(), vec![set]].concat() }
            };
            values.iter().map(add).collect::<Vec<_>>()
        };
        members = members.iter().flat_map(with).collect();
    }
    // File systems end names at 255 bytes.
    for member in members.iter_mut().filter(|m| m.name.len() > 150) {
        let sum = crc32c::crc32c(member.set.join(" ").as_bytes());
        member.name = format!("{}-{sum:08x}", &member.name[..140]);
    }
    let names: BTreeSet<&String> = members.iter().map(|m| &m.name).collect();
    if names.len() < members.len() {
        return Err(Error::Config("--grid: two runs would have the same folder, as their values differ in signs alone".into()));
    }
    Ok(members)
}

/// Canonical form of a value of a run file: 1e-3 and 0.001, 8 and 0x8, auto and "auto" are the same.
fn meaning(value: &str) -> String {
    match value_of(value) {
        toml::Value::Float(v) if v.fract() == 0.0 && v.abs() < 9e15 => (v as i64).to_string(),
        value => value.to_string(),
    }
}

/// Splits at commas that are in no bracket and no quotes.
fn split_values(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(seeds: &[u64], grid: &[&str]) -> Vec<(String, String)> {
        let grid: Vec<String> = grid.iter().map(ToString::to_string).collect();
        members(seeds, &grid).unwrap().into_iter().map(|m| (m.name, m.set.join(" "))).collect()
    }

    #[test]
    fn every_combination_is_a_run() {
        assert_eq!(named(&[], &[]), vec![]);
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect::<Vec<_>>();
        assert_eq!(named(&[1, 2], &[]), pairs(&[("seed=1", "train.seed=1"), ("seed=2", "train.seed=2")]));
        assert_eq!(
            named(&[3], &["optimizer.learning_rate=1e-3,5e-4"]),
            pairs(&[
                ("learning_rate=1e-3,seed=3", "optimizer.learning_rate=1e-3 train.seed=3"),
                ("learning_rate=5e-4,seed=3", "optimizer.learning_rate=5e-4 train.seed=3"),
            ])
        );
        let of_losses = named(&[], &["loss.mse={weight=1,on='raw'},{weight=2,on='raw'}"]);
        assert_eq!(of_losses[0], ("mse=_weight_1_on__raw__".into(), "loss.mse={weight=1,on='raw'}".into()));
        assert_eq!(named(&[], &["data.seed=1,2", "train.seed=1"])[1].0, "data.seed=2,train.seed=1");
    }

    #[test]
    fn any_text_makes_runs_or_a_message() {
        // Seeds are whole numbers, to their last digit; names are cut where they have too many bytes.
        assert_eq!(named(&[9_007_199_254_740_992, 9_007_199_254_740_993], &[]).len(), 2);
        let long = format!("a{}=1", "é".repeat(90));
        assert!(named(&[], &[&long])[0].0.len() <= 150);
        let hundred: Vec<String> =
            (0..6).map(|k| format!("k{k}={}", (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","))).collect();
        let error = members(&[], &hundred).unwrap_err().to_string();
        assert!(error.contains("1000000000000 runs"), "{error}");
    }

    #[test]
    fn what_makes_no_runs_is_refused() {
        for (seeds, grid) in [
            (&[1, 1][..], &[][..]),
            (&[], &["x"]),
            (&[], &["a.b=1,"]),
            (&[1], &["train.seed=2"]),
            (&[], &["a=1", "a=2"]),
            (&[], &["a=1e-3,0.001"]),
            (&[], &["a=8,0x8"]),
            (&[], &["a=10,1_0"]),
            (&[], &["a=\"auto\",auto"]),
        ] {
            let grid: Vec<String> = grid.iter().map(ToString::to_string).collect();
            assert!(members(seeds, &grid).is_err(), "{seeds:?} {grid:?}");
        }
    }
}
