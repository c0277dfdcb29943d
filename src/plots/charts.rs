//! The charts of one run.

use super::curves::Curves;
use super::plot::{Chart, Curve, Stroke, training};

/// Charts of one run: the loss, and the most important metrics. Each metric has a colour, for training and validation; baselines are dashed.
pub(crate) fn charts_of<'a>(curves: &'a Curves, (title, metrics): &(&str, Vec<&str>), baseline: Option<&str>) -> [Chart<'a>; 2] {
    let points = |split: &str, name: &str| curves.get(&(split.to_string(), name.to_string())).map_or(&[][..], Vec::as_slice);
    let pair = |name: &str, color: usize| {
        let mut pair = training(&format!("training {name}"), points("train", name), color);
        pair.push(Curve { name: format!("validation {name}"), points: points("validation", name).into(), color, stroke: Stroke::Full });
        pair
    };
    let needless = |name: &str| Curve {
        name: format!("{} {name}", baseline.unwrap_or("baseline")),
        points: points("baseline", name).into(),
        color: 0,
        stroke: Stroke::Dashed,
    };
    let chart = |title: &str, metrics: &[&str]| {
        let mut of_metrics: Vec<Curve<'a>> = metrics.iter().enumerate().flat_map(|(color, name)| pair(name, color)).collect();
        of_metrics.extend(metrics.iter().map(|name| needless(name)));
        if metrics.iter().all(|name| *name != title) {
            of_metrics.push(needless(title));
        }
        of_metrics.retain(|curve| !curve.points.is_empty());
        Chart { title: title.into(), x: "step".into(), curves: of_metrics, loss: metrics == ["loss"] }
    };
    [chart("loss", &["loss"]), chart(title, metrics)]
}
