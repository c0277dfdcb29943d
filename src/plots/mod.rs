//! Curves as pictures: what they show, and how they are drawn.

mod charts;
mod plot;

pub(crate) use charts::{Curves, charts_of};
pub(crate) use plot::{Chart, Curve, Points, Stroke, draw, svg};
