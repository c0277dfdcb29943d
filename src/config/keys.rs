//! The keys of a run file, table by table, as the JSON schema has them.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::schema::{branches, kind_of, range, resolved, schema_of};
use crate::error::number;

/// A table of a run file, as one of its kinds has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Its name, as in `model` or `model.mixer`; that of a list of tables ends in `[]`.
    pub name: String,
    /// Its kind, if the table has kinds.
    pub kind: Option<String>,
    /// True for the kind that it has if the run file gives none.
    pub usual: bool,
    /// Kind of the table that it is part of, if that has kinds.
    pub within: Option<String>,
    /// What it is, in a sentence.
    pub about: String,
    /// Its keys, without those of the tables within it.
    pub keys: Vec<Key>,
}

/// A key of a run file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// Its full name: the table and the key, as in `train.batch`.
    pub name: String,
    /// Type of its value, in the words of error messages.
    #[serde(rename = "type")]
    pub type_: String,
    /// Value that it has if the run file does not give it, as TOML; `required` if it must, and empty if there is none.
    pub default: String,
    /// Range of its value, if it has one.
    pub range: String,
    /// What it is, in sentences.
    pub about: String,
    /// Words that it may be, each with its sentence.
    pub words: Vec<Word>,
}

/// A word that the value of a key may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Word {
    /// The word.
    pub name: String,
    /// What it means, in sentences; empty if the word says it.
    pub about: String,
}

impl Key {
    /// Its name within its table.
    pub fn last(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// The tables of a schema, in the order of its structs: of a run file as a whole, or of its table `name`.
pub(super) fn tables(name: &str, root: &Value) -> Vec<Table> {
    let mut found = vec![];
    Walk { root, found: &mut found }.within(name, None, root, &mut vec![]);
    found
}

/// The tables that a type is in a run file that calls it `name`, as `Section::tables` gives them.
pub fn tables_of<T: JsonSchema>(name: &str) -> Vec<Table> {
    tables(name, &schema_of::<T>())
}

struct Walk<'a> {
    root: &'a Value,
    found: &'a mut Vec<Table>,
}

impl<'a> Walk<'a> {
    /// Adds the table `name` that a schema describes, of each kind, and the tables within it. `open` are the schemas that this one is
    /// within.
    fn within(&mut self, name: &str, within: Option<&str>, schema: &'a Value, open: &mut Vec<&'a Value>) {
        let about = self.about(schema);
        let schema = resolved(schema, self.root);
        // Layers may have layers.
        if open.iter().any(|around| std::ptr::eq(*around, schema)) {
            return;
        }
        open.push(schema);
        if let Some(Value::Object(_)) = schema.get("items") {
            self.within(&format!("{name}[]"), within, &schema["items"], open);
        }
        if let Some(Value::Object(_)) = schema.get("additionalProperties") {
            self.within(&format!("{name}.NAME"), within, &schema["additionalProperties"], open);
        }
        for branch in branches(schema) {
            self.table(name, kind_of(branch), within, &text(branch), branch, open);
        }
        self.table(name, None, within, &about, schema, open);
        open.pop();
    }

    fn table(&mut self, name: &str, kind: Option<&str>, within: Option<&str>, about: &str, schema: &'a Value, open: &mut Vec<&'a Value>) {
        let Some(properties) = schema["properties"].as_object() else { return };
        let required = |key: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|name| name == key));
        let full = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
        let shown = || properties.iter().filter(|(key, of)| !(kind.is_some() && *key == "kind") && of["readOnly"] != true);
        if !name.is_empty() {
            let keys = shown().map(|(key, of)| self.key(full(key), of, required(key))).collect();
            let [kind, within] = [kind, within].map(|kind| kind.map(String::from));
            let usual = kind.is_some() && !required("kind");
            self.found.push(Table { name: name.into(), kind, usual, within, about: about.into(), keys });
        }
        for (key, of) in shown() {
            self.within(&full(key), kind.or(within), of, open);
        }
    }

    fn key(&self, name: String, schema: &Value, required: bool) -> Key {
        let of = resolved(schema, self.root);
        let default = match &schema["default"] {
            Value::Null if required => "required".into(),
            // Of a table the keys have theirs.
            Value::Null | Value::Object(_) => String::new(),
            Value::Number(value) => value.as_f64().map_or(String::new(), number),
            value => value.to_string(),
        };
        let each = Some(range(&of["items"])).filter(|range| !range.is_empty()).map(|range| format!("each {range}"));
        let mut words = words(of);
        // A table may take some of the words alone.
        if let Some(taken) = schema["enum"].as_array() {
            words.retain(|word| taken.iter().any(|name| *name == word.name));
        }
        Key { name, type_: self.type_of(schema, ""), default, range: each.unwrap_or_else(|| range(of)), about: self.about(schema), words }
    }

    /// The sentences of a schema, or else those of what it refers to.
    fn about(&self, schema: &Value) -> String {
        Some(text(schema)).filter(|about| !about.is_empty()).unwrap_or_else(|| text(resolved(schema, self.root)))
    }

    /// The type of a value in words; `s` is the ending of several of them.
    fn type_of(&self, schema: &Value, s: &str) -> String {
        let schema = resolved(schema, self.root);
        if !words(schema).is_empty() {
            return format!("word{s}");
        }
        match schema["type"].as_str() {
            Some("integer") => format!("whole number{s}"),
            Some("number") => format!("number{s}"),
            Some("boolean") => "true or false".into(),
            Some("string") => format!("text{s}"),
            Some("array") => format!("list{s} of {}", self.type_of(&schema["items"], "s")),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("table{s} of {}", self.type_of(&schema["additionalProperties"], "s"))
            }
            _ if schema["anyOf"].is_array() => branches(schema).map(|branch| self.type_of(branch, s)).collect::<Vec<_>>().join(" or "),
            _ => format!("table{s}"),
        }
    }
}

/// The sentences of a schema, in one line.
fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words that a schema allows.
fn words(schema: &Value) -> Vec<Word> {
    let of = |name: &Value, about: String| Some(Word { name: name.as_str()?.into(), about });
    let listed =
        |schema: &Value| schema["enum"].as_array().into_iter().flatten().filter_map(|name| of(name, String::new())).collect::<Vec<_>>();
    let told = branches(schema).flat_map(|branch| of(&branch["const"], text(branch)).into_iter().chain(listed(branch)));
    listed(schema).into_iter().chain(told).collect()
}
