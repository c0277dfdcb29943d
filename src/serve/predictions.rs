//! Predictions for the samples of a request.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::batches::{Job, Predicted};
use super::formats::Format;
use super::refusal::Refusal;
use super::run::Served;
use super::shared::{Answer, Limits, Name, Shared, refused};
use crate::datasets::npz::Npz;
use crate::error::{Error, Result as Done};
use crate::predict::{Arrays, FileInputs, Predictors, Sample, Shapes, expect_classes, line};

/// Samples of equal shapes that were sent together, with their numbers and the names that their sender has for them.
#[derive(Debug, Default)]
struct Part {
    shapes: Shapes,
    inputs: Vec<(String, Vec<f32>)>,
    numbers: Vec<usize>,
    ids: Vec<Option<Value>>,
}

/// What is asked besides the samples.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Give the probabilities of all classes, too.
    #[serde(default)]
    probabilities: bool,
}

pub(super) async fn predict(State(shared): State<Arc<Shared>>, name: Name, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    let run = shared.run(name)?;
    let wrong = |why: &dyn Display| Refusal::new(StatusCode::BAD_REQUEST, format!("{why}: the query takes ?probabilities=true"));
    let Query(Asked { probabilities }) = Query::try_from_uri(&uri).map_err(|why| wrong(&why))?;
    let format = Format::of_body(&headers)?;
    let bytes = shared.body(body).await?;
    let parts = match format {
        Format::Npz => {
            let (models, most) = (run.models.clone(), shared.limits);
            let read = spawn_blocking(move || of_npz(&bytes, &models, most));
            read.await.map_err(|_| Refusal::gone())??
        }
        _ => of_json(&bytes, format == Format::Lines, run, shared.limits.samples)?,
    };
    let mut waiting = Vec::with_capacity(parts.len());
    for Part { shapes, inputs, numbers, ids } in parts {
        let (reply, answer) = oneshot::channel();
        run.predictions.try_send(Job { shapes, samples: numbers.len(), inputs, reply }).map_err(refused)?;
        waiting.push((answer, numbers, ids));
    }
    let computed = async {
        let mut done = Vec::with_capacity(waiting.len());
        for (answer, numbers, ids) in waiting {
            done.push((answer.await.map_err(|_| Refusal::gone())??, numbers, ids));
        }
        Ok::<_, Refusal>(done)
    };
    let late = |_| Refusal::again(StatusCode::SERVICE_UNAVAILABLE, "the answer was not computed in time: ask again, or less", 1);
    let done = timeout(shared.limits.time, computed).await.map_err(late)??;
    if probabilities {
        done.iter().try_for_each(|(predicted, ..)| expect_classes(&predicted.model, "probabilities"))?;
    }
    match Format::of_answer(&headers, format) {
        Format::Npz => {
            let packed = spawn_blocking(move || to_npz(&done, probabilities));
            let kind = [(header::CONTENT_TYPE, "application/x-npz")];
            Ok((kind, packed.await.map_err(|_| Refusal::gone())??).into_response())
        }
        answer => Ok(to_json(done, probabilities, format, answer)),
    }
}

fn too_many(most: usize) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a request takes {most} samples at most: send them in several"))
}

/// Samples of a JSON value, or of one in each line; those that follow each other with equal shapes are together.
fn of_json(bytes: &[u8], lines: bool, run: &Served, most: usize) -> Result<Vec<Part>, Refusal> {
    let bad = |place: &str, why: &dyn Display| Refusal::new(StatusCode::BAD_REQUEST, format!("{place}: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|_| bad("the body", &"it is no UTF-8 text"))?;
    let values: Vec<(String, &str)> = match lines {
        true => text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).map(|(line, n)| (format!("line {n}"), line)).collect(),
        false => vec![("the body".into(), text)],
    };
    match values.len() {
        0 => return Err(bad("the body", &"there is no sample")),
        count if count > most => return Err(too_many(most)),
        _ => {}
    }
    let mut parts: Vec<Part> = vec![];
    for (number, (place, line)) in values.into_iter().enumerate() {
        let value = serde_json::from_str(line).map_err(|e| bad(&place, &format!("no JSON: {e}")))?;
        let sample = Sample::of_json(run.models.data(), run.models.fields(), value, &place)?;
        let shapes = sample.shapes();
        if parts.last().is_none_or(|part| part.shapes != shapes) {
            let inputs = sample.inputs.iter().map(|(name, ..)| (name.clone(), vec![])).collect();
            parts.push(Part { shapes, inputs, ..Part::default() });
        }
        if let Some(part) = parts.last_mut() {
            part.inputs.iter_mut().zip(sample.inputs).for_each(|((_, all), (_, _, values))| all.extend(values));
            part.numbers.push(number);
            part.ids.push(sample.id);
        }
    }
    Ok(parts)
}

/// Samples of an archive of arrays. It is read from a file, as `engine predict` reads one.
fn of_npz(bytes: &[u8], models: &Predictors, limits: Limits) -> Result<Vec<Part>, Refusal> {
    let failed = |e: io::Error| Error::Internal(format!("a temporary file: {e}"));
    let mut file = tempfile::Builder::new().suffix(".npz").tempfile().map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // Messages name what the sender knows.
    let named = |error: Error| {
        let refusal = Refusal::from(error);
        Refusal { message: refusal.message.replace(&file.path().display().to_string(), "the body"), ..refusal }
    };
    let unpacked = Npz::open(file.path()).and_then(|mut npz| npz.members()).map_err(named)?;
    if unpacked.iter().map(|member| u128::from(member.bytes)).sum::<u128>() > limits.body as u128 {
        let what = format!("the arrays in the body have more than {} bytes: send fewer samples at once", limits.body);
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what));
    }
    let found = FileInputs::read(models.data(), models.fields(), file.path()).map_err(named)?;
    let count = found.count();
    if count > limits.samples {
        return Err(too_many(limits.samples));
    }
    let inputs = found.values(0, count).map_err(named)?;
    Ok(vec![Part { shapes: found.shapes(), inputs, ids: vec![None; count], numbers: found.numbers }])
}

/// Predictions, the numbers of their samples, and the names that their sender has for them.
type Computed = (Predicted, Vec<usize>, Vec<Option<Value>>);

fn to_npz(done: &[Computed], probabilities: bool) -> Done<Vec<u8>> {
    let mut arrays = Arrays::default();
    done.iter().try_for_each(|(predicted, numbers, _)| arrays.take(&predicted.model, numbers, &predicted.outputs))?;
    let failed = |e: io::Error| Error::Internal(format!("a temporary file: {e}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("answer.npz");
    arrays.write(&file, probabilities)?;
    std::fs::read(&file).map_err(failed)
}

fn to_json(done: Vec<Computed>, probabilities: bool, body: Format, answer: Format) -> Response {
    let mut lines = vec![];
    for (Predicted { outputs, model }, numbers, ids) in done {
        let len = outputs.len() / numbers.len().max(1);
        let samples = numbers.iter().zip(ids).zip(outputs.chunks(len.max(1)));
        lines.extend(samples.map(|((number, id), output)| line(&model, probabilities, *number, id, output)));
    }
    match (answer, &lines[..]) {
        (Format::Lines, _) => {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
        }
        // One value for one value.
        (_, [line]) if body == Format::Json => Json(line).into_response(),
        _ => Json(lines).into_response(),
    }
}
