//! Linkages as SVG: a contact sheet of samples, and a predicted linkage over the true one.

use std::fmt::Write as _;

use crate::datasets::linkages::{KINDS, Kind, Point, RANGE, Sample};

/// Side of a cell, and height of its caption, in pixels.
const CELL: f64 = 240.0;
const CAPTION: f64 = 18.0;

/// Colours of the true and the predicted linkage.
const TRUE: &str = "#4c72b0";
const PREDICTED: &str = "#dd8452";

/// One linkage in a cell.
#[derive(Debug, Clone)]
pub struct Drawing<'a> {
    /// Type of the linkage, if it is a known one; its links are drawn if all joints are given.
    pub kind: Option<&'static Kind>,
    /// Positions of the joints in mm.
    pub joints: &'a [Point],
    /// True for a prediction, which is dashed and has another colour.
    pub predicted: bool,
}

/// A cell of the picture, with a caption.
#[derive(Debug, Clone)]
pub struct Cell<'a> {
    /// Text below the drawing.
    pub caption: String,
    /// Linkages that are drawn; the last is on top.
    pub drawings: Vec<Drawing<'a>>,
}

/// The cell of a sample.
pub fn sample_cell(sample: &Sample) -> Cell<'_> {
    let caption = KINDS[sample.kind].name.to_string();
    Cell { caption, drawings: vec![Drawing { kind: Some(&KINDS[sample.kind]), joints: &sample.joints, predicted: false }] }
}

/// SVG of the cells in rows of `columns`; each shows a square with a side of 2 · 11 mm.
pub fn picture(cells: &[Cell<'_>], columns: usize) -> String {
    let columns = columns.clamp(1, cells.len().max(1));
    let rows = cells.len().div_ceil(columns);
    let (width, height) = (columns as f64 * CELL, rows as f64 * (CELL + CAPTION));
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    for (i, cell) in cells.iter().enumerate() {
        let (x, y) = ((i % columns) as f64 * CELL, (i / columns) as f64 * (CELL + CAPTION));
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        let _ = writeln!(svg, "<rect x=\"2\" y=\"2\" width=\"{0}\" height=\"{0}\" fill=\"none\" stroke=\"#dddddd\"/>", CELL - 4.0);
        cell.drawings.iter().for_each(|drawing| draw(&mut svg, drawing));
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n</g>", CELL / 2.0, CELL + 12.0, cell.caption);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, drawing: &Drawing<'_>) {
    // Predictions may leave the range: what lies outside of the cell is not drawn there.
    let scale = CELL / 2.0 / (RANGE + 1.0);
    let place = |p: &Point| {
        [CELL / 2.0 + scale * p[0].clamp(-RANGE - 1.0, RANGE + 1.0), CELL / 2.0 - scale * p[1].clamp(-RANGE - 1.0, RANGE + 1.0)]
    };
    let points =
        |list: &mut dyn Iterator<Item = &Point>| list.map(place).map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    let (color, dash) = if drawing.predicted { (PREDICTED, " stroke-dasharray=\"5 3\"") } else { (TRUE, "") };
    let known = drawing.kind.filter(|kind| kind.joints == drawing.joints.len());
    if let Some(kind) = known {
        if let Some(curve) = kind.curve(drawing.joints) {
            let _ = writeln!(
                svg,
                "<polygon points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1\" opacity=\"0.6\"/>",
                points(&mut curve.iter())
            );
        }
        for link in kind.links {
            // A closed line of two points would be drawn there and back, and its dashes fill.
            let element = if link.len() == 2 { "polyline" } else { "polygon" };
            let _ = writeln!(
                svg,
                "<{element} points=\"{}\" fill=\"{color}\" fill-opacity=\"0.12\" stroke=\"{color}\" stroke-width=\"2\"{dash}/>",
                points(&mut link.iter().map(|j| &drawing.joints[*j]))
            );
        }
    }
    for (j, p) in drawing.joints.iter().enumerate() {
        let [x, y] = place(p);
        let fixed = known.is_some_and(|kind| kind.ground.contains(&j));
        let fill = if fixed { color } else { "white" };
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{color}\" stroke-width=\"1.5\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::linkages::sample;

    #[test]
    fn a_sheet_has_a_cell_for_each_sample() {
        let samples: Vec<Sample> = (0..8).map(|k| sample(1, k as u64, &[k])).collect();
        let cells: Vec<Cell<'_>> = samples.iter().map(sample_cell).collect();
        let svg = picture(&cells, 3);
        assert_eq!((svg.matches("<text").count(), svg.matches("<circle").count()), (8, samples.iter().map(|s| s.joints.len()).sum()));
        assert!(svg.contains("height=\"774\"") && !svg.contains("NaN"));
    }
}
