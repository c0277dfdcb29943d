//! Making a run fit a budget: by smaller micro-batches, by computing parts of the forward pass again, and where that does not do by 16
//! bits.

use crate::config::{Config, Precision, TrainConfig};
use crate::error::{Error, Result};
use crate::gpu::{CARD, Target};
use crate::losses::LossKind;
use crate::metrics::bytes;
use crate::models::ModelKind;
use crate::plan::Recompute;
use crate::problem::{Problem, Table};
use crate::ranks::Ranks;
use crate::tasks::DataKind;

/// Number of micro-batch sizes that are tried for each way to recompute: the largest that fit.
const LARGEST: usize = 2;

/// Finds the fastest form of a run that fits a budget in bytes, among those whose steps have the same samples: the one with the shortest
/// step by what it costs an RX 6600 at least. A run that already fits is not changed, and 16 bits are used only if nothing fits with 32
/// bits. If the loss compares the samples of a micro-batch with each other, the micro-batch is kept. With several processes, each has the
/// budget.
///
/// # Errors
/// `Config` when nothing fits, and those of opening the problem.
pub fn fit<M, D, L>(config: &Config<M, D, L>, target: Target, budget: u64, ranks: Ranks) -> Result<Config<M, D, L>>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    let compares = Problem::open_for(config, ranks)?.loss().columns().compares;
    let asked_for = config.train.precision;
    for precision in [asked_for].into_iter().chain((asked_for.is_f32() && target.half).then_some(Precision::F16)) {
        let mut config = config.clone();
        config.train.precision = precision;
        if let Some(found) = fastest(&config, precision == asked_for, compares, (target, budget), ranks)? {
            return Ok(found);
        }
    }
    let batch = config.train.batch;
    Err(Error::Config(if compares {
        format!(
            "--fit: nothing fits {}. The loss compares the {batch} samples of a micro-batch with each other, so that none may be left out: \
             lower train.batch, which changes the loss, or raise --budget",
            bytes(budget)
        )
    } else {
        format!(
            "--fit: even train.batch = {} with train.recompute = \"full\" needs more than {}: make the model smaller, or raise --budget",
            ranks.count,
            bytes(budget)
        )
    }))
}

/// What `fit` has chosen, as keys of the run file.
pub fn chosen(train: &TrainConfig) -> String {
    let TrainConfig { batch, accumulate, recompute, precision, .. } = train;
    let [recompute, precision] = [serde_json::to_value(recompute), serde_json::to_value(precision)].map(|v| v.unwrap_or_default());
    format!("train.batch = {batch}, train.accumulate = {accumulate}, train.recompute = {recompute}, train.precision = {precision}")
}

/// The form of a run in its precision that fits and has the shortest step, if any fits; with `stays`, the unchanged run if that fits.
fn fastest<M, D, L>(
    config: &Config<M, D, L>,
    stays: bool,
    compares: bool,
    (target, budget): (Target, u64),
    ranks: Ranks,
) -> Result<Option<Config<M, D, L>>>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    let mut best: Option<(f64, Config<M, D, L>)> = None;
    for recompute in Recompute::ALL.into_iter().filter(|r| *r >= config.train.recompute) {
        let mut candidate = config.clone();
        candidate.train.recompute = recompute;
        let Some(most) = Problem::open_for(&candidate, ranks)?.largest_batch(target, budget).map(|part| part * ranks.count) else {
            continue;
        };
        if most >= candidate.train.batch && recompute.is_none() && stays {
            return Ok(Some(candidate));
        }
        let suits = |batch: &usize| batch.is_multiple_of(ranks.count) && (!compares || *batch == config.train.batch);
        let sizes = config.train.micro_batches(most.min(config.train.batch)).filter(suits);
        for batch in sizes.take(LARGEST) {
            let mut candidate = candidate.clone();
            (candidate.train.batch, candidate.train.accumulate) = (batch, config.train.samples() / batch);
            let seconds = Problem::open_for(&candidate, ranks)?.cost(&CARD)?.seconds;
            if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
                best = Some((seconds, candidate));
            }
        }
    }
    Ok(best.map(|(_, candidate)| candidate))
}
