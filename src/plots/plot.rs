//! Curves as SVG.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::curves::Points;
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

/// One curve of a chart.
#[derive(Debug)]
pub(crate) struct Curve<'a> {
    pub(crate) name: String,
    pub(crate) points: Cow<'a, [(f64, f64)]>,
    /// Number of its colour, which the curves of one metric share.
    pub(crate) color: usize,
    pub(crate) stroke: Stroke,
}

/// One chart: its title, axis label and curves.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: String,
    /// Label of the horizontal axis.
    pub(crate) x: String,
    pub(crate) curves: Vec<Curve<'a>>,
    /// True for a loss: its axis is logarithmic if the values span more than a decade.
    pub(crate) loss: bool,
}

const COLORS: [RGBColor; 10] = [
    RGBColor(45, 95, 165),
    RGBColor(213, 106, 48),
    RGBColor(60, 145, 80),
    RGBColor(180, 60, 70),
    RGBColor(120, 95, 175),
    RGBColor(135, 105, 80),
    RGBColor(205, 110, 180),
    RGBColor(70, 160, 190),
    RGBColor(165, 145, 50),
    RGBColor(60, 60, 60),
];

/// Width of a chart, width of the legend beside it, and height, in pixels.
const SIZE: (u32, u32, u32) = (720, 260, 320);

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

/// Curves of training values: unchanged if there are few, else the raw values faintly and a smoothed curve.
pub(crate) fn training<'a>(name: &str, points: &'a [(f64, f64)], color: usize) -> Vec<Curve<'a>> {
    if points.len() < MANY {
        return vec![Curve { name: name.into(), points: points.into(), color, stroke: Stroke::Light }];
    }
    vec![
        Curve { name: format!("{name}, raw"), points: points.into(), color, stroke: Stroke::Faint },
        Curve { name: format!("{name}, smoothed"), points: smoothed(points).into(), color, stroke: Stroke::Light },
    ]
}

/// Draws charts one below the other into an SVG file.
pub(crate) fn draw(path: &Path, charts: &[Chart<'_>]) -> Result<()> {
    let svg = svg(charts).map_err(|e| Error::Internal(format!("drawing {}: {e}", path.display())))?;
    files::replace(path, Error::write, |file| file.write_all(svg.as_bytes()))
}

/// SVG text of charts one below the other.
pub(crate) fn svg(charts: &[Chart<'_>]) -> std::result::Result<String, String> {
    let mut svg = String::new();
    render(&mut svg, charts).map_err(|e| e.to_string())?;
    Ok(svg)
}

/// Formats a number for a tick, without superfluous digits.
fn tick(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.6}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".into() } else { short.into() }
}

/// Shortens a name so that it fits the legend.
fn shortened(name: &str, most: usize) -> String {
    let name = &*visible(name);
    let count = name.chars().count();
    if count <= most {
        return name.into();
    }
    let (head, tail) = (most / 3, most - most / 3 - 1);
    name.chars().take(head).chain(['…']).chain(name.chars().skip(count - tail)).collect()
}

fn render(svg: &mut String, charts: &[Chart<'_>]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (width, legend, height) = SIZE;
    let root = SVGBackend::with_string(svg, (width + legend, height * charts.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, chart) in root.split_evenly((charts.len(), 1)).iter().zip(charts) {
        let points = || chart.curves.iter().flat_map(|c| c.points.iter().copied()).filter(shown);
        // Steps begin at 0; pairs of numbers are anywhere.
        let scatter = chart.curves.iter().any(|curve| curve.stroke == Stroke::Points);
        let start = if scatter { (f64::INFINITY, f64::NEG_INFINITY) } else { (0.0, 0.0) };
        let (left, right) = points().fold(start, |(l, r), p| (l.min(p.0), r.max(p.0)));
        let right = if right > left { right } else { left + 1.0 };
        let (low, high) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
        if low > high {
            continue;
        }
        let logarithmic = chart.loss && low > 0.0 && high > 10.0 * low;
        let y = |v: f64| if logarithmic { v.log10() } else { v };
        let (low, high) = (y(low), y(high));
        let margin = (high - low).max(1e-6 * high.abs().max(1e-6)) * 0.05;
        let (plot, side) = area.split_horizontally(width);
        let mut context = ChartBuilder::on(&plot)
            .caption(chart.title.as_str(), ("sans-serif", 17))
            .margin(10)
            .margin_right(18)
            .x_label_area_size(40)
            .y_label_area_size(72)
            .build_cartesian_2d(left..right, low - margin..high + margin)?;
        let label = |v: &f64| tick(if logarithmic { 10f64.powf(*v) } else { *v });
        // Of a power of ten two digits say enough.
        let rounded = |v: &f64| if logarithmic { tick(format!("{:.1e}", 10f64.powf(*v)).parse().unwrap_or(f64::NAN)) } else { label(v) };
        context
            .configure_mesh()
            .x_desc(chart.x.as_str())
            .x_label_formatter(&|v| tick(*v))
            .y_label_formatter(&rounded)
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .label_style(("sans-serif", 12))
            .draw()?;
        let mut row = 26;
        for curve in &chart.curves {
            let color = if curve.stroke == Stroke::Dashed { RGBColor(110, 110, 110) } else { COLORS[curve.color % COLORS.len()] };
            let (style, thick) = match curve.stroke {
                Stroke::Full => (color.mix(1.0), 2),
                Stroke::Light => (color.mix(0.55), 2),
                Stroke::Faint => (color.mix(0.3), 1),
                Stroke::Dashed => (color.mix(0.9), 1),
                Stroke::Points => (color.mix(0.5), 1),
            };
            let style = style.stroke_width(thick);
            let points = curve.points.iter().filter(|p| shown(p)).map(|p| (p.0, y(p.1)));
            match curve.stroke {
                Stroke::Dashed => drop(context.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?),
                Stroke::Points => drop(context.draw_series(points.clone().map(|p| Circle::new(p, 2, style.filled())))?),
                _ => drop(context.draw_series(LineSeries::new(points.clone(), style))?),
            }
            // A single point is no line, and few are seen better.
            if curve.points.len() <= FEW && !matches!(curve.stroke, Stroke::Dashed | Stroke::Points) {
                context.draw_series(points.map(|p| Circle::new(p, 3, style.filled())))?;
            }
            if curve.stroke == Stroke::Faint || curve.name.is_empty() {
                continue;
            }
            let dashes: &[(i32, i32)] = if curve.stroke == Stroke::Dashed { &[(0, 5), (8, 13), (16, 21)] } else { &[(0, 21)] };
            for (from, to) in dashes {
                side.draw(&PathElement::new(vec![(*from, row), (*to, row)], style))?;
            }
            let text = ("sans-serif", 12).into_text_style(&side).pos(Pos::new(HPos::Left, VPos::Center));
            side.draw(&Text::new(shortened(&curve.name, 36), (28, row), text))?;
            row += 18;
        }
        if logarithmic {
            let text = ("sans-serif", 11).into_text_style(&side).color(&RGBColor(120, 120, 120));
            side.draw(&Text::new("logarithmic axis".to_string(), (0, row), text))?;
        }
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_size_are_drawn_or_left_out() {
        for values in [&[1e308, -1e308][..], &[f64::NAN, 1.0, f64::INFINITY], &[5e-324, 0.0], &[1e300, -1e300], &[1e16, 1e16 + 2.0]] {
            let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            let chart = Chart { title: "any".into(), x: "step".into(), loss: true, curves: training("any", &points, 0) };
            assert!(svg(&[chart]).unwrap().contains("</svg>"));
        }
    }

    #[test]
    fn ticks_show_what_they_say_and_no_more() {
        for (value, text) in [(2.0, "2"), (0.25, "0.25"), (-0.0, "0"), (1500.0, "1500"), (2.5e-5, "2.5e-5"), (0.1 + 0.2, "0.3")] {
            assert_eq!(tick(value), text);
        }
        assert_eq!(shortened("runs/a", 36), "runs/a");
        assert_eq!(shortened(&"x".repeat(60), 36).chars().count(), 36);
    }

    #[test]
    fn a_smoothed_constant_is_that_constant() {
        let points: Points = (0..50).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smoothed(&points).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        assert_eq!(training("train", &points, 0).len(), 2);
        assert_eq!(training("train", &points[..5], 0).len(), 1);
    }

    #[test]
    fn charts_have_legends_axes_and_dashes() {
        let points: Points = (0..100).map(|i| (f64::from(i), 100.0 / f64::from(i + 1))).collect();
        let flat = vec![(0.0, 4.0), (99.0, 4.0)];
        let mut curves = training("train loss", &points, 0);
        curves.push(Curve { name: "validation loss".into(), points: points[..1].into(), color: 0, stroke: Stroke::Full });
        curves.push(Curve { name: "guess".into(), points: flat.into(), color: 0, stroke: Stroke::Dashed });
        let text = svg(&[Chart { title: "loss".into(), x: "step".into(), curves, loss: true }]).unwrap();
        for part in ["train loss, smoothed", "validation loss", "guess", "logarithmic axis", "<circle"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("train loss, raw"));
        // No values, no chart.
        let empty = Curve { name: "nothing".into(), points: vec![(0.0, f64::NAN)].into(), color: 0, stroke: Stroke::Full };
        assert!(!svg(&[Chart { title: "x".into(), x: "y".into(), curves: vec![empty], loss: false }]).unwrap().contains("nothing"));
    }
}
