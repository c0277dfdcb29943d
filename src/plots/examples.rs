//! Pictures of what a model predicts, beside what is true.

#[cfg(feature = "cli")]
use plotters::prelude::*;

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
///
/// # Errors
/// A message when drawing fails.
#[cfg(feature = "cli")]
pub(crate) fn picture(examples: &Examples) -> Result<String, String> {
    use super::plot::{Chart, Curve, Stroke, svg};
    match examples {
        Examples::Forecasts(forecasts) => {
            let chart = |forecast: &Forecast| {
                let past = forecast.past.len() as f64;
                let later = |values: &[f64]| values.iter().enumerate().map(|(i, v)| (past + i as f64, *v)).collect::<Vec<_>>();
                let edge = |sign: f64| {
                    let edge: Vec<f64> = forecast.predicted.iter().zip(&forecast.band).map(|(v, width)| v + sign * width).collect();
                    later(&edge)
                };
                let before: Vec<(f64, f64)> = forecast.past.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect();
                let curve =
                    |name: &str, points: Vec<(f64, f64)>, color, stroke| Curve { name: name.into(), points: points.into(), color, stroke };
                Chart {
                    title: forecast.name.clone(),
                    x: "moment".into(),
                    curves: vec![
                        curve("past", before, 9, Stroke::Full),
                        curve("true", later(&forecast.truth), 0, Stroke::Full),
                        curve("predicted", later(&forecast.predicted), 1, Stroke::Full),
                        curve("nine of ten errors are smaller", edge(1.0), 1, Stroke::Dashed),
                        curve("", edge(-1.0), 1, Stroke::Dashed),
                    ],
                    loss: false,
                }
            };
            svg(&forecasts.iter().map(chart).collect::<Vec<_>>())
        }
        Examples::Pairs(pairs) => {
            let (low, high) = pairs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (t, _)| (l.min(*t), h.max(*t)));
            let points = Curve { name: "a sample".into(), points: pairs.into(), color: 0, stroke: Stroke::Points };
            let equal =
                Curve { name: "predicted = true".into(), points: vec![(low, low), (high, high)].into(), color: 0, stroke: Stroke::Dashed };
            svg(&[Chart { title: "predicted by true value".into(), x: "true".into(), curves: vec![points, equal], loss: false }])
        }
        Examples::Confusion(names, counts) => confusion(names, counts).map_err(|e| e.to_string()),
    }
}

#[cfg(feature = "cli")]
fn confusion(names: &[String], counts: &[Vec<usize>]) -> Result<String, Box<dyn std::error::Error>> {
    use crate::error::visible;
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    const CELL: i32 = 44;
    const NAMES: i32 = 150;
    let side = CELL * counts.len() as i32;
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, ((NAMES + side + 20) as u32, (NAMES + side + 20) as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let short = |name: &str| visible(name).chars().take(18).collect::<String>();
        let style = |h, v| ("sans-serif", 12).into_text_style(&root).pos(Pos::new(h, v));
        root.draw(&Text::new("true class by row, predicted by column".to_string(), (10, 16), style(HPos::Left, VPos::Center)))?;
        for (row, values) in counts.iter().enumerate() {
            let all = values.iter().sum::<usize>().max(1) as f64;
            let top = NAMES + CELL * row as i32;
            root.draw(&Text::new(short(&names[row]), (NAMES - 8, top + CELL / 2), style(HPos::Right, VPos::Center)))?;
            let upright =
                ("sans-serif", 12).into_text_style(&root).pos(Pos::new(HPos::Left, VPos::Center)).transform(FontTransform::Rotate270);
            root.draw(&Text::new(short(&names[row]), (NAMES + CELL * row as i32 + CELL / 2, NAMES - 8), upright))?;
            for (column, count) in values.iter().enumerate() {
                let left = NAMES + CELL * column as i32;
                let share = *count as f64 / all;
                let color = RGBColor(45, 95, 165).mix(share);
                root.draw(&Rectangle::new([(left, top), (left + CELL, top + CELL)], color.filled()))?;
                root.draw(&Rectangle::new([(left, top), (left + CELL, top + CELL)], RGBColor(228, 228, 228).stroke_width(1)))?;
                let ink = if share > 0.6 { &WHITE } else { &BLACK };
                let text = ("sans-serif", 12).into_text_style(&root).color(ink).pos(Pos::new(HPos::Center, VPos::Center));
                root.draw(&Text::new(count.to_string(), (left + CELL / 2, top + CELL / 2), text))?;
            }
        }
        root.present()?;
    }
    Ok(out)
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
        let text = picture(&Examples::Forecasts(vec![forecast; 2])).unwrap();
        assert!(text.contains("nine of ten") && text.matches("row 7").count() == 2, "{text}");
        let pairs: Vec<(f64, f64)> = (0..20).map(|i| (100.0 + f64::from(i), 99.0 + f64::from(i))).collect();
        let text = picture(&Examples::Pairs(pairs)).unwrap();
        assert!(text.contains("predicted = true") && text.matches("<circle").count() == 20);
        let text = picture(&Examples::Confusion(vec!["a<b".into(), "c".into()], vec![vec![3, 1], vec![0, 0]])).unwrap();
        assert!(text.contains("a&lt;b") && text.contains("</svg>"));
    }
}
