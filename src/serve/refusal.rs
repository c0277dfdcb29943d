//! Why a request has no answer, as JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::Error;

/// A status and a message: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// Seconds after which the same request may be answered.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), retry_after: None }
    }

    /// The same request may be answered after so many seconds.
    pub(super) fn again(status: StatusCode, message: impl Into<String>, seconds: u64) -> Refusal {
        Refusal { retry_after: Some(seconds), ..Refusal::new(status, message) }
    }

    /// More waits than may wait.
    pub(super) fn full() -> Refusal {
        Refusal::again(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for this run: ask again", 1)
    }

    /// The thread of a run is no more.
    pub(super) fn gone() -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the thread that computes for this run has ended: start the server again")
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let message = error.to_string();
        match error {
            Error::Data(_) | Error::Config(_) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            Error::TryAgain(_) | Error::Lost(_) | Error::NoGpu(_) => Refusal::again(StatusCode::SERVICE_UNAVAILABLE, message, 1),
            _ => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "status": self.status.as_u16(), "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
