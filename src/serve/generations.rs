//! Sequences and texts that are continued for a request.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream::{Stream, unfold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::formats::Format;
use super::refusal::Refusal;
use super::run::Served;
use super::sequences::{self, Piece};
use super::shared::{Answer, Limits, Name, Shared, refused};
use crate::error::{Error, Result as Done};
use crate::generate::{Choice, Strategy};

/// A text or a sequence to continue.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    /// Text to continue, or numbers where the run is on numbers.
    prompt: Begin,
    /// How many numbers or tokens to add; without it 5 numbers, or 200 tokens of text.
    #[serde(alias = "tokens")]
    count: Option<usize>,
    /// Temperature of the softmax that is drawn from; 0 takes the most probable. Without it 0.8 for a text, and 0 for numbers, or 1 if only
    /// some of them take part.
    temperature: Option<f64>,
    /// So many of the most probable take part.
    top_k: Option<usize>,
    /// As few of the most probable take part as have this probability together.
    top_p: Option<f64>,
    /// Seed of what is drawn.
    #[serde(default = "one")]
    seed: u64,
    /// Beam search of this width.
    beam: Option<usize>,
    /// Text before which the answer ends.
    stop: Option<String>,
    /// Send each part as soon as it is known, as server-sent events.
    #[serde(default)]
    stream: bool,
}

/// What is to be continued.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "prompt: give a text, or a list of integers where the run is on numbers")]
enum Begin {
    Text(String),
    Numbers(Vec<u32>),
}

fn one() -> u64 {
    1
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, what))
}

/// The error of a command as one of a request: its options are keys here.
fn named(error: Error) -> Refusal {
    let refusal = Refusal::from(error);
    Refusal { message: refusal.message.replace("--top-p", "top_p").replace("--", ""), ..refusal }
}

impl Prompt {
    fn strategy(&self, of_text: bool, count: usize, most: usize) -> Result<Strategy, Refusal> {
        let Prompt { beam, temperature, top_k, top_p, seed, .. } = *self;
        if count == 0 || count > most {
            return wrong(format!("count = {count}: it must be from 1 to {most}"));
        }
        if beam.is_some() && (temperature.is_some() || top_k.is_some() || top_p.is_some()) {
            return wrong("give a beam, or a temperature, top_k and top_p, not both");
        }
        if let Some(width) = beam.filter(|width| !(1..=256).contains(width)) {
            return wrong(format!("beam = {width}: it must be from 1 to 256"));
        }
        if top_k == Some(0) {
            return wrong("top_k = 0: it must be at least 1");
        }
        if self.stop.is_some() && !of_text {
            return wrong("stop is for runs on text");
        }
        Choice { beam, temperature, top_k, top_p, seed: Some(seed) }.strategy(of_text).map_err(named)
    }

    /// The tokens of the prompt.
    async fn tokens(&self, run: &Served, limits: Limits) -> Result<Vec<u32>, Refusal> {
        let tokens = match (&self.prompt, run.tokenizer.clone()) {
            (Begin::Numbers(numbers), None) => numbers.clone(),
            (Begin::Text(_), None) => return wrong(format!("prompt: `{}` continues numbers, as in [1, 2, 4]", run.name)),
            (Begin::Numbers(_), Some(_)) => return wrong(format!("prompt: `{}` continues texts: give a string", run.name)),
            (Begin::Text(text), Some(tokenizer)) => {
                let text = text.clone();
                let encoded = spawn_blocking(move || tokenizer.encode(&text)).await.map_err(|_| Refusal::gone())?;
                match encoded {
                    Ok(tokens) if tokens.is_empty() => return wrong("prompt: it is empty: give the text at least one token to begin with"),
                    Ok(tokens) => tokens,
                    Err(why) => return wrong(format!("prompt: {why}")),
                }
            }
        };
        match tokens.len() <= limits.prompt {
            true => Ok(tokens),
            false => {
                let (has, most) = (tokens.len(), limits.prompt);
                Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("prompt: it has {has} numbers or tokens, and {most} are taken at most"),
                ))
            }
        }
    }
}

/// The answer as it grows.
#[derive(Debug, Default)]
struct Made {
    numbers: Vec<u32>,
    text: String,
}

impl Made {
    /// Takes a piece, and gives what an event of it holds; none at the end.
    fn take(&mut self, piece: Piece) -> Option<Value> {
        match piece {
            Piece::Number(number) => {
                self.numbers.push(number);
                Some(json!({ "number": number }))
            }
            Piece::Text(text) => {
                self.text.push_str(&text);
                Some(json!({ "text": text }))
            }
            Piece::End => None,
        }
    }

    fn whole(self, of_text: bool) -> (&'static str, Value) {
        if of_text { ("text", self.text.into()) } else { ("generated", json!(self.numbers)) }
    }
}

pub(super) async fn generate(State(shared): State<Arc<Shared>>, name: Name, headers: HeaderMap, body: Body) -> Answer {
    let run = shared.run(name)?;
    let none = || Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{}` continues no sequences: ask it to predict", run.name));
    let queue = run.sequences.as_ref().ok_or_else(none)?;
    let of_text = run.tokenizer.is_some();
    if Format::of_body(&headers)? != Format::Json {
        let such = if of_text { "{\"prompt\": \"Once\"}" } else { "{\"prompt\": [1, 2, 4]}" };
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("give application/json, such as {such}")));
    }
    let bytes = shared.body(body).await?;
    let asked: Prompt = serde_json::from_slice(&bytes).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body: {e}")),
        _ => Refusal::new(StatusCode::BAD_REQUEST, format!("the body: no JSON: {e}")),
    })?;
    let count = asked.count.unwrap_or(if of_text { 200.min(shared.limits.count) } else { 5 });
    let strategy = asked.strategy(of_text, count, shared.limits.count)?;
    let prompt = asked.tokens(run, shared.limits).await?;
    let (pieces, mut coming) = mpsc::unbounded_channel();
    queue.try_send(sequences::Job { prompt, count, strategy, stop: asked.stop.clone(), pieces }).map_err(refused)?;
    // What is wrong with a prompt is known before the first piece.
    let late = |_| Refusal::again(StatusCode::SERVICE_UNAVAILABLE, "other sequences are before this one: ask again", 1);
    let first = timeout(shared.limits.time, coming.recv()).await.map_err(late)?.ok_or_else(Refusal::gone)?.map_err(named)?;
    let events = headers.get(header::ACCEPT).is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.contains("text/event-stream")));
    if asked.stream || events {
        return Ok(Sse::new(events_of(first, coming, of_text)).into_response());
    }
    let (mut made, mut piece) = (Made::default(), first);
    while made.take(piece).is_some() {
        piece = coming.recv().await.ok_or_else(Refusal::gone)??;
    }
    let (what, whole) = made.whole(of_text);
    Ok(Json(json!({ "prompt": asked.prompt, what: whole })).into_response())
}

/// An event for each piece, and one at the end: `end` with all of them, or `error`.
fn events_of(first: Piece, coming: mpsc::UnboundedReceiver<Done<Piece>>, of_text: bool) -> impl Stream<Item = Done<Event>> {
    let state = Some((Some(first), coming, Made::default()));
    unfold(state, move |state| async move {
        let (first, mut coming, mut made) = state?;
        let next = match first {
            Some(first) => Ok(first),
            None => coming.recv().await.unwrap_or_else(|| Err(Error::Internal(Refusal::gone().message))),
        };
        Some(match next.map(|piece| made.take(piece)) {
            Ok(Some(event)) => (Ok(Event::default().data(event.to_string())), Some((None, coming, made))),
            Ok(None) => {
                let (what, whole) = made.whole(of_text);
                (Ok(Event::default().event("end").data(json!({ what: whole }).to_string())), None)
            }
            Err(error) => {
                let Refusal { status, message, .. } = error.into();
                let text = json!({ "error": { "status": status.as_u16(), "message": message } }).to_string();
                (Ok(Event::default().event("error").data(text)), None)
            }
        })
    })
}
