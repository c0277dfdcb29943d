//! An activation and a dropout that no product takes along.

use super::layer::{Layer, dropout, kept};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::kernels::{self, activation};
use crate::plan::{Plan, Tensor};

/// An activation as a layer of its own.
#[derive(Debug)]
pub struct Activate {
    /// Prefix of the names of its tensors.
    pub name: String,
    /// Activation function.
    pub kind: Activation,
    /// Input of the forward pass.
    saved: Option<Tensor>,
}

impl Activate {
    /// A layer with this activation.
    pub fn new(name: &str, kind: Activation) -> Self {
        Activate { name: name.into(), kind, saved: None }
    }
}

impl Layer for Activate {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let y = plan.like(format!("{}.y", self.name), x)?;
        activation::Forward { x, y, kind: self.kind }.record(plan, &self.name)?;
        self.saved = Some(x);
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let x = kept(&self.saved, &self.name)?;
        let dx = plan.like(format!("{}.dx", self.name), x)?;
        activation::Backward { x, dy, dx, kind: self.kind }.record(plan, &self.name)?;
        Ok(dx)
    }
}

/// A dropout as a layer of its own.
#[derive(Debug)]
pub struct Drop {
    name: String,
    rate: f64,
    saved: Option<kernels::Dropout>,
}

impl Drop {
    /// A dropout layer with this rate.
    pub fn new(name: &str, rate: f64) -> Self {
        Drop { name: name.into(), rate, saved: None }
    }

    fn apply(&self, plan: &mut Plan, x: Tensor, what: &str) -> Result<Tensor> {
        let Some(dropout) = self.saved else { return Ok(x) };
        let y = plan.like(format!("{}.{what}", self.name), x)?;
        kernels::dropout::Apply { x, y, dropout }.record(plan, &self.name)?;
        Ok(y)
    }
}

impl Layer for Drop {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.saved = dropout(plan, self.rate);
        self.apply(plan, x, "y")
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.apply(plan, dy, "dx")
    }
}
