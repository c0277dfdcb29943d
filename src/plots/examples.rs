//! Pictures of what a model predicts, beside what is true.

#[cfg(feature = "cli")]
use super::plot::{Axis, Chart, Curve, Ink, Stroke, escaped, shortened, svg};

/// Predictions of a model that are worth looking at.
#[derive(Debug, Clone, PartialEq)]
pub enum Examples {
    /// Forecasts of a series.
    Forecasts(Vec<Forecast>),
    /// True and predicted numbers, as pairs.
    Pairs(Vec<(f64, f64)>),
    /// Number of samples of each true class (rows) by the class that is predicted, and the names of the classes.
    Confusion(Vec<String>, Vec<Vec<usize>>),
}

/// A forecast of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Name of the sample.
    pub name: String,
    /// Values before the forecast.
    pub past: Vec<f64>,
    /// True values.
    pub truth: Vec<f64>,
    /// Predicted values.
    pub predicted: Vec<f64>,
    /// Error that nine of ten predictions stay below, at each distance from the past.
    pub band: Vec<f64>,
}

/// SVG text of predictions.
#[cfg(feature = "cli")]
pub(crate) fn picture(examples: &Examples) -> String {
    let chart = |title: &str, x: &str, curves| Chart {
        title: title.into(),
        x: x.into(),
        axis: Axis::Numbers,
        curves,
        loss: false,
        best: None,
        small: false,
    };
    match examples {
        Examples::Forecasts(forecasts) => {
            svg(&forecasts.iter().map(|forecast| chart(&forecast.name, "moment", forecast.curves())).collect::<Vec<_>>())
        }
        Examples::Pairs(pairs) => {
            let (low, high) = pairs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (t, _)| (l.min(*t), h.max(*t)));
            let equal = vec![(low, low), (high, high)].into();
            let curves = vec![
                Curve { name: "predicted = true".into(), points: equal, ink: Ink::Grey, stroke: Stroke::Dashed },
                Curve { name: "a sample".into(), points: pairs.into(), ink: Ink::Series(0), stroke: Stroke::Points },
            ];
            svg(&[chart("predicted by true value", "true", curves)])
        }
        Examples::Confusion(names, counts) => confusion(names, counts),
    }
}

#[cfg(feature = "cli")]
impl Forecast {
    /// What is true over what is predicted over what was before.
    fn curves(&self) -> Vec<Curve<'static>> {
        let past = self.past.len() as f64;
        let later = |values: &[f64]| values.iter().enumerate().map(|(i, v)| (past + i as f64, *v)).collect::<Vec<_>>();
        let edge = |sign: f64| later(&self.predicted.iter().zip(&self.band).map(|(v, width)| v + sign * width).collect::<Vec<_>>());
        let before: Vec<(f64, f64)> = self.past.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect();
        let curve = |name: &str, points: Vec<(f64, f64)>, ink, stroke| Curve { name: name.into(), points: points.into(), ink, stroke };
        vec![
            curve("true", later(&self.truth), Ink::Series(0), Stroke::Full),
            curve("predicted", later(&self.predicted), Ink::Series(1), Stroke::Full),
            curve("nine of ten errors are smaller", edge(1.0), Ink::Series(1), Stroke::Dashed),
            curve("", edge(-1.0), Ink::Series(1), Stroke::Dashed),
            curve("past", before, Ink::Grey, Stroke::Full),
        ]
    }
}

#[cfg(feature = "cli")]
fn confusion(names: &[String], counts: &[Vec<usize>]) -> String {
    use std::fmt::Write as _;
    const CELL: usize = 46;
    const NAMES: usize = 150;
    let side = NAMES + CELL * counts.len() + 20;
    let mut out = String::from("<text class=\"soft\" x=\"10\" y=\"20\">true class by row, predicted by column</text>\n");
    for (row, values) in counts.iter().enumerate() {
        let all = values.iter().sum::<usize>().max(1) as f64;
        let (top, name) = (NAMES + CELL * row, escaped(&shortened(&names[row], 18)));
        let middle = top + CELL / 2;
        let _ = writeln!(out, "<text class=\"ink end\" x=\"{}\" y=\"{}\">{name}</text>", NAMES - 8, middle + 5);
        let _ = writeln!(out, "<text class=\"ink\" transform=\"translate({} {}) rotate(-90)\">{name}</text>", middle + 5, NAMES - 8);
        for (column, count) in values.iter().enumerate() {
            let (left, share) = (NAMES + CELL * column, *count as f64 / all);
            let ink = if share > 0.6 { "paper" } else { "ink" };
            let _ = writeln!(
                out,
                "<rect class=\"s0\" x=\"{left}\" y=\"{top}\" width=\"{CELL}\" height=\"{CELL}\" fill-opacity=\"{share:.2}\" stroke-opacity=\"0.25\"/>\
                 <text class=\"{ink} middle\" x=\"{}\" y=\"{}\">{count}</text>",
                left + CELL / 2,
                middle + 5
            );
        }
    }
    super::plot::picture(side.max(300) as f64, side as f64, &out)
}

#[cfg(test)]
#[cfg(feature = "cli")]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_drawn_with_what_is_true() {
        let forecast = Forecast {
            name: "row 7".into(),
            past: vec![1.0, 2.0, 3.0],
            truth: vec![4.0, 5.0],
            predicted: vec![4.5, 4.0],
            band: vec![0.5, 1.0],
        };
        let text = picture(&Examples::Forecasts(vec![forecast; 2]));
        assert!(text.contains("nine of ten") && text.matches("row 7").count() == 2, "{text}");
        let pairs: Vec<(f64, f64)> = (0..20).map(|i| (100.0 + f64::from(i), 99.0 + f64::from(i))).collect();
        let text = picture(&Examples::Pairs(pairs));
        assert!(text.contains("predicted = true") && text.matches("<circle").count() == 21);
        let text = picture(&Examples::Confusion(vec!["a<b".into(), "c".into()], vec![vec![3, 1], vec![0, 0]]));
        assert!(text.contains("a&lt;b") && text.contains("</svg>"));
    }
}
