//! Layer normalisation, and RMS normalisation.

use super::layer::{Decoding, Gradient, Layer, saved_by_forward};
use super::linear::Fused;
use crate::error::Result;
use crate::gpu::Role;
use crate::kernels::Dropout;
use crate::kernels::layer_norm::{BackwardInput, BackwardParams, Forward};
use crate::plan::{Fill, Init, Plan, Tensor};

/// `torch.nn.LayerNorm` over the last dimension: weight 1, bias 0 or none. Or RMS normalisation (`LlamaRMSNorm`): weight 1.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    name: String,
    features: usize,
    center: bool,
    bias: bool,
    eps: f64,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    x: Tensor,
    w: Tensor,
    b: Option<Tensor>,
    stats: Tensor,
    rows: usize,
}

impl LayerNorm {
    /// A layer with weights `name.weight` and `name.bias`.
    pub fn new(name: &str, features: usize, eps: f64) -> Self {
        LayerNorm { name: name.into(), features, center: true, bias: true, eps, saved: None }
    }

    /// RMS normalisation with the weight `name.weight`.
    pub fn rms(name: &str, features: usize, eps: f64) -> Self {
        LayerNorm { center: false, ..LayerNorm::new(name, features, eps) }
    }

    /// The layer with a bias, or without.
    pub fn with_bias(self, bias: bool) -> Self {
        LayerNorm { bias, ..self }
    }
}

impl LayerNorm {
    /// Appends the backward pass with the operations below fused into the gradient of the input: the derivative of an activation, and the
    /// gradient that arrives by another path.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_fused(&mut self, plan: &mut Plan, dy: Tensor, fused: Fused) -> Result<Tensor> {
        Ok(self.backward_above(plan, dy, fused, None)?.unmasked)
    }

    /// Appends the backward pass of `backward_fused` above a dropout, and gives the gradient with and without the mask.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_above(&mut self, plan: &mut Plan, dy: Tensor, fused: Fused, dropout: Option<Dropout>) -> Result<Gradient> {
        let Saved { x, w, b, stats, rows } = saved_by_forward(&self.saved, &self.name)?;
        let cols = self.features;
        let dw = plan.gradient(w)?;
        let db = match b {
            // Nobody reads what would be the gradient of the zeros.
            Some(_) if !self.bias => {
                let unread = plan.workspace(format!("{}.unread", self.name), &[cols])?;
                plan.sum_anew(unread);
                Some(unread)
            }
            b => b.map(|b| plan.gradient(b)).transpose()?,
        };
        BackwardParams { x, stats, dy, dw, db, rows, cols }.record(plan, &self.name)?;
        let dx = plan.like(format!("{}.dx", self.name), x)?;
        let (center, eps, derivative, residual) = (self.center, self.eps, fused.derivative, fused.residual);
        let dropped = dropout.map(|dropout| Ok((dropout, plan.like(format!("{}.dropped", self.name), x)?))).transpose()?;
        BackwardInput { x, w, stats, dy, dx, rows, cols, eps, center, derivative, residual, dropped }.record(plan, &self.name)?;
        Ok(Gradient { unmasked: dx, masked: dropped.map(|(_, tensor)| tensor) })
    }
}

impl Layer for LayerNorm {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let (cols, rows) = (self.features, plan.len(x) / self.features);
        let w = plan.parameter(&format!("{}.weight", self.name), &[cols], Init::Ones)?;
        let b = match (self.center, self.bias) {
            (true, true) => Some(plan.parameter(&format!("{}.bias", self.name), &[cols], Init::Zeros)?),
            // The kernel centres with a bias alone.
            (true, false) => Some(zeros(plan, cols)?),
            (false, _) => None,
        };
        let y = plan.like(format!("{}.y", self.name), x)?;
        let stats = plan.activation(format!("{}.stats", self.name), &[rows, 2])?;
        Forward { x, w, b, y, stats, rows, cols, eps: self.eps }.record(plan, &self.name)?;
        self.saved = Some(Saved { x, w, b, stats, rows });
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward_fused(plan, dy, Fused::default())
    }

    fn decoding(&self) -> Decoding {
        Decoding::Endless
    }
}

/// So many zeros, of which a plan has one tensor.
fn zeros(plan: &mut Plan, count: usize) -> Result<Tensor> {
    let name = format!("zeros.{count}");
    match plan.find(&name) {
        Some(found) => Ok(found),
        None => plan.constant(Role::Workspace, &name, &[count], Some(Fill::floats(vec![0.0; count]))),
    }
}
