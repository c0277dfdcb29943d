//! Which runs can be ranked together.

use serde::Serialize;
use serde_json::{Value, json};

use super::columns::{Row, Task};
use crate::metrics::less_is_better;

/// Runs on the same data that the same metric has selected: what their values say of them can be compared.
#[derive(Debug, Clone, Serialize)]
pub struct Set {
    /// Its number, from 1, as in the rows.
    pub number: usize,
    /// The data, and the metric that ranks.
    pub name: String,
    /// Name of the metric that has selected the weights of its runs, and that ranks them.
    pub select: String,
    /// Names of the most important metrics of its runs, with " / " between them.
    pub score: String,
}

/// What two runs have in common if they can be ranked together, beside the contents of their files.
pub(super) fn task(config: &Value, select: &str) -> Task {
    let data = &config["data"];
    let text = |key: &str| data[key].as_str().map(String::from);
    // Data that are made up are what their settings say.
    let made_up = || {
        let mut settings = data.clone();
        settings.as_object_mut().map(|settings| settings.remove("seed"));
        settings.to_string()
    };
    // A loss is a number of its own kind.
    let loss = if select.ends_with("loss") { &config["loss"] } else { &Value::Null };
    let common = json!([data["kind"], data["targets"], data["window"]["horizon"], select, loss]).to_string();
    let name = text("file").or(text("kind")).unwrap_or("data".into());
    Task { common, source: text("file").unwrap_or_else(made_up), name }
}

/// True if the values of two runs can be compared. Files are told by their contents, where those are known.
fn alike(a: &Row, b: &Row) -> bool {
    let same_data = if a.data.is_empty() || b.data.is_empty() { a.task.source == b.task.source } else { a.data == b.data };
    a.task.common == b.task.common && same_data
}

/// Divides runs into sets, in the order of their first ones, and ranks the runs of each by the metric that has selected. Mechanism
/// transformers stay in the given order.
pub(super) fn sets(rows: Vec<Row>) -> (Vec<Row>, Vec<Set>) {
    let mut divided: Vec<Vec<Row>> = vec![];
    for row in rows {
        match divided.iter_mut().find(|set| alike(&set[0], &row)) {
            Some(set) => set.push(row),
            None => divided.push(vec![row]),
        }
    }
    let mut sets = vec![];
    for (at, rows) in divided.iter_mut().enumerate() {
        let select = rows[0].select.clone();
        if !rows.iter().all(|row| row.mechanism.is_some()) {
            let sign = if less_is_better(&select) { -1.0 } else { 1.0 };
            let key = |row: &Row| row.selected.map_or(f64::NEG_INFINITY, |v| sign * v);
            rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
            rows.iter_mut().enumerate().for_each(|(i, row)| row.rank = row.selected.map(|_| i + 1));
        }
        rows.iter_mut().for_each(|row| row.set = at + 1);
        let mut scores: Vec<&str> = rows.iter().map(|row| row.metric.as_str()).collect();
        scores.sort_unstable();
        scores.dedup();
        let score = scores.join(" / ");
        sets.push(Set { number: at + 1, name: format!("{}, ranked by {select}", rows[0].task.name), select, score });
    }
    (divided.into_iter().flatten().collect(), sets)
}

impl Set {
    /// Name of a column in a table of the set.
    pub(super) fn heading(&self, column: &str) -> String {
        match column {
            "score" if self.score == "distance" => "error (mm)".into(),
            "score" => self.score.clone(),
            name => name.into(),
        }
    }

    /// Best score that any of several runs has reached. Scores of different kinds have no order, and a single run is no best of any.
    pub(super) fn top(&self, rows: &[&Row]) -> Option<f64> {
        let peaks = rows.iter().filter_map(|row| row.peak);
        let top = if less_is_better(&self.score) { peaks.min_by(f64::total_cmp) } else { peaks.max_by(f64::total_cmp) };
        top.filter(|_| !self.score.contains(" / ") && rows.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: &str, config: &str, select: &str, value: f64) -> Row {
        let config = serde_json::to_value(config.parse::<toml::Table>().unwrap()).unwrap();
        let metric = select.to_string();
        Row { run: run.into(), task: task(&config, select), select: metric.clone(), metric, selected: Some(value), ..Row::default() }
    }

    fn shown(rows: Vec<Row>) -> Vec<(usize, Option<usize>, String)> {
        sets(rows).0.into_iter().map(|row| (row.set, row.rank, row.run)).collect()
    }

    #[test]
    fn runs_are_ranked_by_what_selected_and_only_with_their_like() {
        let (ours, theirs) = ("data = {kind='samples', file='a.csv'}", "data = {kind='samples', file='b.csv'}");
        let rows = vec![
            row("a", ours, "rmse", 3.0),
            row("b", theirs, "rmse", 1.0),
            row("c", ours, "rmse", 2.0),
            row("d", ours, "cosine", 0.5),
            row("e", ours, "cosine", 0.9),
        ];
        let row = |set, rank, run: &str| (set, Some(rank), run.to_string());
        assert_eq!(shown(rows), [row(1, 1, "c"), row(1, 2, "a"), row(2, 1, "b"), row(3, 1, "e"), row(3, 2, "d")]);
    }

    #[test]
    fn contents_tell_files_and_a_live_run_has_none_yet() {
        let at = |file: &str, sum: &str| {
            let data = if sum.is_empty() { [].into() } else { [("data.file".to_string(), sum.to_string())].into() };
            Row { data, ..row(file, &format!("data = {{file='{file}'}}"), "rmse", 1.0) }
        };
        let of = |rows| sets(rows).1.len();
        assert_eq!(of(vec![at("a.csv", "1"), at("b.csv", "1")]), 1);
        assert_eq!(of(vec![at("a.csv", "1"), at("a.csv", "2")]), 2);
        assert_eq!(of(vec![at("a.csv", "1"), at("a.csv", "")]), 1);
    }

    #[test]
    fn a_loss_is_compared_with_the_same_loss() {
        let of = |select: &str, loss: &str| row(loss, &format!("loss = {{kind='{loss}'}}"), select, 1.0);
        assert_eq!(sets(vec![of("loss", "mse"), of("loss", "huber")]).1.len(), 2);
        assert_eq!(sets(vec![of("rmse", "mse"), of("rmse", "huber")]).1.len(), 1);
        let made = |seed: u64, most: u64| row("made", &format!("data = {{kind='made', seed={seed}, most={most}}}"), "rmse", 1.0);
        assert_eq!(sets(vec![made(1, 9), made(2, 9), made(1, 8)]).1.len(), 2);
    }
}
