//! Curves as pictures: what they show, and how they are drawn.

#[cfg(feature = "cli")]
mod charts;
mod curves;
mod examples;
#[cfg(feature = "cli")]
mod plot;

use std::path::Path;

#[cfg(feature = "cli")]
pub(crate) use charts::charts_of;
pub(crate) use curves::Curves;
#[cfg(feature = "cli")]
pub(crate) use curves::Points;
pub use examples::{Examples, Forecast};
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

/// Draws what a model predicts into a file. Without the feature `cli` it draws nothing.
///
/// # Errors
/// `Io` when the file cannot be written.
#[cfg_attr(not(feature = "cli"), expect(clippy::unnecessary_wraps, unused_variables))]
pub(crate) fn draw_examples(path: &Path, examples: &Examples) -> Result<()> {
    #[cfg(feature = "cli")]
    {
        let svg = examples::picture(examples).map_err(|e| crate::error::Error::Internal(format!("drawing {}: {e}", path.display())))?;
        crate::files::write(path, svg.as_bytes())?;
    }
    Ok(())
}
