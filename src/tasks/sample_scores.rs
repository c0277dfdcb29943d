//! How models of one's own samples are judged: predicted numbers in the unit of the data, and classes.

use std::sync::Arc;

use super::packing::Packing;
use super::scorecard::{ArrayValues, Arrays, Card, ClosingScores, Examples, Forecast, Scorecard, Test};
use crate::batch::Field;
use crate::datasets::samples::Samples;
use crate::error::Result;
use crate::losses::{Columns, Loss};
use crate::metrics::{Column, Metrics, first_largest};
use crate::session::Session;

/// Metrics of a model that predicts numbers.
pub(super) fn number_card(loss: &dyn Loss) -> Card {
    let mut validation_metrics = loss.columns().names;
    validation_metrics.extend(["mse", "rmse", "mae", "r2"]);
    Card { validation_metrics, of_samples: vec![], table_columns: number_columns(), chart: ("rmse", vec!["rmse"]) }
}

fn number_columns() -> Vec<Column> {
    vec![
        Column::new("rmse", "RMSE", Some(5)),
        Column::new("mae", "MAE", Some(5)),
        Column::new("r2", "R²", Some(4)),
        Column::new("mse", "MSE", Some(5)),
        Column::new("loss", "loss", Some(5)),
    ]
}

/// Metrics of a model that tells classes apart.
pub(super) fn class_card(loss: &dyn Loss) -> Card {
    let mut validation_metrics = loss.columns().names;
    validation_metrics.extend(["balanced_accuracy", "macro_f1"]);
    Card {
        validation_metrics,
        of_samples: vec![],
        table_columns: class_columns(),
        chart: ("accuracy", vec!["accuracy", "balanced_accuracy"]),
    }
}

fn class_columns() -> Vec<Column> {
    vec![
        Column::new("accuracy", "accuracy", None),
        Column::new("balanced_accuracy", "balanced", None),
        Column::new("macro_f1", "macro F1", Some(4)),
        Column::new("cross_entropy", "cross-entropy", Some(4)),
        Column::new("loss", "loss", Some(4)),
    ]
}

/// Sums from which the metrics of predicted numbers follow.
#[derive(Debug, Clone)]
struct Errors {
    squares: f64,
    absolutes: f64,
    /// Number, sum and sum of squares of the targets less the first of them, by feature.
    targets: Vec<(f64, f64, f64)>,
    first: Vec<f64>,
}

impl Errors {
    fn new(features: usize) -> Self {
        Errors { squares: 0.0, absolutes: 0.0, targets: vec![(0.0, 0.0, 0.0); features], first: vec![] }
    }

    /// Adds a row of predictions and targets, in the unit of the data.
    fn add(&mut self, predicted: &[f32], target: &[f32]) {
        if self.first.is_empty() {
            self.first = target.iter().map(|t| f64::from(*t)).collect();
        }
        for (c, (p, t)) in predicted.iter().zip(target).enumerate() {
            let (p, t) = (f64::from(*p), f64::from(*t));
            self.squares += (p - t) * (p - t);
            self.absolutes += (p - t).abs();
            let t = t - self.first[c];
            let (count, sum, squares) = &mut self.targets[c];
            (*count, *sum, *squares) = (*count + 1.0, *sum + t, *squares + t * t);
        }
    }

    /// Mean squared error, its root, mean absolute error, and R² = 1 − Σ (t − p)² / Σ (t − mean)², the means by feature.
    fn metrics(&self) -> Vec<(String, f64)> {
        let count: f64 = self.targets.iter().map(|(count, ..)| count).sum();
        let spread: f64 = self.targets.iter().map(|(count, sum, squares)| squares - sum * sum / count).sum();
        let mse = self.squares / count;
        let named = [
            ("mse", mse),
            ("rmse", mse.sqrt()),
            ("mae", self.absolutes / count),
            ("r2", if spread > 0.0 { 1.0 - self.squares / spread } else { f64::NAN }),
        ];
        named.map(|(name, value)| (name.to_string(), value)).into()
    }
}

/// Samples that a model is judged by, whatever it predicts.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) samples: Arc<Samples>,
    pub(super) packing: Packing,
    /// Samples that the model was trained on, with their numbers, if they are there.
    pub(super) reference: Option<(Arc<Samples>, Vec<usize>)>,
    pub(super) validation: Vec<usize>,
    pub(super) columns: Columns,
    pub(super) target: Field,
}

impl Judged {
    /// Means of the loss's columns over the validation samples. Each sample is handed on with its outputs.
    fn means(&self, session: &Session, mut each: impl FnMut(usize, &[f32])) -> Result<Vec<(String, f64)>> {
        let (mut sums, mut counted) = (vec![0.0; self.columns.names.len()], 0.0);
        for chunk in self.validation.chunks(session.batch()) {
            let batch = self.packing.pack(&self.samples, chunk, session.batch());
            let (rows, outputs) = session.evaluate_both(&batch)?;
            rows.iter().for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value)));
            counted += session.evaluation().1.feed.count(&batch) as f64;
            chunk.iter().zip(outputs.chunks(outputs.len() / session.batch())).for_each(|(sample, output)| each(*sample, output));
        }
        Ok(self.columns.names.iter().zip(sums).map(|(name, sum)| (name.to_string(), sum / counted)).collect())
    }

    /// Values of the target of a sample that count.
    fn truth(&self, sample: usize) -> &[f32] {
        self.truth_of(&self.samples, sample)
    }

    fn truth_of<'a>(&self, samples: &'a Samples, sample: usize) -> &'a [f32] {
        samples.fields.last().map_or(&[], |column| samples.counted(column, sample))
    }

    /// Arrays with a prediction for each sample, and with their rows in the file.
    fn arrays(&self, predictions: ArrayValues, samples: &[usize]) -> Arrays {
        let rows: Vec<i32> = samples.iter().map(|sample| self.samples.rows[*sample] as i32).collect();
        let shape = [&[rows.len()], &self.target.shape[..]].concat();
        vec![("predictions".into(), shape, predictions), ("rows".into(), vec![rows.len()], ArrayValues::Integers(rows))]
    }
}

/// Predictions of a sample in the unit of the data, with its number.
type Predicted = (usize, Vec<f32>);

/// Scorecard of models that predict numbers.
#[derive(Debug)]
pub(super) struct NumberScorecard {
    pub(super) judged: Judged,
    /// Input field and its features that have the past of the target, of windows.
    pub(super) series: Option<(usize, Vec<usize>)>,
    pub(super) season: Option<usize>,
}

impl NumberScorecard {
    /// Rows of the target in the unit of the data.
    fn in_unit(&self, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        self.judged.target.normalization.undo(&mut values, self.judged.target.features());
        values
    }

    fn truth(&self, sample: usize) -> Vec<f32> {
        self.in_unit(self.judged.truth(sample))
    }

    /// Metrics over the validation samples, and the predictions of each in the unit of the data.
    fn evaluate(&self, session: &Session, mut each: impl FnMut(usize, Vec<f32>)) -> Result<Metrics> {
        let features = self.judged.target.features();
        let mut errors = Errors::new(features);
        let mut metrics = self.judged.means(session, |sample, output| {
            let truth = self.truth(sample);
            let predicted = self.in_unit(&output[..truth.len()]);
            predicted.chunks(features).zip(truth.chunks(features)).for_each(|(p, t)| errors.add(p, t));
            each(sample, predicted);
        })?;
        metrics.extend(errors.metrics());
        Ok(Metrics(metrics))
    }

    /// Metrics of a guess for each validation sample.
    fn guessed(&self, guess: impl Fn(usize, usize) -> Vec<f32>) -> Metrics {
        let features = self.judged.target.features();
        let mut errors = Errors::new(features);
        for sample in &self.judged.validation {
            let truth = self.truth(*sample);
            truth.chunks(features).enumerate().for_each(|(position, row)| errors.add(&guess(*sample, position), row));
        }
        Metrics(errors.metrics())
    }

    /// Value of the target's series at a moment of the context of a sample, in the unit of the data.
    fn past(&self, sample: usize, moment: usize, (field, features): &(usize, Vec<usize>)) -> Vec<f32> {
        let column = &self.judged.samples.fields[*field];
        let row = &column.sample(sample)[moment * column.features()..][..column.features()];
        let normalization = self.judged.packing.normalization(*field);
        let mut row = row.to_vec();
        let width = row.len();
        normalization.undo(&mut row, width);
        features.iter().map(|feature| row[*feature]).collect()
    }

    /// Some forecasts of the target's first feature, or pairs of true and predicted numbers.
    fn examples(&self, predictions: &[Predicted]) -> Examples {
        const FORECASTS: usize = 4;
        const PAIRS: usize = 2000;
        let features = self.judged.target.features();
        let first = |values: &[f32]| values.iter().step_by(features).map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let Some(series) = &self.series else {
            let pairs = predictions.iter().flat_map(|(sample, predicted)| {
                self.truth(*sample).into_iter().zip(predicted.clone()).map(|(t, p)| (f64::from(t), f64::from(p))).collect::<Vec<_>>()
            });
            let pairs: Vec<(f64, f64)> = pairs.collect();
            return Examples::Pairs(pairs.iter().step_by(pairs.len().div_ceil(PAIRS).max(1)).copied().collect());
        };
        let horizon = self.judged.target.len() / features;
        let errors: Vec<Vec<f64>> = predictions
            .iter()
            .map(|(sample, predicted)| first(predicted).iter().zip(first(&self.truth(*sample))).map(|(p, t)| (p - t).abs()).collect())
            .collect();
        let band: Vec<f64> = (0..horizon)
            .map(|position| {
                let mut errors: Vec<f64> = errors.iter().map(|errors| errors[position]).collect();
                errors.sort_by(f64::total_cmp);
                errors.get(errors.len() * 9 / 10).or(errors.last()).copied().unwrap_or(0.0)
            })
            .collect();
        let context = self.judged.samples.fields[series.0].known.shape[0];
        let forecast = |(sample, predicted): &Predicted| Forecast {
            name: format!("window from row {}", self.judged.samples.rows[*sample]),
            past: (0..context).map(|moment| f64::from(self.past(*sample, moment, series)[0])).collect(),
            truth: first(&self.truth(*sample)),
            predicted: first(predicted),
            band: band.clone(),
        };
        let step = predictions.len().div_ceil(FORECASTS).max(1);
        Examples::Forecasts(predictions.iter().step_by(step).map(forecast).collect())
    }

    fn rows_of_baselines(&self) -> Vec<(&'static str, Metrics)> {
        let features = self.judged.target.features();
        let mut rows = vec![];
        if let Some((samples, train)) = &self.judged.reference {
            let (mut sums, mut count) = (vec![0f64; features], 0.0);
            for sample in train {
                for row in self.in_unit(self.judged.truth_of(samples, *sample)).chunks(features) {
                    row.iter().zip(&mut sums).for_each(|(value, sum)| *sum += f64::from(*value));
                    count += 1.0;
                }
            }
            let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
            rows.push(("mean", self.guessed(|_, _| mean.clone())));
        }
        if let Some(series) = &self.series {
            let context = self.judged.samples.fields[series.0].known.shape[0];
            rows.push(("last value", self.guessed(|sample, _| self.past(sample, context - 1, series))));
            if let Some(season) = self.season.filter(|season| *season <= context) {
                let moment = |position: usize| context - season + position % season;
                rows.push(("last season", self.guessed(|sample, position| self.past(sample, moment(position), series))));
            }
        }
        rows
    }

    /// Closing scores, and the predictions of each validation sample.
    fn close(&self, session: &Session) -> Result<(ClosingScores, Vec<Predicted>)> {
        let mut predictions = vec![];
        let mine = self.evaluate(session, |sample, predicted| predictions.push((sample, predicted)))?;
        let notes = vec![format!(
            "In the unit of the data, over {} validation samples; the loss is that of the normalised target.",
            predictions.len()
        )];
        let baselines = self.rows_of_baselines().into_iter().map(|(name, metrics)| (name.to_string(), metrics)).collect();
        let scores = ClosingScores::beside(vec![("this model".into(), mine)], baselines, &number_columns(), notes);
        Ok((ClosingScores { examples: Some(self.examples(&predictions)), ..scores }, predictions))
    }
}

impl Scorecard for NumberScorecard {
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        self.evaluate(session, |_, _| {})
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        // The one that is hardest to beat.
        let error = |of: &(&str, Metrics)| of.1.get("rmse").unwrap_or(f64::INFINITY);
        self.rows_of_baselines().into_iter().min_by(|a, b| error(a).total_cmp(&error(b))).into_iter().collect()
    }

    fn closing_scores(&self, session: &Session, _step: u64) -> Result<ClosingScores> {
        Ok(self.close(session)?.0)
    }

    fn test(&self, session: &Session, test: Test) -> Result<(ClosingScores, Arrays)> {
        test.without_sequences()?;
        let (scores, predictions) = self.close(session)?;
        if !test.predictions {
            return Ok((scores, vec![]));
        }
        let (samples, outputs): (Vec<usize>, Vec<Vec<f32>>) = predictions.into_iter().unzip();
        let padded = |mut predicted: Vec<f32>| {
            predicted.resize(self.judged.target.len(), f32::NAN);
            predicted
        };
        let outputs = outputs.into_iter().flat_map(padded).collect();
        Ok((scores, self.judged.arrays(ArrayValues::Floats(outputs), &samples)))
    }
}

/// Scorecard of models that tell classes apart.
#[derive(Debug)]
pub(super) struct ClassScorecard(pub(super) Judged);

/// Number of samples of each true class (rows) by the class that is predicted.
struct Confusion {
    counts: Vec<Vec<usize>>,
}

impl Confusion {
    fn new(classes: usize) -> Self {
        Confusion { counts: vec![vec![0; classes]; classes] }
    }

    /// Accuracy, the mean of the recalls of the classes that occur, and the mean of their F1.
    fn metrics(&self) -> Vec<(String, f64)> {
        let classes = self.counts.len();
        let (mut recalls, mut f1s) = (vec![], vec![]);
        for class in 0..classes {
            let right = self.counts[class][class] as f64;
            let truly = self.counts[class].iter().sum::<usize>() as f64;
            let guessed = self.counts.iter().map(|row| row[class]).sum::<usize>() as f64;
            if truly > 0.0 {
                recalls.push(right / truly);
            }
            // As scikit-learn: classes that occur as a target or as a prediction.
            if truly + guessed > 0.0 {
                f1s.push(2.0 * right / (truly + guessed));
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let all = self.counts.iter().flatten().sum::<usize>() as f64;
        let right: usize = (0..classes).map(|class| self.counts[class][class]).sum();
        let named = [("accuracy", right as f64 / all), ("balanced_accuracy", mean(&recalls)), ("macro_f1", mean(&f1s))];
        named.map(|(name, value)| (name.to_string(), value)).into()
    }

    /// A table of the counts.
    fn table(&self, names: &[String]) -> String {
        let width = names.iter().map(|name| name.chars().count()).chain([5]).max().unwrap_or(5);
        let cell = self.counts.iter().flatten().map(|count| count.to_string().len()).max().unwrap_or(1).max(width) + 2;
        let mut out = format!("Confusion: a row for each true class, a column for each predicted one.\n{:width$}", "");
        names.iter().for_each(|name| out += &format!("{name:>cell$}"));
        for (name, row) in names.iter().zip(&self.counts) {
            out += &format!("\n{name:width$}");
            row.iter().for_each(|count| out += &format!("{count:>cell$}"));
        }
        out
    }
}

impl ClassScorecard {
    fn classes(&self) -> usize {
        self.0.target.below.unwrap_or(1)
    }

    /// Class with the largest logit for each row of outputs, in which the classes may be followed by what fills it up.
    fn predicted<'a>(&self, output: &'a [f32]) -> impl Iterator<Item = usize> + use<'a> {
        let classes = self.classes();
        output.chunks(output.len() / self.0.target.len().max(1)).map(move |row| first_largest(&row[..classes]))
    }

    /// Metrics over the validation samples; each is handed on with its logits.
    fn evaluate(&self, session: &Session, mut each: impl FnMut(usize, &[f32])) -> Result<(Metrics, Confusion)> {
        let mut confusion = Confusion::new(self.classes());
        let means = self.0.means(session, |sample, output| {
            let both = self.0.truth(sample).iter().zip(self.predicted(output));
            both.for_each(|(class, predicted)| confusion.counts[*class as usize][predicted] += 1);
            each(sample, output);
        })?;
        let own = confusion.metrics();
        let mut metrics: Vec<(String, f64)> = means.into_iter().filter(|(name, _)| own.iter().all(|(other, _)| other != name)).collect();
        metrics.extend(own);
        Ok((Metrics(metrics), confusion))
    }

    /// Metrics of the class that most training samples have.
    fn majority(&self) -> Option<Metrics> {
        let (samples, train) = self.0.reference.as_ref()?;
        let mut counts = vec![0usize; self.classes()];
        train.iter().flat_map(|sample| self.0.truth_of(samples, *sample)).for_each(|class| counts[*class as usize] += 1);
        let most = (0..counts.len()).max_by_key(|class| (counts[*class], usize::MAX - class)).unwrap_or(0);
        let mut confusion = Confusion::new(self.classes());
        let truth = self.0.validation.iter().flat_map(|sample| self.0.truth(*sample));
        truth.for_each(|class| confusion.counts[*class as usize][most] += 1);
        Some(Metrics(confusion.metrics()))
    }

    /// Closing scores; each validation sample is handed on with its logits.
    fn close(&self, session: &Session, each: impl FnMut(usize, &[f32])) -> Result<ClosingScores> {
        const SHOWN: usize = 20;
        let (mine, confusion) = self.evaluate(session, each)?;
        let names: Vec<String> = match self.0.target.words.is_empty() {
            true => (0..self.classes()).map(|class| class.to_string()).collect(),
            false => self.0.target.words.clone(),
        };
        let few = self.classes() <= SHOWN;
        let notes = if few { vec![confusion.table(&names)] } else { vec![] };
        let baselines = self.majority().map(|metrics| ("majority class".to_string(), metrics)).into_iter().collect();
        let scores = ClosingScores::beside(vec![("this model".into(), mine)], baselines, &class_columns(), notes);
        Ok(ClosingScores { examples: few.then_some(Examples::Confusion(names, confusion.counts)), ..scores })
    }
}

impl Scorecard for ClassScorecard {
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        Ok(self.evaluate(session, |_, _| {})?.0)
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        self.majority().map(|metrics| ("majority class", metrics)).into_iter().collect()
    }

    fn closing_scores(&self, session: &Session, _step: u64) -> Result<ClosingScores> {
        self.close(session, |_, _| {})
    }

    fn test(&self, session: &Session, test: Test) -> Result<(ClosingScores, Arrays)> {
        test.without_sequences()?;
        let (mut logits, mut samples) = (vec![], vec![]);
        let scores = self.close(session, |sample, output| {
            if test.predictions {
                samples.push(sample);
                logits.extend_from_slice(output);
            }
        })?;
        if !test.predictions {
            return Ok((scores, vec![]));
        }
        let best =
            logits.chunks(logits.len() / samples.len()).flat_map(|output| self.predicted(output)).map(|class| class as i32).collect();
        let mut arrays = self.0.arrays(ArrayValues::Integers(best), &samples);
        let width = logits.len() / samples.len() / self.0.target.len().max(1);
        let shape = [&[samples.len()], &self.0.target.shape[..], &[width]].concat();
        arrays.insert(1, ("logits".into(), shape, ArrayValues::Floats(logits)));
        Ok((scores, arrays))
    }
}
