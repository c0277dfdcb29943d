//! Curves as pictures: what they show, and how they are drawn.

#[cfg(feature = "cli")]
mod charts;
mod curves;
mod examples;
#[cfg(feature = "cli")]
mod plot;
#[cfg(feature = "cli")]
mod ticks;

use std::path::Path;

#[cfg(feature = "cli")]
pub(crate) use charts::charts_of;
pub(crate) use curves::Curves;
#[cfg(feature = "cli")]
pub(crate) use curves::Points;
pub use examples::{Examples, Forecast};
#[cfg(feature = "cli")]
pub(crate) use plot::{Axis, Chart, Curve, Ink, Scale, Stroke, draw, escaped, figure, style};
#[cfg(feature = "cli")]
pub(crate) use ticks::shown_number;

use crate::error::Result;

/// Draws the charts of a run into a file, as `charts_of` has them. Without the feature `cli` it draws nothing. The numbers are in
/// `metrics.jsonl`.
///
/// # Errors
/// `Io` when the file cannot be written.
#[cfg_attr(not(feature = "cli"), expect(clippy::unnecessary_wraps, unused_variables))]
pub(crate) fn draw_curves(
    path: &Path,
    curves: &Curves,
    chart: &(&str, Vec<&str>),
    baseline: Option<&str>,
    best: Option<u64>,
) -> Result<()> {
    #[cfg(feature = "cli")]
    draw(path, &charts_of(curves, chart, baseline, best))?;
    Ok(())
}

/// Draws what a model predicts into a file. Without the feature `cli` it draws nothing.
///
/// # Errors
/// `Io` when the file cannot be written.
#[cfg_attr(not(feature = "cli"), expect(clippy::unnecessary_wraps, unused_variables))]
pub(crate) fn draw_examples(path: &Path, examples: &Examples) -> Result<()> {
    #[cfg(feature = "cli")]
    crate::files::write(path, examples::picture(examples).as_bytes())?;
    Ok(())
}
