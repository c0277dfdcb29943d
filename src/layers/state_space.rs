//! The selective state space of Mamba-2 (Dao & Gu 2024), over whole sequences in chunks.

use super::layer::saved_by_forward;
use crate::error::{Error, Result};
use crate::kernels::Carry;
use crate::kernels::matmul::Matmul;
use crate::kernels::ssd::{
    Arrange, BackwardChunk, BackwardCombine, BackwardDecay, BackwardHeads, Border, Combine, Decay, Dots, GroupScores, Order, Pairs,
    PassStates, Scan, Scanned, Scores, Sizes, Weigh,
};
use crate::plan::{Plan, Tensor};

/// Numbers of each head, (heads): of `A_log`, `dt_bias` and `D`, or their gradients.
#[derive(Debug, Clone, Copy)]
pub struct HeadNumbers {
    /// A = −exp(A_log) is the rate of decay.
    pub a_log: Tensor,
    /// Added to the steps before their softplus.
    pub dt_bias: Tensor,
    /// Factor of an input in its own output.
    pub d: Tensor,
}

/// S_t = exp(δ_t A) S_{t−1} + δ_t x_t B_tᵀ, y_t = S_t C_t + D x_t for each head, δ = softplus(d + dt_bias) within limits.
///
/// In a chunk y = (C Bᵀ ⊙ exp(α_i − α_j) δ_j) x is a matrix product over earlier positions; what earlier chunks bring is in the state at
/// its border. A sequence of one chunk has no states at all.
#[derive(Debug, Clone)]
pub struct StateSpace {
    label: String,
    sizes: Sizes,
    /// Least and largest δ.
    limits: [f64; 2],
    saved: Option<Saved>,
}

/// What the forward pass keeps.
#[derive(Debug, Clone, Copy)]
enum Saved {
    Passes(Passes),
    Scan { xbc: Tensor, decay: Tensor, g: Tensor, border: Tensor, numbers: HeadNumbers },
}

#[derive(Debug, Clone, Copy)]
struct Passes {
    x: Tensor,
    keys: Tensor,
    queries: Tensor,
    decay: Tensor,
    g: Tensor,
    m: Tensor,
    /// State before each chunk, S C of each position, and what is left of x after its chunk, where there is more than one chunk.
    states: Option<[Tensor; 3]>,
    numbers: HeadNumbers,
}

impl StateSpace {
    /// A state space for sequences of these sizes.
    pub fn new(label: &str, sizes: Sizes, limits: [f64; 2]) -> Self {
        StateSpace { label: label.into(), sizes, limits, saved: None }
    }

    fn activation(&self, plan: &mut Plan, name: &str, len: usize) -> Result<Tensor> {
        plan.activation(format!("{}.{name}", self.label), &[len])
    }

    /// Appends a product for each chunk and group, or for each head.
    fn product(&self, plan: &mut Plan, batch: usize, product: Matmul) -> Result<()> {
        Matmul { batch, ..product }.record(plan, &self.label)
    }

    /// Appends y (batch, length, heads, features) of xbc (batch, length, width), which is x, B and C, and zx, whose last columns are the
    /// steps d. S_0 is 0, or what earlier positions have left in `carry` (half, batch, head, features, states).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, [xbc, zx]: [Tensor; 2], numbers: HeadNumbers, carry: Option<Carry>) -> Result<Tensor> {
        let (sizes, label) = (self.sizes, self.label.clone());
        let Sizes { batch, length, size, heads, groups, features, states } = sizes;
        let (of_groups, of_heads, wide) = (sizes.all_chunks() * groups, sizes.all_chunks() * heads, heads / groups * features);
        let fused = carry.is_none() && sizes.fused(&plan.target);
        let x = if fused { None } else { Some(self.activation(plan, "x", sizes.values())?) };
        let (keys, queries) = (self.activation(plan, "keys", sizes.keys())?, self.activation(plan, "queries", sizes.keys())?);
        Arrange { xbc, x, keys: Some([keys, queries]), sizes }.record(plan, &label)?;
        let decay = self.activation(plan, "decay", 3 * sizes.rows())?;
        Decay { zx, dt_bias: numbers.dt_bias, a_log: numbers.a_log, decay, limits: self.limits, sizes }.record(plan, &label)?;
        let g = self.activation(plan, "g", sizes.group_scores())?;
        self.product(plan, of_groups, Matmul { trans_b: true, ..Matmul::new(queries, keys, g, (size, size, states)) })?;
        let y = plan.activation(format!("{label}.y"), &[batch, length, heads * features])?;
        let Some(x) = x else {
            let border = self.activation(plan, "states", sizes.borders())?;
            Scan { xbc, decay, border, of: Scanned::Outputs { g, d: numbers.d, y }, sizes }.record(plan, &label)?;
            self.saved = Some(Saved::Scan { xbc, decay, g, border, numbers });
            return Ok(y);
        };
        let m = self.activation(plan, "m", sizes.scores())?;
        Scores { g, decay, m, sizes }.record(plan, &label)?;
        let within = self.activation(plan, "within", sizes.values())?;
        self.product(plan, of_heads, Matmul::new(m, x, within, (size, features, size)))?;
        let states = match (sizes.chunks(), carry) {
            (1, None) => None,
            _ => {
                let weighed = self.activation(plan, "left", sizes.values())?;
                Weigh { x, decay, y: weighed, border: Border::After, sizes }.record(plan, &label)?;
                let carried = self.activation(plan, "carried", sizes.borders())?;
                self.product(plan, of_groups, Matmul { trans_a: true, ..Matmul::new(weighed, keys, carried, (wide, states, size)) })?;
                let border = self.activation(plan, "states", sizes.borders())?;
                PassStates { carried, decay, border, order: Order::Forwards, carry, sizes }.record(plan, &label)?;
                let before = self.activation(plan, "before", sizes.values())?;
                self.product(plan, of_groups, Matmul { trans_b: true, ..Matmul::new(queries, border, before, (size, wide, states)) })?;
                Some([border, before, weighed])
            }
        };
        Combine { within, before: states.map(|states| states[1]), x, decay, d: numbers.d, y, sizes }.record(plan, &label)?;
        self.saved = Some(Saved::Passes(Passes { x, keys, queries, decay, g, m, states, numbers }));
        Ok(y)
    }

    /// Appends the backward pass: writes the last columns of dzx, adds to the gradients of the numbers, and gives dxbc.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor, dzx: Tensor, gradients: HeadNumbers) -> Result<Tensor> {
        let (sizes, label) = (self.sizes, self.label.clone());
        let saved = match saved_by_forward(&self.saved, &label)? {
            Saved::Passes(passes) => passes,
            Saved::Scan { .. } => return self.backward_scan(plan, dy, dzx, gradients),
        };
        let Passes { x, keys, queries, decay, g, m, states: saved, numbers } = saved;
        let Sizes { batch, length, size, heads, groups, features, states } = sizes;
        let (of_groups, of_heads, wide) = (sizes.all_chunks() * groups, sizes.all_chunks() * heads, heads / groups * features);
        let dy_of = self.activation(plan, "dy", sizes.values())?;
        Arrange { xbc: dy, x: Some(dy_of), keys: None, sizes }.record(plan, &label)?;
        let dm = self.activation(plan, "dm", sizes.scores())?;
        self.product(plan, of_heads, Matmul { trans_b: true, ..Matmul::new(dy_of, x, dm, (size, size, features)) })?;
        let within = self.activation(plan, "dwithin", sizes.values())?;
        self.product(plan, of_heads, Matmul { trans_a: true, ..Matmul::new(m, dy_of, within, (size, features, size)) })?;
        let (more, at) = if saved.is_some() { (2 * sizes.rows() + of_heads, 2 * sizes.rows()) } else { (0, 0) };
        let dots = self.activation(plan, "dots", sizes.rows() + more)?;
        Dots { a: dy_of, b: x, by_group: false, dots, at, sizes }.record(plan, &label)?;
        let mut residual = [None; 2];
        let mut after = None;
        if let Some([border, before, left]) = saved {
            let gained = self.activation(plan, "gained", sizes.values())?;
            Weigh { x: dy_of, decay, y: gained, border: Border::Before, sizes }.record(plan, &label)?;
            let carried = self.activation(plan, "dcarried", sizes.borders())?;
            self.product(plan, of_groups, Matmul { trans_a: true, ..Matmul::new(gained, queries, carried, (wide, states, size)) })?;
            let dborder = self.activation(plan, "dstates", sizes.borders())?;
            PassStates { carried, decay, border: dborder, order: Order::Reversed, carry: None, sizes }.record(plan, &label)?;
            let from_after = self.activation(plan, "after", sizes.values())?;
            self.product(plan, of_groups, Matmul { trans_b: true, ..Matmul::new(keys, dborder, from_after, (size, wide, states)) })?;
            Dots { a: dy_of, b: before, by_group: true, dots, at: 0, sizes }.record(plan, &label)?;
            Dots { a: x, b: from_after, by_group: true, dots, at: sizes.rows(), sizes }.record(plan, &label)?;
            let of_state = Sizes { length: sizes.chunks(), size: 1, features: features * states, ..sizes };
            Dots { a: dborder, b: border, by_group: false, dots, at: 3 * sizes.rows(), sizes: of_state }.record(plan, &label)?;
            for (i, (name, rows, border)) in [("dkeys_state", left, dborder), ("dqueries_state", gained, border)].into_iter().enumerate() {
                let part = self.activation(plan, name, sizes.keys())?;
                self.product(plan, of_groups, Matmul::new(rows, border, part, (size, states, wide)))?;
                residual[i] = Some(part);
            }
            after = Some(from_after);
        }
        let dg = self.activation(plan, "dg", sizes.group_scores())?;
        GroupScores { dm, decay, dg, sizes }.record(plan, &label)?;
        let dkeys = [self.activation(plan, "dkeys", sizes.keys())?, self.activation(plan, "dqueries", sizes.keys())?];
        let by = (size, states, size);
        self.product(plan, of_groups, Matmul { trans_a: true, residual: residual[0], ..Matmul::new(dg, queries, dkeys[0], by) })?;
        self.product(plan, of_groups, Matmul { residual: residual[1], ..Matmul::new(dg, keys, dkeys[1], by) })?;
        let sums = self.activation(plan, "pairs", sizes.rows() * (size + 1))?;
        Pairs { dm, g, decay, sums, sizes }.record(plan, &label)?;
        let terms = self.activation(plan, "terms", 2 * sizes.rows())?;
        BackwardDecay { decay, a_log: numbers.a_log, sums, dots, states: saved.is_some(), dzx, terms, sizes }.record(plan, &label)?;
        let gradients = [gradients.a_log, gradients.dt_bias, gradients.d];
        BackwardHeads { terms, dots, at, a_log: numbers.a_log, gradients, dzx: None, sizes }.record(plan, &label)?;
        let dxbc = plan.activation(format!("{label}.dxbc"), &[batch, length, sizes.width()])?;
        BackwardCombine { within, after, dy: dy_of, decay, d: numbers.d, dkeys, dxbc, sizes }.record(plan, &label)?;
        Ok(dxbc)
    }

    fn backward_scan(&mut self, plan: &mut Plan, dy: Tensor, dzx: Tensor, gradients: HeadNumbers) -> Result<Tensor> {
        let (sizes, label) = (self.sizes, self.label.clone());
        let Saved::Scan { xbc, decay, g, border, numbers } = saved_by_forward(&self.saved, &label)? else {
            return Err(Error::Internal(format!("{label}: backward of a scan that was not")));
        };
        let dborder = self.activation(plan, "dstates", sizes.borders())?;
        Scan { xbc, decay, border: dborder, of: Scanned::Gradients(dy), sizes }.record(plan, &label)?;
        let dxbc = plan.activation(format!("{label}.dxbc"), &[sizes.batch, sizes.length, sizes.width()])?;
        let terms = self.activation(plan, "terms", 3 * sizes.rows())?;
        let (states, own) = ([border, dborder], [numbers.d, numbers.a_log]);
        BackwardChunk { xbc, decay, g, states, dy, numbers: own, dxbc, terms, sizes }.record(plan, &label)?;
        let gradients = [gradients.a_log, gradients.dt_bias, gradients.d];
        let at = 2 * sizes.rows();
        BackwardHeads { terms, dots: terms, at, a_log: numbers.a_log, gradients, dzx: Some(dzx), sizes }.record(plan, &label)?;
        Ok(dxbc)
    }
}
