//! The check of a kernel against its f64 reference, on the user's device. Used by `cargo test` and by `engine check`.
//!
//! A case is a small recorded plan with inputs. The reference gives the forward outputs; the tape gives the gradients for random upstream
//! gradients. Each case runs three times on the device: every buffer pre-filled with NaN, with 1e30, and with wgpu's bounds checks on. The
//! three must agree bit for bit, leave the guard words around every tensor alone, and lie within the tolerance of the reference.

pub mod batch;
pub mod model;
#[path = "../reference/mod.rs"]
pub mod reference;
pub mod scalar;

#[path = "../cases/mod.rs"]
mod cases;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::error::Result;
use crate::gpu::{BoundsChecks, Gpu, Role, Target};
use crate::kernels::{self, Carry, State};
use crate::plan::{Arena, Entry, FixedPlan, LayoutOptions, Lowered, Memory, Place, Plan, Program, Section, Storage, Tensor};
use crate::random::Random;
use reference::{Values, is_backward};
use scalar::{Scalar, Var};

/// Sizes around powers of two, where tails and tiles go wrong.
pub const DIMS: [usize; 22] = [1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1025];

/// Bytes around a tensor that a kernel must leave alone.
pub const GUARD_BYTES: u64 = 256;
/// Around tensors in one run and in the other, so that a read past the end shows in the result. The first is a signalling NaN, which
/// arithmetic makes quiet, so that
/// `+=` on it shows as well.
const GUARD_WORDS: [u32; 2] = [0x7fa0_dead, 0x4bad_f00d];
/// What tensors and guards hold before a run, and before the other: NaN and 1e30, each with its guard.
pub const POISONS: [[u32; 2]; 2] = [[f32::NAN.to_bits(), GUARD_WORDS[0]], [1e30f32.to_bits(), GUARD_WORDS[1]]];

/// Distribution of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// N(0, 1).
    Normal,
    /// N(1e4, 1).
    Offset,
    /// ±88, ties, constant rows and zeros.
    Extreme,
    /// Mostly 0, some 1.
    OneHot,
}

/// What makes a case: sizes, options, regime and seed. Printed when it fails.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Sizes, in the family's own order.
    pub dims: Vec<usize>,
    /// Options, in the family's own order.
    pub flags: Vec<usize>,
    /// Distribution of the inputs.
    pub regime: Regime,
    /// Seed of the inputs.
    pub seed: u64,
}

/// A kernel family's cases.
#[derive(Clone, Copy)]
pub struct Family {
    /// Name, as in `shaders/`.
    pub name: &'static str,
    /// The i-th spec; a function of i alone. The first of each family is of the normal regime.
    pub spec: fn(i: usize, random: &mut Random) -> Spec,
    /// Number of pinned cases.
    pub pinned: usize,
    /// Records the case.
    pub build: fn(&mut Builder, &Spec) -> Result<()>,
    /// Sizes and options to time.
    pub bench: &'static [(&'static [usize], &'static [usize])],
    /// Whether a case has kinks, such as ReLU's, that a central difference may step over.
    pub kinks: fn(&Spec) -> bool,
    /// Whether a kernel may have these values of two of its options, the names in alphabetical order.
    pub allows: fn(options: [(&str, u32); 2]) -> bool,
}

impl Family {
    /// A family without kinks whose kernels have all pairs of options.
    pub const fn new(
        name: &'static str,
        spec: fn(usize, &mut Random) -> Spec,
        pinned: usize,
        build: fn(&mut Builder, &Spec) -> Result<()>,
        bench: &'static [(&'static [usize], &'static [usize])],
    ) -> Self {
        Family { name, spec, pinned, build, bench, kinks: |_| false, allows: |_| true }
    }
}

pub use cases::FAMILIES;

impl Family {
    /// Spec of pinned case i.
    pub fn pinned_spec(&self, i: usize) -> Spec {
        (self.spec)(i, &mut Random::new(0x5eed, self.name.len() as u32, i as u64))
    }

    /// Spec of a random case.
    pub fn random_spec(&self, seed: u64, i: usize) -> Spec {
        let mut random = Random::new(seed, self.name.len() as u32, i as u64);
        (self.spec)(random.between(1, 10_000) as usize, &mut random)
    }

    /// Specs to time.
    pub fn bench_specs(&self) -> impl Iterator<Item = Spec> {
        self.bench.iter().map(|(dims, flags)| Spec { dims: dims.to_vec(), flags: flags.to_vec(), regime: Regime::Normal, seed: 1 })
    }

    /// Records a case for a target.
    ///
    /// # Errors
    /// As the recording.
    pub fn case(&self, spec: &Spec, target: Target) -> Result<Case> {
        let mut builder = Builder::new(spec, target);
        (self.build)(&mut builder, spec)?;
        Ok(builder.finish())
    }
}

/// How close a result must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// Equal to the rounded reference.
    Exact,
    /// |error| ≤ factor · running magnitude of the sum.
    Magnitude(f64),
    /// Σ error² ≤ limit · Σ reference².
    Nmse(f64),
}

impl Tolerance {
    /// For sums of k products: 4 √k 2⁻²³ times the sum of their absolute values.
    pub fn sum(k: usize) -> Self {
        Tolerance::Magnitude(4.0 * (k as f64).sqrt() * f64::from(f32::EPSILON))
    }
}

#[derive(Debug, Clone)]
enum Data {
    Floats(Vec<f32>),
    Ints(Vec<u32>),
}

/// A recorded case.
#[derive(Debug)]
pub struct Case {
    plan: FixedPlan,
    inputs: HashMap<Tensor, Data>,
    state: State,
    gradients: Vec<(Tensor, Tensor)>,
    upstream: Vec<(Tensor, Vec<f32>)>,
    tolerance: Tolerance,
    exact: BTreeSet<Tensor>,
}

/// Records a case.
#[derive(Debug)]
pub struct Builder {
    /// The plan under construction.
    pub plan: Plan,
    /// Step state of the case.
    pub state: State,
    /// Of every compared tensor that is not marked exact.
    pub tolerance: Tolerance,
    /// Numbers of this case.
    pub random: Random,
    regime: Regime,
    inputs: HashMap<Tensor, Data>,
    gradients: Vec<(Tensor, Tensor)>,
    upstream: Vec<(Tensor, Vec<f32>)>,
    exact: BTreeSet<Tensor>,
}

impl Builder {
    fn new(spec: &Spec, target: Target) -> Self {
        // Every third case folds its grid after a few workgroups, as large ones do after 65,535.
        let max_groups = if spec.seed.is_multiple_of(3) { 7 } else { target.max_groups };
        // Uniform arrays have their length in their type, so each such case compiles its own kernels; every tenth does.
        let uniform_bytes = if spec.seed.is_multiple_of(10) { target.uniform_bytes } else { 0 };
        Builder {
            plan: Plan::training("case", Target { max_groups: max_groups.max(7), uniform_bytes, ..target }),
            state: State { tick: 3, seed: spec.seed as u32, rows: u32::MAX, count: u32::MAX, scale: 1.0, ..State::default() },
            tolerance: Tolerance::Nmse(1e-10),
            random: Random::new(spec.seed, 77, 0),
            regime: spec.regime,
            inputs: HashMap::new(),
            gradients: vec![],
            upstream: vec![],
            exact: BTreeSet::new(),
        }
    }

    fn draw(&mut self, regime: Regime, n: usize) -> Vec<f32> {
        let random = &mut self.random;
        let constant = random.normal();
        let value = |i: usize| match regime {
            Regime::Normal => random.normal(),
            Regime::Offset => 1e4 + random.normal(),
            Regime::Extreme => match (i / 16) % 4 {
                0 => random.pick(&[88.0, -88.0]),
                1 => constant,
                2 => 0.0,
                _ => random.pick(&[1.0, 1.0, 2.0]),
            },
            Regime::OneHot => random.pick(&[0.0, 0.0, 0.0, 1.0]),
        };
        (0..n).map(value).map(|v| v as f32).collect()
    }

    /// An input in the regime of the case.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let values = self.draw(self.regime, shape.iter().product());
        self.given(name, shape, values)
    }

    /// An input drawn from N(0, 1) in any regime.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn normal(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let values = self.draw(Regime::Normal, shape.iter().product());
        self.given(name, shape, values)
    }

    /// An input with these values.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn given(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
        let tensor = self.plan.persistent(Role::Dataset, name, shape)?;
        self.inputs.insert(tensor, Data::Floats(values));
        Ok(tensor)
    }

    /// What earlier positions have left of these sequences, so many numbers of each, after some feeds or none.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn carry(&mut self, name: &str, batch: usize, len: usize) -> Result<Carry> {
        let limit = 3;
        self.state.position = self.random.between(0, 5) as u32;
        self.state.tick = self.random.between(0, 1) as u32;
        let sources = self.ints(&format!("{name}.sources"), &[batch, limit], batch)?;
        Ok(Carry { kept: self.normal(name, &[2, batch, len])?, sources, limit })
    }

    /// Integers in 0..end.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn ints(&mut self, name: &str, shape: &[usize], end: usize) -> Result<Tensor> {
        let values = (0..shape.iter().product()).map(|_| self.random.between(0, end as i64 - 1) as u32).collect();
        self.words(name, shape, values)
    }

    /// An input of 32-bit words.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn words(&mut self, name: &str, shape: &[usize], values: Vec<u32>) -> Result<Tensor> {
        let tensor = self.plan.persistent(Role::Dataset, name, shape)?;
        self.inputs.insert(tensor, Data::Ints(values));
        Ok(tensor)
    }

    /// An output.
    ///
    /// # Errors
    /// As `Plan::activation`.
    pub fn output(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.plan.activation(name, shape)
    }

    /// Random upstream gradient of an output.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn upstream(&mut self, y: Tensor) -> Result<Tensor> {
        let shape = self.plan.shape(y).to_vec();
        let values = self.draw(Regime::Normal, shape.iter().product());
        self.upstream.push((y, values.clone()));
        self.given(&format!("d{}", self.plan.info(y).name.clone()), &shape, values)
    }

    /// The kernel itself weighs y with these values.
    pub fn weighted(&mut self, y: Tensor, weights: Vec<f32>) {
        self.upstream.push((y, weights));
    }

    /// Gradient of an input, written with `=`.
    ///
    /// # Errors
    /// As `Plan::activation`.
    pub fn gradient(&mut self, x: Tensor) -> Result<Tensor> {
        self.gradient_in(x, Self::output)
    }

    /// Gradient of an input, written with `+=` onto random values.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn gradient_added(&mut self, x: Tensor) -> Result<Tensor> {
        self.gradient_in(x, Self::normal)
    }

    /// A tensor that a kernel adds to: onto random values, anew over whatever was there, anew in an earlier micro-step, or anew in the only
    /// one.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn sum(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let mode = self.state.seed % 4;
        let sum = if mode % 2 == 1 { self.output(name, shape)? } else { self.normal(name, shape)? };
        if mode > 0 {
            self.plan.sum_anew(sum);
            self.state.micro_step = u32::from(mode == 2);
            self.plan.set_micro_steps(mode != 3);
        }
        Ok(sum)
    }

    /// Gradient of an input of all rows, written as `sum` has it.
    ///
    /// # Errors
    /// As `Plan::persistent`.
    pub fn gradient_summed(&mut self, x: Tensor) -> Result<Tensor> {
        self.gradient_in(x, Self::sum)
    }

    /// Gradient of x in a tensor of its shape, made by `make`.
    fn gradient_in(&mut self, x: Tensor, make: fn(&mut Self, &str, &[usize]) -> Result<Tensor>) -> Result<Tensor> {
        let (name, shape) = (format!("d{}", self.plan.info(x).name), self.plan.shape(x).to_vec());
        let dx = make(self, &name, &shape)?;
        self.gradients.push((x, dx));
        Ok(dx)
    }

    /// Declares that another tensor holds the gradient of x.
    pub fn gradient_is(&mut self, x: Tensor, dx: Tensor) {
        self.gradients.push((x, dx));
    }

    /// The result in this tensor is a copy: no error is allowed.
    pub fn exact(&mut self, tensor: Tensor) {
        self.exact.insert(tensor);
    }

    /// Values for the parameters that layers declared, and the tensors of their gradients (zero before).
    ///
    /// # Errors
    /// As `Plan::gradient`.
    pub fn parameters(&mut self) -> Result<()> {
        for parameter in self.plan.parameters().to_vec() {
            let tensor = self.plan.find(&parameter.name).expect("a declared parameter");
            let values = self.draw(Regime::Normal, parameter.len());
            // Matrices as in practice: what they make is of the size of what they take.
            let scale = if parameter.shape.len() == 2 { (1.0 / (parameter.shape[1] as f32).sqrt()).min(0.5) } else { 0.5 };
            self.inputs.insert(tensor, Data::Floats(values.iter().map(|v| v * scale).collect()));
            let gradient = self.plan.gradient(tensor)?;
            self.inputs.insert(gradient, Data::Floats(vec![0.0; parameter.len()]));
            self.gradients.push((tensor, gradient));
        }
        Ok(())
    }

    fn finish(self) -> Case {
        let Builder { plan, state, tolerance, inputs, gradients, upstream, exact, .. } = self;
        Case { plan: plan.into(), inputs, state, gradients, upstream, tolerance, exact }
    }
}

/// A way in which a kernel could be broken; applied to its results to show that the check sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// All signs flipped.
    Sign,
    /// Everything times 1.001.
    Scale,
    /// The last element never written.
    SkipLast,
    /// One NaN.
    Nan,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 4] = [Mutation::Sign, Mutation::Scale, Mutation::SkipLast, Mutation::Nan];

    fn apply(self, values: &mut [f32]) {
        let last = values.len() - 1;
        match self {
            Mutation::Sign => values.iter_mut().for_each(|v| *v = -*v),
            Mutation::Scale => values.iter_mut().for_each(|v| *v *= 1.001),
            Mutation::SkipLast => values[last] = 1e30,
            Mutation::Nan => values[last / 2] = f32::NAN,
        }
    }
}

/// What a passed case was compared with.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Largest error as a share of the allowed one.
    pub worst: f64,
    /// Elements compared.
    pub elements: usize,
    /// Kernels that ran.
    pub kernels: BTreeSet<String>,
    /// Kernels with a result that was broken in every way that changes it, and the comparison saw each: a check that cannot fail proves
    /// nothing.
    pub broken: BTreeSet<String>,
    /// What was broken and not seen, which can be where all numbers are about as large as the error that is allowed.
    pub unseen: Vec<String>,
}

/// A check's result; the error says what differs.
pub type Checked<T> = std::result::Result<T, String>;

/// What a tensor must hold after a run.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The tensor.
    pub tensor: Tensor,
    /// Values of the reference, each with its running magnitude.
    pub values: Vec<(f64, f64)>,
    /// How close the device must come to them.
    pub tolerance: Tolerance,
}

/// Expected values of a tensor with their running magnitudes.
type Expected = Vec<(f64, f64)>;

/// What devices that take subnormal numbers for zero may be off besides: a few such numbers. A kernel multiplies what may be subnormal
/// last.
pub const FLUSHED: f64 = 8.0 * f32::MIN_POSITIVE as f64;

/// Share of the allowed error, or what is wrong. Written so that a NaN fails.
fn compare(got: &[f32], want: &Expected, tolerance: Tolerance) -> Checked<f64> {
    let mut worst: f64 = 0.0;
    match tolerance {
        Tolerance::Exact => {
            for (i, (g, (w, _))) in got.iter().zip(want).enumerate() {
                if g.to_bits() != (*w as f32).to_bits() {
                    return Err(format!("element {i} is {g}, must be {w}"));
                }
            }
        }
        Tolerance::Magnitude(factor) => {
            for (i, (g, (w, magnitude))) in got.iter().zip(want).enumerate() {
                let (error, allowed) = ((f64::from(*g) - w).abs(), factor * magnitude + FLUSHED);
                if w.is_infinite() && f64::from(*g) == *w {
                    continue;
                }
                if error <= allowed {
                    worst = worst.max(error / allowed);
                } else {
                    return Err(format!("element {i} is {g}, must be {w} ± {allowed:.1e}"));
                }
            }
        }
        Tolerance::Nmse(limit) => {
            let error: f64 = got.iter().zip(want).map(|(g, (w, _))| (f64::from(*g) - w).powi(2)).sum();
            // Where all are zero, what a rounding of terms of size 1 leaves is allowed.
            let norm: f64 = want.iter().map(|(w, _)| w * w).sum::<f64>().max(1e-12 * want.len() as f64);
            if error <= limit * norm {
                worst = error / (limit * norm);
            } else {
                let at = (0..got.len()).max_by(|a, b| {
                    let e = |i: &usize| (f64::from(got[*i]) - want[*i].0).abs();
                    e(a).total_cmp(&e(b))
                });
                let at = at.unwrap_or(0);
                return Err(format!("NMSE {:.2e} exceeds {limit:.0e}; element {at} is {}, must be {}", error / norm, got[at], want[at].0));
            }
        }
    }
    Ok(worst)
}

impl Case {
    /// What is recorded.
    pub fn plan(&self) -> &FixedPlan {
        &self.plan
    }

    /// Forward outputs and gradients by the references.
    fn expected(&self) -> Checked<HashMap<Tensor, Expected>> {
        Var::reset();
        let mut values = Values { floats: HashMap::new(), ints: HashMap::new(), state: self.state, set: HashSet::new() };
        for (tensor, data) in &self.inputs {
            match data {
                Data::Floats(v) => drop(values.floats.insert(*tensor, v.iter().map(|v| Var::leaf(f64::from(*v))).collect())),
                Data::Ints(v) => drop(values.ints.insert(*tensor, v.clone())),
            }
        }
        values.fill_parts(&self.plan);
        let leaves = values.floats.clone();
        let mut expected: HashMap<Tensor, Expected> = HashMap::new();
        let gradient_tensors: BTreeSet<Tensor> = self.gradients.iter().map(|(_, dx)| *dx).collect();
        for entry in self.plan.entries() {
            // What only gradients are made of is compared through the tape.
            if is_backward(entry) || entry.section == Section::Backward {
                continue;
            }
            reference::evaluate(&self.plan, entry, &mut values)?;
            for tensor in entry.writes().filter(|t| !gradient_tensors.contains(t)) {
                let outputs = match (values.floats.get(&tensor), values.ints.get(&tensor)) {
                    (Some(v), _) => v.iter().map(|v| (v.value(), v.magnitude())).collect(),
                    (_, Some(v)) => v.iter().map(|v| (f64::from(f32::from_bits(*v)), 0.0)).collect(),
                    _ => return Err(format!("{} is written and has no reference", self.plan.info(tensor).name)),
                };
                expected.insert(tensor, outputs);
            }
        }
        let roots: Vec<(Var, f64)> =
            self.upstream.iter().flat_map(|(y, weights)| values.floats[y].iter().zip(weights).map(|(v, w)| (*v, f64::from(*w)))).collect();
        let gradients = Var::backward(&roots);
        for (x, dx) in &self.gradients {
            let before = leaves.get(dx);
            let sums = leaves[x].iter().enumerate().map(|(i, leaf)| {
                let (gradient, magnitude) = gradients.of(*leaf);
                let old = before.map_or(0.0, |b| b[i].value());
                (gradient + old, magnitude + old.abs())
            });
            expected.insert(*dx, sums.collect());
        }
        Ok(expected)
    }

    /// Contents of every tensor after one run over poisoned buffers.
    fn run(
        &self,
        gpu: &Arc<Gpu>,
        (memory, lowered): &(Memory, Lowered),
        [poison, guard_word]: [u32; 2],
        checks: BoundsChecks,
    ) -> Checked<Vec<Vec<u32>>> {
        let arena = Arc::new(Arena::new(gpu.clone(), memory)?);
        let program = Program::with(lowered.clone(), arena.clone(), checks)?;
        let guard = (GUARD_BYTES / 4) as usize;
        let mut contents: Vec<Vec<u32>> = memory.buffers.iter().map(|b| vec![poison; (b.bytes / 4) as usize]).collect();
        let guarded = |storage: Storage| matches!(storage, Storage::Persistent(_) | Storage::Transient(_));
        for (tensor, info) in self.plan.tensors().filter(|(_, info)| guarded(info.storage)) {
            let words = &mut contents[program.place(tensor).buffer];
            words[..guard].fill(guard_word);
            words[guard + info.len()..].fill(guard_word);
        }
        // The last one is the staging buffer.
        for (index, words) in contents[..memory.buffers.len() - 1].iter().enumerate() {
            arena.write_buffer(index, words);
        }
        self.write(&program);
        program.run(program.all())?;
        let mut out = Vec::new();
        for (tensor, info) in self.plan.tensors() {
            let Place { buffer, offset, .. } = program.place(tensor);
            let words = arena.read_buffer(buffer)?;
            let first = (offset / 4) as usize;
            if guarded(info.storage) && (words[..guard].iter().chain(&words[first + info.len()..]).any(|w| *w != guard_word)) {
                return Err(format!("{} was written outside its bounds", info.name));
            }
            out.push(words[first..first + info.len()].to_vec());
        }
        Ok(out)
    }

    /// Runs and compares; the message of an error says what differs. `checked` also runs kernels with the driver's bounds checks, which are
    /// compiled apart: what is read further outside of a tensor than its guards reach then has another value.
    ///
    /// # Errors
    /// With the difference.
    pub fn check(&self, gpu: &Arc<Gpu>, checked: bool) -> Checked<Outcome> {
        let memory = Memory::of(self.plan.clone(), LayoutOptions { guard: Some(GUARD_BYTES), ..LayoutOptions::default() })?;
        let [nan, other] = POISONS;
        let first = self.run(gpu, &memory, nan, BoundsChecks::Foreign)?;
        let again = [("other memory around tensors", other, BoundsChecks::Foreign)].into_iter();
        for (what, words, checks) in again.chain(checked.then_some(("bounds checks", nan, BoundsChecks::All))) {
            for (((_, info), a), b) in self.plan.tensors().zip(&first).zip(&self.run(gpu, &memory, words, checks)?) {
                if a != b {
                    return Err(format!("{} differs between runs: {what}", info.name));
                }
            }
        }
        let expected = self.expected()?;
        let mut outcome = Outcome::default();
        for entry in self.plan.entries() {
            outcome.kernels.insert(entry.shader.name.clone());
            for tensor in entry.writes() {
                if !expected.contains_key(&tensor) && entry.section != Section::Backward {
                    return Err(format!("{} is written and never compared", self.plan.info(tensor).name));
                }
            }
        }
        for ((tensor, info), words) in self.plan.tensors().zip(&first) {
            let Some(want) = expected.get(&tensor) else { continue };
            let worst = compare(bytemuck::cast_slice(words), want, self.tolerance_of(tensor))
                .map_err(|e| format!("{}{:?}: {e}", info.name, info.shape))?;
            outcome.worst = outcome.worst.max(worst);
            outcome.elements += want.len();
        }
        (outcome.broken, outcome.unseen) = self.broken(&first, &expected);
        Ok(outcome)
    }

    /// Median seconds of each launch over its inputs.
    ///
    /// # Errors
    /// As `Program::profile`.
    pub fn profile(&self, gpu: &Arc<Gpu>, rounds: usize) -> Result<Vec<(&Entry, f64)>> {
        let (program, _) = Program::alone(self.plan.clone(), gpu)?;
        self.write(&program);
        program.run(program.all())?;
        let timings = program.profile(rounds)?;
        Ok(timings.into_iter().map(|t| (&self.plan.entries()[t.entries.start], t.seconds)).collect())
    }

    fn write(&self, program: &Program) {
        self.inputs().into_iter().for_each(|(tensor, words)| program.write(tensor, words));
    }

    /// What is written to tensors before a run, the state of the step included.
    pub fn inputs(&self) -> Vec<(Tensor, &[u32])> {
        fn words(data: &Data) -> &[u32] {
            match data {
                Data::Floats(v) => bytemuck::cast_slice(v),
                Data::Ints(v) => v,
            }
        }
        let state = self.plan.find(kernels::STATE).map(|state| (state, bytemuck::cast_slice(std::slice::from_ref(&self.state))));
        let mut inputs: Vec<_> = self.inputs.iter().map(|(tensor, data)| (*tensor, words(data))).chain(state).collect();
        inputs.sort_by_key(|(tensor, _)| *tensor);
        inputs
    }

    /// What the references and their gradients say of the results, for a check elsewhere.
    ///
    /// # Errors
    /// With what has no reference.
    pub fn wanted(&self) -> Checked<Vec<Wanted>> {
        let expected = self.expected()?.into_iter();
        let mut wanted: Vec<_> = expected.map(|(tensor, values)| Wanted { tensor, values, tolerance: self.tolerance_of(tensor) }).collect();
        wanted.sort_by_key(|wanted| wanted.tensor);
        Ok(wanted)
    }

    /// Breaks each result in each way, in turn: the kernels with a result for which the comparison sees all that changes it, and what it
    /// does not see.
    fn broken(&self, results: &[Vec<u32>], expected: &HashMap<Tensor, Expected>) -> (BTreeSet<String>, Vec<String>) {
        let (mut seen, mut unseen): (BTreeSet<Tensor>, _) = (BTreeSet::new(), Vec::new());
        for ((tensor, info), words) in self.plan.tensors().zip(results) {
            let Some(want) = expected.get(&tensor) else { continue };
            let before: &[f32] = bytemuck::cast_slice(words);
            let before_this = unseen.len();
            let mut broken = false;
            for mutation in Mutation::ALL {
                let mut got = before.to_vec();
                mutation.apply(&mut got);
                let changed = got.iter().zip(before).any(|(a, b)| a.to_bits() != b.to_bits() && (*a != 0.0 || *b != 0.0));
                broken |= changed && mutation != Mutation::SkipLast;
                if changed && compare(&got, want, self.tolerance_of(tensor)).is_ok() {
                    unseen.push(format!("{}: {mutation:?}", info.name));
                }
            }
            if broken && unseen.len() == before_this {
                seen.insert(tensor);
            }
        }
        let broken = |entry: &&Entry| entry.writes().any(|t| seen.contains(&t));
        (self.plan.entries().iter().filter(broken).map(|e| e.shader.name.clone()).collect(), unseen)
    }

    fn tolerance_of(&self, tensor: Tensor) -> Tolerance {
        if self.exact.contains(&tensor) { Tolerance::Exact } else { self.tolerance }
    }

    /// The tape's gradients against central differences of the f64 references along a random direction.
    ///
    /// # Errors
    /// `Internal` when they differ by more than 1e-8 of the gradient's scale.
    pub fn check_oracle(&self) -> Checked<()> {
        if self.gradients.is_empty() {
            return Ok(());
        }
        let expected = self.expected()?;
        let mut random = Random::new(1, 2, 3);
        let directions: HashMap<Tensor, Vec<f64>> =
            self.gradients.iter().map(|(x, _)| (*x, (0..self.plan.len(*x)).map(|_| random.normal()).collect())).collect();
        let loss = |step: f64| -> Checked<f64> {
            let mut values: Values<f64> = Values { floats: HashMap::new(), ints: HashMap::new(), state: self.state, set: HashSet::new() };
            for (tensor, data) in &self.inputs {
                match data {
                    Data::Floats(v) => {
                        let along = directions.get(tensor);
                        let moved = v.iter().enumerate().map(|(i, v)| f64::from(*v) + along.map_or(0.0, |d| step * d[i])).collect();
                        values.floats.insert(*tensor, moved);
                    }
                    Data::Ints(v) => drop(values.ints.insert(*tensor, v.clone())),
                }
            }
            values.fill_parts(&self.plan);
            for entry in self.plan.entries() {
                if !is_backward(entry) && entry.section != Section::Backward {
                    reference::evaluate(&self.plan, entry, &mut values)?;
                }
            }
            let terms = self.upstream.iter().flat_map(|(y, w)| values.floats[y].iter().zip(w).map(|(v, w)| v * f64::from(*w)));
            Ok(terms.sum())
        };
        let slope = (8.0 * (loss(1e-4)? - loss(-1e-4)?) - (loss(2e-4)? - loss(-2e-4)?)) / 12e-4;
        let (mut analytic, mut scale) = (0.0, 0.0);
        for (x, dx) in &self.gradients {
            let old = match self.inputs.get(dx) {
                Some(Data::Floats(v)) => v.clone(),
                _ => vec![0.0; self.plan.len(*dx)],
            };
            for ((g, d), old) in expected[dx].iter().zip(&directions[x]).zip(&old) {
                analytic += (g.0 - f64::from(*old)) * d;
                scale += ((g.0 - f64::from(*old)) * d).abs();
            }
        }
        if (slope - analytic).abs() <= 1e-8 * scale.max(1.0) {
            return Ok(());
        }
        Err(format!("the oracle's gradient {analytic} differs from central differences {slope}"))
    }
}

/// Targets that a device is checked with: its own, and the other kernel variants that it can run, which are those of cards and those of
/// processors, with images where it reads these. Every device has the limits of these.
pub fn targets(gpu: &Gpu) -> Vec<Target> {
    let card = Target { software: false, uniform_bytes: 0, image_rows: 0, ..gpu.target };
    let (uniform_bytes, image_rows) = if gpu.reads_images { (65_536, 8192) } else { (0, 0) };
    let processor = Target { software: true, uniform_bytes, image_rows, ..gpu.target };
    let reads = |t: &Target| (t.software, t.image_rows > 0);
    let others = [card, processor].into_iter().filter(|other| reads(other) != reads(&gpu.target));
    std::iter::once(gpu.target).chain(others).collect()
}

/// Checks one case as `Case::check` does; a failure names the spec.
///
/// # Errors
/// With kernel family, spec and difference.
pub fn check_spec(gpu: &Arc<Gpu>, family: &Family, spec: &Spec, target: Target, checked: bool) -> Checked<Outcome> {
    family.case(spec, target)?.check(gpu, checked).map_err(|e| {
        let images = if target.image_rows > 0 { ", images" } else { "" };
        format!("{} {spec:?} ({}{images}): {e}", family.name, if target.software { "software variant" } else { "card's variant" })
    })
}

/// Makes a failing spec smaller while it still fails, one dimension at a time.
pub fn shrink(gpu: &Arc<Gpu>, family: &Family, spec: &Spec, target: Target) -> Spec {
    let mut smallest = spec.clone();
    loop {
        let smaller = (0..smallest.dims.len())
            .flat_map(|i| [1, smallest.dims[i] / 2, smallest.dims[i] - 1].map(|d| (i, d)))
            .filter(|(i, d)| *d >= 1 && *d < smallest.dims[*i])
            .map(|(i, d)| {
                let mut candidate = smallest.clone();
                candidate.dims[i] = d;
                candidate
            })
            .find(|candidate| check_spec(gpu, family, candidate, target, true).is_err());
        match smaller {
            Some(candidate) => smallest = candidate,
            None => return smallest,
        }
    }
}
