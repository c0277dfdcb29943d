//! Linkages as SVG: a contact sheet of samples, and a predicted linkage over the true one.

use std::fmt::Write as _;

use crate::datasets::linkages::{KINDS, Kind, Point, RANGE, Sample};

/// Side of a cell, and heights of its caption and of the legend, in pixels.
const CELL: f64 = 240.0;
const CAPTION: f64 = 24.0;
const LEGEND: f64 = 34.0;

/// Style sheet, in light and in dark surroundings: `t` is a true linkage, `p` a predicted one.
const STYLE: &str = "text { font: 13px system-ui, sans-serif; fill: #222222; } .paper { fill: #ffffff; } \
    .cell { fill: none; stroke: #d5d5d5; } .curve { fill: none; stroke-width: 1; stroke-opacity: .7; } .link { fill-opacity: .12; stroke-width: 2; } \
    .t { stroke: #2d5fa5; } .t.solid { fill: #2d5fa5; } .p { stroke: #c2571b; } .p.solid { fill: #c2571b; } .p.link { stroke-dasharray: 5 3; } \
    .hollow { fill: #ffffff; stroke-width: 1.5; } \
    @media screen and (prefers-color-scheme: dark) { text { fill: #e4e4e4; } .paper, .hollow { fill: #16181c; } .cell { stroke: #3d4249; } \
    .t { stroke: #7fb0f0; } .t.solid { fill: #7fb0f0; } .p { stroke: #f0955c; } .p.solid { fill: #f0955c; } }";

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

/// The cell of a sample, with its number in the file.
pub fn sample_cell((number, sample): (usize, &Sample)) -> Cell<'_> {
    let kind = &KINDS[sample.kind];
    let caption = format!("{number}: {}, {} joints", kind.name.replace('_', " "), sample.joints.len());
    Cell { caption, drawings: vec![Drawing { kind: Some(kind), joints: &sample.joints, predicted: false }] }
}

/// SVG of the cells in rows of `columns`, below a legend; each shows a square with a side of 2 · 11 mm.
pub fn picture(cells: &[Cell<'_>], columns: usize) -> String {
    let columns = columns.clamp(1, cells.len().max(1));
    let rows = cells.len().div_ceil(columns);
    let keys = keys(cells);
    let across = ((columns as f64 * CELL / KEY) as usize).max(1);
    let top = LEGEND * keys.len().div_ceil(across) as f64;
    let (width, height) = (columns as f64 * CELL, top + rows as f64 * (CELL + CAPTION));
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>"
    );
    for (i, (mark, meaning)) in keys.iter().enumerate() {
        let (x, y) = (10.0 + (i % across) as f64 * KEY, (i / across) as f64 * LEGEND + LEGEND / 2.0);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">{mark}<text class=\"key\" x=\"34\" y=\"4.5\">{meaning}</text></g>");
    }
    for (i, cell) in cells.iter().enumerate() {
        let (x, y) = ((i % columns) as f64 * CELL, top + (i / columns) as f64 * (CELL + CAPTION));
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        let _ = writeln!(svg, "<rect class=\"cell\" x=\"2\" y=\"2\" width=\"{0}\" height=\"{0}\"/>", CELL - 4.0);
        cell.drawings.iter().for_each(|drawing| draw(&mut svg, drawing));
        let (x, y) = (CELL / 2.0, CELL + 14.0);
        let _ = writeln!(svg, "<text class=\"caption\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>\n</g>", cell.caption);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Width of an entry of the legend, in pixels.
const KEY: f64 = 180.0;

/// What the cells show: marks with their meanings.
fn keys(cells: &[Cell<'_>]) -> Vec<(&'static str, &'static str)> {
    let predicted = cells.iter().flat_map(|cell| &cell.drawings).any(|drawing| drawing.predicted);
    let mut keys = vec![(r#"<path class="t link" d="M0 0h26"/>"#, if predicted { "true link" } else { "link" })];
    if predicted {
        keys.push((r#"<path class="p link" d="M0 0h26"/>"#, "predicted link"));
    }
    keys.extend([
        (r#"<path class="t curve" d="M0 4q13 -14 26 0"/>"#, "curve that it traces"),
        (r#"<circle class="t solid" cx="13" cy="0" r="4"/>"#, "fixed joint"),
        (r#"<circle class="t hollow" cx="13" cy="0" r="4"/>"#, "moving joint"),
    ]);
    keys
}

fn draw(svg: &mut String, drawing: &Drawing<'_>) {
    // Predictions may leave the range: what lies outside of the cell is not drawn there.
    let scale = CELL / 2.0 / (RANGE + 1.0);
    let place = |p: &Point| {
        [CELL / 2.0 + scale * p[0].clamp(-RANGE - 1.0, RANGE + 1.0), CELL / 2.0 - scale * p[1].clamp(-RANGE - 1.0, RANGE + 1.0)]
    };
    let points =
        |list: &mut dyn Iterator<Item = &Point>| list.map(place).map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    let class = if drawing.predicted { "p" } else { "t" };
    let known = drawing.kind.filter(|kind| kind.joints == drawing.joints.len());
    if let Some(kind) = known {
        if let Some(curve) = kind.curve(drawing.joints) {
            let _ = writeln!(svg, "<polygon class=\"{class} curve\" points=\"{}\"/>", points(&mut curve.iter()));
        }
        for link in kind.links {
            // A closed line of two points would be drawn there and back, and its dashes fill.
            let element = if link.len() == 2 { "polyline" } else { "polygon" };
            let points = points(&mut link.iter().map(|j| &drawing.joints[*j]));
            let _ = writeln!(svg, "<{element} class=\"{class} solid link\" points=\"{points}\"/>");
        }
    }
    for (j, p) in drawing.joints.iter().enumerate() {
        let [x, y] = place(p);
        let fill = if known.is_some_and(|kind| kind.ground.contains(&j)) { "solid" } else { "hollow" };
        let _ = writeln!(svg, "<circle class=\"{class} {fill}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::linkages::sample;

    #[test]
    fn a_sheet_has_a_legend_and_a_cell_for_each_sample() {
        let samples: Vec<Sample> = (0..8).map(|k| sample(1, k as u64, &[k % 2])).collect();
        let cells: Vec<Cell<'_>> = samples.iter().enumerate().map(sample_cell).collect();
        let svg = picture(&cells, 3);
        let (legend, sheet) = svg.split_once("class=\"cell\"").unwrap();
        assert_eq!(sheet.matches("<circle").count(), samples.iter().map(|s| s.joints.len()).sum::<usize>());
        assert!(legend.contains("fixed joint") && !legend.contains("predicted") && !svg.contains("NaN"));
        // Two samples of one type have different captions.
        let captions: std::collections::BTreeSet<&str> = cells.iter().map(|cell| cell.caption.as_str()).collect();
        assert!(captions.len() == 8 && captions.iter().all(|caption| sheet.contains(&format!(">{caption}</text>"))), "{captions:?}");
        let drawing = |predicted| Drawing { kind: None, joints: &samples[0].joints, predicted };
        let both = Cell { caption: "both".into(), drawings: vec![drawing(false), drawing(true)] };
        assert!(picture(&[both], 1).contains("predicted link"));
    }
}
