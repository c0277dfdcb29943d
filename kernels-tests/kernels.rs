//! The pinned and random cases of every family, and the check of the check.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::passed::Changed;
use crate::program::gpu;
use crate::runner::{Test, all, note, tests};
use engine::gpu::{Shader, shader_names};
use engine::harness::{FAMILIES, Family, check_spec, shrink, targets};
use engine::plan::FixedPlan;

fn family(name: &str) -> Family {
    *FAMILIES.iter().find(|f| f.name == name).expect("a family of that name")
}

/// How many of its cases a family is checked with. A software driver takes up to seconds to compile a kernel, and a kernel is compiled for
/// each combination of its options that a case has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All, each with bounds checks, too: what `engine check` does.
    Every,
    /// Those that bring a new value or a new pair of values of a kernel's options: of families that have changed since they passed with
    /// all.
    Pairs,
    /// Those that bring a new value, and a twentieth of the rest, drawn: where what all families share has changed since.
    Values,
    /// A twentieth, drawn: where nothing has changed.
    Twentieth,
}

impl Extent {
    fn of(changed: Changed) -> Extent {
        match std::env::var("ENGINE_TESTS").as_deref() {
            Ok("all") => Extent::Every,
            Ok("changed") if changed.own || changed.shared => Extent::Every,
            Ok("changed" | "twentieth") => Extent::Twentieth,
            _ if changed.own => Extent::Pairs,
            _ if changed.shared => Extent::Values,
            _ => Extent::Twentieth,
        }
    }
}

/// What the cases of a family have brought so far.
struct Coverage {
    family: &'static str,
    extent: Extent,
    changed: Changed,
    seen: HashSet<(String, [(&'static str, u32); 2])>,
    compiled: HashSet<(*const Shader, bool)>,
    heavy: HashSet<*const Shader>,
}

/// Numbers of a case above which the reference takes as long as compiling.
const HEAVY: usize = 300_000;

/// Sizes that tiles, tails and vectors tell apart.
fn class(size: u32) -> u32 {
    match size {
        1 => 1,
        _ if size % 2 == 1 => 3,
        _ if size % 4 == 2 => 6,
        _ if size.is_power_of_two() => 8,
        _ => 12,
    }
}

impl Coverage {
    fn new(family: &'static str, changed: Changed) -> Coverage {
        let extent = Extent::of(changed);
        Coverage { family, extent, changed, seen: HashSet::new(), compiled: HashSet::new(), heavy: HashSet::new() }
    }

    /// Whether to check a case with bounds checks, if it is checked at all. Cases are checked that bring something to the extent, and those
    /// whose kernels are compiled by then; bounds checks, which are compiled apart, where a constant has a new value.
    fn add(&mut self, plan: &FixedPlan, number: usize) -> Option<bool> {
        let shaders = || plan.entries().iter().map(|entry| &entry.shader);
        if self.extent == Extent::Every {
            return Some(true);
        }
        let drawn = self.changed.draws(number);
        if self.extent == Extent::Twentieth {
            return drawn.then_some(true);
        }
        let (mut options, mut own, mut sizes, mut pairs) = (false, false, false, false);
        for shader in shaders() {
            let before = std::mem::replace(&mut options, false);
            options |= self.seen.insert((shader.name.clone(), [("", 0); 2]));
            for (i, (name, value)) in shader.consts.iter().copied().enumerate() {
                if SIZES.contains(&name) {
                    if self.extent == Extent::Values && shader.name.split('/').next() != Some(self.family) {
                        continue;
                    }
                    let value = if self.extent == Extent::Values { class(value) } else { value };
                    sizes |= self.seen.insert((shader.name.clone(), [(name, value); 2]));
                    continue;
                }
                options |= self.seen.insert((shader.name.clone(), [(name, value); 2]));
                for other in shader.consts[..i].iter().filter(|(other, _)| !SIZES.contains(other)) {
                    pairs |= self.seen.insert((shader.name.clone(), [(name, value), *other]));
                }
            }
            // Kernels of other families are checked there.
            own |= options && shader.name.split('/').next() == Some(self.family);
            options |= before;
        }
        let keys = |checked| plan.entries().iter().map(move |entry| (Arc::as_ptr(&entry.shader), checked));
        let known = |checked| keys(checked).all(|key| self.compiled.contains(&key));
        let (brings, checked) = match self.extent {
            Extent::Pairs => (options || sizes || pairs, options || sizes),
            _ => (options || sizes || pairs && drawn, own),
        };
        // Large ones that bring nothing take as long as compiling.
        let numbers: usize = plan.tensors().map(|(_, info)| info.len()).sum();
        let heavy = numbers > HEAVY && shaders().all(|shader| self.heavy.contains(&Arc::as_ptr(shader)));
        if !brings && (heavy && self.extent == Extent::Values || !known(false)) {
            return None;
        }
        let checked = checked || known(true);
        if numbers > HEAVY {
            self.heavy.extend(shaders().map(Arc::as_ptr));
        }
        self.compiled.extend(keys(false).chain(keys(checked)));
        Some(checked)
    }
}

fn check(name: &str) {
    let (gpu, family, changed) = (gpu(), family(name), Changed::of(name));
    let (mut coverage, mut broken, mut checks) = (Coverage::new(family.name, changed), BTreeSet::new(), [0; 2]);
    let mut used = BTreeSet::new();
    let seed = std::env::var("ENGINE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121);
    let pinned = (0..family.pinned).map(|i| family.pinned_spec(i));
    let random = (0..12).map(|i| family.random_spec(seed, i));
    for target in targets(&gpu) {
        for (number, spec) in pinned.clone().chain(random.clone()).enumerate() {
            let case = family.case(&spec, target).unwrap();
            used.extend(case.plan().entries().iter().map(|entry| entry.shader.name.clone()));
            let Some(checked) = coverage.add(case.plan(), number) else { continue };
            checks[usize::from(checked)] += 1;
            match check_spec(&gpu, &family, &spec, target, checked) {
                Ok(outcome) => {
                    // The first cases have numbers of ordinary sizes.
                    assert!(number >= 20 || outcome.unseen.is_empty(), "{spec:?}: the comparison does not see {:?}", outcome.unseen);
                    broken.extend(outcome.broken);
                }
                Err(error) => {
                    let smallest = shrink(&gpu, &family, &spec, target);
                    let at_smallest =
                        check_spec(&gpu, &family, &smallest, target, checked).err().map(|e| e.to_string()).unwrap_or_default();
                    panic!("seed {seed}: {error}\n  shrunk: {at_smallest}");
                }
            }
        }
    }
    note!("{name}: {:?}, {} cases without bounds checks and {} with them", coverage.extent, checks[0], checks[1]);
    if coverage.extent == Extent::Twentieth {
        return;
    }
    let own: BTreeSet<String> = shader_names().into_iter().filter(|kernel| kernel.starts_with(&format!("{name}/"))).collect();
    // One that only Mesa's software driver is given has no case on other devices.
    let mesa = gpu.summary.driver.contains("llvmpipe");
    let whole: Vec<_> = own.difference(&broken).filter(|kernel| mesa || used.contains(*kernel)).collect();
    assert!(whole.is_empty(), "no case breaks {whole:?}");
}

macro_rules! families {
    ($($name:ident)*) => {
        /// A test for each family, the longest first.
        pub(crate) const FAMILY_TESTS: &[Test] = &[
            Test { name: "kernels_tests::kernels::layers", run: || check("layers") },
            $(Test { name: concat!("kernels_tests::kernels::", stringify!($name)), run: || check(stringify!($name)) }),*
        ];
    };
}

engine::kernel_families!(families);

tests![every_pair_of_options_has_a_case, products_have_every_pair_of_options, oracles_agree_with_central_differences,];

/// Constants that say how a kernel divides its work; all others are options.
const SHAPES: [&str; 21] = [
    "WG",
    "BLOCK",
    "SLICES",
    "FULL",
    "HEADS",
    "LANES",
    "TILE_M",
    "TILE_N",
    "ROWS",
    "VECS",
    "COLS",
    "D",
    "T",
    "BY_COLUMN",
    "HEIGHT",
    "WIDTH",
    "CHANNELS",
    "EACH",
    "FEATURES",
    "POSITIONS",
    "STATES",
];

/// Those that are sizes of the data, of which there are many.
const SIZES: [&str; 11] = ["D", "T", "COLS", "HEADS", "LANES", "HEIGHT", "WIDTH", "CHANNELS", "FEATURES", "POSITIONS", "STATES"];

/// The pinned cases have every pair of options of every kernel, each option with each of its values; the products have a test of their own.
fn every_pair_of_options_has_a_case() {
    let gpu = gpu();
    let (mut values, mut seen) = (BTreeMap::<_, BTreeSet<u32>>::new(), BTreeSet::new());
    let changed = |family: &&Family| {
        let Changed { own, shared, .. } = Changed::of(family.name);
        all() || own || shared
    };
    for family in FAMILIES.iter().filter(changed) {
        for target in targets(&gpu) {
            for i in 0..family.pinned {
                for entry in family.case(&family.pinned_spec(i), target).unwrap().plan().entries() {
                    let kernel = &entry.shader.name;
                    let options = || entry.shader.consts.iter().filter(|(name, _)| !SHAPES.contains(name));
                    for (a, x) in options().filter(|_| !kernel.starts_with("matmul/")) {
                        values.entry((kernel.clone(), *a)).or_default().insert(*x);
                        seen.extend(options().map(|(b, y)| (kernel.clone(), *a, *x, *b, *y)));
                    }
                }
            }
        }
    }
    let mut missing = Vec::new();
    for ((kernel, a), xs) in &values {
        let allows = family(kernel.split('/').next().unwrap()).allows;
        for ((_, b), ys) in values.iter().filter(|((k, b), _)| k == kernel && a < b) {
            for (x, y) in xs.iter().flat_map(|x| ys.iter().map(move |y| (*x, *y))) {
                if allows([(a, x), (b, y)]) && !seen.contains(&(kernel.clone(), a, x, b, y)) {
                    missing.push(format!("{kernel}: {a} = {x} with {b} = {y}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no case has\n{}", missing.join("\n"));
}

/// The pinned cases of the products have every pair of options, for each of the kernels.
fn products_have_every_pair_of_options() {
    let gpu = gpu();
    let levels = [
        ("TRANS_A", 2),
        ("TRANS_B", 2),
        ("BIAS", 2),
        ("ACTIVATION", 5),
        ("KEEP_PRE", 2),
        ("DROPOUT", 2),
        ("DERIVATIVE", 5),
        ("RESIDUAL", 2),
        ("ACCUMULATE", 2),
        ("ROW_SUM", 2),
    ];
    let (mut seen, mut blocks) = (BTreeSet::new(), BTreeSet::new());
    let family = family("matmul");
    for target in targets(&gpu) {
        for i in 0..family.pinned {
            for entry in family.case(&family.pinned_spec(i), target).unwrap().plan().entries() {
                let value = |name: &str| entry.constant(name);
                if entry.shader.name == "matmul/block" {
                    blocks.insert(["ROWS", "VECS", "SLICES"].map(value));
                }
                for (a, _) in levels {
                    seen.extend(levels.iter().map(|(b, _)| (entry.shader.name.clone(), a, value(a), *b, value(b))));
                }
            }
        }
    }
    assert_eq!(blocks.len(), 10, "not every variant of matmul/block has a case: {blocks:?}");
    let kernels: BTreeSet<String> = seen.iter().map(|(kernel, ..)| kernel.clone()).collect();
    for kernel in kernels {
        for (a, most_a) in levels {
            for (b, most_b) in levels.into_iter().filter(|(b, _)| *b != a) {
                for (x, y) in (0..most_a).flat_map(|x| (0..most_b).map(move |y| (x, y))) {
                    assert!(seen.contains(&(kernel.clone(), a, x, b, y)), "{kernel}: no case has {a} = {x} with {b} = {y}");
                }
            }
        }
    }
}

fn oracles_agree_with_central_differences() {
    let target = gpu().target;
    for family in FAMILIES {
        for i in 0..family.pinned {
            let spec = family.pinned_spec(i);
            // Far offsets leave differences no digits.
            let smooth = spec.regime == engine::harness::Regime::Normal && spec.dims.iter().product::<usize>() < 5000;
            if smooth && !(family.kinks)(&spec) {
                family.case(&spec, target).unwrap().check_oracle().unwrap_or_else(|e| panic!("{} {spec:?}: {e}", family.name));
            }
        }
    }
}
