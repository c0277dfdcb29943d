//! The picture of the live view: a list of runs, and one of them large, with its numbers and curves.

use std::path::PathBuf;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use ratatui::widgets::canvas::{Canvas, Line as Stretch, Points};

use crate::metrics::{duration, rate};
use crate::plots::{Axis, Chart, Curve, Scale, Stroke, shown_number};
use crate::runs::Followed;

/// A run in the view.
pub(super) struct Shown {
    pub(super) folder: PathBuf,
    /// Name in the list.
    pub(super) name: String,
    /// What is known of it, or why nothing is.
    pub(super) run: Result<Followed, String>,
}

/// What the view shows.
pub(super) struct Picture {
    pub(super) runs: Vec<Shown>,
    /// Place of the run that is drawn large.
    pub(super) chosen: usize,
    pub(super) colours: bool,
    /// What keys do, beside the arrows.
    pub(super) keys: &'static str,
}

/// Fewest rows of a chart, with its title and its axis.
const CHART: usize = 5;

/// Rows from which the last lines of the log have room below a chart.
const ROOMY: usize = 11;

/// Columns of the words before numbers, of a state and of a trend in the list.
const LABEL: usize = 8;
const STATE: usize = 10;
const TREND: usize = 10;

/// Fewest columns of two charts beside each other.
const BESIDE: u16 = 50;

/// Draws the picture.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut lines = picture.list(width, height);
    let foot = if picture.runs.len() > 1 { format!("↑↓ run   {}", picture.keys) } else { picture.keys.to_string() };
    let chosen = picture.runs.get(picture.chosen);
    if let Some(shown) = chosen {
        lines.extend(picture.numbers(shown, width));
    }
    // Rather fewer numbers than no curves.
    lines.truncate(height.saturating_sub(CHART + 1));
    let rest = height.saturating_sub(lines.len() + 1);
    let run = chosen.and_then(|shown| shown.run.as_ref().ok());
    let said: Vec<Line<'_>> = run.iter().flat_map(|run| &run.said).map(|line| Line::from(line.as_str()).dim()).collect();
    let said = if rest >= ROOMY + said.len() { said } else { vec![] };
    let mut top = area.y;
    let mut place = |rows: usize| {
        let rows = u16::try_from(rows).unwrap_or(u16::MAX).min(area.bottom() - top);
        top += rows;
        Rect::new(area.x, top - rows, area.width, rows)
    };
    frame.render_widget(Paragraph::new(lines.clone()), place(lines.len()));
    let charts = place(rest - said.len());
    if let Some(run) = run {
        picture.charts(frame, charts, run);
    }
    frame.render_widget(Paragraph::new(said.clone()), place(said.len()));
    frame.render_widget(Paragraph::new(Line::from(foot).dim()), place(1));
}

impl Picture {
    fn ink(&self, color: Color) -> Style {
        if self.colours { Style::new().fg(color) } else { Style::new() }
    }

    fn of_state(&self, state: &str) -> Style {
        match word(state) {
            "live" | "done" => self.ink(Color::Green),
            "diverged" | "aborted" | "unreadable" => self.ink(Color::Red),
            _ => self.ink(Color::Yellow),
        }
    }

    /// A line for each run, if there are several: as many as have room, the chosen one among them.
    fn list(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        if self.runs.len() < 2 {
            return vec![];
        }
        let rows = self.runs.len().min((height / 4).max(3));
        let first = self.chosen.saturating_sub(rows / 2).min(self.runs.len() - rows);
        let most = width.saturating_sub(STATE + TREND + 28).max(8);
        let name = self.runs.iter().map(|run| run.name.chars().count()).max().unwrap_or(0).clamp(8, most);
        let select = self.runs.iter().find_map(|run| run.run.as_ref().ok()).map_or("", |run| run.status.select.as_str());
        let count = format!("{} of {}", self.chosen + 1, self.runs.len());
        let head = format!("  {count:<name$}  {:<STATE$}{:<TREND$}  best {select}", "state", "trend");
        let row = |(at, shown): (usize, &Shown)| {
            let mark = if at == self.chosen { "▸ " } else { "  " };
            let (trend, best) = match &shown.run {
                Ok(run) => (spark(&run.trend), best(run).unwrap_or_else(|| "–".into())),
                Err(_) => (String::new(), String::new()),
            };
            let state = shown.state();
            let line = Line::from(vec![
                Span::raw(format!("{mark}{:<name$}  ", cut(&shown.name, name))),
                Span::styled(format!("{:<STATE$}", word(state)), self.of_state(state)),
                Span::raw(format!("{trend:<TREND$}  {best}")),
            ]);
            if at == self.chosen { line.bold() } else { line }
        };
        let rows = self.runs.iter().enumerate().skip(first).take(rows).map(row);
        std::iter::once(Line::from(head).dim()).chain(rows).collect()
    }

    /// The numbers of a run.
    fn numbers(&self, shown: &Shown, width: usize) -> Vec<Line<'static>> {
        let state = Span::styled(shown.state().to_string(), self.of_state(shown.state()));
        let Ok(run) = &shown.run else { return flow("state", vec![state], width) };
        let status = &run.status;
        let mut lines = match &self.runs[..] {
            [_] => flow("run", vec![Span::raw(status.run.clone()).bold(), state], width),
            _ if word(shown.state()) == shown.state() => vec![],
            _ => flow("state", vec![state], width),
        };
        let mut parts = vec![];
        if let Some(steps) = status.steps {
            let share = (status.step as f64 / steps as f64).clamp(0.0, 1.0);
            let full = (10.0 * share) as usize;
            parts.push(format!("{}{} {:.0} %", "█".repeat(full), "░".repeat(10 - full), 100.0 * share));
        }
        let of = |most: Option<u64>| most.map_or(String::new(), |most| format!("/{most}"));
        parts.push(format!("step {}{}", status.step, of(status.steps)));
        parts.push(format!("epoch {}{}", status.epoch, of(status.epochs)));
        parts.extend(status.rate.map(|per_second| format!("{} steps/s", rate(per_second))));
        parts.extend(status.eta.map(|seconds| format!("ETA {}", duration(seconds))));
        parts.extend(run.memory.as_ref().map(|memory| format!("memory {memory}")));
        parts.extend(status.process.map(|process| format!("process {process}")));
        lines.extend(flow("done", parts.into_iter().map(Span::raw).collect(), width));
        let value = |(name, value): &(String, f64)| {
            let text = format!("{name} {value:.5}");
            if value.is_finite() { Span::raw(text) } else { Span::styled(text, self.ink(Color::Red)) }
        };
        lines.extend(flow("newest", run.newest.iter().map(value).collect(), width));
        let best = best(run).zip(status.best).map(|(best, (_, epoch))| format!("{} {best} (epoch {epoch})", status.select));
        lines.extend(flow("best", best.map(|best| Span::styled(best, self.ink(Color::Green))).into_iter().collect(), width));
        let patience =
            status.patience.map(|(waiting, most)| format!("patience: {} of {most} validations left", most.saturating_sub(waiting)));
        let rule = |(metric, value, left): &(String, f64, f64)| format!("{metric} {value:.4}, {left:.4} from its limit");
        let rules = patience.into_iter().chain(status.rules.iter().filter(|_| status.process.is_some()).map(rule));
        lines.extend(flow("rules", rules.map(Span::raw).collect(), width));
        lines
    }

    /// The charts of a run beside each other, or that of the selected metric alone where there is room for one.
    fn charts(&self, frame: &mut Frame<'_>, area: Rect, run: &Followed) {
        let shown = if area.width < BESIDE { &run.charts[run.charts.len().saturating_sub(1)..] } else { &run.charts[..] };
        if shown.iter().all(|chart| chart.curves.is_empty()) {
            frame.render_widget(Paragraph::new("no values yet").dim(), area);
            return;
        }
        let width = area.width / shown.len() as u16;
        for (at, chart) in shown.iter().enumerate() {
            self.chart(frame, Rect { x: area.x + at as u16 * width, width, ..area }, chart);
        }
    }

    /// A chart: title and legend, numbers of the axes, curves.
    fn chart(&self, frame: &mut Frame<'_>, area: Rect, chart: &Chart<'_>) {
        const UNIT: (f64, f64) = (0.0, 1.0);
        let Some((across, up)) = chart.scales(UNIT, UNIT).filter(|_| area.height > 2 && area.width > 20) else { return };
        let rows = area.height - 2;
        let row = |value: f64| ((1.0 - up.at(value)) * f64::from(rows - 1)).round() as u16;
        let ticks: Vec<(u16, String)> =
            up.ticks((usize::from(rows) / 2).max(2), false).into_iter().map(|tick| (row(tick), shown_number(tick))).collect();
        let gutter = ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0) as u16 + 1;
        let plot = Rect { x: area.x + gutter, y: area.y + 1, width: area.width - gutter - 2, height: rows };
        frame.render_widget(self.legend(chart, up.logarithmic, usize::from(area.width)), Rect { height: 1, ..area });
        let mut axis: Vec<String> = vec![format!("{:>gutter$}", "│", gutter = usize::from(gutter)); usize::from(rows)];
        for (row, label) in ticks {
            axis[usize::from(row)] = format!("{label:>gutter$}┤", gutter = usize::from(gutter) - 1);
        }
        let axis: Vec<Line<'_>> = axis.into_iter().map(|text| Line::from(text).dim()).collect();
        frame.render_widget(Paragraph::new(axis), Rect { x: area.x, y: plot.y, width: gutter, height: rows });
        let mut foot: Vec<char> = std::iter::once('└').chain(std::iter::repeat_n('─', usize::from(plot.width))).collect();
        let labels = across.ticks((usize::from(plot.width) / 9).max(2), chart.axis == Axis::Count);
        let labels = labels.into_iter().map(|tick| (across.at(tick), shown_number(tick)));
        for (at, label) in labels.chain([(1.0, format!(" {}", chart.x))]) {
            let length = label.chars().count();
            let start = ((at * f64::from(plot.width - 1)) as usize + 1).min(foot.len().saturating_sub(length));
            foot.iter_mut().skip(start).zip(label.chars()).for_each(|(place, c)| *place = c);
        }
        let foot = Line::from(foot.into_iter().collect::<String>()).dim();
        frame.render_widget(Paragraph::new(foot), Rect { x: plot.x - 1, y: plot.y + rows, width: plot.width + 1, height: 1 });
        self.curves(frame, plot, chart, [&across, &up]);
    }

    /// The curves of a chart, and the mark of its best value.
    fn curves(&self, frame: &mut Frame<'_>, plot: Rect, chart: &Chart<'_>, [across, up]: [&Scale; 2]) {
        let place = |(x, y): &(f64, f64)| (across.at(*x), up.at(*y));
        // A sign stands where the dots of its place are: two across and four down in a cell.
        let cell = |place: f64, cells: u16, dots: f64| {
            let last = f64::from(cells.saturating_sub(1));
            let at = ((place * (dots * f64::from(cells) - 1.0)).round() / dots).floor();
            ((at + 0.1) / last.max(1.0)).min(1.0)
        };
        let sign = |(x, y): (f64, f64)| (cell(x, plot.width, 2.0), 1.0 - cell(1.0 - y, plot.height, 4.0));
        let best = chart.best.and_then(|best| chart.curves.first()?.points.iter().find(|(x, _)| *x == best));
        let canvas = Canvas::default().x_bounds([0.0, 1.0]).y_bounds([0.0, 1.0]).marker(Marker::Braille).paint(|context| {
            // Raw values would hide the smoothed curve, as a terminal has no faint lines.
            for curve in chart.curves.iter().rev().filter(|curve| curve.stroke != Stroke::Faint) {
                let places: Vec<(f64, f64)> = curve.points.iter().filter(|point| chart.places(point)).map(place).collect();
                let ink = self.ink(color(curve));
                let color = ink.fg.unwrap_or_default();
                // Several of them share a dot.
                let every = places.len() / (8 * usize::from(plot.width)) + 1;
                let dots: Vec<(f64, f64)> = places.iter().step_by(every).chain(places.last()).copied().collect();
                if curve.stroke == Stroke::Dashed {
                    context.draw(&Points { coords: &dots, color });
                    continue;
                }
                dots.windows(2).for_each(|pair| context.draw(&Stretch::new(pair[0].0, pair[0].1, pair[1].0, pair[1].1, color)));
                let few = curve.stroke == Stroke::Full && places.len() <= usize::from(plot.width) / 3;
                for (x, y) in places.iter().filter(|_| few || places.len() == 1).copied().map(sign) {
                    context.print(x, y, Span::styled("•", ink));
                }
            }
            if let Some((x, y)) = best.map(place).map(sign) {
                context.print(x, y, Span::styled("◆", self.ink(Color::Green)));
            }
        });
        frame.render_widget(canvas, plot);
    }

    /// Title of a chart, and as many names of its curves as have room, without the title.
    fn legend(&self, chart: &Chart<'_>, logarithmic: bool, width: usize) -> Line<'static> {
        let mut line = Line::from(Span::raw(format!(" {}{}", chart.title, if logarithmic { " (log)" } else { "" })).bold());
        for curve in chart.curves.iter().filter(|curve| !curve.name.is_empty()) {
            let mark = match curve.stroke {
                Stroke::Full | Stroke::Points => "•",
                Stroke::Light | Stroke::Faint => "⠤",
                Stroke::Dashed => "⠂",
            };
            let name = curve.name.replacen(&format!(" {}", chart.title), "", 1);
            let name = name.trim_end_matches(", smoothed").to_string();
            let entry = [Span::styled(format!(" {mark} "), self.ink(color(curve))), Span::raw(name)];
            if line.width() + entry.iter().map(Span::width).sum::<usize>() < width {
                line.spans.extend(entry);
            }
        }
        line
    }
}

impl Shown {
    fn state(&self) -> &str {
        match &self.run {
            Ok(run) => run.status.state.strip_prefix("ended ").unwrap_or(&run.status.state),
            Err(why) => why,
        }
    }
}

/// State of a run in one word.
fn word(state: &str) -> &str {
    match state.split([' ', ':']).next().unwrap_or_default() {
        "all" => "done",
        first => first,
    }
}

/// Colour of a curve: one that a dark and a light terminal show.
fn color(curve: &Curve<'_>) -> Color {
    match curve.stroke {
        Stroke::Full | Stroke::Points => Color::Magenta,
        Stroke::Light | Stroke::Faint => Color::Cyan,
        Stroke::Dashed => Color::DarkGray,
    }
}

/// Best value of a run so far, with its step.
fn best(run: &Followed) -> Option<String> {
    run.status.best.zip(run.status.best_step).map(|((value, _), step)| format!("{value:.5} at step {step}"))
}

/// A text in so many columns.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_string(),
    }
}

/// Lines of these parts after a word; none without parts.
fn flow(label: &'static str, parts: Vec<Span<'static>>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = vec![];
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.width() + 2 + part.width() <= width => line.spans.extend([Span::raw("  "), part]),
            last => {
                let label = if last.is_none() { label } else { "" };
                lines.push(Line::from(vec![Span::raw(format!("{label:<LABEL$}")).dim(), part]));
            }
        }
    }
    lines
}

/// Values as bars of a line's height, the last ones at the right; a value that is not finite is a gap.
fn spark(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let every = values.len().div_ceil(TREND).max(1);
    let shown: Vec<f64> = values.chunks(every).filter_map(|chunk| chunk.last().copied()).collect();
    let finite = || shown.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let bar = |value: &f64| match value.is_finite() {
        true => BARS[((value - low) / (high - low).max(f64::MIN_POSITIVE) * 7.0).round().clamp(0.0, 7.0) as usize],
        false => ' ',
    };
    shown.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::runs::follow;

    const SIZES: [(u16, u16); 2] = [(80, 24), (60, 15)];

    /// The folder of a run with so many validations, and the lock of a live one.
    struct Folder {
        folder: TempDir,
        lock: Option<File>,
    }

    impl Folder {
        fn of(validations: u64, live: bool) -> Folder {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
            write("config.toml", "[train]\nepochs = 9\n[validation]\nselect = \"accuracy\"\npatience = 5\n".into());
            write("train.log", "memory      6.4 MiB (activations 2.8)\n\nWARNING: a word\n".into());
            let line = |step: u64, split: &str, name: &str, value: f64| json!({ "split": split, "step": step, "epoch": step / 10, "loss": 1.0 / step as f64, name: value });
            let lines = (1..=validations).flat_map(|n| {
                let train = (1..=10).map(move |i| line(10 * (n - 1) + i, "train", "norm", 1.0));
                train.chain([line(10 * n, "validation", "accuracy", 1.0 - 0.5 / n as f64)])
            });
            write("metrics.jsonl", lines.map(|line| format!("{line}\n")).collect());
            let lock = live.then(|| {
                if validations > 0 {
                    write(
                        "status.json",
                        json!({ "step": 10 * validations, "end": 90, "rate": 2.0, "process": 7, "waiting": 2 }).to_string(),
                    );
                }
                let lock = File::create(folder.path().join(".lock")).unwrap();
                lock.lock().unwrap();
                lock
            });
            Folder { folder, lock }
        }

        fn shown(&self, name: &str) -> Shown {
            Shown { folder: self.folder.path().into(), name: name.into(), run: follow(self.folder.path()).map_err(|e| e.to_string()) }
        }

        fn add(&self, file: &str, text: &str) {
            let path = self.folder.path().join(file);
            fs::write(&path, fs::read_to_string(&path).unwrap_or_default() + text).unwrap();
        }
    }

    fn drawn(picture: &Picture, (width, height): (u16, u16)) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, picture)).unwrap();
        terminal
    }

    fn picture(runs: Vec<Shown>, chosen: usize) -> Picture {
        Picture { runs, chosen, colours: false, keys: "q leave" }
    }

    fn expect(text: &str, words: &[&str]) {
        words.iter().for_each(|word| assert!(text.contains(word), "{word} is not in\n{text}"));
    }

    #[test]
    fn a_live_run_has_its_numbers_and_curves() {
        for size in SIZES {
            let of = |validations| {
                let folder = Folder::of(validations, true);
                assert!(folder.lock.is_some());
                drawn(&picture(vec![folder.shown("a")], 0), size).backend().to_string()
            };
            let young = of(0);
            expect(&young, &["live", "step 0", "epoch 0/9", "memory 6.4 MiB", "patience: 5 of 5", "no values yet", "q leave"]);
            assert!(!young.contains("ETA") && !young.contains("steps/s") && !young.contains("best "), "{young}");
            let one = of(1);
            expect(
                &one,
                &["11 %", "step 10/90", "2.0 steps/s", "ETA 40 s", "newest  training loss 0.10000", "validation accuracy 0.50000"],
            );
            expect(&one, &["best    accuracy 0.50000 at step 10 (epoch 1)", "patience: 3 of 5 validations left", "process 7", "◆"]);
            let many = of(6);
            expect(
                &many,
                &[
                    "67 %",
                    "best    accuracy 0.91667 at step 60 (epoch 6)",
                    " loss (log) • validation",
                    " accuracy • validation",
                    "epoch",
                    "└0",
                ],
            );
            assert!(many.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count() > 20, "{many}");
            assert_eq!(many.contains("WARNING: a word"), size.1 == 24, "{many}");
        }
    }

    #[test]
    fn what_is_no_number_and_how_a_run_ended_are_said() {
        for size in SIZES {
            let folder = Folder::of(3, false);
            let text = || drawn(&picture(vec![folder.shown("a")], 0), size).backend().to_string();
            expect(&text(), &["stopped before its first checkpoint: --resume starts"]);
            folder.add("metrics.jsonl", "{\"split\":\"train\",\"step\":31,\"epoch\":3,\"loss\":null}\n");
            folder.add("diverged.txt", "it did");
            expect(&text(), &["training loss NaN", "diverged: see its diverged.txt"]);
            folder.add("report.json", "{\"ended\":\"early: no better accuracy in 5 validations\"}");
            expect(&text(), &["early: no better accuracy in 5 validations", "best    accuracy 0.83333 at step 30"]);
            assert!(!text().contains("patience") && !text().contains("ETA"), "{}", text());
        }
    }

    #[test]
    fn a_sweep_has_a_line_for_each_run_and_the_chosen_one_large() {
        let folders: Vec<Folder> = (1..=4).map(|n| Folder::of(2 * n, n == 4)).collect();
        folders[0].add("report.json", "{\"ended\":\"all steps done\"}");
        let runs = |chosen| {
            let waiting = Shown { folder: "w".into(), name: "seed=5".into(), run: Err("waiting: it has not started".into()) };
            let begun = folders.iter().enumerate().map(|(at, folder)| folder.shown(&format!("seed={}", at + 1)));
            picture(begun.chain([waiting]).collect(), chosen)
        };
        let text = drawn(&runs(3), (80, 24)).backend().to_string();
        expect(&text, &["4 of 5    state     trend       best accuracy", "  seed=1    done      ▁█          0.75000 at step 20"]);
        expect(
            &text,
            &["  seed=3    stopped", "▸ seed=4    live      ▁▅▆▇▇███    0.93750 at step 80", "  seed=5    waiting", "↑↓ run   q leave"],
        );
        expect(&text, &["patience: 3 of 5", " loss", "ETA"]);
        let small = drawn(&runs(4), (60, 15)).backend().to_string();
        expect(&small, &["5 of 5", "▸ seed=5    waiting", "state   waiting: it has not started"]);
        assert!(!small.contains("seed=2"), "{small}");
        expect(&drawn(&runs(0), (60, 15)).backend().to_string(), &["▸ seed=1", "state   all steps done", "◆", "└0"]);
    }

    #[test]
    fn any_size_is_drawn_and_without_colours_there_are_none() {
        let folder = Folder::of(4, true);
        let runs = || vec![folder.shown("a name that is long enough to be cut"), folder.shown("b")];
        for (width, height) in (1..90).step_by(4).flat_map(|width| (1..30).map(move |height| (width, height))) {
            drawn(&picture(runs(), 1), (width, height));
        }
        let inked = |colours| {
            let terminal = drawn(&Picture { colours, ..picture(runs(), 0) }, (80, 24));
            terminal.backend().buffer().content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        };
        assert!(inked(true) && !inked(false));
        drawn(&picture(vec![], 0), (80, 24));
    }

    #[test]
    fn a_trend_has_its_lowest_and_highest_bar_and_gaps() {
        assert_eq!(spark(&[1.0, f64::NAN, 2.0]), "▁ █");
        assert_eq!((spark(&[]), spark(&[3.0])), (String::new(), "▁".to_string()));
        assert_eq!(spark(&(0..1000).map(f64::from).collect::<Vec<_>>()).chars().count(), TREND);
    }
}
