//! Named results and how they are shown.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Named metrics, in the order in which they are displayed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(pub Vec<(String, f64)>);

impl Metrics {
    /// Metrics from pairs of name and value.
    pub fn new(values: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        Metrics(values.into_iter().map(|(n, v)| (n.to_string(), v)).collect())
    }

    /// Value of a metric, if there is one with this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Metrics of several data sets, with the name of each.
pub type MetricRows = Vec<(String, Metrics)>;

/// Display of a metric in a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Name of the metric.
    pub name: &'static str,
    /// Heading of the column.
    pub title: &'static str,
    /// Number of digits; none displays percent with one digit.
    pub digits: Option<usize>,
}

impl Column {
    /// A column with this number of digits, or in percent.
    pub fn new(name: &'static str, title: &'static str, digits: Option<usize>) -> Self {
        Column { name, title, digits }
    }

    /// A value, formatted for display.
    pub fn show(&self, value: f64) -> String {
        match self.digits {
            None => format!("{:.1} %", 100.0 * value),
            Some(digits) => format!("{value:.digits$}"),
        }
    }
}

/// Index of the largest number of a row, such as that of the most probable class; the first of equals.
pub fn first_largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a))).unwrap_or(0)
}

/// True if a smaller value of a metric is better: for all but cosines, accuracies, recalls, F1 and R².
pub(crate) fn less_is_better(metric: &str) -> bool {
    !(metric.ends_with("cosine")
        || metric.ends_with("accuracy")
        || metric.starts_with("recall")
        || metric.ends_with("f1")
        || metric == "r2")
}

/// True if a value of a metric is better than the best so far by more than `by`; a value that is not finite never is.
pub(crate) fn improves(metric: &str, best: Option<f64>, value: f64, by: f64) -> bool {
    let gain = |best: f64| if less_is_better(metric) { best - value } else { value - best };
    value.is_finite() && best.is_none_or(|best| gain(best) > by)
}

/// The lines of a text, each after so many spaces.
pub(crate) fn indented(text: &str, spaces: usize) -> String {
    text.lines().map(|line| format!("{:spaces$}{line}", "")).collect::<Vec<_>>().join("\n")
}

/// Formats seconds as 1h 02m, 3m 05s or 7 s.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

/// Most columns of a line that is printed.
pub(crate) const COLUMNS: usize = 80;

/// Column in which the text begins of lines that have a word before it.
pub(crate) const INDENT: usize = 12;

/// Formats a number of bytes, as in 1.5 GiB, 3.2 MiB or 17 B.
pub(crate) fn bytes(value: u64) -> String {
    let (unit, size) = byte_unit(value);
    match value {
        0..1024 => format!("{value} B"),
        0x4000_0000.. => format!("{:.2} {unit}", value as f64 / size),
        _ => format!("{:.1} {unit}", value as f64 / size),
    }
}

/// The unit in which a number of bytes is shown, and its size in bytes.
pub(crate) fn byte_unit(value: u64) -> (&'static str, f64) {
    match value {
        0..1024 => ("B", 1.0),
        1024..0x10_0000 => ("KiB", 1024.0),
        0x10_0000..0x4000_0000 => ("MiB", 1_048_576.0),
        _ => ("GiB", 1_073_741_824.0),
    }
}

/// Formats a rate with three digits at most, as in 0.25, 3.1, 42 or 1300.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        10.0.. => format!("{per_second:.0}"),
        1.0.. => format!("{per_second:.1}"),
        _ => format!("{per_second:.2}"),
    }
}

/// Breaks a line at its spaces so that it fits; what follows the first line is indented.
pub(crate) fn folded(line: &str, indent: usize) -> String {
    folded_at(line, indent, COLUMNS)
}

/// `folded` for lines of so many characters.
pub(crate) fn folded_at(line: &str, indent: usize, columns: usize) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if width > indent && width + length > columns {
            out.truncate(out.trim_end().len());
            out += &format!("\n{:indent$}", "");
            width = indent;
        }
        out += word;
        width += word.chars().count();
    }
    out
}

/// Formats metrics as an aligned table, with a named row each; columns that no row has are left out.
pub(crate) fn table(rows: &[(String, Metrics)], columns: &[Column]) -> String {
    let columns: Vec<&Column> = columns.iter().filter(|c| rows.iter().any(|(_, m)| m.get(c.name).is_some())).collect();
    let shown = |metrics: &Metrics, c: &Column| metrics.get(c.name).map_or("–".to_string(), |v| c.show(v));
    let cell = |c: &Column| rows.iter().map(|(_, m)| shown(m, c).chars().count()).chain([c.title.chars().count()]).max().unwrap_or(0) + 2;
    let cells: Vec<usize> = columns.iter().map(|c| cell(c)).collect();
    let width = rows.iter().map(|(n, _)| n.chars().count()).max().unwrap_or(0);
    let mut out = format!("{:width$}", "");
    columns.iter().zip(&cells).for_each(|(c, cell)| out += &format!("{:>cell$}", c.title));
    out.push('\n');
    for (name, metrics) in rows {
        out += &format!("{name:width$}");
        columns.iter().zip(&cells).for_each(|(c, cell)| out += &format!("{:>cell$}", shown(metrics, c)));
        out.push('\n');
    }
    out
}

/// Heading of a column, and true if the column is aligned to the left.
#[cfg(feature = "cli")]
pub(crate) type Heading = (String, bool);

/// Formats cells under their headings as an aligned table.
#[cfg(feature = "cli")]
pub(crate) fn aligned(head: &[Heading], cells: &[Vec<String>]) -> String {
    let names: Vec<String> = head.iter().map(|(name, _)| name.clone()).collect();
    let rows: Vec<&Vec<String>> = std::iter::once(&names).chain(cells).collect();
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (c, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[c] - cell.chars().count());
            out += &if head[c].1 { format!("{cell}{gap}  ") } else { format!("{gap}{cell}  ") };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        assert_eq!([17, 3 << 20, 3 << 29].map(bytes), ["17 B", "3.0 MiB", "1.50 GiB"]);
        assert_eq!([0.254, 3.06, 42.4, 1302.0].map(rate), ["0.25", "3.1", "42", "1302"]);
    }

    #[test]
    fn a_long_line_is_folded_at_its_spaces() {
        let text = folded(&"word ".repeat(40), 4);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")), "{text}");
        assert_eq!(folded("short", 4), "short");
    }

    #[test]
    fn accuracies_improve_upwards_and_losses_downwards() {
        for (metric, worse, better) in [("cross_entropy", 2.0, 1.0), ("last_accuracy", 0.1, 0.2), ("unit_mse", 2.0, 1.0)] {
            assert!(improves(metric, None, worse, 0.01) && improves(metric, Some(worse), better, 0.01), "{metric}");
            assert!(!improves(metric, Some(better), worse, 0.0) && !improves(metric, Some(better), better, 0.0), "{metric}");
        }
        assert!(!improves("loss", Some(2.0), 1.995, 0.01));
        assert!(!improves("loss", None, f64::NAN, 0.0) && !improves("cosine", Some(0.5), f64::INFINITY, 0.0));
    }
}
