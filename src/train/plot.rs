//! The curves of a run as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};

/// One line of a chart.
#[derive(Debug)]
pub(crate) struct Curve<'a> {
    pub(crate) name: String,
    pub(crate) points: &'a [(f64, f64)],
}

/// One chart.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What runs along the horizontal axis.
    pub(crate) x: &'a str,
    pub(crate) curves: Vec<Curve<'a>>,
}

const COLORS: [RGBColor; 12] = [
    RGBColor(76, 114, 176),
    RGBColor(221, 132, 82),
    RGBColor(85, 168, 104),
    RGBColor(140, 140, 140),
    RGBColor(196, 78, 82),
    RGBColor(129, 114, 179),
    RGBColor(147, 120, 96),
    RGBColor(218, 139, 195),
    RGBColor(204, 185, 116),
    RGBColor(100, 181, 205),
    RGBColor(30, 30, 30),
    RGBColor(0, 120, 90),
];

/// Draws charts one below the other.
pub(crate) fn draw(path: &Path, charts: &[Chart<'_>]) -> Result<()> {
    let mut svg = String::new();
    render(&mut svg, charts).map_err(|e| Error::Internal(format!("drawing {}: {e}", path.display())))?;
    super::tensor_file::write_atomically(path, svg.as_bytes())
}

fn render(svg: &mut String, charts: &[Chart<'_>]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (900, 320 * charts.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, chart) in root.split_evenly((charts.len(), 1)).iter().zip(charts) {
        let points = || chart.curves.iter().flat_map(|c| c.points.iter().copied()).filter(|p| p.1.is_finite());
        let right = points().map(|p| p.0).fold(1.0, f64::max);
        let (low, high) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
        if low > high {
            continue;
        }
        let margin = (high - low).max(1e-6 * high.abs().max(1e-6)) * 0.05;
        let mut context = ChartBuilder::on(area)
            .caption(chart.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right, low - margin..high + margin)?;
        context.configure_mesh().x_desc(chart.x).light_line_style(RGBColor(240, 240, 240)).draw()?;
        for (curve, color) in chart.curves.iter().zip(COLORS.into_iter().cycle()) {
            let series = LineSeries::new(curve.points.iter().copied().filter(|p| p.1.is_finite()), color.stroke_width(2));
            context.draw_series(series)?.label(curve.name.clone()).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
        context.configure_series_labels().border_style(RGBColor(200, 200, 200)).background_style(WHITE.mix(0.8)).draw()?;
    }
    root.present()?;
    Ok(())
}
