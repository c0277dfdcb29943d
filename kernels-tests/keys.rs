//! The keys of a run file: one source makes their help, their page, their schema and their checks.

use std::fs;

use engine::config::{Key, Table};
use engine::registry::Config;
use serde_json::Value;

use crate::program::run;
use crate::runner::tests;
use crate::shipped::shipped_runs;

tests![
    every_key_has_its_sentence,
    the_page_is_that_of_the_structs,
    help_finds_keys_tables_kinds_words_and_commands,
    shells_complete_the_keys_that_can_be_set,
    run_files_fit_the_schema_and_wrong_ones_do_not,
    a_key_takes_the_range_that_it_tells,
];

fn every_key_has_its_sentence() {
    let tables = Config::tables();
    for table in &tables {
        assert!(table.about.ends_with('.'), "[{}] {:?}: «{}» is no sentence", table.name, table.kind, table.about);
        for key in &table.keys {
            assert!(key.about.ends_with('.'), "{}: «{}» is no sentence", key.name, key.about);
        }
    }
    assert!(tables.len() > 50, "{} tables were found", tables.len());
}

/// `ENGINE_DRAW=1` writes it anew.
fn the_page_is_that_of_the_structs() {
    let (code, page, _) = run(&["help", "keys", "--markdown"]);
    assert_eq!(code, 0);
    if fs::read_to_string("guide/keys.md").is_ok_and(|old| old == page) {
        return;
    }
    assert!(
        std::env::var_os("ENGINE_DRAW").is_some(),
        "guide/keys.md has other keys than the program: ENGINE_DRAW=1 cargo test --test kernels-tests keys:: writes it anew"
    );
    fs::write("guide/keys.md", page).unwrap();
}

fn help_finds_keys_tables_kinds_words_and_commands() {
    for (topic, code, says) in [
        (&["keys"] as &[&str], 0, "Number of the newest checkpoints"),
        (&["train.batch"], 0, "batch  whole number  32  from 1 to 1048576"),
        (&["input_dropout"], 0, "[model] kind = \"vector_mlp\""),
        (&["mamba2"], 0, "expand  whole number  2"),
        (&["epoch_cosine"], 0, "start_factor"),
        (&["keys", "train"], 0, "accumulate"),
        (&["abort_if"], 0, "after_epoch"),
        (&["model.layers.out"], 0, "[model.layers[]] kind = \"linear\""),
        (&["batch", "--json"], 0, "\"name\": \"train.batch\""),
        (&["--schema"], 0, "https://json-schema.org/draft/2020-12/schema"),
        (&[], 0, "Usage: engine [OPTIONS] <COMMAND>"),
        (&["train"], 0, "Usage: engine train"),
        (&["data", "linkages"], 0, "Usage: engine data linkages"),
        (&["bacth"], 2, "Did you mean batch?"),
        (&["zzz"], 2, "`engine help keys` lists all keys"),
        (&["train", "--schema"], 2, "cannot be used with"),
    ] {
        let (got, out, text) = run(&[&["help"], topic].concat());
        assert!(got == code && (out + &text).contains(says), "{topic:?}: {got}");
    }
}

fn shells_complete_the_keys_that_can_be_set() {
    let (_, out, _) = run(&["completions", "bash"]);
    assert!(out.contains(" train.batch= ") && out.contains(" loss.mse.weight= ") && !out.contains("[]"));
}

/// Fails where a value is not what a schema says, as far as schemas of run files go.
fn fit(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        fit(value, root.pointer(&name[1..]).unwrap(), root)?;
    }
    let ok = |fine: bool, what: &str| if fine { Ok(()) } else { Err(format!("{value} is not {what} of {schema}")) };
    ok(schema.get("const").is_none_or(|only| only == value), "the const")?;
    ok(schema["enum"].as_array().is_none_or(|all| all.contains(value)), "in the enum")?;
    let fitting = |key: &str| schema[key].as_array().map(|all| all.iter().filter(|one| fit(value, one, root).is_ok()).count());
    ok(fitting("oneOf").is_none_or(|count| count == 1), "one")?;
    ok(fitting("anyOf").is_none_or(|count| count > 0), "any")?;
    match schema["type"].as_str() {
        Some("object") => ok(value.is_object(), "the type")?,
        Some("array") => ok(value.is_array(), "the type")?,
        Some("string") => ok(value.is_string(), "the type")?,
        Some("boolean") => ok(value.is_boolean(), "the type")?,
        Some("integer") => ok(value.is_i64() || value.is_u64(), "the type")?,
        Some("number") => ok(value.is_number(), "the type")?,
        _ => {}
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(of), _) => fit(value, of, root)?,
            (None, Value::Bool(false)) => return Err(format!("no key {key}")),
            (None, of) => fit(value, of, root)?,
        }
    }
    value.as_array().into_iter().flatten().try_for_each(|item| fit(item, &schema["items"], root))?;
    schema["required"].as_array().into_iter().flatten().try_for_each(|key| ok(value.get(key.as_str().unwrap()).is_some(), "whole"))
}

fn run_files_fit_the_schema_and_wrong_ones_do_not() {
    let root = Config::schema();
    for path in shipped_runs() {
        let table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let file = serde_json::to_value(&table).unwrap();
        fit(&file, &root, &root).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // What the engine itself writes into a run folder.
        let config = Config::load(&path, &[]).unwrap().to_toml().unwrap().parse::<toml::Table>().unwrap();
        fit(&serde_json::to_value(&config).unwrap(), &root, &root).unwrap();
        for (section, keys) in file.as_object().unwrap().iter().filter(|(_, keys)| keys.is_object()) {
            let other = |key: &str, value: Value| {
                let mut file = file.clone();
                file[section][key] = value;
                fit(&file, &root, &root).is_ok()
            };
            assert!(!other("zzz", 1.into()), "{}: another key in {section}", path.display());
            for (key, value) in keys.as_object().unwrap() {
                let wrong = if value.is_string() { 7.into() } else { "zzz".into() };
                assert!(!other(key, wrong), "{}: another type of {section}.{key}", path.display());
            }
        }
    }
}

/// A table of a kind as inline TOML, with what it must have, and with `set`.
fn sample(tables: &[Table], table: &Table, set: (&str, &str)) -> String {
    let value = |key: &Key| match key.type_.as_str() {
        _ if key.last() == set.0 => set.1.to_string(),
        "whole number" => limits(&key.range).first().map_or("1".into(), |(_, least)| least.to_string()),
        "number" => "1.0".into(),
        "word" => format!("'{}'", key.words[0].name),
        "true or false" => "true".into(),
        "text" => "'x'".into(),
        "table of texts or lists of texts" => "{x='x'}".into(),
        "list of whole numbers" => "[3]".into(),
        "table" | "list of tables" => {
            let list = format!("{}[]", key.name);
            let inner = tables.iter().find(|inner| (inner.name == key.name || inner.name == list) && within(inner, table)).unwrap();
            let inline = sample(tables, inner, ("", ""));
            if inner.name == list { format!("[{inline}]") } else { inline }
        }
        other => panic!("{}: a sample of {other}", key.name),
    };
    let keys = table.keys.iter().filter(|key| key.default == "required" || key.last() == set.0);
    let keys = keys.map(|key| format!("{}={}", key.last(), value(key)));
    let kind = table.kind.iter().map(|kind| format!("kind='{kind}'"));
    format!("{{{}}}", kind.chain(keys).collect::<Vec<_>>().join(","))
}

fn within(inner: &Table, table: &Table) -> bool {
    inner.within == table.kind || table.kind.is_none()
}

/// The override that sets a table to this inline TOML, with the tables that it is within.
fn setting(tables: &[Table], table: &Table, inline: &str) -> String {
    let (name, inline) = match table.name.strip_suffix("[]") {
        Some(name) => (name, format!("[{inline}]")),
        None => (&*table.name, inline.to_string()),
    };
    let Some((outer, key)) = name.rsplit_once('.') else { return format!("{name}={inline}") };
    let outer = tables.iter().find(|of| of.name == outer && within(table, of)).unwrap();
    setting(tables, outer, &sample(tables, outer, (key, &inline)))
}

/// The limits that a range tells, each with its word.
fn limits(range: &str) -> Vec<(&str, f64)> {
    let words: Vec<&str> = range.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    words.windows(2).filter_map(|pair| Some((pair[0], pair[1].parse().ok()?))).collect()
}

fn a_key_takes_the_range_that_it_tells() {
    let (tables, mut seen) = (Config::tables(), 0);
    let text = fs::read_to_string("data/runs/lvm_mlp.toml").unwrap();
    for table in &tables {
        for key in table.keys.iter().filter(|key| !key.range.is_empty()) {
            for (word, limit) in limits(&key.range) {
                let whole = key.type_.contains("whole");
                let step = if whole { 1.0 } else { (limit.abs() * 1e-9).max(1e-40) };
                let (inside, outside) = match word {
                    "from" | "least" => (limit, limit - step),
                    "to" | "most" => (limit, limit + step),
                    "above" => (limit + step.max(1e-9), limit),
                    "below" => (limit - step, limit),
                    _ => panic!("{}: {}", key.name, key.range),
                };
                for (value, fine) in [(inside, true), (outside, false)] {
                    let number = if whole { format!("{value}") } else { format!("{value:e}") };
                    let number = if whole || number.contains(['.', 'e']) { number } else { format!("{number}.0") };
                    let given = if key.type_.starts_with("list") { format!("[{number}]") } else { number };
                    let set = setting(&tables, table, &sample(&tables, table, (key.last(), &given)));
                    let error = Config::parse(&text, "run", std::slice::from_ref(&set)).err().map_or(String::new(), |e| e.to_string());
                    let of_range = error.contains(&format!("{} = ", key.last())) || error.contains(&format!("{}[0] = ", key.last()));
                    // What is below 0 does not even parse as a whole number.
                    let refused = of_range && error.contains(&format!("it must be {}", key.range.trim_start_matches("each ")))
                        || error.contains("expected a whole number of 0 or more");
                    assert_eq!(refused, !fine, "{set}: {error}");
                    assert!(!error.contains("there is no") && !error.contains("unknown field"), "{set}: {error}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 300, "{seen} values were tried");
}
