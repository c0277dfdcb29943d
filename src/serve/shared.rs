//! What all requests share, and what they may ask.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tokio::time::timeout;

use super::guard::Rate;
use super::meters::Meters;
use super::refusal::Refusal;
use super::run::Served;

/// Bytes of a body that is too long that are still read, as long as they come without such a pause.
const READ_ON: usize = 64 << 20;
const QUIET: Duration = Duration::from_millis(500);

/// What a request gets.
pub(super) type Answer = Result<Response, Refusal>;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) runs: Vec<Served>,
    pub(super) meters: Arc<Meters>,
    pub(super) token: Option<String>,
    pub(super) rate: Option<Rate>,
    pub(super) limits: Limits,
    /// True once the server is to end.
    pub(super) ending: watch::Sender<bool>,
}

/// What a request may ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a body, and of the arrays that are packed in it.
    pub(crate) body: usize,
    /// Samples of a request.
    pub(crate) samples: usize,
    /// Numbers or tokens that a sequence is continued by.
    pub(crate) count: usize,
    /// Numbers or tokens of a prompt.
    pub(crate) prompt: usize,
    /// Time for the head of a request to arrive, for its body, and for its answer to be computed.
    pub(crate) time: Duration,
}

/// Who has connected.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// True once it has sent the head of a request.
    pub(super) asked: Arc<AtomicBool>,
}

/// Name of a run in a path.
pub(super) type Name = Result<Path<String>, PathRejection>;

/// Why a queue takes no more.
pub(super) fn refused<T>(error: TrySendError<T>) -> Refusal {
    match error {
        TrySendError::Full(_) => Refusal::full(),
        TrySendError::Closed(_) => Refusal::gone(),
    }
}

impl Shared {
    /// The run of this name.
    pub(super) fn run(&self, name: Name) -> Result<&Served, Refusal> {
        let Path(name) = name.map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, why.body_text()))?;
        let names = || self.runs.iter().map(|run| format!("`{}`", run.name)).collect::<Vec<_>>().join(", ");
        let none = || Refusal::new(StatusCode::NOT_FOUND, format!("no run `{name}`. There are {}", names()));
        self.runs.iter().find(|run| run.name == name).ok_or_else(none)
    }

    /// A whole body. What is too long is read on for a while: many clients look for an answer after they have sent all.
    pub(super) async fn body(&self, mut body: Body) -> Result<Vec<u8>, Refusal> {
        let Limits { body: most, time, .. } = self.limits;
        let slow = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("the body has not arrived within {time:?}"));
        let cut = |error: axum::Error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body was cut off: {error}"));
        let long =
            || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes: send fewer samples at once"));
        if body.size_hint().lower() > most.saturating_add(READ_ON) as u64 {
            return Err(long());
        }
        let whole = async {
            let (mut bytes, mut seen) = (vec![], 0usize);
            loop {
                let next = match seen <= most {
                    true => body.frame().await,
                    false => timeout(QUIET, body.frame()).await.unwrap_or(None),
                };
                let Some(frame) = next else { break };
                let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
                seen = seen.saturating_add(data.len());
                match seen <= most {
                    true => bytes.extend_from_slice(&data),
                    false if seen <= most.saturating_add(READ_ON) => bytes = vec![],
                    false => break,
                }
            }
            Ok::<_, Refusal>((bytes, seen))
        };
        match timeout(time, whole).await.map_err(slow)?? {
            (bytes, seen) if seen <= most => Ok(bytes),
            _ => Err(long()),
        }
    }
}
