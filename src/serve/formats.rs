//! The formats of samples and predictions.

use axum::http::{HeaderMap, StatusCode, header};

use super::refusal::Refusal;

/// How samples and predictions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Lines,
    Npz,
}

const FORMATS: [(&str, Format); 6] = [
    ("application/json", Format::Json),
    ("application/x-ndjson", Format::Lines),
    ("application/jsonl", Format::Lines),
    ("application/x-npz", Format::Npz),
    ("application/zip", Format::Npz),
    ("application/octet-stream", Format::Npz),
];

impl Format {
    /// That of a media type.
    fn named(kind: &str) -> Option<Format> {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        FORMATS.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)).map(|(_, format)| *format)
    }

    /// That of a body: JSON unless its head says otherwise.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Format, Refusal> {
        let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(Format::Json) };
        let names = FORMATS.map(|(name, _)| name).join(", ");
        let other = || {
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("no body of Content-Type {kind:?} is read here. Give one of {names}"))
        };
        kind.to_str().ok().and_then(Format::named).ok_or_else(other)
    }

    /// That of the answer: the first that the head accepts, else that of the body.
    pub(super) fn of_answer(headers: &HeaderMap, body: Format) -> Format {
        let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
        accepted.split(',').find_map(Format::named).unwrap_or(body)
    }
}
