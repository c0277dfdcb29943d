//! Keys of tables that are one struct for all their kinds, where each kind has some of them (`schema::parted`).

use super::keys::Table;

/// A key that a table of a run file has, and its kind has not.
#[derive(Debug)]
pub(super) struct Stray {
    /// Name of the table.
    pub(super) table: String,
    /// Name of the key.
    pub(super) key: String,
    /// The message, in the words of the parser.
    pub(super) message: String,
}

/// The keys of a run file that the kinds of their tables have not.
pub(super) fn strays(run: &toml::Table, known: &[Table]) -> Vec<Stray> {
    let of_table = |usual: &Table| {
        let own = run.get(&usual.name).and_then(toml::Value::as_table)?;
        let kind = own.get("kind").and_then(toml::Value::as_str).or(usual.kind.as_deref());
        let of = known.iter().find(|of| of.name == usual.name && of.kind.as_deref() == kind)?;
        let lacks = |key: &&String| *key != "kind" && of.keys.iter().all(|known| known.last() != key.as_str());
        let names = ["kind"].into_iter().chain(of.keys.iter().map(|key| key.last()));
        let names = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let stray = |key: &String| Stray {
            table: usual.name.clone(),
            key: key.clone(),
            message: format!("unknown field `{key}`, expected one of {names}"),
        };
        Some(own.keys().filter(lacks).map(stray).collect::<Vec<_>>())
    };
    known.iter().filter(|of| of.usual).filter_map(of_table).flatten().collect()
}

/// Takes those keys out of a run file.
pub(super) fn without_strays(run: &mut toml::Table, known: &[Table]) {
    for Stray { table, key, .. } in strays(run, known) {
        run.get_mut(&table).and_then(toml::Value::as_table_mut).map(|of| of.remove(&key));
    }
}

/// The text of a saved configuration without those keys; as it is if it has none, or cannot be read.
pub(super) fn cleaned(text: String, known: &[Table]) -> String {
    match text.parse::<toml::Table>() {
        Ok(mut table) if !strays(&table, known).is_empty() => {
            without_strays(&mut table, known);
            table.to_string()
        }
        _ => text,
    }
}
