//! Messages of the TOML parser in the words of a run file.

use crate::error::shortened;

/// Pairs of a phrase of the parser and its replacement, applied in this order. `NAME` stands for the name of a Rust type that follows.
const WORDS: [(&str, &str); 33] = [
    ("expected usize", "expected a whole number of 0 or more"),
    ("expected u64", "expected a whole number of 0 or more"),
    ("expected u32", "expected a whole number of 0 or more"),
    ("expected u8", "expected a whole number of 0 or more"),
    ("expected i64", "expected a whole number"),
    ("expected i32", "expected a whole number"),
    ("expected f64", "expected a number"),
    ("expected f32", "expected a number"),
    ("internally tagged enum NAME", "a table with its kind"),
    ("externally tagged enum NAME", "a table"),
    ("string variant of enum NAME", "a table"),
    ("variant of enum NAME", "a table"),
    ("struct NAME", "a table"),
    ("enum NAME", "a table"),
    ("invalid type: floating point", "it is the fraction"),
    ("invalid type: integer", "it is the whole number"),
    ("invalid type: string", "it is the text"),
    ("invalid type: boolean", "it is"),
    ("invalid type: map", "it is a table"),
    ("invalid type: sequence", "it is a list"),
    ("invalid value: floating point", "it is the fraction"),
    ("invalid value: integer", "it is the whole number"),
    ("invalid value: string", "it is the text"),
    ("invalid value: map", "it is a table"),
    ("u64 value was too large", "the whole number is too large"),
    ("i64 value was too large", "the whole number is too large"),
    ("i64 value was too small", "the whole number is too small"),
    ("expected variant identifier", "expected the name of a kind"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected a table"),
    ("expected string or map", "expected the name of a kind"),
    ("missing field", "there is no"),
    ("unknown variant", "there is no choice"),
];

/// A message of the parser without the names of Rust's types. The test `fuzz-files` fails on one that `WORDS` leaves, as a new version of
/// the parser may.
pub(super) fn in_words(message: &str) -> String {
    // What a list says of one of its items.
    if let Some((item, rest)) = message.split_once("]: ").filter(|(item, _)| item.starts_with("layers[")) {
        return format!("{item}]: {}", in_words(rest));
    }
    let mut text: String = suggest(message)
        .split('"')
        .enumerate()
        .map(|(i, part)| if i % 2 == 1 { shortened(part) } else { part.into() })
        .collect::<Vec<_>>()
        .join("\"");
    for (theirs, ours) in WORDS {
        let (word, named) = theirs.strip_suffix("NAME").map_or((theirs, false), |word| (word, true));
        let mut from = 0;
        while let Some(at) = text[from..].find(word).map(|at| from + at) {
            let end = at + word.len();
            let name = text[end..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - end);
            text.replace_range(at..end + if named { name } else { 0 }, ours);
            from = at + ours.len();
        }
    }
    text
}

pub(super) fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// Smallest similarity of two names (Jaro-Winkler, 0 to 1) at which one is taken for a misspelling of the other.
pub(crate) const ALIKE: f64 = 0.8;

/// Other names of keys, as other programs call them.
const ALSO: [(&str, &str); 4] = [("lr", "learning_rate"), ("batch_size", "batch"), ("wd", "weight_decay"), ("bs", "batch")];

/// The name of a key that another program calls so, or the name itself.
pub(crate) fn usual_name(name: &str) -> &str {
    ALSO.iter().find(|(also, _)| *also == name).map_or(name, |(_, key)| key)
}

/// Similarity of two names; capital letters count as others.
fn alike(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(&a.to_lowercase(), &b.to_lowercase())
}

/// Adds the nearest known name to «unknown field `x`, expected one of `a`, `b`» if one is near; the parser itself lists the known names.
fn suggest(message: &str) -> String {
    let message = message.trim();
    let names = quoted(message);
    let nearest = match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown") => {
            known.iter().map(|name| (alike(unknown, name), name)).max_by(|a, b| a.0.total_cmp(&b.0))
        }
        _ => None,
    };
    match nearest {
        Some((alike, name)) if alike >= ALIKE => format!("{message}. Did you mean `{name}`?"),
        _ => message.to_string(),
    }
}
