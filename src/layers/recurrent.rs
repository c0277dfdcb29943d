//! LSTM and GRU over whole sequences, rows going time step after time step. The products with the inputs of all steps are one product,
//! and so is each weight gradient; a time step is the product with the state before it and one kernel for all gates,
//! which for the LSTM is the same launch on cards.

use super::layer::{axes, dropout, saved_by_forward};
use super::linear::{Fused, Linear};
use crate::error::Result;
use crate::kernels::lstm::{Before, Shape};
use crate::kernels::matmul::Matmul;
use crate::kernels::{Dropout, gru, lstm};
use crate::plan::{Init, Plan, Tensor};

/// Recurrent part of a layer: the product with the state, W_hh h + b_hh.
#[derive(Debug, Clone)]
struct Recurrent {
    names: [String; 2],
    label: String,
    gates: usize,
    units: usize,
    /// Number of sequences in the batch.
    batch: usize,
    length: usize,
}

/// Input map and state map of layer k, under PyTorch's names `prefix.weight_ih_l{k}` and so on; all weights are U(±1/√units).
fn maps(prefix: &str, k: usize, gates: usize, [inputs, units]: [usize; 2]) -> (Linear, Recurrent) {
    let bound = Init::Uniform(1.0 / (units as f64).sqrt());
    let name = |what: &str| format!("{prefix}.{what}_l{k}");
    let label = format!("{prefix}.l{k}");
    let input = Linear::new(&label, inputs, gates * units).with([name("weight_ih"), name("bias_ih")], [bound, bound]);
    (input, Recurrent { names: [name("weight_hh"), name("bias_hh")], label, gates, units, batch: 0, length: 0 })
}

/// The maps under the names of the reverse direction, `…_reverse`.
fn reversed(input: Linear, mut recurrent: Recurrent) -> (Linear, Recurrent) {
    recurrent.names.iter_mut().for_each(|name| name.push_str("_reverse"));
    recurrent.label.push_str("_reverse");
    (input.suffixed("_reverse"), recurrent)
}

impl Recurrent {
    fn declare(&self, plan: &mut Plan) -> Result<(Tensor, Tensor)> {
        let bound = Init::Uniform(1.0 / (self.units as f64).sqrt());
        let wide = self.gates * self.units;
        Ok((plan.parameter(&self.names[0], &[wide, self.units], bound)?, plan.parameter(&self.names[1], &[wide], bound)?))
    }

    fn shape(&self) -> Shape {
        Shape { length: self.length, batch: self.batch, units: self.units }
    }

    /// Activation of shape (steps, batch, gates, units).
    fn per_gate(&self, plan: &mut Plan, name: &str, gates: usize) -> Result<Tensor> {
        plan.activation(format!("{}.{name}", self.label), &[self.length, self.batch, gates, self.units])
    }

    /// Activation of shape (steps + 1, batch, units): the state before the first step, then after each step.
    fn states(&self, plan: &mut Plan, name: &str) -> Result<Tensor> {
        plan.activation(format!("{}.{name}", self.label), &[self.length + 1, self.batch, self.units])
    }

    /// Appends W_hh h + b_hh of step t; in the first step h is 0, so it is the bias alone.
    fn forward(&self, plan: &mut Plan, t: usize, h: Tensor, (weight, bias): (Tensor, Tensor)) -> Result<Tensor> {
        if t == 0 {
            return Ok(bias);
        }
        let wide = self.gates * self.units;
        let u = plan.activation(format!("{}.u{t}", self.label), &[self.batch, wide])?;
        let a_at = Some(t * self.batch * self.units);
        Matmul { a_at, trans_b: true, bias: Some(bias), ..Matmul::new(h, weight, u, (self.batch, wide, self.units)) }
            .record(plan, &self.label)?;
        Ok(u)
    }

    /// Appends the gradient that step t + 1 sends back to the state of step t; none after the last step.
    fn backward(&self, plan: &mut Plan, t: usize, du: Tensor, weight: Tensor) -> Result<Option<Tensor>> {
        if t + 1 == self.length {
            return Ok(None);
        }
        let wide = self.gates * self.units;
        let dh = plan.activation(format!("{}.dh{t}", self.label), &[self.batch, self.units])?;
        let a_at = Some((t + 1) * self.batch * wide);
        Matmul { a_at, ..Matmul::new(du, weight, dh, (self.batch, self.units, wide)) }.record(plan, &self.label)?;
        Ok(Some(dh))
    }

    /// Appends the gradients of W_hh and b_hh: one product over all steps.
    fn backward_params(&self, plan: &mut Plan, du: Tensor, h: Tensor, (weight, bias): (Tensor, Tensor)) -> Result<()> {
        let (dw, db) = (plan.gradient(weight)?, plan.gradient(bias)?);
        let sizes = (self.gates * self.units, self.units, self.length * self.batch);
        Matmul { trans_a: true, accumulate: true, row_sum: Some(db), b_at: Some(0), ..Matmul::new(du, h, dw, sizes) }
            .record(plan, &self.label)
    }
}

/// Time steps of a layer whose outputs are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// All steps, with dropout of this rate.
    All(f64),
    /// The last step alone.
    Last,
}

/// One layer of `torch.nn.LSTM` with an initial state of zeros.
#[derive(Debug, Clone)]
pub struct Lstm {
    input: Linear,
    recurrent: Recurrent,
    saved: Option<SavedLstm>,
}

#[derive(Debug, Clone, Copy)]
struct SavedLstm {
    gates: Tensor,
    h: Tensor,
    c: Tensor,
    weights: (Tensor, Tensor),
    outputs: Wanted,
    dropout: Option<Dropout>,
}

impl Lstm {
    /// Layer k, with this number of inputs and of units.
    pub fn new(prefix: &str, k: usize, inputs: usize, units: usize) -> Self {
        let (input, recurrent) = maps(prefix, k, 4, [inputs, units]);
        Lstm { input, recurrent, saved: None }
    }

    /// The layer under PyTorch's names of the reverse direction.
    pub fn reversed(self) -> Self {
        let (input, recurrent) = reversed(self.input, self.recurrent);
        Lstm { input, recurrent, saved: None }
    }

    /// Index of the first element of the output of step t; none if that output is not used.
    fn output_at(&self, t: usize, outputs: Wanted) -> Option<usize> {
        match outputs {
            Wanted::All(_) => Some(t * self.recurrent.batch * self.recurrent.units),
            Wanted::Last => (t + 1 == self.recurrent.length).then_some(0),
        }
    }

    /// Appends the forward pass over x (length, batch, inputs). The result is (length, batch, units), or (batch, units) for the last step.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, outputs: Wanted) -> Result<Tensor> {
        [self.recurrent.length, self.recurrent.batch, _] = axes(plan, x, &self.recurrent.label)?;
        let gx = self.input.forward_fused(plan, x, None)?;
        let r = self.recurrent.clone();
        let weights = r.declare(plan)?;
        let (gates, h, c) = (r.per_gate(plan, "gates", 4)?, r.states(plan, "h")?, r.states(plan, "c")?);
        let steps = if outputs == Wanted::Last { 1 } else { r.length };
        let shape = [steps, r.batch, r.units];
        let y = plan.activation(format!("{}.out", r.label), if outputs == Wanted::Last { &shape[1..] } else { &shape })?;
        let dropout = if let Wanted::All(rate) = outputs { dropout(plan, rate) } else { None };
        for t in 0..r.length {
            let y = self.output_at(t, outputs).map(|at| (y, at));
            let before = match t {
                0 => Before::Zeros(weights.1),
                _ if r.shape().fuses(plan) => Before::State(weights.0, weights.1),
                _ => Before::Product(r.forward(plan, t, h, weights)?),
            };
            lstm::Forward { gx, before, gates, h, c, y, dropout, t, shape: r.shape() }.record(plan, &r.label)?;
        }
        self.saved = Some(SavedLstm { gates, h, c, weights, outputs, dropout });
        Ok(y)
    }

    /// Appends the backward pass.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let r = self.recurrent.clone();
        let SavedLstm { gates, h, c, weights, outputs, dropout } = saved_by_forward(&self.saved, &r.label)?;
        let dgates = r.per_gate(plan, "dgates", 4)?;
        let dc = plan.activation(format!("{}.dc", r.label), &[r.batch, r.units])?;
        for t in (0..r.length).rev() {
            let dh = r.backward(plan, t, dgates, weights.0)?;
            let dy = self.output_at(t, outputs).map(|at| (dy, at));
            lstm::Backward { gates, c, dy, dropout, dh, dc, dgates, t, shape: r.shape() }.record(plan, &r.label)?;
        }
        r.backward_params(plan, dgates, h, weights)?;
        self.input.backward_params(plan, dgates)?;
        self.input.backward_input(plan, dgates, Fused::default())
    }
}

/// One layer of `torch.nn.GRU` with an initial state of zeros, and with a residual added to its outputs.
#[derive(Debug, Clone)]
pub struct Gru {
    input: Linear,
    recurrent: Recurrent,
    saved: Option<SavedGru>,
}

#[derive(Debug, Clone, Copy)]
struct SavedGru {
    gates: Tensor,
    h: Tensor,
    weights: (Tensor, Tensor),
}

impl Gru {
    /// Layer k, with this number of inputs and of units.
    pub fn new(prefix: &str, k: usize, inputs: usize, units: usize) -> Self {
        let (input, recurrent) = maps(prefix, k, 3, [inputs, units]);
        Gru { input, recurrent, saved: None }
    }

    /// The layer under PyTorch's names of the reverse direction.
    pub fn reversed(self) -> Self {
        let (input, recurrent) = reversed(self.input, self.recurrent);
        Gru { input, recurrent, saved: None }
    }

    /// Appends the forward pass over x (length, batch, inputs): residual + GRU(x), shape (length, batch, units).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, residual: Option<Tensor>) -> Result<Tensor> {
        [self.recurrent.length, self.recurrent.batch, _] = axes(plan, x, &self.recurrent.label)?;
        let gx = self.input.forward_fused(plan, x, None)?;
        let r = self.recurrent.clone();
        let weights = r.declare(plan)?;
        let (gates, h) = (r.per_gate(plan, "gates", 4)?, r.states(plan, "h")?);
        let y = plan.activation(format!("{}.out", r.label), &[r.length, r.batch, r.units])?;
        for t in 0..r.length {
            let u = r.forward(plan, t, h, weights)?;
            gru::Forward { gx, u, residual, gates, h, y, first: t == 0, t, shape: r.shape() }.record(plan, &r.label)?;
        }
        self.saved = Some(SavedGru { gates, h, weights });
        Ok(y)
    }

    /// Appends the backward pass and gives the gradient of x plus `residual`. The caller passes dy on to the residual of `forward`.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor, residual: Option<Tensor>) -> Result<Tensor> {
        let r = self.recurrent.clone();
        let SavedGru { gates, h, weights } = saved_by_forward(&self.saved, &r.label)?;
        let (dgx, du) = (r.per_gate(plan, "dgx", 3)?, r.per_gate(plan, "du", 3)?);
        let direct = plan.activation(format!("{}.direct", r.label), &[r.batch, r.units])?;
        for t in (0..r.length).rev() {
            let dh = r.backward(plan, t, du, weights.0)?;
            gru::Backward { gates, h, dy, dh, direct, dgx, du, t, shape: r.shape() }.record(plan, &r.label)?;
        }
        r.backward_params(plan, du, h, weights)?;
        self.input.backward_params(plan, dgx)?;
        self.input.backward_input(plan, dgx, Fused { residual, ..Fused::default() })
    }
}
