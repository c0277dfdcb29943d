//! Matrix products with their epilogue: Y = f(A·B), batched, any transposition. See `shaders/common/matmul.wgsl`.

use super::{Dropout, SIMDS, adding, parts, state};
use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::plan::{Dispatch, Grid, Plan, Shared, Tensor};

/// Activation of an epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x.
    #[default]
    Identity,
    /// max(x, 0).
    Relu,
    /// x·Φ(x) with the error function (PyTorch's default GELU).
    Gelu,
    /// GELU in its tanh form.
    GeluTanh,
    /// 1 / (1 + exp(−x)).
    Sigmoid,
    /// x / (1 + exp(−x)), also called Swish.
    Silu,
    /// tanh x.
    Tanh,
}

/// Arguments of a product; see the shader for formula and order of the epilogue.
#[derive(Debug, Clone, Copy)]
pub struct Matmul {
    /// (batch, M, K), or (batch, K, M) when `trans_a`.
    pub a: Tensor,
    /// (batch, K, N), or (batch, N, K) when `trans_b`.
    pub b: Tensor,
    /// (batch, M, N).
    pub y: Tensor,
    /// Rows of Y.
    pub m: usize,
    /// Columns of Y.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Number of products.
    pub batch: usize,
    /// A starts at this element of a longer tensor.
    pub a_at: Option<usize>,
    /// B starts at this element of a longer tensor.
    pub b_at: Option<usize>,
    /// Y, and what has its shape, starts at this element of longer tensors; for products without dropout that are not added.
    pub y_at: Option<usize>,
    /// A is stored transposed.
    pub trans_a: bool,
    /// B is stored transposed.
    pub trans_b: bool,
    /// Factor of the sums; other than 1 for products without bias and dropout.
    pub scale: f64,
    /// (N), added to each row.
    pub bias: Option<Tensor>,
    /// (batch, M, N), added in place of a bias.
    pub addend: Option<Tensor>,
    /// Applied after the bias.
    pub activation: Activation,
    /// (batch, M, N): keeps the value before the activation.
    pub pre: Option<Tensor>,
    /// Applied after the activation.
    pub dropout: Option<Dropout>,
    /// (batch, M, N) and the activation whose derivative there multiplies the result.
    pub derivative: Option<(Activation, Tensor)>,
    /// (batch, M, N), added last.
    pub residual: Option<Tensor>,
    /// Y is `+=`.
    pub accumulate: bool,
    /// (M): `+=` the row sums of A.
    pub row_sum: Option<Tensor>,
}

impl Matmul {
    /// A plain product; fill in the rest with struct update syntax.
    pub fn new(a: Tensor, b: Tensor, y: Tensor, (m, n, k): (usize, usize, usize)) -> Self {
        Matmul {
            a,
            b,
            y,
            m,
            n,
            k,
            batch: 1,
            a_at: None,
            b_at: None,
            y_at: None,
            trans_a: false,
            trans_b: false,
            scale: 1.0,
            bias: None,
            addend: None,
            activation: Activation::Identity,
            pre: None,
            dropout: None,
            derivative: None,
            residual: None,
            accumulate: false,
            row_sum: None,
        }
    }

    /// True if K runs over the rows of both factors and nothing but the sum itself is made: a weight's gradient, dW = dYᵀ·X.
    fn adds_over_rows(&self) -> bool {
        let plain =
            self.bias.is_none() && self.addend.is_none() && self.pre.is_none() && self.dropout.is_none() && self.derivative.is_none();
        let plain = plain && self.residual.is_none() && self.activation == Activation::Identity;
        plain && self.trans_a && !self.trans_b && self.batch == 1
    }

    /// True if so few outputs have so long sums that tiles of them would leave most of the card idle, and each number may be loaded for
    /// every output: by cycles of the RX 6600.
    fn is_thin(&self) -> bool {
        /// Until a tile has its next 16 steps, loaded, stored in workgroup memory and read from there; and the waves that wait beside each
        /// other.
        const STEPS: usize = 3 * LOAD;
        const BESIDE: usize = 4 * SIMDS;
        /// Bytes that the L2 cache gives in a cycle, and instructions of a load and a product with their addresses.
        const L2: usize = 819;
        const INSTRUCTIONS: usize = 16;
        let Matmul { m, n, k, .. } = *self;
        let (rows, vecs) = tile_shape(m, n, 1);
        let tiles = m.div_ceil(8 * rows) * n.div_ceil(32 * vecs);
        let products = m * n * k / (32 * SIMDS);
        let tiled = (k.div_ceil(16) * STEPS * tiles.div_ceil(BESIDE)).max(products);
        let thin = (k.div_ceil(64) * LOAD * (m * n).div_ceil(THIN * BESIDE)).max(8 * m * n * k / L2).max(INSTRUCTIONS * products);
        self.batch == 1 && k >= 64 && thin < tiled
    }

    /// True if a product of any sizes is large enough for tiles of 32 by four columns a lane. They compute an output in a fifth of the time
    /// of the small ones of `matmul/register`, but each is computed whole, and its kernel takes a second to compile.
    fn fills_lanes(&self, target: Target) -> bool {
        let Matmul { m, n, k, batch, .. } = *self;
        let tiles = m.next_multiple_of(32) * n.next_multiple_of(4 * target.vector() as usize);
        tiles < 4 * m * n && m * n * k * batch >= 1 << 18
    }

    /// Records the product with the variant that suits the device.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Matmul { m, n, k, batch, .. } = self;
        let [a_at, b_at, y_at] = [self.a_at, self.b_at, self.y_at].map(Option::unwrap_or_default);
        let kernel = self.kernel(plan.target);
        // A sum over the rows of a long batch is made of parts that add up.
        if self.adds_over_rows() {
            let steps = match kernel {
                "matmul/lanes" | "matmul/lanes_odd" => (1, 4),
                "matmul/register" => (1, 1),
                _ => (16, 1),
            };
            let mut parts =
                parts(&plan.target, k.div_ceil(steps.1), steps.0).map(|r| r.start * steps.1..(r.end * steps.1).min(k)).peekable();
            if parts.peek().is_some_and(|first| first.len() < k) {
                return parts.try_for_each(|part| {
                    let product = Matmul {
                        k: part.len(),
                        a_at: Some(a_at + part.start * m),
                        b_at: Some(b_at + part.start * n),
                        accumulate: self.accumulate || part.start > 0,
                        ..self
                    };
                    product.record(plan, label)
                });
            }
        }
        self.expect_sizes(plan, kernel)?;
        let (of_y, scaled) = (y_at..y_at + batch * m * n, self.scale != 1.0);
        let mut dispatch = Dispatch::new(kernel, label)
            .constant("TRANS_A", self.trans_a.into())
            .constant("TRANS_B", self.trans_b.into())
            .constant("ACTIVATION", self.activation as u32)
            .constant("ACCUMULATE", self.accumulate.into())
            .constant("DROPOUT", self.dropout.is_some().into())
            .constant("DERIVATIVE", self.derivative.map_or(0, |(kind, _)| kind as u32))
            .bind("a", self.a)
            .bind("b", self.b)
            .bind("y", self.y)
            .constant("BIAS", if self.addend.is_some() { 2 } else { self.bias.is_some().into() })
            .bind_if("BIAS", "bias", self.bias.or(self.addend))
            .bind_if("KEEP_PRE", "pre", self.pre)
            .bind_if("RESIDUAL", "residual", self.residual)
            .bind_if("ROW_SUM", "row_sum", self.row_sum)
            .size("m", m)
            .size("n", n)
            .size("k", k)
            .size("batch", batch)
            .size("a_at", a_at)
            .moves_part("a", a_at..a_at + batch * m * k)
            .moves_part("b", b_at..b_at + batch * k * n)
            .size("b_at", b_at)
            .constant("PART", self.y_at.is_some().into())
            .moves_part("y", of_y.clone())
            .moves_part("pre", of_y.clone())
            .moves_part("residual", of_y.clone())
            .size("stream", self.dropout.map_or(y_at, |d| d.stream as usize))
            .scalar("rate", self.dropout.map_or(if scaled { self.scale } else { 0.0 }, |d| d.rate))
            .flops(2 * batch * m * n * k);
        if scaled {
            dispatch = dispatch.constant("SCALED", 1);
        }
        if let Some((kind, z)) = self.derivative
            && kind != Activation::Identity
        {
            dispatch = dispatch.bind("z", z).moves_part("z", of_y);
        }
        let sums: Vec<Tensor> = Some(self.y).filter(|_| self.accumulate).into_iter().chain(self.row_sum).collect();
        dispatch = adding(plan, dispatch, &sums)?;
        if self.dropout.is_some() {
            dispatch = dispatch.bind("state", state(plan)?);
        }
        let (dispatch, grid) = self.tiled(kernel, dispatch, plan.target);
        plan.record(sharing(dispatch, kernel, grid, m, n, batch), grid)
    }

    /// The kernel for these sizes on this target.
    fn kernel(&self, target: Target) -> &'static str {
        let begins = [self.a_at, self.b_at, self.y_at].map(Option::unwrap_or_default);
        let aligned = [self.m, self.n, self.k].iter().chain(&begins).all(|size| size.is_multiple_of(4));
        match target {
            Target { software: true, subgroup: 8 | 16, .. } if aligned => "matmul/lanes",
            Target { software: true, subgroup: 8 | 16, .. } if self.fills_lanes(target) => "matmul/lanes_odd",
            Target { software: true, .. } => "matmul/register",
            _ if aligned => "matmul/block",
            _ if self.is_thin() => "matmul/thin",
            _ => "matmul/tile",
        }
    }

    fn expect_sizes(&self, plan: &Plan, kernel: &str) -> Result<()> {
        let Matmul { m, n, k, batch, .. } = *self;
        if self.y_at.is_some() && (self.dropout.is_some() || self.accumulate) {
            return Err(Error::Internal(format!("{kernel}: a part of Y is neither dropped nor added to")));
        }
        let factors = [(self.a, self.a_at, batch * m * k), (self.b, self.b_at, batch * k * n)];
        if self.scale != 1.0 && (self.dropout.is_some() || self.bias.is_some()) || self.bias.is_some() && self.addend.is_some() {
            return Err(Error::Internal(format!("{kernel}: a scale is for sums without bias and dropout, an addend in place of a bias")));
        }
        let outputs = [Some(self.y), self.pre, self.addend, self.residual, self.derivative.map(|(_, z)| z)];
        let outputs = outputs.into_iter().flatten().map(|tensor| (tensor, self.y_at, batch * m * n));
        for (tensor, at, len) in factors.into_iter().chain(outputs) {
            // A part of a tensor may end before the tensor does.
            let whole = plan.len(tensor);
            let part = at.filter(|at| at + len <= whole);
            plan.expect(kernel, tensor, if part.is_some() { whole } else { len })?;
        }
        if let Some(bias) = self.bias {
            plan.expect(kernel, bias, n)?;
        }
        if let Some(sum) = self.row_sum {
            plan.expect(kernel, sum, m)?;
        }
        Ok(())
    }

    /// The launch with the sizes of its tiles, and its grid.
    fn tiled(&self, kernel: &str, dispatch: Dispatch, target: Target) -> (Dispatch, Grid) {
        let Matmul { m, n, k, batch, .. } = *self;
        match kernel {
            "matmul/lanes" | "matmul/lanes_odd" => {
                let lanes = target.vector();
                (dispatch.constant("LANES", lanes), Grid::Groups(m.div_ceil(32) * n.div_ceil(4 * lanes as usize) * batch))
            }
            "matmul/register" => {
                let (tile_m, tile_n) = (m.min(4).next_power_of_two(), n.min(4).next_power_of_two());
                let dispatch = dispatch.constant("TILE_M", tile_m as u32).constant("TILE_N", tile_n as u32);
                (dispatch, Grid::Threads(m.div_ceil(tile_m) * n.div_ceil(tile_n) * batch))
            }
            "matmul/block" => in_blocks(dispatch, m, n, k, batch),
            "matmul/thin" => {
                let grid = Grid::Groups((m * n).div_ceil(THIN));
                // Each invocation waits for four steps of k at a time.
                let longer = k.div_ceil(4 * 4) - k.div_ceil(4 * 16);
                (dispatch.or(&[("WG", 64)], grid, longer * LOAD), grid)
            }
            _ => {
                let (rows, vecs) = tile_shape(m, n, batch);
                let dispatch = dispatch.constant("ROWS", rows as u32).constant("VECS", vecs as u32);
                (dispatch, Grid::Groups(m.div_ceil(8 * rows) * n.div_ceil(32 * vecs) * batch))
            }
        }
    }
}

/// Says how the workgroups of a product share its factors. Tiles go panel by panel: those of a panel read its rows of A and all of B.
fn sharing(dispatch: Dispatch, kernel: &str, grid: Grid, m: usize, n: usize, batch: usize) -> Dispatch {
    /// Tiles along m of a panel of matmul/block (`PANEL` in `shaders/common/matmul_block.wgsl`).
    const PANEL: usize = 16;
    let Grid::Groups(groups) = grid else { return dispatch };
    let groups = groups / batch;
    let value = |name: &str| dispatch.value(name).max(1) as usize;
    let panels = match kernel {
        "matmul/block" => m.div_ceil(8 * value("ROWS")).div_ceil(PANEL),
        "matmul/tile" => m.div_ceil(8 * value("ROWS")),
        "matmul/thin" => m.min(groups),
        _ => return dispatch,
    };
    let of_a = Shared { parts: panels * batch, groups: groups.div_ceil(panels), most: n };
    let of_b = Shared { parts: batch, groups, most: panels };
    dispatch.shared("a", of_a).shared("b", of_b)
}

/// Outputs of a workgroup of matmul/thin.
const THIN: usize = 16;

/// Cycles until the caches answer.
const LOAD: usize = 500;

/// Steps of k that matmul/block takes at a time.
const STEP: usize = 16;

/// A launch of a kernel that makes a product in blocks: in those that the model of the RX 6600 finds fastest, or in others.
pub(super) fn in_blocks(mut dispatch: Dispatch, m: usize, n: usize, k: usize, batch: usize) -> (Dispatch, Grid) {
    let launch = |Block { rows, vecs, slices }| {
        let full = k.is_multiple_of(STEP * slices).into();
        let consts = [("WG", 64 * slices as u32), ("ROWS", rows as u32), ("VECS", vecs as u32), ("SLICES", slices as u32), ("FULL", full)];
        (consts, Grid::Groups(m.div_ceil(8 * rows) * n.div_ceil(32 * vecs) * batch))
    };
    let block = Block::ALL.into_iter().min_by_key(|block| block.cycles(m, n, k, batch)).unwrap_or(Block::ALL[0]);
    for other in Block::ALL.into_iter().filter(|other| *other != block) {
        let (consts, grid) = launch(other);
        dispatch = dispatch.or(&consts, grid, other.cycles(m, n, k, batch) - block.cycles(m, n, k, batch));
    }
    let (consts, grid) = launch(block);
    (consts.into_iter().fold(dispatch, |dispatch, (name, value)| dispatch.constant(name, value)), grid)
}

/// A variant of matmul/block: outputs of an invocation, rows by vectors of four, and waves that share a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    rows: usize,
    vecs: usize,
    slices: usize,
}

impl Block {
    const ALL: [Block; 10] = {
        const fn block(rows: usize, vecs: usize, slices: usize) -> Block {
            Block { rows, vecs, slices }
        }
        [
            block(8, 2, 1),
            block(8, 2, 2),
            block(4, 2, 1),
            block(4, 2, 2),
            block(4, 2, 4),
            block(4, 1, 1),
            block(4, 1, 2),
            block(4, 1, 4),
            block(2, 1, 2),
            block(2, 1, 4),
        ]
    };

    /// Cycles of a SIMD of the RX 6600 for a product, by the model that `engine isa` has in full, with what it finds in the compiled
    /// variants: a wave keeps the vector unit for 8 cycles of each step of k, row and vector, and for 21 of each load; two SIMDs share the
    /// workgroup memory and all of them the L2 cache; a wave alone waits for its reads, too.
    fn cycles(self, m: usize, n: usize, k: usize, batch: usize) -> usize {
        /// Cycles of a vector read of workgroup memory, with what bank conflicts leave of its rate.
        const READ: usize = 20;
        /// Until workgroup memory answers.
        const WAIT: usize = 64;
        /// Until the L2 cache has given a vector to each lane, if all SIMDs ask.
        const L2: usize = 70;
        let Block { rows, vecs, slices } = self;
        let waves = m.div_ceil(8 * rows) * n.div_ceil(32 * vecs) * batch * slices;
        let (on_simd, loads) = (waves.div_ceil(SIMDS), (rows * 8 * STEP).div_ceil(256) + vecs * 32 * STEP / 256);
        let vector = STEP * 8 * rows * vecs + 21 * loads;
        let reads = STEP * READ * (rows.div_ceil(4) + vecs);
        let round = (on_simd * vector.max(reads).max(L2 * loads)).max(vector + STEP * WAIT / 4).max(LOAD);
        // The loads before the first round, and what becomes of the sums.
        k.div_ceil(STEP * slices) * round + LOAD + (slices - 1) * 24 * rows * vecs + 8 * rows * vecs * on_simd
    }
}

/// Outputs of an invocation of matmul/tile, (rows, vec4 columns): the largest tile that the product fills and that still gives the 28
/// compute units of the RX 6600 two workgroups each, as its 64 × 64 tile keeps 64 products to 16 loads.
fn tile_shape(m: usize, n: usize, batch: usize) -> (usize, usize) {
    let groups = |rows: usize, vecs: usize| m.div_ceil(8 * rows) * n.div_ceil(32 * vecs) * batch;
    // Half of a tile or more is of the product.
    let fills = |rows: usize, vecs: usize| m > 4 * rows && n > 16 * vecs;
    [(8, 2), (4, 2), (4, 1)].into_iter().find(|&(rows, vecs)| groups(rows, vecs) >= 56 && fills(rows, vecs)).unwrap_or((2, 1))
}
