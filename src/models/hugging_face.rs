//! Models as Hugging Face's transformers keeps them in a folder: a config.json, and the weights beside it.

use serde_json::{Map, Value};

/// A key of config.json that says what a model is.
#[derive(Debug, Clone)]
pub struct Key {
    /// Name of the key; a dot leads into a table.
    pub name: &'static str,
    /// Value of this model.
    pub value: Value,
    /// Other words for the same value.
    pub same: &'static [&'static str],
    /// Value that it has where the key is missing or null; none if it must be there.
    pub missing: Option<Value>,
    /// Name that earlier versions of transformers have for it.
    pub older: Option<&'static str>,
    /// Key of the run file that sets it.
    pub ours: &'static str,
}

impl Key {
    /// A key that `ours` sets, with one word and one name.
    pub fn new(name: &'static str, value: impl Into<Value>, missing: Option<Value>, ours: &'static str) -> Self {
        Key { name, value: value.into(), same: &[], missing, older: None, ours }
    }

    /// A number that must be there.
    pub fn size(name: &'static str, value: usize, ours: &'static str) -> Self {
        Key::new(name, value, None, ours)
    }

    /// A value that every model of its kind has, with the key or without.
    pub fn fixed(name: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        Key::new(name, value.clone(), Some(value), "")
    }
}

/// A model as a folder has it.
#[derive(Debug, Clone)]
pub struct HuggingFace {
    /// What must be the same in a folder that the model begins from.
    pub keys: Vec<Key>,
    /// What else transformers is told.
    pub also: Map<String, Value>,
    /// Beginning of the names of weights that a file may leave out.
    pub prefix: &'static str,
    /// Endings of the names of weights that are stored as (inputs, outputs).
    pub transposed: &'static [&'static str],
    /// Names and lengths of vectors that a folder has and the model has not: they are zeros.
    pub zeros: Vec<(String, usize)>,
    /// Endings of the names of tensors that say nothing new: masks, and weights that are others' as well.
    pub ignored: &'static [&'static str],
}

impl HuggingFace {
    /// True if a folder stores this weight as (inputs, outputs).
    pub fn is_transposed(&self, name: &str) -> bool {
        self.transposed.iter().any(|ending| name.ends_with(ending))
    }

    /// Text of config.json.
    pub fn config(&self) -> Value {
        let mut all = Value::Object(self.also.clone());
        for key in &self.keys {
            // An index into what is missing makes it.
            *key.name.split('.').fold(&mut all, |table, part| &mut table[part]) = key.value.clone();
        }
        all
    }

    /// Keys of a config.json that differ from this model, one sentence each.
    pub fn differences(&self, found: &Value) -> Vec<String> {
        let differs = |key: &Key| {
            let newer = key.name.split('.').try_fold(found, |table, part| table.get(part));
            let older = key.older.and_then(|name| found.get(name));
            let value = [newer, older].into_iter().flatten().find(|value| !value.is_null()).or(key.missing.as_ref());
            let words = value.and_then(Value::as_str).is_some_and(|word| key.same.contains(&word));
            let numbers = value.and_then(Value::as_f64).is_some_and(|number| Some(number) == key.value.as_f64());
            if value == Some(&key.value) || words || numbers {
                return None;
            }
            let there = value.map_or("missing".into(), Value::to_string);
            let here = if key.ours.is_empty() { "this engine has".to_string() } else { format!("{} makes it", key.ours) };
            Some(format!("{}: {there} there, {here} {}", key.name, key.value))
        };
        self.keys.iter().filter_map(differs).collect()
    }
}
