//! Curves of runs beside each other.

use super::columns::Row;
use super::groups::Group;
use super::names::{short_key, short_names};
use super::sets::Set;
use crate::plots::{Axis, Chart, Curve, Ink, Points, Stroke};

/// Largest number of curves of a chart that have a colour each.
const COLORED: usize = 10;

/// Charts of a set: the metric that ranks, the most important one and the loss, by epoch, and the first one by the values of the key that
/// was swept.
pub(super) fn charts_of_set(set: &Set, rows: &[Row], groups: &[Group]) -> Vec<Chart<'static>> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.set == set.number).collect();
    let swept = Swept::of(&groups.iter().filter(|group| group.set == set.number).collect::<Vec<_>>());
    let mut charts = by_epoch(set, &rows, swept.as_ref());
    charts.extend(swept.map(|swept| swept.chart(set, &rows)));
    charts
}

/// Charts of the metrics that all runs of a set have in common, by epoch.
fn by_epoch(set: &Set, rows: &[&Row], swept: Option<&Swept<'_>>) -> Vec<Chart<'static>> {
    let inks = inks(rows, swept);
    let chart = |which: usize, name: &str| {
        let curve = |(row, (name, ink)): (&&Row, &(String, Ink))| Curve {
            name: name.clone(),
            points: row.curves[which].clone().into(),
            ink: *ink,
            stroke: Stroke::Full,
        };
        Chart {
            title: format!("validation {name}"),
            x: "epoch".into(),
            axis: Axis::Count,
            curves: rows.iter().zip(&inks).map(curve).collect(),
            loss: name.ends_with("loss"),
            best: None,
            small: false,
        }
    };
    let mut charts = vec![chart(0, &set.select)];
    if set.score != set.select && !set.score.contains(" / ") {
        charts.push(chart(1, &set.score));
    }
    // Losses of different kinds have nothing to do with each other.
    if set.select != "loss" && set.score != "loss" && rows.iter().all(|row| row.loss == rows[0].loss) {
        charts.push(chart(2, "loss"));
    }
    charts
}

/// Name in the legend and colour of each run, in the order of their ranks: by the value that was swept, else by the rank. What is not among
/// the first ones is grey.
fn inks(rows: &[&Row], swept: Option<&Swept<'_>>) -> Vec<(String, Ink)> {
    let names = short_names(&rows.iter().map(|row| row.run.as_str()).collect::<Vec<_>>());
    let mut seen: Vec<String> = vec![];
    let ink = |(at, row): (usize, &&Row)| {
        let (name, ink) = match swept.and_then(|swept| Some((swept, swept.place(row)?))) {
            _ if at >= COLORED => (format!("{} more", rows.len() - COLORED), Ink::Grey),
            Some((swept, place)) => (format!("{} = {}", swept.name(), swept.texts[place]), swept.ink(place)),
            None => (names[at].clone(), Ink::Series(at)),
        };
        // Runs with the same value have one entry, at the place of the best of them.
        let first = !seen.contains(&name);
        seen.extend(first.then(|| name.clone()));
        (if first { name } else { String::new() }, ink)
    };
    rows.iter().enumerate().map(ink).collect()
}

/// A key whose numbers are all that differs between runs, beside the seed.
struct Swept<'g> {
    key: &'g str,
    /// Groups in the order of the key's values.
    groups: Vec<&'g Group>,
    values: Vec<f64>,
    /// The values as they are written.
    texts: Vec<String>,
}

impl<'g> Swept<'g> {
    fn of(groups: &[&'g Group]) -> Option<Swept<'g>> {
        let mut sorted: Vec<(f64, &String, &'g Group)> = vec![];
        for group in groups {
            let (1, Some(text)) = (group.settings.len(), group.settings.values().next()) else { return None };
            sorted.push((text.parse().ok()?, text, group));
        }
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let key = sorted.first().filter(|_| sorted.len() > 1)?.2.settings.keys().next()?;
        let texts = sorted.iter().map(|(_, text, _)| (*text).clone()).collect();
        Some(Swept { key, groups: sorted.iter().map(|s| s.2).collect(), values: sorted.iter().map(|s| s.0).collect(), texts })
    }

    fn name(&self) -> &str {
        short_key(self.key, &[])
    }

    /// Place of a run's value among the values.
    fn place(&self, row: &Row) -> Option<usize> {
        let value: f64 = row.settings.get(self.key)?.parse().ok()?;
        self.values.iter().position(|other| *other == value)
    }

    fn ink(&self, place: usize) -> Ink {
        Ink::Ramp(place * 9 / (self.values.len() - 1).max(1))
    }

    /// Chart of the metric that ranks by the values of the key.
    fn chart(&self, set: &Set, rows: &[&Row]) -> Chart<'static> {
        let over = |name: &str, ink: Ink, stroke: Stroke, pick: fn(&Group) -> f64| {
            let points: Points = self.values.iter().zip(&self.groups).map(|(x, group)| (*x, pick(group))).collect();
            Curve { name: name.into(), points: points.into(), ink, stroke }
        };
        let runs: Points = rows.iter().filter_map(|row| Some((self.values[self.place(row)?], row.selected?))).collect();
        let curves = vec![
            over("mean", Ink::Series(0), Stroke::Full, |g| g.mean),
            over("best", Ink::Series(1), Stroke::Dashed, |g| g.best),
            Curve { name: "a run".into(), points: runs.into(), ink: Ink::Grey, stroke: Stroke::Points },
        ];
        let axis = if logarithmic(&self.values) { Axis::Logarithm } else { Axis::Numbers };
        let (title, x) = (format!("{} by {}", set.select, self.name()), self.key.to_string());
        Chart { title, x, axis, curves, loss: set.select.ends_with("loss"), best: None, small: false }
    }
}

/// True if values, in their order, are nearer to steps of one factor than to steps of one size.
fn logarithmic(values: &[f64]) -> bool {
    if values.first().is_none_or(|first| *first <= 0.0) {
        return false;
    }
    let spread = |place: fn(f64) -> f64| {
        let steps = values.windows(2).map(|pair| place(pair[1]) - place(pair[0]));
        let (low, high) = steps.fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), step| (l.min(step), h.max(step)));
        high / low
    };
    match values {
        [low, high] => *high >= 10.0 * *low,
        _ => spread(f64::ln) < spread(|v| v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: &str, rate: &str, value: f64) -> Row {
        let settings = [("optimizer.learning_rate".to_string(), rate.to_string())].into();
        let curves = [vec![(1.0, value)], vec![], vec![]];
        Row { set: 1, run: run.into(), select: "loss".into(), selected: Some(value), settings, curves, ..Row::default() }
    }

    fn set() -> Set {
        Set { number: 1, name: "data".into(), select: "loss".into(), score: "loss".into() }
    }

    fn legend(chart: &Chart<'_>) -> Vec<(String, Ink)> {
        chart.curves.iter().filter(|curve| !curve.name.is_empty()).map(|curve| (curve.name.clone(), curve.ink)).collect()
    }

    #[test]
    fn colours_follow_the_swept_value_and_the_legend_the_ranks() {
        let rows = [("0.01", 1.0), ("0.001", 2.0), ("0.01", 3.0), ("0.1", 4.0)].map(|(rate, value)| row("r", rate, value));
        let rows: Vec<&Row> = rows.iter().collect();
        let groups = super::super::groups::groups(&rows, &set());
        let swept = Swept::of(&groups.iter().collect::<Vec<_>>()).unwrap();
        let charts = by_epoch(&set(), &rows, Some(&swept));
        let of = |rate: &str, ink: usize| (format!("learning_rate = {rate}"), Ink::Ramp(ink));
        assert_eq!(legend(&charts[0]), [of("0.01", 4), of("0.001", 0), of("0.1", 9)]);
        assert_eq!(charts[0].curves[0].ink, charts[0].curves[2].ink);
        let over = swept.chart(&set(), &rows);
        assert!(over.axis == Axis::Logarithm && over.x == "optimizer.learning_rate");
        assert_eq!(over.curves[0].points.iter().map(|p| p.1).collect::<Vec<_>>(), [2.0, 2.0, 4.0]);
    }

    #[test]
    fn ten_lines_have_a_colour_and_the_rest_is_grey() {
        let rows: Vec<Row> = (0..25).map(|i| row(&format!("s/run{i}"), "1", f64::from(i))).collect();
        let charts = by_epoch(&set(), &rows.iter().collect::<Vec<_>>(), None);
        let legend = legend(&charts[0]);
        assert_eq!((legend.len(), legend[0].0.as_str(), legend[10].0.as_str()), (11, "run0", "15 more"));
        assert_eq!(charts[0].curves.iter().filter(|curve| curve.ink == Ink::Grey).count(), 15);
    }

    #[test]
    fn steps_of_one_factor_lie_on_a_logarithmic_axis() {
        for (values, expected) in [
            (&[1e-4, 3e-4, 1e-3, 3e-3][..], true),
            (&[8.0, 16.0, 32.0], true),
            (&[1.0, 2.0, 3.0, 4.0], false),
            (&[0.0, 0.1, 1.0], false),
            (&[1e-3, 1e-2], true),
            (&[1e-3, 3e-3], false),
        ] {
            assert_eq!(logarithmic(values), expected, "{values:?}");
        }
    }
}
