//! Layer normalisation over rows, and RMS normalisation. See `shaders/layer_norm/`.

use super::matmul::Activation;
use super::{Dropout, adding, column_group, features, parts, row_group, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = x̂ ⊙ w + b; without b RMS normalisation, y = x / √(mean x² + eps) ⊙ w.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols).
    pub x: Tensor,
    /// (cols).
    pub w: Tensor,
    /// (cols); absent in RMS normalisation.
    pub b: Option<Tensor>,
    /// (rows, cols).
    pub y: Tensor,
    /// (rows, 2): mean less the row's first element, and 1/σ.
    pub stats: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, w, b, y, stats, rows, cols, eps } = self;
        let name = "layer_norm/forward";
        for (tensor, len) in [(x, rows * cols), (y, rows * cols), (w, cols), (stats, rows * 2)] {
            plan.expect(name, tensor, len)?;
        }
        b.map_or(Ok(()), |b| plan.expect(name, b, cols))?;
        let features = features(&plan.target, cols);
        let (dispatch, grid) = row_group(plan, name, label, rows, cols / features);
        let dispatch = dispatch.constant("FEATURES", features as u32).size("rows", rows).size("cols", cols);
        let dispatch = dispatch.bind("x", x).bind("w", w).bind_if("CENTER", "b", b).bind("y", y).bind("stats", stats);
        plan.record(dispatch.scalar("eps", eps).flops(8 * rows * cols), grid)
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct BackwardInput {
    /// (rows, cols), input of the forward pass.
    pub x: Tensor,
    /// (cols).
    pub w: Tensor,
    /// (rows, 2), of the forward pass.
    pub stats: Tensor,
    /// (rows, cols).
    pub dy: Tensor,
    /// (rows, cols).
    pub dx: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Added to the variance in the forward pass.
    pub eps: f64,
    /// Layer, not RMS normalisation.
    pub center: bool,
    /// Activation below and its value before it (rows, cols): its derivative multiplies the result.
    pub derivative: Option<(Activation, Tensor)>,
    /// (rows, cols), added last.
    pub residual: Option<Tensor>,
    /// (rows, cols) for what of the result passes a dropout, and that dropout.
    pub dropped: Option<(Dropout, Tensor)>,
}

impl BackwardInput {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardInput { x, w, stats, dy, dx, rows, cols, eps, center, derivative, residual, dropped } = self;
        let derivative = derivative.filter(|(kind, _)| *kind != Activation::Identity);
        let name = "layer_norm/backward_input";
        for (tensor, len) in [(x, rows * cols), (dy, rows * cols), (dx, rows * cols), (w, cols), (stats, rows * 2)] {
            plan.expect(name, tensor, len)?;
        }
        let features = features(&plan.target, cols);
        let (dispatch, grid) = row_group(plan, name, label, rows, cols / features);
        let dispatch = dispatch.constant("FEATURES", features as u32).size("rows", rows).size("cols", cols);
        for tensor in [derivative.map(|(_, z)| z), residual, dropped.map(|(_, y)| y)].into_iter().flatten() {
            plan.expect(name, tensor, rows * cols)?;
        }
        let mut dispatch = dispatch
            .constant("CENTER", center.into())
            .constant("DERIVATIVE", derivative.map_or(0, |(kind, _)| kind as u32))
            .bind("x", x)
            .bind("w", w)
            .bind("stats", stats)
            .bind("dy", dy)
            .bind("dx", dx)
            .bind_if("RESIDUAL", "residual", residual)
            .bind_if("DROPPED", "dropped", dropped.map(|(_, y)| y))
            .scalar("eps", eps)
            .size("stream", dropped.map_or(0, |(d, _)| d.stream as usize))
            .scalar("rate", dropped.map_or(0.0, |(d, _)| d.rate));
        if let Some((_, z)) = derivative {
            dispatch = dispatch.bind("z", z);
        }
        if dropped.is_some() {
            dispatch = dispatch.bind("state", state(plan)?);
        }
        plan.record(dispatch.flops(14 * rows * cols), grid)
    }
}

/// dw and db from dy.
#[derive(Debug, Clone, Copy)]
pub struct BackwardParams {
    /// (rows, cols), input of the forward pass.
    pub x: Tensor,
    /// (rows, 2), of the forward pass.
    pub stats: Tensor,
    /// (rows, cols).
    pub dy: Tensor,
    /// (cols), `+=`.
    pub dw: Tensor,
    /// (cols), `+=`; absent in RMS normalisation.
    pub db: Option<Tensor>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
}

impl BackwardParams {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardParams { x, stats, dy, dw, db, rows, cols } = self;
        let name = "layer_norm/backward_params";
        for (tensor, len) in [(x, rows * cols), (dy, rows * cols), (dw, cols), (stats, rows * 2)] {
            plan.expect(name, tensor, len)?;
        }
        db.map_or(Ok(()), |db| plan.expect(name, db, cols))?;
        let sums: Vec<Tensor> = [dw].into_iter().chain(db).collect();
        let (group, columns) = column_group(&plan.target);
        let features = features(&plan.target, cols);
        for part in parts(&plan.target, rows, 1) {
            let dispatch = Dispatch::new(name, label)
                .constant("WG", group)
                .constant("COLS", columns)
                .constant("FEATURES", features as u32)
                .bind("x", x)
                .bind("stats", stats)
                .bind("dy", dy)
                .bind("dw", dw)
                .bind_if("CENTER", "db", db)
                .size("first", part.start)
                .size("end", part.end)
                .size("cols", cols)
                .flops(6 * part.len() * cols);
            let dispatch = adding(plan, dispatch, &sums)?;
            plan.record(dispatch, Grid::Groups((cols / features).div_ceil(columns as usize)))?;
        }
        Ok(())
    }
}
