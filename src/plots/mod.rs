//! Curves as pictures: what they show, and how they are drawn.

#[cfg(feature = "cli")]
mod charts;
mod curves;
#[cfg(feature = "cli")]
mod plot;

use std::path::Path;

#[cfg(feature = "cli")]
pub(crate) use charts::charts_of;
pub(crate) use curves::Curves;
#[cfg(feature = "cli")]
pub(crate) use curves::Points;
#[cfg(feature = "cli")]
pub(crate) use plot::{Chart, Curve, Stroke, draw, svg};

use crate::error::Result;

/// Draws the charts of a run into a file: the loss, and a second one with its title and metrics. Without the feature `cli` it draws
/// nothing. The numbers are in `metrics.jsonl`.
///
/// # Errors
/// `Io` when the file cannot be written.
#[cfg_attr(not(feature = "cli"), expect(clippy::unnecessary_wraps, unused_variables))]
pub(crate) fn draw_curves(path: &Path, curves: &Curves, chart: &(&str, Vec<&str>), baseline: Option<&str>) -> Result<()> {
    #[cfg(feature = "cli")]
    draw(path, &charts_of(curves, chart, baseline))?;
    Ok(())
}
