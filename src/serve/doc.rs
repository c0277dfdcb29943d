//! The OpenAPI document of the server.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::generations::Prompt;
use super::run::About;

/// The document, of version 3.1, whose schemas are JSON schemas.
pub(super) fn openapi() -> Value {
    let settings = || SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let about = settings().into_generator().into_root_schema_for::<About>();
    let mut prompt = settings().into_generator().into_root_schema_for::<Prompt>().to_value();
    // Both names are taken.
    prompt["properties"]["tokens"] = prompt["properties"]["count"].clone();
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let done = |what: &str, content: Value| json!({ "200": { "description": what, "content": content }, "default": refusal() });
    let get = |summary: &str, content: Value| json!({ "get": { "summary": summary, "responses": done(summary, content) } });
    let name = json!([{ "name": "name", "in": "path", "required": true, "schema": { "type": "string" }, "description": "Name of a run" }]);
    let any = json!({ "description": "A sample, as `inputs` of the run says; an answer has `sample` and `output` or `prediction`" });
    let formats = json!({
        "application/json": { "schema": any },
        "application/x-ndjson": { "schema": { "type": "string" } },
        "application/x-npz": { "schema": { "type": "string", "contentMediaType": "application/zip" } },
    });
    let (numbers, text) = (json!({ "type": "array", "items": { "type": "integer" } }), json!({ "type": "string" }));
    let of = |answer: &str, content: &Value| json!({ "type": "object", "properties": { "prompt": content, answer: content } });
    let generated = json!({
        "application/json": { "schema": { "oneOf": [of("generated", &numbers), of("text", &text)] } },
        "text/event-stream": { "schema": text },
    });
    let probabilities = json!({
        "name": "probabilities", "in": "query", "schema": { "type": "boolean" }, "description": "Probabilities of all classes, too"
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "engine serve", "version": env!("ENGINE_VERSION"), "description": "Predictions of trained runs" },
        "security": [{}, { "token": [] }],
        "paths": {
            "/health": get("The server is up", json_of(json!({ "type": "object" }))),
            "/ready": get("All runs compute", json_of(json!({ "type": "object" }))),
            "/metrics": get("Counts for Prometheus", json!({ "application/openmetrics-text": { "schema": { "type": "string" } } })),
            "/openapi.json": get("This document", json_of(json!({ "type": "object" }))),
            "/v1/runs": get("All runs", json_of(json!({
                "type": "object", "properties": { "runs": { "type": "array", "items": { "$ref": "#/components/schemas/Run" } } }
            }))),
            "/v1/runs/{name}": {
                "parameters": name,
                "get": {
                    "summary": "What a run takes and gives",
                    "responses": done("The run", json_of(json!({ "$ref": "#/components/schemas/Run" })))
                }
            },
            "/v1/runs/{name}/predict": {
                "parameters": name,
                "post": {
                    "summary": "Predictions for samples: a JSON value for one, a JSON value a line, or arrays of an .npz",
                    "parameters": [probabilities],
                    "requestBody": { "required": true, "content": formats },
                    "responses": done("The predictions, in the format that Accept names or else in that of the body", formats)
                }
            },
            "/v1/runs/{name}/generate": {
                "parameters": name,
                "post": {
                    "summary": "The continuation of a text, or of numbers",
                    "requestBody": { "required": true, "content": json_of(json!({ "$ref": "#/components/schemas/Prompt" })) },
                    "responses": done("The text or the numbers that were added, or an event for each part of them", generated)
                }
            },
        },
        "components": {
            "schemas": { "Run": about, "Prompt": prompt },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } }
        }
    })
}

/// Any answer that is none.
fn refusal() -> Value {
    let error = json!({
        "type": "object",
        "properties": { "status": { "type": "integer" }, "message": { "type": "string" } }
    });
    let schema = json!({ "type": "object", "properties": { "error": error } });
    json!({ "description": "What is wrong, and what to do", "content": { "application/json": { "schema": schema } } })
}
