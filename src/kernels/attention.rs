//! Scaled dot-product attention: online softmax forward, backward by recomputation, one position over a cache, and what enters
//! it of whole sequences.
//! See `shaders/attention/`.

use super::{Dropout, SIMDS, state};
use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes and options that the passes share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub length: usize,
    /// Number of heads.
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

    fn variant(&self, target: &Target) -> Variant {
        self.short(target).or_else(|| self.lanes(target)).or_else(|| self.tiled(target)).unwrap_or_else(|| self.by_rows(target))
    }

    /// The kernels for short sequences, on cards where a head of the backward pass fits the workgroup memory. Several heads share a wave of
    /// 64 as long as they leave room for other workgroups.
    fn short(&self, target: &Target) -> Option<Variant> {
        const MOST: usize = 32;
        const ROOM: usize = 8 << 10;
        let (t, pitch) = (self.length, self.head_dim | 1);
        let bytes = 4 * (4 * t * pitch + 3 * t * t);
        if target.software || t > MOST || bytes > target.workgroup_memory as usize {
            return None;
        }
        let heads = (64 / (t * t)).min(ROOM / bytes).clamp(1, self.batch * self.heads);
        let group = (heads * t * t).next_multiple_of(64).min(256).min(target.workgroup_invocations as usize);
        Some(Variant::Short { heads, group })
    }

    /// The kernels for processors whose subgroups hand rows round, where a sequence has enough rows for them.
    fn lanes(&self, target: &Target) -> Option<Variant> {
        // With fewer the lanes that have no row cost what handing round saves, with vectors of 256 bits and of 512.
        const ENOUGH: usize = 32;
        let group = target.vector() as usize;
        let suits = target.software && target.subgroup as usize == group && self.head_dim.is_multiple_of(4) && self.head_dim <= 64;
        (suits && self.length >= ENOUGH).then_some(Variant::Lanes { group })
    }

    /// The kernels for long sequences, on cards, and on software adapters where rows would loop too often. Eight rows an invocation keep
    /// the vector unit busier, four take half the registers and fill more of a card.
    fn tiled(&self, target: &Target) -> Option<Variant> {
        const WIDE: usize = 64;
        let fits = |rows: &usize| self.fits(target, *rows);
        let groups = |rows: usize| self.batch * self.heads * self.length.div_ceil(8 * rows);
        let rows = Some(8).filter(|rows| self.head_dim <= WIDE && groups(*rows) >= SIMDS && fits(rows)).or(Some(4).filter(fits))?;
        // Iterations of the backward pass by rows: four loops over the vectors of a row and some more for each position, and three around
        // them.
        let by_rows = (self.length * (4 * (self.head_dim / 4) + 3) + 3 * (self.head_dim / 4)) as u64;
        let suits = self.head_dim.is_multiple_of(4) && self.head_dim >= 16 && (!target.software || by_rows > target.loop_iterations);
        suits.then_some(Variant::Tiled { rows })
    }

    /// True if tiles of the backward pass fit the workgroup memory.
    fn fits(&self, target: &Target, rows: usize) -> bool {
        let pitch = 2 * rows + 1;
        let vectors = (2 * 16 * (pitch + 9)).max(4 * self.head_dim) + 32 * pitch + 4 * rows;
        16 * vectors <= target.workgroup_memory as usize
    }

    /// The kernels for everything else: rows are read where they lie, in vectors of four where that divides the features.
    fn by_rows(&self, target: &Target) -> Variant {
        Variant::Rows { group: if target.software { target.vector() as usize } else { 64 } }
    }

    /// True if the kernels for these sizes on the plan's target can turn queries and keys themselves.
    pub fn turns(&self, plan: &Plan) -> bool {
        self.short(&plan.target).is_some() && self.head_dim.is_multiple_of(2)
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

    /// Dispatch with everything but the tensors, of so many products of rows by rows.
    fn dispatch(&self, plan: &mut Plan, kernel: &'static str, label: &str, products: usize) -> Result<(Dispatch, Grid)> {
        if self.head_dim > 128 {
            return Err(Error::Config(format!(
                "heads of {} features: kernels have been checked for at most 128. Use more heads",
                self.head_dim
            )));
        }
        let dispatch = Dispatch::new(kernel, label).constant("D", self.head_dim as u32);
        let heads = self.batch * self.heads;
        // The number of a query's pair with a key, which dropout draws by, has 32 bits.
        if self.dropout.is_some() && (heads as u64 * self.length as u64).saturating_mul(self.length as u64) > 1 << 32 {
            return Err(Error::Config(format!(
                "{label}: {heads} heads of {length} × {length} scores ({batch} sequences of {each} heads) have more random numbers than the 2³² that \
                 dropout can draw. Use a smaller train.batch with a larger train.accumulate, shorter sequences, or no dropout",
                length = self.length,
                batch = self.batch,
                each = self.heads,
            )));
        }
        let (dispatch, groups) = match self.variant(&plan.target) {
            Variant::Short { heads: together, group } => {
                let dispatch = dispatch.constant("WG", group as u32).constant("T", self.length as u32);
                (dispatch.constant("HEADS", together as u32).bind_if("ROPE", "table", self.rope), heads.div_ceil(together))
            }
            Variant::Tiled { rows } => {
                let groups = |rows: usize| heads * self.length.div_ceil(8 * rows);
                let other = 12 - rows;
                let dispatch = dispatch.constant("ROWS", rows as u32);
                let other = self.fits(&plan.target, other).then_some(other);
                let with = |dispatch: Dispatch, rows: usize| dispatch.or(&[("ROWS", rows as u32)], Grid::Groups(groups(rows)), NEVER);
                (other.into_iter().fold(dispatch, with), groups(rows))
            }
            Variant::Lanes { group } => (dispatch.constant("WG", group as u32), heads * self.length.div_ceil(group)),
            Variant::Rows { group } => {
                let features = if self.head_dim.is_multiple_of(4) { 4 } else { 1 };
                (dispatch.constant("WG", group as u32).constant("FEATURES", features), (heads * self.length).div_ceil(group))
            }
        };
        let mut dispatch = dispatch
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
        Ok((dispatch.flops(2 * products * pairs * heads * self.head_dim), Grid::Groups(groups)))
    }
}

/// Cycles that keep a way to launch a kernel from being taken for the sake of a pair.
const NEVER: usize = 1 << 40;

/// Kernels for a shape on a target, with their sizes.
#[derive(Debug, Clone, Copy)]
enum Variant {
    /// All scores of some heads in workgroup memory.
    Short { heads: usize, group: usize },
    /// A row a lane; rows of the other side are handed round.
    Lanes { group: usize },
    /// Tiles in registers, so many rows of an invocation.
    Tiled { rows: usize },
    /// A row an invocation.
    Rows { group: usize },
}

impl Variant {
    /// The one of a pass's kernels.
    fn kernel(self, [short, lanes, tiled, rows]: [&'static str; 4]) -> &'static str {
        match self {
            Variant::Short { .. } => short,
            Variant::Lanes { .. } => lanes,
            Variant::Tiled { .. } => tiled,
            Variant::Rows { .. } => rows,
        }
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
    /// Sizes of the tensors.
    pub shape: Shape,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs, `Config` when a head is wider than 128 or dropout has more than 2³² scores to draw for.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { qkv, q, y, lse, shape } = self;
        let kernels = ["attention/forward_short", "attention/forward_lanes", "attention/forward_tiled", "attention/forward_rows"];
        let name = shape.variant(&plan.target).kernel(kernels);
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
    /// The tensor of the forward pass.
    pub qkv: Tensor,
    /// The tensor of the forward pass, with the place of its gradient.
    pub q: Option<(Tensor, Tensor)>,
    /// (B, T, H, D), output of the forward pass.
    pub y: Tensor,
    /// (B, H, T), of the forward pass.
    pub lse: Tensor,
    /// (B, T, H, D).
    pub dy: Tensor,
    /// Tensor of the shape of qkv.
    pub dqkv: Tensor,
    /// Sizes of the tensors.
    pub shape: Shape,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// As `Forward::record`.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { qkv, q, y, lse, dy, dqkv, shape } = self;
        let variant = shape.variant(&plan.target);
        let kernels = ["attention/backward_short", "attention/backward_lanes", "attention/backward_tiled", "attention/backward_rows"];
        let name = variant.kernel(kernels);
        shape.expect(plan, name, qkv, q.map(|(q, _)| q))?;
        shape.expect(plan, name, dqkv, q.map(|(_, dq)| dq))?;
        for tensor in [y, dy] {
            plan.expect(name, tensor, shape.outputs())?;
        }
        plan.expect(name, lse, shape.batch * shape.heads * shape.length)?;
        let tensors = |dispatch: Dispatch| {
            let dispatch = dispatch.bind("qkv", qkv).bind("lse", lse).bind("dy", dy);
            dispatch.bind_if("CROSS", "q_other", q.map(|(q, _)| q))
        };
        let all = |dispatch| tensors(dispatch).bind("dqkv", dqkv).bind_if("CROSS", "dq", q.map(|(_, dq)| dq));
        match variant {
            // What y is needed for follows from the rest.
            Variant::Short { .. } => {
                let (dispatch, grid) = shape.dispatch(plan, name, label, 7)?;
                plan.record(all(dispatch), grid)
            }
            Variant::Rows { .. } => {
                let (dispatch, grid) = shape.dispatch(plan, name, label, 7)?;
                plan.record(all(dispatch).bind("y", y), grid)
            }
            Variant::Tiled { .. } | Variant::Lanes { .. } => {
                let delta = plan.workspace(format!("{}.delta", plan.info(dqkv).name), &[shape.batch, shape.heads, shape.length])?;
                let (queries, grid) = shape.dispatch(plan, name, label, 3)?;
                let dq = q.map_or(("dqkv", dqkv), |(_, dq)| ("dq", dq));
                plan.record(tensors(queries).bind("y", y).bind("made", delta).bind(dq.0, dq.1), grid)?;
                let (keys, grid) = shape.dispatch(plan, name, label, 4)?;
                plan.record(tensors(keys.constant("KEYS", 1)).bind("delta", delta).bind("dqkv", dqkv), grid)
            }
        }
    }
}

/// Fails unless the heads of the cache divide those of the queries.
fn expect_groups(name: &str, heads: usize, kv_heads: usize) -> Result<()> {
    match kv_heads > 0 && heads.is_multiple_of(kv_heads) {
        true => Ok(()),
        false => Err(Error::Internal(format!("{name}: {kv_heads} heads of keys do not divide {heads} of queries"))),
    }
}

/// One new position over the cache of the earlier ones.
#[derive(Debug, Clone, Copy)]
pub struct Cached {
    /// (B, 3, H, D) of the new position.
    pub qkv: Tensor,
    /// (B, limit): row of the cache that holds each earlier position.
    pub sources: Tensor,
    /// (B, KV, limit, D).
    pub keys: Tensor,
    /// (B, KV, limit, D).
    pub values: Tensor,
    /// (B, H, D).
    pub y: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// H: heads of the queries.
    pub heads: usize,
    /// KV: heads of the cache, each of which serves H / KV heads of queries.
    pub kv_heads: usize,
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
        let Cached { qkv, sources, keys, values, y, batch, heads, kv_heads, head_dim, limit } = self;
        let name = "attention/cached";
        expect_groups(name, heads, kv_heads)?;
        let cache = batch * kv_heads * limit * head_dim;
        let row = batch * heads * head_dim;
        for (tensor, len) in [(qkv, 3 * row), (sources, batch * limit), (keys, cache), (values, cache), (y, row)] {
            plan.expect(name, tensor, len)?;
        }
        let group = if plan.target.software { plan.target.vector() } else { 64 };
        let dispatch = Dispatch::new(name, label)
            .constant("WG", group)
            .constant("D", head_dim as u32)
            .bind("state", state(plan)?)
            .bind("qkv", qkv)
            .bind("sources", sources)
            .bind("keys", keys)
            .bind("values", values)
            .bind("y", y)
            .size("batch", batch)
            .size("heads", heads)
            .size("kv_heads", kv_heads)
            .size("limit", limit)
            .flops(4 * row * limit);
        plan.record(dispatch, Grid::Groups(batch * heads))
    }
}

/// Keys and values of whole sequences into the cache, from its first position on.
#[derive(Debug, Clone, Copy)]
pub struct Store {
    /// (B, M, 3, H, D).
    pub qkv: Tensor,
    /// (B, KV, limit, D).
    pub keys: Tensor,
    /// (B, KV, limit, D).
    pub values: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// M: positions of each.
    pub positions: usize,
    /// H: heads of the queries.
    pub heads: usize,
    /// KV: heads of the cache, each of which takes the first of the heads that it serves.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Positions that the cache holds.
    pub limit: usize,
}

impl Store {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs or the cache does not hold so many positions.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Store { qkv, keys, values, batch, positions, heads, kv_heads, head_dim, limit } = self;
        let name = "attention/store";
        expect_groups(name, heads, kv_heads)?;
        let row = kv_heads * head_dim;
        let cache = batch * limit * row;
        for (tensor, len) in [(qkv, 3 * batch * positions.min(limit) * heads * head_dim), (keys, cache), (values, cache)] {
            plan.expect(name, tensor, len)?;
        }
        let dispatch = Dispatch::new(name, label)
            .bind("qkv", qkv)
            .bind("keys", keys)
            .bind("values", values)
            .size("batch", batch)
            .size("positions", positions)
            .size("heads", heads)
            .size("kv_heads", kv_heads)
            .size("head_dim", head_dim)
            .size("limit", limit);
        plan.record(dispatch, Grid::Threads(batch * positions * row))
    }
}
