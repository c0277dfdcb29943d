//! Charts as SVG: in a file of their own with legends beside them, or as figures of a page.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::curves::Points;
use super::ticks::{logarithmic_ticks, shown_number, ticks};
use crate::error::{Error, Result, visible};
use crate::files;

/// Line styles of curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// Full line for the main curves.
    Full,
    /// Light line for curves that they are compared with.
    Light,
    /// Faint line for raw values below their smoothed curve; it is not in the legend.
    Faint,
    /// Dashed line for baselines that need no training.
    Dashed,
    /// Points without a line.
    Points,
}

/// Colour of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// One of ten colours that are told apart easily; the curves of one metric share one.
    Series(usize),
    /// One of ten steps from dark to light, for the values of a key in their order.
    Ramp(usize),
    /// Grey for what is there to compare with.
    Grey,
}

impl Ink {
    /// Class of the style sheet.
    fn class(self) -> String {
        match self {
            Ink::Series(number) => format!("s{}", number % 10),
            Ink::Ramp(number) => format!("r{}", number % 10),
            Ink::Grey => "grey".into(),
        }
    }
}

/// One curve of a chart.
#[derive(Debug)]
pub(crate) struct Curve<'a> {
    /// Name in the legend; a curve without one is not there.
    pub(crate) name: String,
    pub(crate) points: Cow<'a, [(f64, f64)]>,
    pub(crate) ink: Ink,
    pub(crate) stroke: Stroke,
}

/// What the horizontal axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Steps or epochs: whole numbers from 0.
    Count,
    /// Any numbers.
    Numbers,
    /// Positive numbers by their logarithm.
    Logarithm,
}

/// One chart: its title, axes and curves.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: String,
    /// Label of the horizontal axis.
    pub(crate) x: String,
    pub(crate) axis: Axis,
    /// In the order of the legend; the first one is drawn on top.
    pub(crate) curves: Vec<Curve<'a>>,
    /// True for a loss: its axis is logarithmic if the values span more than a decade.
    pub(crate) loss: bool,
    /// Place of the best value on the horizontal axis.
    pub(crate) best: Option<f64>,
    /// True for a small panel.
    pub(crate) small: bool,
}

/// Colours of light and of dark surroundings, by class. Each is told from the paper at a contrast of 3 to 1.
const INKS: [(&str, &str, &str); 21] = [
    ("s0", "#2d5fa5", "#7fb0f0"),
    ("s1", "#c2571b", "#f0955c"),
    ("s2", "#2f8044", "#6fc585"),
    ("s3", "#b43c46", "#f08088"),
    ("s4", "#785faf", "#b39ff0"),
    ("s5", "#876950", "#c9a88a"),
    ("s6", "#b8479f", "#e592d2"),
    ("s7", "#21819b", "#62c3de"),
    ("s8", "#857322", "#cfba5a"),
    ("s9", "#3c3c3c", "#d8d8d8"),
    ("r0", "#440a54", "#e8dc4a"),
    ("r1", "#472c7a", "#b6d840"),
    ("r2", "#3b4f8b", "#84cf52"),
    ("r3", "#2d6a8e", "#57c16a"),
    ("r4", "#21808d", "#3bb37e"),
    ("r5", "#1b8a76", "#4aa6a0"),
    ("r6", "#3d8a3a", "#6797c4"),
    ("r7", "#6d8616", "#8d88dc"),
    ("r8", "#937a00", "#b47ae0"),
    ("r9", "#b36a00", "#dc74d0"),
    ("grey", "#8c8c8c", "#7d7d7d"),
];

/// Colours of everything else: class, property, and its value in the light and in the dark.
const PARTS: [(&str, &str, &str, &str); 5] = [
    ("paper", "fill", "#ffffff", "#16181c"),
    ("grid", "stroke", "#e2e2e2", "#33373d"),
    ("frame", "stroke", "#8a8a8a", "#8a8f96"),
    ("ink", "fill", "#222222", "#e4e4e4"),
    ("soft", "fill", "#666666", "#a8adb3"),
];

/// Size of a plot in pixels: width, height, and height of a small panel.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const SMALL: f64 = 170.0;

/// Width of a legend beside a plot, and height of one of its lines.
const LEGEND: f64 = 290.0;
const LINE: f64 = 19.0;

/// Margins of a plot: left, right, top and bottom. A page may show their text in a larger size.
const MARGINS: [f64; 4] = [72.0, 16.0, 42.0, 50.0];

/// Largest number of points at which each has a mark.
const FEW: usize = 8;

/// Smallest number of points at which a training curve is smoothed.
const MANY: usize = 30;

/// True if a point can be drawn: with larger values the length of an axis would overflow.
fn shown(point: &(f64, f64)) -> bool {
    point.0.abs() <= 1e300 && point.1.abs() <= 1e300
}

/// Exponential moving average over about a twenty-fifth of the points, corrected for its start (Kingma & Ba 2015, section 3).
fn smoothed(points: &[(f64, f64)]) -> Points {
    let new = 2.0 / (points.len() as f64 / 25.0 + 1.0);
    let (mut mean, mut weight) = (0.0, 0.0);
    let step = |(x, y): &(f64, f64)| {
        mean += new * (y - mean);
        weight += new * (1.0 - weight);
        (*x, mean / weight)
    };
    points.iter().filter(|p| shown(p)).map(step).collect()
}

/// Curves of training values: unchanged if there are few, else a smoothed curve and the raw values faintly.
pub(crate) fn training<'a>(name: &str, points: Points, ink: Ink) -> Vec<Curve<'a>> {
    if points.len() < MANY {
        return vec![Curve { name: name.into(), points: points.into(), ink, stroke: Stroke::Light }];
    }
    vec![
        Curve { name: format!("{name}, smoothed"), points: smoothed(&points).into(), ink, stroke: Stroke::Light },
        Curve { name: String::new(), points: points.into(), ink, stroke: Stroke::Faint },
    ]
}

/// Style sheet of charts, in light and in dark surroundings.
pub(crate) fn style() -> String {
    let mut out = String::from(
        ".chart text { font: 13px system-ui, sans-serif; } .chart .title { font-weight: 600; } .chart path { fill: none; } \
         .full { stroke-width: 2; } .light { stroke-width: 2; stroke-opacity: .55; } .faint { stroke-opacity: .3; } \
         .dashed { stroke-dasharray: 6 4; } .best { stroke-dasharray: 2 3; } .chart circle { stroke: none; } .middle { text-anchor: middle; } \
         .end { text-anchor: end; } ",
    );
    let inks = |pick: fn(&(&str, &str, &str)) -> String| INKS.iter().map(pick).collect::<String>();
    let parts = |pick: fn(&(&str, &str, &str, &str)) -> String| PARTS.iter().map(pick).collect::<String>();
    out += &inks(|(class, light, _)| format!(".{class} {{ stroke: {light}; fill: {light}; }} "));
    out += &parts(|(class, what, light, _)| format!(".{class} {{ {what}: {light}; }} "));
    let dark = inks(|(class, _, dark)| format!(".{class} {{ stroke: {dark}; fill: {dark}; }} "))
        + &parts(|(class, what, _, dark)| format!(".{class} {{ {what}: {dark}; }} "));
    // Paper that is printed stays white.
    let _ = writeln!(out, "@media screen and (prefers-color-scheme: dark) {{ {dark}}}");
    out
}

/// Draws charts one below the other into an SVG file.
pub(crate) fn draw(path: &Path, charts: &[Chart<'_>]) -> Result<()> {
    files::replace(path, Error::write, |file| file.write_all(svg(charts).as_bytes()))
}

/// SVG text of charts one below the other, each with its legend to the right.
pub(crate) fn svg(charts: &[Chart<'_>]) -> String {
    let (mut body, mut top) = (String::new(), 0.0);
    for chart in charts {
        let Some(plot) = plot(chart) else { continue };
        let entries = chart.legend();
        let _ = writeln!(body, "<g transform=\"translate(0 {top})\">\n{plot}");
        for (row, curve) in entries.iter().enumerate() {
            let y = MARGINS[2] + 8.0 + LINE * row as f64;
            let _ = writeln!(
                body,
                "{}<text class=\"ink\" x=\"{}\" y=\"{}\">{}</text>",
                key(curve, WIDTH + 4.0, y),
                WIDTH + 36.0,
                y + 4.5,
                escaped(&shortened(&curve.name, 34))
            );
        }
        body += "</g>\n";
        top += chart.height().max(MARGINS[2] + LINE * entries.len() as f64 + 12.0);
    }
    // A file without a chart is still a picture.
    picture(WIDTH + LEGEND, top.max(LINE), &body)
}

/// SVG of a size that has the style sheet and paper.
pub(super) fn picture(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
        style()
    )
}

/// HTML of a chart with its legend below, for a page that has the style sheet; none for a chart without values.
pub(crate) fn figure(chart: &Chart<'_>) -> Option<String> {
    let plot = plot(chart)?;
    let entry = |curve: &&Curve<'_>| {
        let name = escaped(&visible(&curve.name));
        format!("<li><svg class=\"chart\" width=\"26\" height=\"12\">{}</svg>{name}</li>", key(curve, 0.0, 6.0))
    };
    let legend: String = chart.legend().iter().map(entry).collect();
    let (title, small) = (escaped(&visible(&chart.title)), if chart.small { " class=\"small\"" } else { "" });
    Some(format!(
        "<figure{small}><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">\n{plot}</svg><ul class=\"legend\">{legend}</ul></figure>\n",
        chart.height()
    ))
}

/// Sample of a curve for a legend.
fn key(curve: &Curve<'_>, x: f64, y: f64) -> String {
    let ink = curve.ink.class();
    match curve.stroke {
        Stroke::Points => format!("<circle class=\"{ink}\" cx=\"{}\" cy=\"{y}\" r=\"3\"/>", x + 12.0),
        stroke => format!("<path class=\"{ink} {}\" d=\"M{x} {y}h24\"/>", stroke.class()),
    }
}

impl Stroke {
    fn class(self) -> &'static str {
        match self {
            Stroke::Full => "full",
            Stroke::Light => "light",
            Stroke::Faint | Stroke::Points => "faint",
            Stroke::Dashed => "dashed",
        }
    }
}

impl<'a> Chart<'a> {
    fn height(&self) -> f64 {
        if self.small { SMALL } else { HEIGHT }
    }

    /// Curves that the legend names.
    fn legend(&self) -> Vec<&Curve<'a>> {
        self.curves.iter().filter(|curve| !curve.name.is_empty() && curve.points.iter().any(shown)).collect()
    }

    /// Scales across and up, from one end to the other of each axis; none without a value.
    pub(crate) fn scales(&self, across: (f64, f64), up: (f64, f64)) -> Option<(Scale, Scale)> {
        let points = || self.curves.iter().flat_map(|c| c.points.iter().copied()).filter(|p| self.places(p));
        let start = (self.axis == Axis::Count).then_some(0.0).filter(|_| points().next().is_some());
        let margin = if self.axis == Axis::Count { 0.0 } else { 0.03 };
        let across = Scale::of(start.into_iter().chain(points().map(|p| p.0)), self.axis == Axis::Logarithm, margin, across)?;
        let low = points().map(|p| p.1).fold(f64::INFINITY, f64::min);
        let high = points().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
        let logarithmic = self.loss && low > 0.0 && high > 10.0 * low;
        Some((across, Scale::of([low, high].into_iter(), logarithmic, 0.05, up)?))
    }

    /// True if a point has a place on the axes.
    pub(crate) fn places(&self, point: &(f64, f64)) -> bool {
        shown(point) && (self.axis != Axis::Logarithm || point.0 > 0.0)
    }
}

/// Range of numbers from which places on an axis follow.
pub(crate) struct Scale {
    from: f64,
    to: f64,
    pub(crate) logarithmic: bool,
    /// Places of its ends.
    ends: (f64, f64),
}

impl Scale {
    /// Scale of values with `margin` times their range on both sides.
    fn of(values: impl Iterator<Item = f64>, logarithmic: bool, margin: f64, ends: (f64, f64)) -> Option<Scale> {
        let place = |v: f64| if logarithmic { v.log10() } else { v };
        let (low, high) = values.map(place).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        // A constant lies in the middle of a range of its own size.
        let margin = if high > low { (high - low).max(1e-6 * high.abs()) * margin } else { (0.1 * high.abs()).max(1e-6) };
        (low <= high).then_some(Scale { from: low - margin, to: high + margin, logarithmic, ends })
    }

    /// Place of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        self.ends.0 + (value - self.from) / (self.to - self.from) * (self.ends.1 - self.ends.0)
    }

    /// Round numbers on the axis, at most `most` of them.
    pub(crate) fn ticks(&self, most: usize, whole: bool) -> Vec<f64> {
        if self.logarithmic { logarithmic_ticks(self.from, self.to, most) } else { ticks(self.from, self.to, most, whole) }
    }
}

/// SVG of axes and curves; none without a value.
fn plot(chart: &Chart<'_>) -> Option<String> {
    let [left, right, top, bottom] = MARGINS;
    let (across, up) = chart.scales((left, WIDTH - right), (chart.height() - bottom, top))?;
    let mut out = String::new();
    axes(&mut out, chart, &across, &up);
    if let Some(best) = chart.best.map(|x| across.at(x)).filter(|x| (left - 0.5..=WIDTH - right + 0.5).contains(x)) {
        let anchor = if best > WIDTH - 80.0 { ("end", best - 4.0) } else { ("", best + 4.0) };
        let _ = writeln!(
            out,
            "<path class=\"frame best\" d=\"M{best:.1} {top}V{:.1}\"/><text class=\"soft {}\" x=\"{:.1}\" y=\"{}\">best</text>",
            chart.height() - bottom,
            anchor.0,
            anchor.1,
            top - 4.0
        );
    }
    for curve in chart.curves.iter().rev() {
        let places: Vec<String> =
            curve.points.iter().filter(|p| chart.places(p)).map(|p| format!("{:.1} {:.1}", across.at(p.0), up.at(p.1))).collect();
        let ink = curve.ink.class();
        if curve.stroke != Stroke::Points && places.len() > 1 {
            let _ = writeln!(out, "<path class=\"{ink} {}\" d=\"M{}\"/>", curve.stroke.class(), places.join("L"));
        }
        // A single point is no line, and few are seen better.
        let (marked, radius) = match curve.stroke {
            Stroke::Points => (true, 2.5),
            stroke => (places.len() <= FEW && stroke != Stroke::Dashed, 3.0),
        };
        for (x, y) in places.iter().filter(|_| marked).filter_map(|place| place.split_once(' ')) {
            let _ = writeln!(out, "<circle class=\"{ink}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>");
        }
    }
    Some(out)
}

/// Title, grid, ticks and labels of a chart.
fn axes(out: &mut String, chart: &Chart<'_>, across: &Scale, up: &Scale) {
    let [left, right, top, bottom] = MARGINS;
    let (end, floor) = (WIDTH - right, chart.height() - bottom);
    let title = escaped(&shortened(&chart.title, 46));
    let kind = if up.logarithmic { " (logarithmic)" } else { "" };
    let y = top - 24.0;
    let _ = writeln!(out, "<text class=\"ink title\" x=\"{left}\" y=\"{y}\">{title}<tspan class=\"soft\">{kind}</tspan></text>");
    let mut said = String::new();
    for tick in up.ticks(if chart.small { 3 } else { 6 }, false) {
        let (y, label) = (up.at(tick), shown_number(tick));
        // Neighbours may differ in digits that are not shown.
        if label == said {
            continue;
        }
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{left} {y:.1}H{end}\"/><text class=\"soft end\" x=\"{}\" y=\"{:.1}\">{label}</text>",
            left - 6.0,
            y + 4.5
        );
        said = label;
    }
    for tick in across.ticks(6, chart.axis == Axis::Count) {
        let x = across.at(tick);
        let _ = writeln!(
            out,
            "<path class=\"frame\" d=\"M{x:.1} {floor}v4\"/><text class=\"soft middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            floor + 19.0,
            shown_number(tick)
        );
    }
    let _ = writeln!(
        out,
        "<path class=\"frame\" d=\"M{left} {floor}H{end}\"/><text class=\"soft end\" x=\"{end}\" y=\"{}\">{}</text>",
        floor + 41.0,
        escaped(&shortened(&chart.x, 30))
    );
}

/// Text for SVG and HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Shortens a name so that it fits the legend.
pub(super) fn shortened(name: &str, most: usize) -> String {
    let name = &*visible(name);
    let count = name.chars().count();
    if count <= most {
        return name.into();
    }
    let (head, tail) = (most / 3, most - most / 3 - 1);
    name.chars().take(head).chain(['…']).chain(name.chars().skip(count - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(curves: Vec<Curve<'_>>) -> Chart<'_> {
        Chart { title: "loss".into(), x: "step".into(), axis: Axis::Count, curves, loss: true, best: None, small: false }
    }

    fn curve(name: &str, points: Points) -> Curve<'_> {
        Curve { name: name.into(), points: points.into(), ink: Ink::Series(0), stroke: Stroke::Full }
    }

    /// Numbers of an attribute, in the order of the text.
    fn numbers(text: &str, before: &str) -> Vec<f64> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
    }

    #[test]
    fn values_of_any_size_are_drawn_or_left_out() {
        for values in [&[1e308, -1e308][..], &[f64::NAN, 1.0, f64::INFINITY], &[5e-324, 0.0], &[1e300, -1e300], &[1e16, 1e16 + 2.0], &[]] {
            for axis in [Axis::Count, Axis::Numbers, Axis::Logarithm] {
                let points: Points = values.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
                let text = svg(&[Chart { axis, ..chart(training("any", points, Ink::Grey)) }]);
                assert!(text.contains("</svg>") && !text.contains("NaN") && !text.contains("inf"), "{values:?} {axis:?}: {text}");
            }
        }
    }

    #[test]
    fn long_names_are_cut_in_their_middle() {
        assert_eq!(shortened("runs/a", 36), "runs/a");
        assert_eq!(shortened(&"x".repeat(60), 36).chars().count(), 36);
    }

    #[test]
    fn a_smoothed_constant_is_that_constant() {
        let points: Points = (0..50).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smoothed(&points).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        assert_eq!(training("train", points[..5].to_vec(), Ink::Grey).len(), 1);
        assert_eq!(training("train", points, Ink::Grey).len(), 2);
    }

    #[test]
    fn charts_have_legends_axes_and_marks() {
        let points: Points = (0..100).map(|i| (f64::from(i), 100.0 / f64::from(i + 1))).collect();
        let mut curves = training("train loss", points.clone(), Ink::Series(0));
        curves.push(curve("validation loss", points[..1].to_vec()));
        curves.push(Curve { stroke: Stroke::Dashed, ..curve("guess", vec![(0.0, 4.0), (99.0, 4.0)]) });
        let text = svg(&[Chart { best: Some(50.0), ..chart(curves) }]);
        for part in ["train loss, smoothed", "validation loss", "guess", "(logarithmic)", "<circle", ">best</text>"] {
            assert!(text.contains(part), "{part}");
        }
        // No values, no chart.
        assert!(!svg(&[chart(vec![curve("nothing", vec![(0.0, f64::NAN)])])]).contains("nothing"));
    }

    #[test]
    fn a_constant_has_one_place_and_no_label_twice() {
        for value in [0.003, 0.0, -5.0, 1e12] {
            let text = svg(&[chart(vec![curve("constant", vec![(0.0, value), (9.0, value)])])]);
            let labels: Vec<&str> = text.split("soft end\"").skip(1).map(|rest| rest.split(['>', '<']).nth(1).unwrap()).collect();
            let different: std::collections::BTreeSet<&&str> = labels.iter().collect();
            assert!(labels.len() > 2 && different.len() == labels.len(), "{value}: {labels:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_in_the_colour_of_the_paper() {
        for (at, paper) in [(0, PARTS[0].2), (1, PARTS[0].3)] {
            let inks = INKS.iter().map(|(class, light, dark)| (*class, [*light, *dark][at]));
            let all = inks.chain(PARTS[2..].iter().map(|(class, _, light, dark)| (*class, [*light, *dark][at])));
            for (class, color) in all {
                let contrast = contrast(color, paper);
                assert!(contrast >= 3.0, "{class}: {color} on {paper} has a contrast of {contrast:.2}");
            }
            assert!(contrast(if at == 0 { PARTS[1].2 } else { PARTS[1].3 }, paper) > 1.2);
        }
        let text = svg(&[chart(vec![curve("a", vec![(0.0, 1.0), (9.0, 2.0)])])]);
        let (_, body) = text.split_once("</style>").unwrap();
        assert!(!body.contains("white") && !body.contains("#fff") && !body.contains("stroke=\""), "{body}");
        let classes = body.split("<path class=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let known = |class: &str| INKS.iter().any(|(ink, ..)| *ink == class) || PARTS[1..].iter().any(|(part, ..)| *part == class);
        classes.for_each(|class| assert!(class.split(' ').any(known), "{class}"));
    }

    /// Ratio of the luminances of two colours (WCAG 2.1).
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |color: &str| {
            let channel = |at: usize| {
                let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn legends_lie_beside_the_plots_and_below_each_other() {
        let many = || (0..40).map(|i| curve("a run", vec![(0.0, f64::from(i)), (9.0, 1.0)])).collect();
        let text = svg(&[chart(many()), chart(many())]);
        let entries: Vec<&str> = text.split("<text class=\"ink\" ").skip(1).collect();
        assert_eq!(entries.len(), 80);
        for of_chart in entries.chunks(40) {
            let y: Vec<f64> = of_chart.iter().map(|entry| numbers(entry, "y=\"")[0]).collect();
            assert!(y.windows(2).all(|pair| pair[1] - pair[0] >= 15.0), "{y:?}");
            assert!(of_chart.iter().all(|entry| numbers(entry, "x=\"")[0] > WIDTH));
        }
        // Nor does one reach into the next chart, or out of the picture.
        let last = numbers(entries[39], "y=\"")[0];
        let tops: Vec<f64> = text.split("translate(0 ").skip(1).map(|rest| rest.split(')').next().unwrap().parse().unwrap()).collect();
        assert!(tops.len() == 2 && tops[0] == 0.0 && tops[1] > last && last > HEIGHT, "{tops:?} {last}");
        assert!(numbers(&text, "height=\"")[0] > tops[1] + last);
    }
}
