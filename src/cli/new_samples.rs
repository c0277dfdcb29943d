//! A run file for data of any meaning: which arrays or columns are inputs and which the target, and a model that takes them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::datasets::tables::{ArrayInfo, Element, Table, TableValues};
use crate::error::{Error, Result};

/// Wishes of the user about the run file.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Arrays or columns to predict; without them, those with a usual name, else the last.
    pub(super) target: Vec<String>,
    /// Moments of the context and of the horizon of windows that are cut out of series.
    pub(super) window: Option<[usize; 2]>,
}

/// Names that arrays of targets usually have.
pub(super) const TARGETS: [&str; 8] = ["target", "targets", "label", "labels", "y", "y_train", "class", "classes"];

/// Most different words of a column that is taken for categories.
const CATEGORIES: usize = 50;

/// Most classes of a column of integers that is taken for classes.
const CLASSES: usize = 20;

/// Run file for the data, and notes about what was found in them.
pub(super) fn look(file: &Path, wishes: &Wishes) -> Result<(String, Vec<String>)> {
    let mut table = Table::open(file, &BTreeSet::new())?;
    let arrays = table.arrays().to_vec();
    for name in &wishes.target {
        table.info(name)?;
    }
    let usual = || arrays.iter().find(|array| TARGETS.contains(&array.name.to_lowercase().as_str())).or(arrays.last());
    let target = match &wishes.target[..] {
        [] => usual().map(|array| vec![array.name.clone()]).unwrap_or_default(),
        names => names.to_vec(),
    };
    let Some(first) = target.first() else { return Err(Error::Data(format!("{} has no arrays", file.display()))) };
    let first = table.info(first)?.clone();
    let mut found = Found {
        notes: vec![],
        unreadable: vec![],
        holes: BTreeSet::new(),
        file: file.display().to_string(),
        rows: first.shape.first().copied().unwrap_or(0),
    };
    match wishes.window {
        Some(window) => found.series(&mut table, &arrays, &target, window),
        None => found.samples(&mut table, &arrays, &target, &first),
    }
}

/// What was found while looking.
struct Found {
    notes: Vec<String>,
    /// Why columns could not be read.
    unreadable: Vec<Error>,
    /// Rows of what is used that have an empty cell, or a number that is not finite.
    holes: BTreeSet<usize>,
    file: String,
    rows: usize,
}

/// Rows with a number that is not finite, as that of an empty cell.
fn holes(values: &TableValues, rows: usize) -> BTreeSet<usize> {
    let TableValues::Numbers(numbers) = values else { return BTreeSet::new() };
    let width = (numbers.len() / rows.max(1)).max(1);
    numbers.iter().enumerate().filter(|(_, value)| !value.is_finite()).map(|(at, _)| at / width).collect()
}

/// Most moments of a series that are looked at for a season, and the most moments of one.
const LOOKED_AT: (usize, usize) = (10_000, 1000);

/// Least autocorrelation at which a series is taken to repeat itself.
const REPEATS: f64 = 0.4;

/// Number of moments, at most `most`, after which a series is most like itself again, with its autocorrelation there; none if it is never
/// much like itself again.
fn season(series: &[f32], most: usize) -> Option<(usize, f64)> {
    let series = &series[series.len().saturating_sub(LOOKED_AT.0)..];
    let mean = series.iter().map(|value| f64::from(*value)).sum::<f64>() / series.len() as f64;
    let around: Vec<f64> = series.iter().map(|value| f64::from(*value) - mean).collect();
    let alike = |lag: usize| around.iter().zip(&around[lag..]).map(|(a, b)| a * b).sum::<f64>() / (around.len() - lag) as f64;
    let all: Vec<f64> = (0..=(most + 1).min(series.len() / 3).min(LOOKED_AT.1)).map(|lag| alike(lag) / alike(0)).collect();
    // Neighbours are alike anyway, up to where they no longer are.
    let apart = all.iter().position(|value| *value <= 0.0)?;
    let peaks = (apart + 1..all.len().saturating_sub(1)).filter(|lag| all[*lag] > all[lag - 1] && all[*lag] >= all[lag + 1]);
    let best = peaks.max_by(|a, b| all[*a].total_cmp(&all[*b]))?;
    (all[best] >= REPEATS).then_some((best, all[best]))
}

/// Quoted names, as a list of TOML if they are several.
fn quoted(names: &[String]) -> String {
    let all: Vec<String> = names.iter().map(|name| toml::Value::String(name.clone()).to_string()).collect();
    if all.len() == 1 { all[0].clone() } else { format!("[{}]", all.join(", ")) }
}

impl Found {
    /// Columns that are numbers or categories, without the target. What only counts rows is one of `samples` if there is no other, and a
    /// column of a series has no holes.
    fn features(&mut self, table: &mut Table, arrays: &[ArrayInfo], target: &[String], samples: bool) -> Result<Vec<String>> {
        let (mut names, mut words_of, mut counting) = (vec![], vec![], vec![]);
        for array in arrays.iter().filter(|array| !target.contains(&array.name) && array.shape.first() == Some(&self.rows)) {
            if array.shape.len() > 2 {
                self.notes.push(format!("Array {} has shape {:?}: it is left out.", array.name, array.shape));
                continue;
            }
            let values = match table.read(&array.name) {
                Ok(values) => values,
                Err(e) => {
                    self.notes.push(format!("Column {} is left out: {e}.", array.name));
                    self.unreadable.push(e);
                    continue;
                }
            };
            let holes = holes(&values, self.rows);
            if !holes.is_empty() && (!samples || 2 * holes.len() > self.rows) {
                self.notes.push(format!(
                    "Column {} is left out: {} of its {} rows have no number{}.",
                    array.name,
                    holes.len(),
                    self.rows,
                    if samples { "" } else { ", and windows are cut out of whole series" }
                ));
                continue;
            }
            match (array.element, values) {
                (Element::Word, TableValues::Words(mut words)) => {
                    words.sort();
                    words.dedup();
                    if words.len() > CATEGORIES {
                        self.notes.push(format!(
                            "Column {} has {} different words, too many for categories: it is left out.",
                            array.name,
                            words.len()
                        ));
                        continue;
                    }
                    words_of.push(format!("{} ({})", array.name, words.len()));
                }
                (Element::Integer, TableValues::Numbers(values))
                    if array.shape.len() == 1 && values.windows(2).all(|w| w[1] == w[0] + 1.0) =>
                {
                    counting.push(array.name.clone());
                    continue;
                }
                _ => {}
            }
            self.holes.extend(holes);
            names.push(array.name.clone());
        }
        // What only counts the rows says nothing of them, unless there is nothing else to predict from.
        if names.is_empty() && samples {
            names = counting;
        } else {
            self.notes.extend(counting.iter().map(|name| format!("Column {name} counts the rows: it is left out.")));
        }
        if !words_of.is_empty() {
            self.notes.push(format!("Columns of words, with the number of different ones: {}.", words_of.join(", ")));
        }
        let others = arrays.iter().filter(|array| !target.contains(&array.name) && array.shape.first() != Some(&self.rows));
        self.notes.extend(
            others.map(|array| format!("{} has shape {:?}, and the target {} rows: it is left out.", array.name, array.shape, self.rows)),
        );
        Ok(names)
    }

    /// Windows cut out of series.
    fn series(
        &mut self,
        table: &mut Table,
        arrays: &[ArrayInfo],
        target: &[String],
        [context, horizon]: [usize; 2],
    ) -> Result<(String, Vec<String>)> {
        let mut inputs = target.to_vec();
        inputs.extend(self.features(table, arrays, target, false)?);
        self.notes.insert(
            0,
            format!(
                "{}: {} moments; {context} of {} series are the input, the next {horizon} of {} the target.",
                self.file,
                self.rows,
                inputs.len(),
                target.join(", ")
            ),
        );
        self.notes.push("The last part of the series validates; windows that reach across the border are left out.".into());
        let layers = "    { kind = \"gru\", hidden = 64 },\n    { kind = \"last\" },\n    { kind = \"linear\" },\n";
        let windows = self.rows.saturating_sub(context.saturating_add(horizon));
        let data = format!(
            "inputs = {{ past = {} }}\ntargets = {{ future = {} }}\nwindow = {{ context = {context}, horizon = {horizon} }}\n{}normalize = \"standard\"\n",
            quoted(&inputs),
            quoted(target),
            self.season(table, target, context)?
        );
        Ok((self.run_file(layers, &data, false, windows), std::mem::take(&mut self.notes)))
    }

    /// The line with the season of a series, or with how to name one.
    fn season(&mut self, table: &mut Table, target: &[String], context: usize) -> Result<String> {
        if let ([name], TableValues::Numbers(values)) = (target, table.read(&target[0])?)
            && values.len() == self.rows
            && let Some((moments, alike)) = season(&values, context)
        {
            self.notes.push(format!(
                "{name} repeats itself after {moments} moments, with an autocorrelation of {alike:.2}: data.season adds a baseline that does."
            ));
            return Ok(format!("season = {moments}\n"));
        }
        Ok("# season = 12               # moments of a season, if the series has one: a baseline then repeats the last\n".into())
    }

    /// The line that leaves out samples with holes, in what is used or in the target, if there are some.
    fn skipped(&mut self, table: &mut Table, target: &[String]) -> Result<&'static str> {
        for name in target {
            self.holes.extend(holes(&table.read(name)?, self.rows));
        }
        if self.holes.is_empty() {
            return Ok("");
        }
        self.notes.push(format!(
            "{} of {} rows have an empty cell, or a number that is not finite: data.skip_non_finite leaves them out.",
            self.holes.len(),
            self.rows
        ));
        Ok("skip_non_finite = true\n")
    }

    /// Samples in rows.
    fn samples(&mut self, table: &mut Table, arrays: &[ArrayInfo], target: &[String], first: &ArrayInfo) -> Result<(String, Vec<String>)> {
        let classes = self.is_classes(table, first, target)?;
        let sequence = arrays.iter().find(|array| {
            !target.contains(&array.name)
                && array.shape.first() == Some(&self.rows)
                && (array.shape.len() == 3 || array.shape.len() == 2 && array.element == Element::Integer)
        });
        let is_lengths = |array: &&ArrayInfo| {
            ["length", "lengths"].contains(&array.name.to_lowercase().as_str())
                && array.shape == [self.rows]
                && !target.contains(&array.name)
        };
        let lengths = arrays.iter().find(is_lengths).filter(|_| sequence.is_some());
        let mut data = String::new();
        let layers = match sequence {
            Some(array) => {
                self.notes.push(format!(
                    "{}: {} samples; sequences `{}` of shape {:?}.",
                    self.file,
                    self.rows,
                    array.name,
                    &array.shape[1..]
                ));
                let others = arrays.iter().map(|array| array.name.as_str()).filter(|name| {
                    *name != array.name && !target.iter().any(|t| t == name) && lengths.is_none_or(|lengths| lengths.name != **name)
                });
                let others = others.collect::<Vec<_>>();
                if !others.is_empty() {
                    self.notes.push(format!("A stack has one input: {} are left out.", others.join(", ")));
                }
                data += &format!("inputs = {{ x = {} }}\n", quoted(std::slice::from_ref(&array.name)));
                // What fills up shorter sequences is not looked at.
                if lengths.is_none() {
                    self.holes.extend(holes(&table.read(&array.name)?, self.rows));
                }
                if array.shape.len() == 2 {
                    data += "integers = [\"x\"]\n";
                }
                if let Some(lengths) = lengths {
                    self.notes.push(format!("Array {} has their lengths: what fills up shorter ones does not count.", lengths.name));
                    data += &format!("lengths = {}\n", quoted(std::slice::from_ref(&lengths.name)));
                }
                let each = first.shape.len() > 1 && first.shape.get(1) == array.shape.get(1);
                let pool = if each { "" } else { "    { kind = \"last\" },\n" };
                match array.shape.len() {
                    3 => format!("    {{ kind = \"lstm\", hidden = 64 }},\n{pool}    {{ kind = \"linear\" }},\n"),
                    _ => format!(
                        "    {{ kind = \"embedding\", features = 64 }},\n    {{ kind = \"transformer_block\", heads = 4, feed_forward = 128, causal = true, dropout = 0.1 }},\n\
                         {pool}    {{ kind = \"linear\" }},\n"
                    ),
                }
            }
            None => {
                let features = self.features(table, arrays, target, true)?;
                if let (true, Some(why)) = (features.is_empty(), self.unreadable.first()) {
                    return Err(why.clone());
                }
                if features.is_empty() {
                    return Err(Error::Data(format!(
                        "{}: besides `{}` there is nothing to predict it from. {}Name the target with --target; of a series, --window CONTEXT,HORIZON \
                         predicts its future",
                        self.file,
                        target.join("`, `"),
                        self.notes.iter().map(|note| format!("{note} ")).collect::<String>()
                    )));
                }
                self.notes.insert(0, format!("{}: {} samples; inputs {}.", self.file, self.rows, features.join(", ")));
                data += &format!("inputs = {{ x = {} }}\n", quoted(&features));
                "    { kind = \"linear\", out = 128 },\n    { kind = \"gelu\" },\n    { kind = \"dropout\", rate = 0.1 },\n    { kind = \"linear\", out = 128 },\n    { kind = \"gelu\" },\n    { kind = \"linear\" },\n".into()
            }
        };
        data += &format!("targets = {{ y = {} }}\n", quoted(target));
        if classes {
            data += "classes = true\n";
        }
        data += "normalize = \"standard\"\nseed = 1\n";
        data += self.skipped(table, if lengths.is_none() { target } else { &[] })?;
        Ok((self.run_file(&layers, &data, classes, self.rows), std::mem::take(&mut self.notes)))
    }

    /// True if the target is classes.
    fn is_classes(&mut self, table: &mut Table, first: &ArrayInfo, target: &[String]) -> Result<bool> {
        if target.len() > 1 || first.element == Element::Float {
            return Ok(false);
        }
        let (count, gaps) = match table.read(&first.name)? {
            TableValues::Words(mut words) => {
                words.sort();
                words.dedup();
                (words.len(), String::new())
            }
            TableValues::Numbers(mut values) => {
                values.retain(|value| value.is_finite());
                // What fills up shorter sequences is often negative.
                let filled = first.shape.len() > 1;
                let classes = values.iter().all(|value| (0.0..1e6).contains(value) || filled && *value < 0.0);
                let mut all: Vec<u32> = values.iter().filter(|value| **value >= 0.0).map(|value| *value as u32).collect();
                all.sort_unstable();
                all.dedup();
                // An array of integers by type is one of classes; in a table of text, only few different ones are.
                let few = all.len() <= CLASSES;
                if !classes || !few && table.is_text() {
                    return Ok(false);
                }
                let (least, most) = (all.first().copied().unwrap_or(0), all.last().map_or(0, |most| *most as usize + 1));
                // Numbers of classes count from 0 or 1 and leave few out; years, sizes and prices do not.
                if few && !filled && (least > 1 || most > 2 * all.len()) {
                    self.notes.push(format!(
                        "Target {} is taken for a quantity, as its {} different whole numbers, {least} to {}, do not count from 0 or 1; if they are classes, number \
                         them so, or give them names.",
                        first.name,
                        all.len(),
                        most.saturating_sub(1)
                    ));
                    return Ok(false);
                }
                let gaps = if all.len() < most { format!(", 0 to {}, of which {} occur", most - 1, all.len()) } else { String::new() };
                (most, gaps)
            }
        };
        self.notes.push(format!(
            "Target {} is taken for one of {count} classes{gaps}; if it is a quantity, take data.classes away and use loss.kind = \"regression\".",
            first.name
        ));
        Ok(true)
    }

    fn run_file(&self, layers: &str, data: &str, classes: bool, samples: usize) -> String {
        let batch = (samples / 20).clamp(1, 64);
        let file = toml::Value::String(self.file.clone());
        let loss = if classes { "kind = \"cross_entropy\"\nweight = \"none\"\n" } else { "kind = \"regression\"\npenalty = \"mse\"\n" };
        format!(
            "# A run on data of one's own.\n[model]\nkind = \"stack\"\nlayers = [\n{layers}]\n\n[data]\nkind = \"samples\"\nfile = {file}\n{data}validation_share = 0.2\n\n\
             [loss]\n{loss}\n[optimizer]\nkind = \"adamw\"\nlearning_rate = 1e-3\nweight_decay = 0.01\nclip_norm = 1.0\n\n\
             [schedule]\nkind = \"plateau\"\nfactor = 0.5\npatience = 5\n\n[train]\nbatch = {batch}\nepochs = 50\n\n[validation]\nselect = \"loss\"\n"
        )
    }
}
