//! Scaled dot-product attention: online softmax forward, backward by recomputation, and one position over a cache.
//! See `shaders/attention/`.

use super::{Dropout, state};
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes and options that the passes share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub length: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// A position sees only itself and earlier ones.
    pub causal: bool,
    /// On the attention probabilities.
    pub dropout: Option<Dropout>,
    /// Table of angles (`rope::table`), where queries and keys turn by their position in the attention itself (`turns`).
    pub rope: Option<Tensor>,
}

impl Shape {
    fn outputs(&self) -> usize {
        self.batch * self.length * self.heads * self.head_dim
    }

    /// Heads and invocations of a workgroup of the kernels for short sequences, on cards where a head of the backward pass fits the workgroup
    /// memory. Several heads share a wave of 64 as long as they leave room for other workgroups.
    fn short(&self, plan: &Plan) -> Option<(usize, usize)> {
        const MOST: usize = 32;
        const ROOM: usize = 8 << 10;
        let (t, pitch) = (self.length, self.head_dim | 1);
        let bytes = 4 * (4 * t * pitch + 3 * t * t);
        if plan.target.software || t > MOST || bytes > plan.target.workgroup_memory as usize {
            return None;
        }
        let heads = (64 / (t * t)).min(ROOM / bytes).clamp(1, self.batch * self.heads);
        let group = (heads * t * t).next_multiple_of(64).min(256).min(plan.target.workgroup_invocations as usize);
        Some((heads, group))
    }

    /// Whether the kernels for these sizes on the plan's target can turn queries and keys themselves.
    pub fn turns(&self, plan: &Plan) -> bool {
        self.short(plan).is_some() && self.head_dim.is_multiple_of(2)
    }

    /// Fails unless keys, values and queries, or their gradients, have these sizes.
    fn expect(&self, plan: &Plan, name: &str, qkv: Tensor, q: Option<Tensor>) -> Result<()> {
        q.map_or(Ok(()), |q| plan.expect(name, q, self.outputs()))?;
        if let Some(table) = self.rope {
            if !self.turns(plan) || q.is_some() {
                return Err(Error::Internal(format!("{name} does not turn queries and keys")));
            }
            // A table may reach beyond the sequence.
            plan.expect(name, table, plan.len(table).max(self.length * self.head_dim))?;
        }
        plan.expect(name, qkv, if q.is_some() { 2 } else { 3 } * self.outputs())
    }

    /// Dispatch with everything but the tensors. A tile of keys and values must fit the workgroup memory of a GPU; a processor reads them
    /// where they lie.
    fn dispatch(&self, plan: &mut Plan, kernel: &'static str, label: &str, products: usize) -> Result<(Dispatch, Grid)> {
        if self.head_dim > 128 {
            return Err(Error::Config(format!(
                "heads of {} features: at most 128 fit an invocation's registers. Use more heads",
                self.head_dim
            )));
        }
        let software = plan.target.software;
        let short = self.short(plan);
        let group = if let Some((_, group)) = short {
            group
        } else if software {
            8
        } else {
            // A row of each side, its lse and its delta.
            let row = 4 * (2 * self.head_dim + 2);
            let fitting = [64, 32, 16].into_iter().find(|rows| rows * row <= plan.target.workgroup_memory as usize).unwrap_or(8);
            fitting.min(self.length.next_power_of_two().max(8))
        };
        let dispatch = Dispatch::new(kernel, label).constant("WG", group as u32).constant("D", self.head_dim as u32);
        let mut dispatch = match short {
            Some((heads, _)) => {
                dispatch.constant("T", self.length as u32).constant("HEADS", heads as u32).bind_if("ROPE", "table", self.rope)
            }
            None => dispatch.constant("STAGE", u32::from(!software)),
        }
        .constant("CAUSAL", self.causal.into())
        .constant("DROPOUT", self.dropout.is_some().into())
        .size("batch", self.batch)
        .size("length", self.length)
        .size("heads", self.heads)
        .size("stream", self.dropout.map_or(0, |d| d.stream as usize))
        .scalar("rate", self.dropout.map_or(0.0, |d| d.rate));
        if self.dropout.is_some() {
            dispatch = dispatch.bind("state", state(plan)?);
        }
        let pairs = if self.causal { self.length * (self.length + 1) / 2 } else { self.length * self.length };
        let dispatch = dispatch.flops(2 * products * pairs * self.batch * self.heads * self.head_dim);
        let rows = self.batch * self.heads;
        Ok((dispatch, Grid::Groups(short.map_or(rows * self.length.div_ceil(group), |(heads, _)| rows.div_ceil(heads)))))
    }
}

/// y and lse from q, k, v.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (B, T, 3, H, D), or (B, T, 2, H, D) with queries from elsewhere.
    pub qkv: Tensor,
    /// (B, T, H, D): queries of cross-attention.
    pub q: Option<Tensor>,
    /// (B, T, H, D).
    pub y: Tensor,
    /// (B, H, T).
    pub lse: Tensor,
    /// Sizes.
    pub shape: Shape,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs, `Config` when a head is wider than 128.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { qkv, q, y, lse, shape } = self;
        let name = if shape.short(plan).is_some() { "attention/forward_short" } else { "attention/forward" };
        shape.expect(plan, name, qkv, q)?;
        plan.expect(name, y, shape.outputs())?;
        plan.expect(name, lse, shape.batch * shape.heads * shape.length)?;
        let (dispatch, grid) = shape.dispatch(plan, name, label, 2)?;
        plan.record(dispatch.bind("qkv", qkv).bind_if("CROSS", "q_other", q).bind("y", y).bind("lse", lse), grid)
    }
}

/// dqkv from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// As in the forward pass.
    pub qkv: Tensor,
    /// As in the forward pass, with the place of its gradient.
    pub q: Option<(Tensor, Tensor)>,
    /// (B, T, H, D), output of the forward pass.
    pub y: Tensor,
    /// (B, H, T), of the forward pass.
    pub lse: Tensor,
    /// (B, T, H, D).
    pub dy: Tensor,
    /// Of the shape of qkv.
    pub dqkv: Tensor,
    /// Sizes.
    pub shape: Shape,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// As `Forward::record`.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { qkv, q, y, lse, dy, dqkv, shape } = self;
        let short = shape.short(plan).is_some();
        let name = if short { "attention/backward_short" } else { "attention/backward" };
        shape.expect(plan, name, qkv, q.map(|(q, _)| q))?;
        shape.expect(plan, name, dqkv, q.map(|(_, dq)| dq))?;
        for tensor in [y, dy] {
            plan.expect(name, tensor, shape.outputs())?;
        }
        plan.expect(name, lse, shape.batch * shape.heads * shape.length)?;
        let (dispatch, grid) = shape.dispatch(plan, name, label, 7)?;
        // For short sequences what y is needed for follows from the rest.
        let dispatch = if short { dispatch } else { dispatch.bind("y", y) };
        let dispatch = dispatch.bind("qkv", qkv).bind("lse", lse).bind("dy", dy).bind("dqkv", dqkv);
        let dispatch = dispatch.bind_if("CROSS", "q_other", q.map(|(q, _)| q)).bind_if("CROSS", "dq", q.map(|(_, dq)| dq));
        plan.record(dispatch, grid)
    }
}

/// One new position over the cache of the earlier ones.
#[derive(Debug, Clone, Copy)]
pub struct Cached {
    /// (B, 3, H, D) of the new position.
    pub qkv: Tensor,
    /// (B, limit): row of the cache that holds each earlier position.
    pub sources: Tensor,
    /// (B, H, limit, D).
    pub keys: Tensor,
    /// (B, H, limit, D).
    pub values: Tensor,
    /// (B, H, D).
    pub y: Tensor,
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Positions that the cache holds.
    pub limit: usize,
}

impl Cached {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Cached { qkv, sources, keys, values, y, batch, heads, head_dim, limit } = self;
        let name = "attention/cached";
        let cache = batch * heads * limit * head_dim;
        let row = batch * heads * head_dim;
        for (tensor, len) in [(qkv, 3 * row), (sources, batch * limit), (keys, cache), (values, cache), (y, row)] {
            plan.expect(name, tensor, len)?;
        }
        let dispatch = Dispatch::new(name, label)
            .constant("D", head_dim as u32)
            .bind("state", state(plan)?)
            .bind("qkv", qkv)
            .bind("sources", sources)
            .bind("keys", keys)
            .bind("values", values)
            .bind("y", y)
            .size("batch", batch)
            .size("heads", heads)
            .size("limit", limit)
            .flops(4 * cache);
        plan.record(dispatch, Grid::Threads(batch * heads))
    }
}
