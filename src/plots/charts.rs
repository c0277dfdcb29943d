//! The charts of one run.

use super::curves::{Curves, Points};
use super::plot::{Axis, Chart, Curve, Ink, Stroke, training};

/// Charts of one run: the loss and the most important metrics, and small panels of the learning rate and of the norm of the gradient. Each
/// metric has a colour, for training and validation; baselines are dashed. The horizontal axis counts epochs, once one has ended. `best` is
/// the step of the kept weights.
pub(crate) fn charts_of(
    curves: &Curves,
    (title, metrics): &(&str, Vec<&str>),
    baseline: Option<&str>,
    best: Option<u64>,
) -> Vec<Chart<'static>> {
    let of = |split: &str, name: &str| curves.get(&(split.to_string(), name.to_string())).map_or(&[][..], Vec::as_slice);
    let epoch = of("epoch", "loss").first().map(|(step, _)| *step).filter(|steps| *steps > 0.0);
    let x = |step: f64| step / epoch.unwrap_or(1.0);
    let points = |split: &str, name: &str| -> Points { of(split, name).iter().map(|(step, value)| (x(*step), *value)).collect() };
    let pair = |name: &str, color: usize| {
        // Where steps are logged rarely, the means of the epochs say more.
        let (steps, means) = (points("train", name), points("epoch", name));
        let rare = steps.len() < 2 * means.len();
        let validation = Curve {
            name: format!("validation {name}"),
            points: points("validation", name).into(),
            ink: Ink::Series(color),
            stroke: Stroke::Full,
        };
        let of_training = training(&format!("training {name}"), if rare { means } else { steps }, Ink::Series(color));
        std::iter::once(validation).chain(of_training).collect::<Vec<_>>()
    };
    let needless = |name: &str| Curve {
        name: format!("{} {name}", baseline.unwrap_or("baseline")),
        points: points("baseline", name).into(),
        ink: Ink::Grey,
        stroke: Stroke::Dashed,
    };
    let panel = |title: &str, curves: Vec<Curve<'static>>, loss: bool, small: bool| Chart {
        title: title.into(),
        x: if epoch.is_some() { "epoch" } else { "step" }.into(),
        axis: Axis::Count,
        curves: curves.into_iter().filter(|curve| !curve.points.is_empty()).collect(),
        loss,
        best: best.map(|step| x(step as f64)),
        small,
    };
    let chart = |title: &str, metrics: &[&str]| {
        let of_metrics = metrics.iter().enumerate().flat_map(|(color, name)| pair(name, color));
        panel(title, of_metrics.chain(metrics.iter().map(|name| needless(name))).collect(), metrics == ["loss"], false)
    };
    // What a small panel shows is in its title. A learning rate is no noise to be smoothed.
    let rate =
        vec![Curve { name: String::new(), points: points("train", "learning_rate").into(), ink: Ink::Series(9), stroke: Stroke::Full }];
    let mut norm = training("", points("train", "gradient_norm"), Ink::Series(9));
    norm.iter_mut().for_each(|curve| curve.name.clear());
    let mut charts = vec![chart("loss", &["loss"])];
    if metrics != &["loss"] {
        charts.push(chart(title, metrics));
    }
    charts.extend([panel("learning rate", rate, true, true), panel("norm of the gradient", norm, true, true)]);
    // A single step says nothing of how a learning rate goes.
    charts.retain(|chart| chart.curves.iter().any(|curve| !chart.small || curve.points.len() > 1));
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(steps: usize, epochs: usize) -> Curves {
        let line = |count: usize, every: usize| -> Points { (1..=count).map(|i| ((i * every) as f64, 1.0 / i as f64)).collect() };
        let mut curves = Curves::new();
        let mut add = |split: &str, name: &str, points: Points| drop(curves.insert((split.into(), name.into()), points));
        for name in ["loss", "accuracy"] {
            add("validation", name, line(epochs, 10));
            add("epoch", name, line(epochs, 10));
        }
        for name in ["loss", "accuracy", "learning_rate", "gradient_norm"] {
            add("train", name, line(steps, 2));
        }
        curves
    }

    #[test]
    fn kinds_of_different_units_have_charts_of_their_own() {
        let charts = charts_of(&curves(20, 4), &("accuracy", vec!["accuracy"]), None, Some(20));
        let titles: Vec<(&str, bool)> = charts.iter().map(|chart| (chart.title.as_str(), chart.small)).collect();
        assert_eq!(titles, [("loss", false), ("accuracy", false), ("learning rate", true), ("norm of the gradient", true)]);
        assert!(charts.iter().all(|chart| chart.x == "epoch" && chart.best == Some(2.0)));
        // A loss that is its own most important metric is drawn once.
        assert_eq!(charts_of(&curves(0, 4), &("loss", vec!["loss"]), None, None).len(), 1);
    }

    #[test]
    fn training_is_drawn_from_the_means_where_steps_are_logged_rarely() {
        let training = |steps, epochs| charts_of(&curves(steps, epochs), &("loss", vec!["loss"]), None, None)[0].curves[1].points.len();
        assert_eq!((training(4, 4), training(20, 4)), (4, 20));
        // Before the first epoch has ended there are steps alone.
        let young = charts_of(&curves(3, 0), &("loss", vec!["loss"]), None, None);
        assert!(young[0].x == "step" && young[0].curves[0].points.len() == 3);
    }
}
