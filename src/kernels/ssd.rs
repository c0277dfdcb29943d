//! The state-space dual of Mamba-2 in chunks: what is not a matrix product. See `shaders/ssd/`.

use super::{Carry, adding, row_group};
use crate::error::Result;
use crate::gpu::Target;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes of the sequences, of their chunks and of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Number of sequences.
    pub batch: usize,
    /// Number of positions of a sequence.
    pub length: usize,
    /// Number of positions of a chunk.
    pub size: usize,
    /// Number of heads H.
    pub heads: usize,
    /// Number of groups G of heads with the same keys and queries; it divides the heads.
    pub groups: usize,
    /// Number of features P of a head.
    pub features: usize,
    /// Number of states N of a feature.
    pub states: usize,
}

impl Sizes {
    /// Number of chunks of a sequence.
    pub fn chunks(&self) -> usize {
        self.length.div_ceil(self.size)
    }

    /// Number of chunks of all sequences.
    pub fn all_chunks(&self) -> usize {
        self.batch * self.chunks()
    }

    /// Number of positions of all heads, with those after the end of a sequence.
    pub fn rows(&self) -> usize {
        self.all_chunks() * self.heads * self.size
    }

    /// Numbers of the positions of all heads.
    pub fn values(&self) -> usize {
        self.rows() * self.features
    }

    /// Numbers of the keys of all groups.
    pub fn keys(&self) -> usize {
        self.all_chunks() * self.groups * self.size * self.states
    }

    /// Weights of positions on each other, of all heads.
    pub fn scores(&self) -> usize {
        self.rows() * self.size
    }

    /// The same of all groups.
    pub fn group_scores(&self) -> usize {
        self.all_chunks() * self.groups * self.size * self.size
    }

    /// Numbers of the states of all chunks.
    pub fn borders(&self) -> usize {
        self.all_chunks() * self.heads * self.features * self.states
    }

    /// Columns of x, B and C beside each other.
    pub fn width(&self) -> usize {
        self.heads * self.features + 2 * self.groups * self.states
    }

    /// Operations of a product over the positions of a chunk with themselves, of all heads.
    fn pair_flops(&self) -> usize {
        2 * self.scores() * self.features
    }

    /// Operations of a product that makes states, or that states are a factor of.
    fn state_flops(&self) -> usize {
        2 * self.values() * self.states
    }

    /// True if chunks of these sizes are computed in registers and workgroup memory: on cards that have as much, if there is something to
    /// pass on, and if enough of the tiles of 64 is filled.
    pub fn fused(&self, target: &Target) -> bool {
        let fills = |(size, least): (usize, usize)| size.is_multiple_of(4) && (least..=64).contains(&size);
        let holds = target.workgroup_memory >= 27_136 && target.workgroup_invocations >= 128 && target.storage_buffers >= 10;
        !target.software && holds && self.chunks() > 1 && [(self.size, 32), (self.features, 32), (self.states, 16)].into_iter().all(fills)
    }

    /// A launch whose kernel is compiled for these sizes.
    fn tiled(&self, kernel: &'static str, label: &str) -> Dispatch {
        let dispatch = More { width: self.width(), ..More::default() }.on(self.dispatch(kernel, label));
        let sizes = [("POSITIONS", self.size), ("FEATURES", self.features), ("STATES", self.states)];
        sizes.into_iter().fold(dispatch, |dispatch, (name, size)| dispatch.constant(name, size as u32))
    }

    fn dispatch(&self, kernel: &'static str, label: &str) -> Dispatch {
        self.sizes(Dispatch::new(kernel, label))
    }

    fn sizes(&self, dispatch: Dispatch) -> Dispatch {
        dispatch
            .size("batch", self.batch)
            .size("length", self.length)
            .size("chunks", self.chunks())
            .size("size", self.size)
            .size("heads", self.heads)
            .size("groups", self.groups)
            .size("features", self.features)
            .size("states", self.states)
    }
}

/// The other parameters, which most passes have no use for.
#[derive(Debug, Clone, Copy, Default)]
struct More {
    width: usize,
    at: usize,
    limit: usize,
    limits: [f64; 2],
}

impl More {
    fn on(self, dispatch: Dispatch) -> Dispatch {
        let [low, high] = self.limits;
        dispatch.size("width", self.width).size("at", self.at).size("limit", self.limit).scalar("low", low).scalar("high", high)
    }
}

/// Elements of an invocation of a pass over rows of so many: several on processors, where the place of a row takes longer to find than its
/// numbers; one on cards, whose invocations read what lies next to each other.
fn each(plan: &Plan, rows: &[usize]) -> usize {
    if !plan.target.software {
        return 1;
    }
    [16, 8, 4, 2].into_iter().find(|each| rows.iter().all(|row| row.is_multiple_of(*each))).unwrap_or(1)
}

/// A launch of so many elements, `each` by an invocation.
fn over(plan: &mut Plan, dispatch: Dispatch, elements: usize, each: usize) -> Result<()> {
    plan.record(dispatch.constant("EACH", each as u32), Grid::Threads(elements / each))
}

fn expect<const N: usize>(plan: &Plan, kernel: &str, tensors: [(Tensor, usize); N]) -> Result<()> {
    tensors.into_iter().try_for_each(|(tensor, len)| plan.expect(kernel, tensor, len))
}

/// Sequences in chunks: x by head, and keys B and queries C by group, or these alone.
#[derive(Debug, Clone, Copy)]
pub struct Arrange {
    /// (batch, length, width): x, and with keys B and C behind it.
    pub xbc: Tensor,
    /// (chunk, head, position, features).
    pub x: Option<Tensor>,
    /// (chunk, group, position, states): B and C.
    pub keys: Option<[Tensor; 2]>,
    /// Sizes.
    pub sizes: Sizes,
}

impl Arrange {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Arrange { xbc, x, keys, sizes } = self;
        let name = "ssd/arrange";
        let width = if keys.is_some() { sizes.width() } else { sizes.heads * sizes.features };
        plan.expect(name, xbc, sizes.batch * sizes.length * width)?;
        x.map_or(Ok(()), |x| plan.expect(name, x, sizes.values()))?;
        keys.into_iter().flatten().try_for_each(|tensor| plan.expect(name, tensor, sizes.keys()))?;
        let at = if x.is_some() { 0 } else { sizes.heads * sizes.features };
        let dispatch = More { width, at, ..More::default() }.on(sizes.dispatch(name, label)).bind("xbc", xbc).bind_if("VALUES", "x", x);
        let dispatch = dispatch.bind_if("KEYS", "keys", keys.map(|keys| keys[0]));
        let dispatch = keys.into_iter().fold(dispatch, |dispatch, keys| dispatch.bind("queries", keys[1]));
        let both = [sizes.features, sizes.states];
        let each = each(plan, if keys.is_some() { &both } else { &both[..1] });
        let moved = sizes.batch * sizes.length * (width - at);
        over(plan, dispatch.moves("xbc", moved), sizes.all_chunks() * sizes.size * (width - at), each)
    }
}

/// α, δ and the slope of δ.
#[derive(Debug, Clone, Copy)]
pub struct Decay {
    /// (batch, length, width), whose last columns are d, one for each head.
    pub zx: Tensor,
    /// (heads).
    pub dt_bias: Tensor,
    /// (heads).
    pub a_log: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// Least and largest δ.
    pub limits: [f64; 2],
    /// Sizes.
    pub sizes: Sizes,
}

impl Decay {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Decay { zx, dt_bias, a_log, decay, limits, sizes } = self;
        let name = "ssd/decay";
        expect(plan, name, [(dt_bias, sizes.heads), (a_log, sizes.heads), (decay, 3 * sizes.rows())])?;
        let width = plan.len(zx) / (sizes.batch * sizes.length);
        let dispatch = More { width, limits, ..More::default() }.on(sizes.dispatch(name, label));
        let dispatch = dispatch.bind("zx", zx).bind("dt_bias", dt_bias).bind("a_log", a_log).bind("decay", decay);
        let moved = sizes.batch * sizes.length * sizes.heads;
        plan.record(dispatch.moves("zx", moved).flops(40 * sizes.rows()), Grid::Threads(sizes.all_chunks() * sizes.heads))
    }
}

/// m = g ⊙ exp(α_i − α_j) δ_j, 0 for later positions.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// (chunk, group, i, j): C_i · B_j.
    pub g: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, head, i, j).
    pub m: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl Scores {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Scores { g, decay, m, sizes } = self;
        let name = "ssd/scores";
        expect(plan, name, [(g, sizes.group_scores()), (decay, 3 * sizes.rows()), (m, sizes.scores())])?;
        let dispatch = More::default().on(sizes.dispatch(name, label)).bind("g", g).bind("decay", decay).bind("m", m);
        let each = each(plan, &[sizes.size]);
        over(plan, dispatch.flops(16 * sizes.scores()), sizes.scores(), each)
    }
}

/// dg = Σ_heads dm ⊙ exp(α_i − α_j) δ_j.
#[derive(Debug, Clone, Copy)]
pub struct GroupScores {
    /// (chunk, head, i, j).
    pub dm: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, group, i, j).
    pub dg: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl GroupScores {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let GroupScores { dm, decay, dg, sizes } = self;
        let name = "ssd/group_scores";
        expect(plan, name, [(dm, sizes.scores()), (decay, 3 * sizes.rows()), (dg, sizes.group_scores())])?;
        let dispatch = More::default().on(sizes.dispatch(name, label)).bind("dm", dm).bind("decay", decay).bind("dg", dg);
        plan.record(dispatch.flops(16 * sizes.scores()), Grid::Threads(sizes.group_scores()))
    }
}

/// Borders of a chunk that rows are weighed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    /// exp(α_i): what has become of the state before the chunk.
    Before,
    /// exp(α_last − α_i) δ_i: what is left after the chunk.
    After,
}

/// Rows by their weight to a border of their chunk.
#[derive(Debug, Clone, Copy)]
pub struct Weigh {
    /// (chunk, head, position, features).
    pub x: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, group, position, head in the group, features).
    pub y: Tensor,
    /// The border.
    pub border: Border,
    /// Sizes.
    pub sizes: Sizes,
}

impl Weigh {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Weigh { x, decay, y, border, sizes } = self;
        let name = "ssd/weigh";
        expect(plan, name, [(x, sizes.values()), (decay, 3 * sizes.rows()), (y, sizes.values())])?;
        let dispatch = More::default().on(sizes.dispatch(name, label)).constant("FROM_START", (border == Border::Before).into());
        let each = each(plan, &[sizes.features]);
        over(plan, dispatch.bind("x", x).bind("decay", decay).bind("y", y).flops(16 * sizes.values()), sizes.values(), each)
    }
}

/// Orders in which chunks pass on their states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last: states.
    Forwards,
    /// From the last to the first: gradients of states.
    Reversed,
}

/// States at the borders of chunks.
#[derive(Debug, Clone, Copy)]
pub struct PassStates {
    /// (chunk, head, features, states): what each chunk brings.
    pub carried: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, head, features, states): the state before each chunk, or the gradient of that after it.
    pub border: Tensor,
    /// The order.
    pub order: Order,
    /// States of the sequences (half, batch, head, features, states), where they are fed in parts.
    pub carry: Option<Carry>,
    /// Sizes.
    pub sizes: Sizes,
}

impl PassStates {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let PassStates { carried, decay, border, order, carry, sizes } = self;
        let name = "ssd/pass_states";
        expect(plan, name, [(carried, sizes.borders()), (decay, 3 * sizes.rows()), (border, sizes.borders())])?;
        let more = More { limit: Carry::limit(carry), ..More::default() };
        let dispatch = more.on(sizes.dispatch(name, label)).constant("REVERSED", (order == Order::Reversed).into());
        let dispatch = dispatch.bind("carried", carried).bind("decay", decay).bind("border", border);
        let state = sizes.features * sizes.states;
        let dispatch = Carry::bound(carry, plan, dispatch, "kept", [sizes.batch, sizes.heads * state])?;
        let each = each(plan, &[state]);
        over(plan, dispatch.flops(2 * sizes.borders()), sizes.batch * sizes.heads * state, each)
    }
}

/// y = within + D x + exp(α) before.
#[derive(Debug, Clone, Copy)]
pub struct Combine {
    /// (chunk, head, position, features).
    pub within: Tensor,
    /// (chunk, group, position, head in the group, features), if there is more than one chunk.
    pub before: Option<Tensor>,
    /// (chunk, head, position, features).
    pub x: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// D (heads).
    pub d: Tensor,
    /// (batch, length, heads, features).
    pub y: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl Combine {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Combine { within, before, x, decay, d, y, sizes } = self;
        let (name, n) = ("ssd/combine", sizes.batch * sizes.length * sizes.heads * sizes.features);
        expect(plan, name, [(within, sizes.values()), (x, sizes.values()), (d, sizes.heads), (y, n), (decay, 3 * sizes.rows())])?;
        before.map_or(Ok(()), |before| plan.expect(name, before, sizes.values()))?;
        let dispatch = More::default().on(sizes.dispatch(name, label)).bind("within", within).bind_if("STATES", "before", before);
        let dispatch = if before.is_some() { dispatch.bind("decay", decay) } else { dispatch };
        let each = each(plan, &[sizes.features]);
        over(plan, dispatch.bind("x", x).bind("d", d).bind("y", y).flops(4 * n), n, each)
    }
}

/// dots = a · b of each row.
#[derive(Debug, Clone, Copy)]
pub struct Dots {
    /// (chunk, head, position, features).
    pub a: Tensor,
    /// The same, or by group.
    pub b: Tensor,
    /// True if the rows of b lie as (chunk, group, position, head in the group).
    pub by_group: bool,
    /// Tensor with the results from `at` on.
    pub dots: Tensor,
    /// First of them.
    pub at: usize,
    /// Sizes.
    pub sizes: Sizes,
}

impl Dots {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Dots { a, b, by_group, dots, at, sizes } = self;
        let name = "ssd/dots";
        expect(plan, name, [(a, sizes.values()), (b, sizes.values())])?;
        plan.expect(name, dots, plan.len(dots).max(at + sizes.rows()))?;
        let (dispatch, grid) = row_group(plan, name, label, sizes.rows(), sizes.features);
        let dispatch = More { at, ..More::default() }.on(sizes.sizes(dispatch));
        let dispatch = dispatch.constant("GROUPED", by_group.into()).bind("a", a).bind("b", b).bind("dots", dots);
        plan.record(dispatch.flops(2 * sizes.values()), grid)
    }
}

/// Sums over pairs of positions, for the gradient of their decay.
#[derive(Debug, Clone, Copy)]
pub struct Pairs {
    /// (chunk, head, i, j).
    pub dm: Tensor,
    /// (chunk, group, i, j).
    pub g: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, head, position, size + 1).
    pub sums: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl Pairs {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Pairs { dm, g, decay, sums, sizes } = self;
        let name = "ssd/pairs";
        let pairs = sizes.rows() * (sizes.size + 1);
        expect(plan, name, [(dm, sizes.scores()), (g, sizes.group_scores()), (decay, 3 * sizes.rows()), (sums, pairs)])?;
        let dispatch = More::default().on(sizes.dispatch(name, label)).bind("dm", dm).bind("g", g).bind("decay", decay).bind("sums", sums);
        plan.record(dispatch.flops(32 * sizes.scores()), Grid::Threads(sizes.rows()))
    }
}

/// Gradient of the steps, and of what all positions of a head share.
#[derive(Debug, Clone, Copy)]
pub struct BackwardDecay {
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (heads).
    pub a_log: Tensor,
    /// (chunk, head, position, size + 1), of `Pairs`.
    pub sums: Tensor,
    /// (3, chunk, head, position) and (chunk, head): ȳ · S C, x · R B, ȳ · x and ⟨R, S⟩; with one chunk ȳ · x alone.
    pub dots: Tensor,
    /// True if there is more than one chunk.
    pub states: bool,
    /// (batch, length, width), whose last columns are written.
    pub dzx: Tensor,
    /// (2, chunk, head, position): δ da and dd.
    pub terms: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl BackwardDecay {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardDecay { decay, a_log, sums, dots, states, dzx, terms, sizes } = self;
        let (name, rows) = ("ssd/backward_decay", sizes.rows());
        expect(plan, name, [(decay, 3 * rows), (a_log, sizes.heads), (sums, rows * (sizes.size + 1)), (terms, 2 * rows)])?;
        plan.expect(name, dots, if states { 3 * rows + sizes.all_chunks() * sizes.heads } else { rows })?;
        let dispatch = More { width: plan.len(dzx) / (sizes.batch * sizes.length), ..More::default() }.on(sizes.dispatch(name, label));
        let dispatch = dispatch.constant("STATES", states.into()).bind("decay", decay).bind("a_log", a_log).bind("sums", sums);
        let dispatch = if states { dispatch.bind("dots", dots) } else { dispatch };
        let dispatch = dispatch.bind("dzx", dzx).moves("dzx", sizes.batch * sizes.length * sizes.heads).bind("terms", terms);
        plan.record(dispatch.flops(20 * sizes.scores()), Grid::Threads(rows))
    }
}

/// Gradients of A_log, dt_bias and D.
#[derive(Debug, Clone, Copy)]
pub struct BackwardHeads {
    /// (2, chunk, head, position), of `BackwardDecay`.
    pub terms: Tensor,
    /// ȳ · x (chunk, head, position), from `at` on.
    pub dots: Tensor,
    /// First of them.
    pub at: usize,
    /// (heads).
    pub a_log: Tensor,
    /// (heads), `+=`: gradients of A_log, dt_bias and D.
    pub gradients: [Tensor; 3],
    /// (batch, length, width), whose last columns are written, if nobody else does.
    pub dzx: Option<Tensor>,
    /// Sizes.
    pub sizes: Sizes,
}

impl BackwardHeads {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardHeads { terms, dots, at, a_log, gradients, dzx, sizes } = self;
        let (name, rows) = ("ssd/backward_heads", sizes.rows());
        expect(plan, name, [(terms, plan.len(terms).max(2 * rows)), (dots, plan.len(dots).max(at + rows)), (a_log, sizes.heads)])?;
        gradients.into_iter().try_for_each(|gradient| plan.expect(name, gradient, sizes.heads))?;
        let width = dzx.map_or(0, |dzx| plan.len(dzx) / (sizes.batch * sizes.length));
        let (dispatch, grid) = row_group(plan, name, label, sizes.heads, rows / sizes.heads);
        let dispatch = More { at, width, ..More::default() }
            .on(sizes.sizes(dispatch))
            .bind_if("STEPS", "dzx", dzx)
            .bind("terms", terms)
            .bind("dots", dots)
            .bind("a_log", a_log);
        let [da_log, ddt_bias, dd_skip] = gradients;
        let dispatch = dispatch.bind("da_log", da_log).bind("ddt_bias", ddt_bias).bind("dd_skip", dd_skip);
        let dispatch = adding(plan, dispatch, &gradients)?;
        let dispatch = dispatch.moves("dzx", sizes.batch * sizes.length * sizes.heads).moves("terms", 2 * rows).moves("dots", rows);
        plan.record(dispatch.flops(3 * rows), grid)
    }
}

/// All of the forward pass, or the gradients of the states, with the states in registers.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// (batch, length, width).
    pub xbc: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, head, features, states): the state before each chunk, or the gradient of that after it.
    pub border: Tensor,
    /// What it makes besides.
    pub of: Scanned,
    /// Sizes.
    pub sizes: Sizes,
}

/// What a scan makes besides the states.
#[derive(Debug, Clone, Copy)]
pub enum Scanned {
    /// Outputs y (batch, length, heads, features), with D (heads) and the scores g (chunk, group, i, j).
    Outputs {
        /// C_i · B_j.
        g: Tensor,
        /// D.
        d: Tensor,
        /// y.
        y: Tensor,
    },
    /// Nothing, from the gradients dy (batch, length, heads, features) of the outputs.
    Gradients(Tensor),
}

impl Scan {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Scan { xbc, decay, border, of, sizes } = self;
        let (name, n) = ("ssd/scan", sizes.batch * sizes.length * sizes.heads * sizes.features);
        let all = sizes.batch * sizes.length * sizes.width();
        expect(plan, name, [(xbc, all), (decay, 3 * sizes.rows()), (border, sizes.borders())])?;
        let dispatch = sizes.tiled(name, label);
        let dispatch = dispatch.bind("xbc", xbc).bind("decay", decay).bind("border", border);
        let (dispatch, flops) = match of {
            Scanned::Outputs { g, d, y } => {
                expect(plan, name, [(g, sizes.group_scores()), (d, sizes.heads), (y, n)])?;
                (dispatch.constant("REVERSED", 0).bind("g", g).bind("d", d).bind("y", y), sizes.pair_flops() + 2 * sizes.state_flops())
            }
            Scanned::Gradients(dy) => {
                plan.expect(name, dy, n)?;
                let dispatch = dispatch.moves("xbc", sizes.batch * sizes.length * sizes.groups * sizes.states);
                (dispatch.constant("REVERSED", 1).bind("dy", dy), sizes.state_flops())
            }
        };
        plan.record(dispatch.flops(flops), Grid::Groups(sizes.batch * sizes.heads))
    }
}

/// Gradients of a scan, from its states and their gradients.
#[derive(Debug, Clone, Copy)]
pub struct BackwardChunk {
    /// (batch, length, width).
    pub xbc: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// (chunk, group, i, j).
    pub g: Tensor,
    /// (chunk, head, features, states): states before the chunks, and gradients of those after them.
    pub states: [Tensor; 2],
    /// (batch, length, heads, features).
    pub dy: Tensor,
    /// D and A_log (heads).
    pub numbers: [Tensor; 2],
    /// (batch, length, width).
    pub dxbc: Tensor,
    /// (3, chunk, head, position): δ da, dd and ȳ · x.
    pub terms: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl BackwardChunk {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardChunk { xbc, decay, g, states, dy, numbers, dxbc, terms, sizes } = self;
        let (name, all) = ("ssd/backward_chunk", sizes.batch * sizes.length * sizes.width());
        expect(plan, name, [(xbc, all), (dxbc, all), (g, sizes.group_scores()), (decay, 3 * sizes.rows()), (terms, 3 * sizes.rows())])?;
        expect(plan, name, states.map(|state| (state, sizes.borders())))?;
        expect(plan, name, numbers.map(|number| (number, sizes.heads)))?;
        plan.expect(name, dy, sizes.batch * sizes.length * sizes.heads * sizes.features)?;
        let dispatch = sizes.tiled(name, label);
        let dispatch = dispatch.bind("xbc", xbc).bind("decay", decay).bind("g", g).bind("states", states[0]).bind("dstates", states[1]);
        let dispatch = dispatch.bind("dy", dy).bind("d", numbers[0]).bind("a_log", numbers[1]).bind("dxbc", dxbc).bind("terms", terms);
        let of_groups = 4 * sizes.group_scores() * sizes.states;
        let flops = 2 * sizes.pair_flops() + 3 * sizes.state_flops() + of_groups;
        plan.record(dispatch.flops(flops), Grid::Groups(sizes.all_chunks() * sizes.groups))
    }
}

/// dxbc from the gradients of its parts.
#[derive(Debug, Clone, Copy)]
pub struct BackwardCombine {
    /// (chunk, head, position, features).
    pub within: Tensor,
    /// (chunk, group, position, head in the group, features), if there is more than one chunk.
    pub after: Option<Tensor>,
    /// (chunk, head, position, features).
    pub dy: Tensor,
    /// (3, chunk, head, position).
    pub decay: Tensor,
    /// D (heads).
    pub d: Tensor,
    /// (chunk, group, position, states): gradients of B and C.
    pub dkeys: [Tensor; 2],
    /// (batch, length, width).
    pub dxbc: Tensor,
    /// Sizes.
    pub sizes: Sizes,
}

impl BackwardCombine {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardCombine { within, after, dy, decay, d, dkeys, dxbc, sizes } = self;
        let (name, n) = ("ssd/backward_combine", sizes.batch * sizes.length * sizes.width());
        expect(plan, name, [(within, sizes.values()), (dy, sizes.values()), (d, sizes.heads), (dxbc, n), (decay, 3 * sizes.rows())])?;
        dkeys.into_iter().try_for_each(|tensor| plan.expect(name, tensor, sizes.keys()))?;
        after.map_or(Ok(()), |after| plan.expect(name, after, sizes.values()))?;
        let dispatch = More { width: sizes.width(), ..More::default() }
            .on(sizes.dispatch(name, label))
            .bind("within", within)
            .bind_if("STATES", "after", after);
        let dispatch = if after.is_some() { dispatch.bind("decay", decay) } else { dispatch };
        let dispatch = dispatch.bind("dy", dy).bind("d", d).bind("dkeys", dkeys[0]).bind("dqueries", dkeys[1]).bind("dxbc", dxbc);
        let each = each(plan, &[sizes.features, sizes.states]);
        over(plan, dispatch.flops(4 * n), n, each)
    }
}
