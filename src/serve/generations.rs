//! Sequences that are continued for a request.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream::{Stream, unfold};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::formats::Format;
use super::refusal::Refusal;
use super::sequences;
use super::shared::{Answer, Name, Shared, refused};
use crate::error::{Error, Result as Done};
use crate::generate::{Sampling, Strategy};

/// A sequence to continue.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    /// Numbers to continue.
    prompt: Vec<u32>,
    /// How many numbers to add.
    #[serde(default = "five")]
    count: usize,
    /// Draw from the softmax at this temperature, instead of taking the most probable number.
    temperature: Option<f64>,
    /// Seed of the temperature.
    #[serde(default = "one")]
    seed: u64,
    /// Beam search of this width.
    beam: Option<usize>,
    /// Send each number as soon as it is known, as server-sent events.
    #[serde(default)]
    stream: bool,
}

fn five() -> usize {
    5
}

fn one() -> u64 {
    1
}

impl Prompt {
    fn strategy(&self, most: usize) -> Result<Strategy, Refusal> {
        let wrong = |what: String| Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, what));
        if self.count == 0 || self.count > most {
            return wrong(format!("count = {}: it must be from 1 to {most}", self.count));
        }
        match (self.beam, self.temperature) {
            (Some(_), Some(_)) => wrong("give a beam or a temperature, not both".into()),
            (Some(width), None) if (1..=256).contains(&width) => Ok(Strategy::Beam(width)),
            (Some(width), None) => wrong(format!("beam = {width}: it must be from 1 to 256")),
            (None, Some(t)) if t > 0.0 && t.is_finite() => {
                Ok(Strategy::Sampling(Sampling { temperature: t, seed: self.seed, top_k: None, top_p: None }))
            }
            (None, Some(t)) => wrong(format!("temperature = {t}: it must be above 0, and finite")),
            (None, None) => Ok(Strategy::Greedy),
        }
    }
}

pub(super) async fn generate(State(shared): State<Arc<Shared>>, name: Name, headers: HeaderMap, body: Body) -> Answer {
    let run = shared.run(name)?;
    let none = || Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{}` continues no sequences: ask it to predict", run.name));
    let queue = run.sequences.as_ref().ok_or_else(none)?;
    if Format::of_body(&headers)? != Format::Json {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "give application/json, such as {\"prompt\": [1, 2, 4]}"));
    }
    let bytes = shared.body(body).await?;
    let asked: Prompt = serde_json::from_slice(&bytes).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body: {e}")),
        _ => Refusal::new(StatusCode::BAD_REQUEST, format!("the body: no JSON: {e}")),
    })?;
    let strategy = asked.strategy(shared.limits.count)?;
    let (numbers, mut coming) = mpsc::unbounded_channel();
    let job = sequences::Job { prompt: asked.prompt.clone(), count: asked.count, strategy, numbers };
    queue.try_send(job).map_err(refused)?;
    // What is wrong with a prompt is known before the first number.
    let late = |_| Refusal::again(StatusCode::SERVICE_UNAVAILABLE, "other sequences are before this one: ask again", 1);
    let named = |error: Error| {
        let refusal = Refusal::from(error);
        Refusal { message: refusal.message.replace("--prompt", "prompt"), ..refusal }
    };
    let first = timeout(shared.limits.time, coming.recv()).await.map_err(late)?.ok_or_else(Refusal::gone)?.map_err(named)?;
    let events = headers.get(header::ACCEPT).is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.contains("text/event-stream")));
    if asked.stream || events {
        return Ok(Sse::new(events_of(first, coming)).into_response());
    }
    let mut generated = vec![first];
    while let Some(number) = coming.recv().await {
        generated.push(number?);
    }
    match generated.len() == asked.count {
        true => Ok(Json(json!({ "prompt": asked.prompt, "generated": generated })).into_response()),
        false => Err(Refusal::gone()),
    }
}

/// An event for each number, and one at the end: `end` with all of them, or `error`.
fn events_of(first: u32, coming: mpsc::UnboundedReceiver<Done<u32>>) -> impl Stream<Item = Done<Event>> {
    let number = |number: u32| Ok(Event::default().data(json!({ "number": number }).to_string()));
    let state = (Some(first), coming, vec![], false);
    unfold(state, move |(first, mut coming, mut all, over)| async move {
        if over {
            return None;
        }
        let next = match first {
            Some(first) => Some(Ok(first)),
            None => coming.recv().await,
        };
        let (event, over) = match next {
            Some(Ok(next)) => {
                all.push(next);
                (number(next), false)
            }
            Some(Err(error)) => {
                let Refusal { status, message, .. } = error.into();
                let text = json!({ "error": { "status": status.as_u16(), "message": message } }).to_string();
                (Ok(Event::default().event("error").data(text)), true)
            }
            None => (Ok(Event::default().event("end").data(json!({ "generated": all }).to_string())), true),
        };
        Some((event, (None, coming, all, over)))
    })
}
