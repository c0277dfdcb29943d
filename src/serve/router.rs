//! The paths, and who may ask for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::{Extension, MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::doc;
use super::generations::generate;
use super::guard::expect_token;
use super::predictions::predict;
use super::refusal::Refusal;
use super::shared::{Answer, Name, Peer, Shared};

/// All paths.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let wrong_method = || async { Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path has another method: see /openapi.json") };
    let no_path = || async { Refusal::new(StatusCode::NOT_FOUND, "no such path: see /openapi.json") };
    Router::new()
        .route("/health", get(|| async { Json(json!({ "status": "up" })) }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(|| async { Json(doc::openapi()) }))
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{name}", get(run))
        .route("/v1/runs/{name}/predict", post(predict))
        .route("/v1/runs/{name}/generate", post(generate))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_path)
        .layer(from_fn_with_state(shared.clone(), counted))
        .with_state(shared)
}

/// Answers who may ask, and counts the answer.
async fn counted(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    peer.asked.store(true, Ordering::Relaxed);
    let path = request.extensions().get::<MatchedPath>().map_or("other".to_string(), |path| path.as_str().to_string());
    // Those who watch the server need no token.
    let refused = match path.as_str() {
        "/health" | "/ready" => Ok(()),
        _ => {
            let room = shared.rate.as_ref().map_or(Ok(()), |rate| rate.expect_room(peer.address, started));
            room.and_then(|()| expect_token(shared.token.as_deref(), request.headers()))
        }
    };
    let response = match refused {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    shared.meters.answered(&path, response.status().as_u16(), started.elapsed().as_secs_f64());
    response
}

async fn ready(State(shared): State<Arc<Shared>>) -> Answer {
    if *shared.ending.borrow() {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server ends"));
    }
    match shared.runs.iter().find(|run| !run.is_ready()) {
        None => Ok(Json(json!({ "status": "ready" })).into_response()),
        Some(run) => {
            let what = format!("the device did not compute the last batch of `{}`", run.name);
            Err(Refusal::again(StatusCode::SERVICE_UNAVAILABLE, what, 1))
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Answer {
    let queued = shared.runs.iter().flat_map(|run| run.queued().map(|(what, count)| (run.name.clone(), what, count)));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], shared.meters.text(queued)?).into_response())
}

async fn runs(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "runs": shared.runs.iter().map(|run| &run.about).collect::<Vec<_>>() }))
}

async fn run(State(shared): State<Arc<Shared>>, name: Name) -> Answer {
    Ok(Json(&shared.run(name)?.about).into_response())
}
