//! Embeddings of tokens and positions, and their gradients. See `shaders/embedding/`.

use super::{adding, parts, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y[m] = table[ids[m]] + positions[state.position + m mod length], or without positions the first alone.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows) tokens.
    pub ids: Tensor,
    /// (vocab, cols).
    pub table: Tensor,
    /// (limit, cols).
    pub positions: Option<Tensor>,
    /// (rows, cols).
    pub y: Tensor,
    /// Number of tokens.
    pub rows: usize,
    /// Number of features.
    pub cols: usize,
    /// Positions of a sequence.
    pub length: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { ids, table, positions, y, rows, cols, length } = self;
        plan.expect("embedding/forward", ids, rows)?;
        plan.expect("embedding/forward", y, rows * cols)?;
        let dispatch = Dispatch::new("embedding/forward", label)
            .bind("ids", ids)
            .bind("table", table)
            .bind("y", y)
            .bind_if("POSITIONS", "positions", positions)
            .moves("table", rows * cols)
            .moves("positions", length * cols)
            .size("rows", rows)
            .size("cols", cols)
            .size("length", length)
            .flops(rows * cols);
        let dispatch = if positions.is_some() { dispatch.bind("state", state(plan)?) } else { dispatch };
        plan.record(dispatch, Grid::Threads(rows * cols))
    }
}

/// y[m] = x[m] + positions[m mod length]; its gradients are dy and that of `BackwardPositions`.
#[derive(Debug, Clone, Copy)]
pub struct AddPositions {
    /// (rows, cols).
    pub x: Tensor,
    /// (length, cols).
    pub positions: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// Number of features.
    pub cols: usize,
}

impl AddPositions {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let AddPositions { x, positions, y, cols } = self;
        let n = plan.len(x);
        plan.expect("embedding/add_positions", y, n)?;
        let dispatch = Dispatch::new("embedding/add_positions", label)
            .bind("x", x)
            .bind("positions", positions)
            .bind("y", y)
            .size("rows", n / cols)
            .size("cols", cols)
            .size("length", plan.len(positions) / cols)
            .flops(n);
        plan.record(dispatch, Grid::Threads(n))
    }
}

/// y[m] = (ids[m] / max_value, position / max_position), without weights.
#[derive(Debug, Clone, Copy)]
pub struct Fixed {
    /// (rows) tokens.
    pub ids: Tensor,
    /// (rows, 2).
    pub y: Tensor,
    /// Number of tokens.
    pub rows: usize,
    /// Positions of a sequence.
    pub length: usize,
    /// Token that becomes 1.
    pub max_value: f64,
    /// Position that becomes 1.
    pub max_position: f64,
}

impl Fixed {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Fixed { ids, y, rows, length, max_value, max_position } = self;
        plan.expect("embedding/fixed", ids, rows)?;
        plan.expect("embedding/fixed", y, rows * 2)?;
        let dispatch = Dispatch::new("embedding/fixed", label)
            .bind("state", state(plan)?)
            .bind("ids", ids)
            .bind("y", y)
            .size("rows", rows)
            .size("length", length)
            .scalar("max_value", max_value)
            .scalar("max_position", max_position)
            .flops(2 * rows);
        plan.record(dispatch, Grid::Threads(rows))
    }
}

/// Numbers that may be loaded for all tokens together: 64 MiB, which the L2 cache gives in the time of some launches.
const DENSE: usize = 1 << 24;

/// Rows at most that are sorted together: each is compared with all.
const SORTED: usize = 1 << 14;

/// dtable[v] += Σ over the tokens v of dy.
#[derive(Debug, Clone, Copy)]
pub struct BackwardTable {
    /// (rows) tokens.
    pub ids: Tensor,
    /// (rows, cols).
    pub dy: Tensor,
    /// (vocab, cols), `+=`.
    pub dtable: Tensor,
    /// Number of tokens.
    pub rows: usize,
    /// Number of features.
    pub cols: usize,
    /// Different tokens.
    pub vocab: usize,
}

impl BackwardTable {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardTable { ids, dy, dtable, rows, cols, vocab } = self;
        let name = "embedding/backward_table";
        plan.expect(name, ids, rows)?;
        plan.expect(name, dy, rows * cols)?;
        plan.expect(name, dtable, vocab * cols)?;
        // A column that begins anew is cleared in a loop.
        let by_column = plan.target.software && vocab as u64 <= plan.target.loop_iterations / 2;
        if !by_column && vocab * rows * cols > DENSE {
            return self.record_sorted(plan, label);
        }
        for part in parts(&plan.target, rows, if by_column { 1 } else { 3 }) {
            let dispatch = Dispatch::new(name, label)
                .constant("WG", if by_column { plan.target.vector() } else { 64 })
                .constant("BY_COLUMN", by_column.into())
                .bind("ids", ids)
                .bind("dy", dy)
                .bind("dtable", dtable)
                .size("first", part.start)
                .size("end", part.end)
                .size("cols", cols)
                .size("vocab", vocab)
                .flops(part.len() * cols);
            let dispatch = adding(plan, dispatch, &[dtable])?;
            plan.record(dispatch, if by_column { Grid::Threads(cols) } else { Grid::Groups(vocab * cols.div_ceil(64)) })?;
        }
        Ok(())
    }

    /// Records the passes for large tables: sums of the rows that there are, sorted by their tokens.
    ///
    /// # Errors
    /// As `record`.
    pub fn record_sorted(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardTable { ids, dy, dtable, rows, cols, vocab } = self;
        let name = "embedding/backward_runs";
        plan.expect(name, ids, rows)?;
        plan.expect(name, dy, rows * cols)?;
        plan.expect(name, dtable, vocab * cols)?;
        if plan.begins_sum(&[dtable])? {
            let n = vocab * cols;
            let dispatch = Dispatch::new("embedding/backward_clear", label).bind("dtable", dtable).size("n", n);
            let dispatch = adding(plan, dispatch, &[dtable])?;
            plan.record(dispatch, Grid::Threads(n))?;
        }
        let most = parts(&plan.target, rows, 3).next().map_or(rows, |part| part.len()).min(SORTED);
        for first in (0..rows).step_by(most) {
            let count = most.min(rows - first);
            // At most some hundred blocks, which the pieces of a run are added up over.
            let block = if count > SORTED / 2 { 128 } else { 64 };
            let (blocks, wide) = (count.div_ceil(block), cols.div_ceil(64));
            let order = plan.workspace(format!("{label}.order.{first}"), &[count])?;
            let pieces = plan.workspace(format!("{label}.pieces.{first}"), &[blocks, 2, cols])?;
            Order { ids, order, first, end: first + count }.record(plan, label)?;
            let over_blocks = |name, flops| {
                Dispatch::new(name, label)
                    .constant("BLOCK", block as u32)
                    .bind("ids", ids)
                    .bind("order", order)
                    .bind("dtable", dtable)
                    .bind("pieces", pieces)
                    .size("count", count)
                    .size("cols", cols)
                    .moves("dtable", count.min(vocab) * cols)
                    .flops(flops)
            };
            plan.record(over_blocks(name, count * cols).bind("dy", dy), Grid::Groups(blocks * wide))?;
            if blocks > 1 {
                let rest = over_blocks("embedding/backward_pieces", blocks * cols).size("blocks", blocks);
                plan.record(rest, Grid::Groups((blocks - 1) * wide))?;
            }
        }
        Ok(())
    }
}

/// Rows from `first` up to `end` in the order of their tokens, and of the rows themselves where the tokens are the same.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// (rows) tokens.
    pub ids: Tensor,
    /// (end − first).
    pub order: Tensor,
    /// First row.
    pub first: usize,
    /// Row after the last.
    pub end: usize,
}

impl Order {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Order { ids, order, first, end } = self;
        let (name, count) = ("embedding/order", end - first);
        plan.expect(name, ids, plan.len(ids).max(end))?;
        plan.expect(name, order, count)?;
        let dispatch = Dispatch::new(name, label).bind("ids", ids).bind("order", order).size("first", first).size("end", end);
        plan.record(dispatch.flops(4 * count * count), Grid::Threads(count))
    }
}

/// dpositions[t] += Σ_b dy[b, t].
#[derive(Debug, Clone, Copy)]
pub struct BackwardPositions {
    /// (batch, n).
    pub dy: Tensor,
    /// (n), `+=`.
    pub dpositions: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// Positions × features.
    pub n: usize,
}

impl BackwardPositions {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardPositions { dy, dpositions, batch, n } = self;
        plan.expect("embedding/backward_positions", dy, batch * n)?;
        plan.expect("embedding/backward_positions", dpositions, n)?;
        for part in parts(&plan.target, batch, 1) {
            let dispatch = Dispatch::new("embedding/backward_positions", label)
                .bind("dy", dy)
                .bind("dpositions", dpositions)
                .size("first", part.start)
                .size("end", part.end)
                .size("n", n)
                .flops(part.len() * n);
            let dispatch = adding(plan, dispatch, &[dpositions])?;
            plan.record(dispatch, Grid::Threads(n))?;
        }
        Ok(())
    }
}
