//! A kernel and a loss term of one's own: the length of predicted vectors is pulled towards 1. The kernel is WGSL text; its gradient is
//! checked against an f64 reference of its forward formula by the same harness that checks all others.
//!
//! `cargo run --release --example own_loss_term`

use std::sync::Arc;

use engine::config::{Config, Section};
use engine::error::Result;
use engine::gpu::{Gpu, add_source};
use engine::harness::reference::{Call, Reference, add_reference};
use engine::harness::scalar::Scalar;
use engine::harness::{Builder, Family, Regime, Spec, Tolerance, check_spec, targets};
use engine::kernels::state;
use engine::kernels::vector_loss::Slot;
use engine::losses::{Context, Loss, LossKind, Term, VectorLoss, VectorLossConfig};
use engine::models::VectorMlpConfig;
use engine::plan::{Dispatch, Grid, Plan, Tensor};
use engine::problem::Problem;
use engine::random::Random;
use engine::tasks::{Purpose, VectorsConfig};
use engine::train::{Options, train};
use serde::{Deserialize, Serialize};

/// y[column] = v = (‖x‖ − 1)² of each row, y[0] += weight · v; with n rows that count, ∂/∂x of scale · weight / n · Σ v adds
/// scale · weight / n · 2 (‖x‖ − 1) x / ‖x‖ to dx.
const KERNEL: &str = "
// uses: common/grid, common/state
const WG: u32 = 64u;
const GRADIENT: u32 = 1u;

struct Params { rows: u32, width: u32, cols: u32, column: u32, weight: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * WG + local;
    if (row >= p.rows) {
        return;
    }
    var square = 0.0;
    for (var c = 0u; c < p.width; c++) {
        square = fma(x[row * p.width + c], x[row * p.width + c], square);
    }
    let length = max(sqrt(square), 1e-12);
    let value = (length - 1.0) * (length - 1.0);
    y[row * p.cols + p.column] = value;
    y[row * p.cols] += p.weight * value;
    let valid = min(p.rows, state.rows);
    let pull = select(0.0, state.scale * p.weight / f32(valid) * 2.0 * (length - 1.0) / length, row < valid);
    if (GRADIENT == 1u) {
        for (var c = 0u; c < p.width; c++) {
            dx[row * p.width + c] += pull * x[row * p.width + c];
        }
    }
}
";

/// The argument struct of the kernel: checks shapes and records the dispatch.
struct Length {
    x: Tensor,
    y: Tensor,
    dx: Option<Tensor>,
    slot: Slot,
}

impl Length {
    fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Length { x, y, dx, slot } = self;
        let rows = plan.shape(y)[0];
        let (cols, width) = (plan.shape(y)[1], plan.len(x) / rows);
        let dispatch = Dispatch::new("length/penalty", label)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("y", y)
            .bind_if("GRADIENT", "dx", dx)
            .size("rows", rows)
            .size("width", width)
            .size("cols", cols)
            .size("column", slot.column)
            .scalar("weight", slot.weight)
            .flops(6 * rows * width);
        plan.record(dispatch, Grid::Threads(rows))
    }
}

/// The forward formula in f64, or on the tape that gives its gradient.
fn reference<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    if pass != "penalty" {
        return false;
    }
    let (width, cols, column, weight) =
        (call.entry.size("width"), call.entry.size("cols"), call.entry.size("column"), call.entry.scalar("weight"));
    let (x, mut y) = (call.floats("x"), call.floats("y"));
    for (row, values) in x.chunks(width).enumerate() {
        let off = S::dot(values, values).sqrt() - S::constant(1.0);
        y[row * cols + column] = off * off;
        y[row * cols] = y[row * cols] + S::constant(weight) * off * off;
    }
    call.set("y", y);
    true
}

/// Cases of the kernel: sizes rows and width.
const FAMILY: Family = Family::new("length", spec, 24, build, &[]);

fn spec(i: usize, random: &mut Random) -> Spec {
    Spec { dims: vec![random.pick(&[1, 3, 64, 65]), random.pick(&[1, 5, 33])], flags: vec![], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let (rows, width) = (spec.dims[0], spec.dims[1]);
    (b.state.rows, b.state.scale) = (rows as u32, 0.5);
    let x = b.input("x", &[rows, width])?;
    let y = b.normal("y", &[rows, 2])?;
    b.weighted(y, (0..2 * rows).map(|i| if i % 2 == 0 { 0.5 / rows as f32 } else { 0.0 }).collect());
    let dx = b.gradient_added(x)?;
    b.tolerance = Tolerance::Nmse(1e-10);
    Length { x, y, dx: Some(dx), slot: Slot { weight: 0.7, column: 1 } }.record(&mut b.plan, "case")
}

/// The term, as the sum sees it.
#[derive(Debug)]
struct LengthTerm {
    weight: f64,
}

impl Term for LengthTerm {
    fn name(&self) -> &'static str {
        "length"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn record(&self, context: &mut Context<'_>, slot: Slot) -> Result<()> {
        let Context { x, y, dx, .. } = *context;
        Length { x, y, dx, slot }.record(context.plan, "loss.length")
    }
}

/// The table `[loss]` of its run file: the library's terms, and this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WithLength {
    length: f64,
    #[serde(flatten)]
    others: VectorLossConfig,
}

impl Section for WithLength {
    fn validate(&self) -> std::result::Result<(), String> {
        self.others.validate()
    }
}

impl LossKind for WithLength {
    fn build(&self) -> Box<dyn Loss> {
        Box::new(VectorLoss::of(&self.others).with(Box::new(LengthTerm { weight: self.length })))
    }
}

pub(crate) fn main() -> Result<()> {
    add_source("length/penalty", KERNEL)?;
    add_reference(Reference { family: "length", value: reference::<f64>, tape: reference });
    let gpu = Arc::new(Gpu::open(None)?);
    for target in targets(&gpu) {
        for i in 0..FAMILY.pinned {
            check_spec(&gpu, &FAMILY, &FAMILY.pinned_spec(i), target, true).map_err(engine::error::Error::Internal)?;
        }
    }
    println!("{} cases of the kernel agree with f64, gradients included", FAMILY.pinned);

    let text = "model = { hidden = 24 }\ndata = { file = 'data/samples/wikitext_minilm_small.npz' }\n\
                loss = { length = 0.5, cosine = { weight = 1.0 } }\ntrain = { epochs = 40 }\noptimizer = { learning_rate = 0.005 }";
    let config = Config::<VectorMlpConfig, VectorsConfig, WithLength>::parse(text, "the example's run", &[])?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { out: folder.path().join("length"), quiet: true, ..Options::default() };
    let report = train(Problem::open(&config, Purpose::Train)?, &options)?;
    println!("{}", report.table());
    assert!(report.best.get("length").is_some_and(|v| v < 0.5), "{:?}", report.best);
    Ok(())
}
