//! The JSON schema of configurations, which their structs make, and the ranges that it sets.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};
use serde_json::{Map, Value, json};

use super::words::{in_words, quoted};
use crate::error::{number, out_of_range};
use crate::kernels::cross_entropy::{Per, Weight};
use crate::kernels::matmul::Activation;
use crate::kernels::vector_loss::On;
use crate::plan::Recompute;

/// The JSON schema of a type as a run file has it: TOML has no null, so what is optional is left out instead.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    parted(&mut schema);
    schema
}

fn without_null(schema: &mut Schema) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.retain(|key, value| key != "default" || !value.is_null());
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(branches)) = schema.get_mut("anyOf") {
        branches.retain(|branch| branch["type"] != "null");
        if let [Value::Object(only)] = &branches[..] {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// Word of a schema that lists the kinds that have a key.
const KINDS: &str = "kinds";

/// Gives each kind of a table that is one struct for all its kinds a schema of its own. `#[schemars(extend("kinds" = ["sgd"]))]` on a field
/// says which kinds have it.
fn parted(root: &mut Value) {
    let whole = root.clone();
    part(root, &whole);
    root.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flatten().for_each(|(_, of)| part(of, &whole));
}

fn part(schema: &mut Value, root: &Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    if properties.values().all(|of| of.get(KINDS).is_none()) {
        return;
    }
    let kinds = branches(resolved(&properties["kind"], root)).map(|kind| {
        let usual = kind["const"] == properties["kind"]["default"];
        let has = |of: &Value| of[KINDS].as_array().is_none_or(|kinds| kinds.contains(&kind["const"]));
        let own: Map<String, Value> = properties
            .iter()
            .filter(|(_, of)| has(of))
            .map(|(key, of)| {
                let mut of = if key == "kind" { json!({ "type": "string", "const": kind["const"] }) } else { of.clone() };
                of.as_object_mut().into_iter().for_each(|of| drop(of.remove(KINDS)));
                (key.clone(), of)
            })
            .collect();
        let about = kind["description"].as_str().unwrap_or_default();
        let about = if usual { format!("{about} It is taken where no kind is given.") } else { about.to_string() };
        let required = if usual { json!([]) } else { json!(["kind"]) };
        json!({ "type": "object", "description": about, "properties": own, "required": required, "additionalProperties": false })
    });
    let kinds: Vec<Value> = kinds.collect();
    let Some(schema) = schema.as_object_mut() else { return };
    schema.retain(|key, _| !["properties", "additionalProperties", "type"].contains(&key.as_str()));
    schema.insert("oneOf".into(), kinds.into());
}

/// A schema in place of a reference to it.
pub(super) fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    schema["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#'))).unwrap_or(schema)
}

/// The alternatives that a schema gives, if it gives some.
pub(super) fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten()
}

/// The kind that an alternative is, if it is the table of a kind.
pub(super) fn kind_of(branch: &Value) -> Option<&str> {
    branch["properties"]["kind"]["const"].as_str()
}

/// The range that a schema sets, in words; empty if it sets none.
pub(super) fn range(schema: &Value) -> String {
    let limit = |key: &str| schema[key].as_f64().map(number);
    if let (Some(least), Some(most)) = (limit("minimum"), limit("maximum")) {
        return format!("from {least} to {most}");
    }
    let words = [("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below")];
    words.into_iter().filter_map(|(key, word)| Some(format!("{word} {}", limit(key)?))).collect::<Vec<_>>().join(", ")
}

/// Fails on a number of a configuration that is not finite, or is out of the range that the `#[schemars(range(…))]` of its field sets, with
/// the key and the range. `at` is the place of the configuration in the run file, such as `model`.
///
/// # Errors
/// A message that says what is wrong.
pub fn in_range<T: Serialize + JsonSchema>(config: &T, at: &str) -> std::result::Result<(), String> {
    let value = toml::Value::try_from(config).map_err(|e| format!("{at}: {}", in_words(&e.to_string())))?;
    let root = schema_of::<T>();
    check(&value, &root, &root, at)
}

fn check(value: &toml::Value, schema: &Value, root: &Value, at: &str) -> std::result::Result<(), String> {
    let schema = resolved(schema, root);
    let kind = value.get("kind").and_then(toml::Value::as_str);
    let mut fitting = branches(schema).filter(|branch| kind_of(branch).is_none_or(|of| Some(of) == kind));
    fitting.try_for_each(|branch| check(value, branch, root, at))?;
    match value {
        toml::Value::Table(table) => table.iter().try_for_each(|(key, value)| {
            let named = schema["properties"].get(key);
            check(value, named.unwrap_or(&schema["additionalProperties"]), root, &format!("{at}.{key}"))
        }),
        toml::Value::Array(list) => {
            list.iter().enumerate().try_for_each(|(i, value)| check(value, &schema["items"], root, &format!("{at}[{i}]")))
        }
        toml::Value::Integer(i) => check_number(*i as f64, schema, at),
        toml::Value::Float(v) => check_number(*v, schema, at),
        _ => Ok(()),
    }
}

fn check_number(value: f64, schema: &Value, at: &str) -> std::result::Result<(), String> {
    let within = |key: &str, fits: fn(&f64, &f64) -> bool| schema[key].as_f64().is_none_or(|limit| fits(&value, &limit));
    let fits = within("minimum", f64::ge)
        && within("maximum", f64::le)
        && within("exclusiveMinimum", f64::gt)
        && within("exclusiveMaximum", f64::lt);
    match (value.is_finite(), fits) {
        (true, true) => Ok(()),
        (true, false) => Err(out_of_range(at, value, &range(schema))),
        (false, _) => Err(out_of_range(at, value, "a finite number")),
    }
}

/// A word that stands for a variant of an enum of a room below, whose words its parser knows.
macro_rules! words {
    ($($of:ident),*) => {
        $(impl JsonSchema for $of {
            fn schema_name() -> Cow<'static, str> {
                stringify!($of).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": words_of::<$of>() })
            }
        })*
    };
}

words!(Activation, On, Per, Recompute, Weight);

fn words_of<T: DeserializeOwned>() -> Vec<String> {
    let Err(error) = T::deserialize(StrDeserializer::<Error>::new("")) else { return vec![] };
    quoted(&error.to_string()).into_iter().skip(1).map(String::from).collect()
}
