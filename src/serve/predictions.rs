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

/// Samples of equal shapes in a request, with their numbers and the names that their sender has for them.
#[derive(Debug, Default)]
struct Part {
    /// Where the first of them stands, if they stand in lines.
    place: Option<String>,
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
    let late = |_| Refusal::again(StatusCode::SERVICE_UNAVAILABLE, "the answer was not computed in time: ask again, or less", 1);
    let mut waiting = Vec::with_capacity(parts.len());
    for (at, Part { place, shapes, inputs, numbers, ids }) in parts.into_iter().enumerate() {
        let (reply, answer) = oneshot::channel();
        let job = Job { shapes, samples: numbers.len(), inputs, reply };
        // One place in the queue is for all: where the first part has one, the others wait for theirs.
        match at {
            0 => run.predictions.try_send(job).map_err(refused)?,
            _ => timeout(shared.limits.time, run.predictions.send(job)).await.map_err(late)?.map_err(|_| Refusal::gone())?,
        }
        waiting.push((answer, place, numbers, ids));
    }
    let computed = async {
        let mut done = Vec::with_capacity(waiting.len());
        for (answer, place, numbers, ids) in waiting {
            let placed = |error: Error| {
                let refusal = Refusal::from(error);
                let message = place.map_or(refusal.message.clone(), |place| format!("from {place}: {}", refusal.message));
                Refusal { message, ..refusal }
            };
            done.push((answer.await.map_err(|_| Refusal::gone())?.map_err(placed)?, numbers, ids));
        }
        Ok::<_, Refusal>(done)
    };
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

/// Samples of a JSON value, or of one in each line; those of equal shapes are together.
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
        let value: Value = serde_json::from_str(line).map_err(|e| bad(&place, &format!("no JSON: {e}")))?;
        let listed = !lines && value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
        let sample = Sample::of_json(run.models.data(), run.models.fields(), value, &place).map_err(|error| {
            let refusal = Refusal::from(error);
            let hint = if listed { ". Several samples go one a line, as application/x-ndjson" } else { "" };
            Refusal { message: refusal.message + hint, ..refusal }
        })?;
        let shapes = sample.shapes();
        let at = parts.iter().position(|part| part.shapes == shapes).unwrap_or(parts.len());
        if at == parts.len() {
            let inputs = sample.inputs.iter().map(|(name, ..)| (name.clone(), vec![])).collect();
            parts.push(Part { place: lines.then(|| place.clone()), shapes, inputs, ..Part::default() });
        }
        if let Some(part) = parts.get_mut(at) {
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
    Ok(vec![Part { place: None, shapes: found.shapes(), inputs, ids: vec![None; count], numbers: found.numbers }])
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
    let mut numbered = vec![];
    for (Predicted { outputs, model }, numbers, ids) in done {
        let len = outputs.len() / numbers.len().max(1);
        let samples = numbers.iter().zip(ids).zip(outputs.chunks(len.max(1)));
        numbered.extend(samples.map(|((number, id), output)| (*number, line(&model, probabilities, *number, id, output))));
    }
    numbered.sort_by_key(|(number, _)| *number);
    let lines: Vec<_> = numbered.into_iter().map(|(_, line)| line).collect();
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
