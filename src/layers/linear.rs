//! y = x·Wᵀ + b, with what follows fused into the product.

use super::layer::{Decoding, Gradient, Layer, saved_by_forward, through_dropout, with_features};
use super::low_rank::{Factors, LowRank, Sizes};
use super::projection::{Projected, Projection, chunk};
use crate::error::Result;
use crate::kernels::matmul::{Activation, Matmul};
use crate::kernels::{Dropout, activation};
use crate::plan::{Init, Plan, Tensor};

/// Fully connected layer (`torch.nn.Linear`): W (outputs, inputs), b (outputs), both U(±1/√inputs).
#[derive(Debug, Clone)]
pub struct Linear {
    /// Names of the weights, with their rows; several are stacked into one.
    weights: Vec<(String, usize)>,
    bias: Option<String>,
    label: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    init: [Init; 2],
    /// Shape of the weight if it has more than two axes, as in a convolution.
    pub weight_shape: Option<Vec<usize>>,
    /// Rows of taller parameters that weight and bias are, such as a stacked projection: (rows of the whole, first row).
    pub rows_of: Option<(usize, usize)>,
    /// Activation of the result.
    pub activation: Activation,
    /// Dropout after the activation.
    pub dropout: Option<Dropout>,
    adapter: Option<LowRank>,
    pub(super) saved: Option<Saved>,
}

/// What the backward pass needs: the input, of which there may be some rows alone, and what else is the layer's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
    pub(super) x: Tensor,
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) pre: Option<Tensor>,
    pub(super) factors: Option<Factors>,
    pub(super) rows: usize,
}

/// Operations that the backward pass fuses into the gradient of the input: the dropout and the activation between this layer and the one
/// below, and a gradient that arrives by another path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fused {
    /// Activation of the layer below and its input, the pre-activation.
    pub derivative: Option<(Activation, Tensor)>,
    /// Dropout of the layer below.
    pub dropout: Option<Dropout>,
    /// Gradient that is added.
    pub residual: Option<Tensor>,
}

impl Linear {
    /// A layer with weights `name.weight` and `name.bias`.
    pub fn new(name: &str, inputs: usize, outputs: usize) -> Self {
        let bound = Init::Uniform(1.0 / (inputs as f64).sqrt());
        Linear {
            weights: vec![(format!("{name}.weight"), outputs)],
            bias: Some(format!("{name}.bias")),
            label: name.into(),
            inputs,
            outputs,
            init: [bound, bound],
            weight_shape: None,
            rows_of: None,
            activation: Activation::Identity,
            dropout: None,
            adapter: None,
            saved: None,
        }
    }

    /// The layer with an adapter of its weight, which is trained in its place.
    pub fn adapted(mut self, adapter: Option<LowRank>) -> Self {
        self.adapter = adapter;
        self
    }

    /// The layer with an activation after it.
    pub fn activated(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// The layer with other names and initial values of weight and bias.
    pub fn with(mut self, names: [String; 2], init: [Init; 2]) -> Self {
        let [weight, bias] = names;
        (self.weights, self.bias, self.init) = (vec![(weight, self.outputs)], Some(bias), init);
        self
    }

    /// The layer with this ending of the names of its tensors.
    pub(super) fn suffixed(mut self, ending: &str) -> Self {
        let weights = self.weights.iter_mut().map(|(name, _)| name);
        weights.chain(&mut self.bias).chain([&mut self.label]).for_each(|name| name.push_str(ending));
        self
    }

    /// A layer without bias; several names are weights of the same number of rows that are stacked into one product.
    pub fn without_bias(label: &str, names: &[String], inputs: usize, outputs: usize, init: Init) -> Self {
        Linear::stacked(label, names.iter().map(|name| (name.clone(), outputs / names.len())).collect(), inputs, init)
    }

    /// A layer without bias whose weights, of so many rows each, are stacked into one product.
    pub fn stacked(label: &str, weights: Vec<(String, usize)>, inputs: usize, init: Init) -> Self {
        let outputs = weights.iter().map(|(_, rows)| rows).sum();
        Linear { weights, bias: None, init: [init, init], ..Linear::new(label, inputs, outputs) }
    }

    /// Activation and its input in the forward pass, the pre-activation; none for the identity.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn derivative(&self) -> Result<Option<(Activation, Tensor)>> {
        Ok(saved_by_forward(&self.saved, &self.label)?.pre.map(|pre| (self.activation, pre)))
    }

    /// Appends the backward pass of this layer's own dropout and activation, for use if no other layer fuses it.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn before_activation(&self, plan: &mut Plan, dy: impl Into<Gradient>) -> Result<Tensor> {
        let dy = through_dropout(plan, dy, self.dropout, &self.label)?;
        let Some((kind, x)) = self.derivative()? else { return Ok(dy) };
        let dx = plan.like(format!("{}.dz", self.label), x)?;
        activation::Backward { x, dy, dx, kind }.record(plan, &self.label)?;
        Ok(dx)
    }

    fn declare_weight(&self, plan: &mut Plan) -> Result<Tensor> {
        if let [(name, _)] = &self.weights[..] {
            let plain = vec![self.outputs, self.inputs];
            return self.declare(plan, name, self.init[0], self.weight_shape.as_ref().unwrap_or(&plain));
        }
        let part = |plan: &mut Plan, (name, rows): &(String, usize)| self.declare(plan, name, self.init[0], &[*rows, self.inputs]);
        let parts = self.weights.iter().map(|weight| part(plan, weight)).collect::<Result<Vec<_>>>()?;
        plan.joined(&format!("{}.weight", self.label), &parts, &[self.outputs, self.inputs])
    }

    fn declare(&self, plan: &mut Plan, name: &str, init: Init, shape: &[usize]) -> Result<Tensor> {
        let Some((whole, first)) = self.rows_of else { return plan.parameter(name, shape, init) };
        let mut tall = shape.to_vec();
        tall[0] = whole;
        let parameter = match plan.find(name) {
            Some(found) => found,
            None => plan.parameter(name, &tall, init)?,
        };
        plan.part(parameter, first * shape[1..].iter().product::<usize>(), shape)
    }

    /// Appends y = dropout(activation(x·Wᵀ + b)) + residual, with the part of its adapter before the activation.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward_fused(&mut self, plan: &mut Plan, x: Tensor, residual: Option<Tensor>) -> Result<Tensor> {
        let rows = plan.len(x) / self.inputs;
        let (weight, bias) = self.declared(plan)?;
        let shape =
            if plan.shape(x).last() == Some(&self.inputs) { with_features(plan, x, self.outputs) } else { vec![rows, self.outputs] };
        let y = plan.activation(format!("{}.y", self.label), &shape)?;
        let pre = match self.activation {
            Activation::Identity => None,
            _ if !plan.options.trains => None,
            _ => Some(plan.activation(format!("{}.pre", self.label), &shape)?),
        };
        let (inputs, outputs) = (self.inputs, self.outputs);
        let product = |y| Matmul { trans_b: true, bias, ..Matmul::new(x, weight, y, (rows, outputs, inputs)) };
        let (product, factors) = match self.adapter {
            None => (product(y), None),
            Some(adapter) => {
                let addend = plan.activation(format!("{}.frozen", self.label), &shape)?;
                product(addend).record(plan, &self.label)?;
                let weights = self.weights.iter().map(|(name, _)| name.clone()).collect();
                let factors = adapter.forward(plan, &self.label, weights, x, Sizes { rows, inputs, outputs })?;
                (Matmul { addend: Some(addend), ..factors.product(y) }, Some(factors))
            }
        };
        let product = Matmul { activation: self.activation, pre, dropout: self.dropout, residual, ..product };
        product.record(plan, &self.label)?;
        self.saved = Some(Saved { x, weight, bias, pre, factors, rows });
        Ok(y)
    }

    /// Weight and bias, declared.
    pub(super) fn declared(&self, plan: &mut Plan) -> Result<(Tensor, Option<Tensor>)> {
        let weight = self.declare_weight(plan)?;
        let bias = self.bias.as_ref().map(|name| self.declare(plan, name, self.init[1], &[self.outputs])).transpose()?;
        Ok((weight, bias))
    }

    /// The layer as the last of a model, without activation and dropout: appended, or left to the loss in a plan in which nobody else reads
    /// outputs as many as these.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn project(&mut self, plan: &mut Plan, x: Tensor) -> Result<Projected> {
        let (inputs, outputs, rows) = (self.inputs, self.outputs, plan.len(x) / self.inputs);
        let chunk = chunk(&plan.target, rows, outputs);
        if plan.options.outputs || chunk == rows {
            return self.forward(plan, x).map(Projected::Whole);
        }
        let (weight, bias) = self.declared(plan)?;
        Ok(Projected::Chunked(Projection { label: self.label.clone(), x, weight, bias, rows, inputs, outputs, chunk }))
    }

    /// Goes back through a last layer: `gradient` is that of the loss with respect to what `project` gave.
    ///
    /// # Errors
    /// As `Layer::backward`.
    pub fn project_backward(&mut self, plan: &mut Plan, gradient: Tensor) -> Result<Tensor> {
        // What the loss has applied it has gone back through.
        if self.saved.is_some() { self.backward(plan, gradient) } else { Ok(gradient) }
    }

    /// Appends dW += dyᵀ·x and db += Σ dy, where dy is the gradient before activation and dropout, and the gradients of its adapter.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_params(&self, plan: &mut Plan, dy: Tensor) -> Result<()> {
        let Saved { x, weight, bias, factors, rows, .. } = saved_by_forward(&self.saved, &self.label)?;
        if let Some(factors) = factors {
            factors.backward_params(plan, &self.label, x, dy)?;
        }
        let dw = plan.gradient(weight)?;
        let db = bias.map(|bias| plan.gradient(bias)).transpose()?;
        let product = Matmul { trans_a: true, accumulate: true, row_sum: db, ..Matmul::new(dy, x, dw, (self.outputs, self.inputs, rows)) };
        product.record(plan, &self.label)
    }

    /// Appends dx = dy·W, multiplied by the fused dropout mask and derivative, plus the fused residual, after `backward_params`.
    ///
    /// # Errors
    /// `Internal` before `forward`, or with an adapter before `backward_params`.
    pub fn backward_input(&self, plan: &mut Plan, dy: Tensor, fused: Fused) -> Result<Tensor> {
        let Saved { x, weight, factors, rows, .. } = saved_by_forward(&self.saved, &self.label)?;
        let dx = plan.like(format!("{}.dx", self.label), x)?;
        let product = |dx| Matmul::new(dy, weight, dx, (rows, self.inputs, self.outputs));
        let product = match factors {
            None => product(dx),
            Some(factors) => {
                let addend = plan.like(format!("{}.dfrozen", self.label), x)?;
                product(addend).record(plan, &self.label)?;
                Matmul { addend: Some(addend), ..factors.product_of_input(plan, &self.label, dx)? }
            }
        };
        let Fused { derivative, dropout, residual } = fused;
        let product = Matmul { derivative, dropout, residual, ..product };
        product.record(plan, &self.label)?;
        Ok(dx)
    }
}

impl Layer for Linear {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward_fused(plan, x, None)
    }

    /// Goes back through a layer without activation and dropout; those of the layer below are fused in `backward_input`.
    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward_params(plan, dy)?;
        self.backward_input(plan, dy, Fused::default())
    }

    fn decoding(&self) -> Decoding {
        Decoding::Endless
    }
}
