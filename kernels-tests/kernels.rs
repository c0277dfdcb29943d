//! The pinned and random cases of every family, and the check of the check.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use engine::gpu::{Gpu, Shader, shader_names};
use engine::harness::{FAMILIES, Family, check_spec, shrink, targets};
use engine::plan::Plan;

/// Devices of the tests. A software driver makes machine code of a kernel at its first launch, in the one thread that a device has for launches.
pub(crate) type Devices = Mutex<Vec<Arc<Gpu>>>;

/// The device with the fewest holders, which `change` has changed; a few software devices are opened before any has two.
pub(crate) fn least_used(devices: &Devices, change: impl Fn(&mut Gpu)) -> Arc<Gpu> {
    let mut devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
    let free = devices.iter().min_by_key(|gpu| Arc::strong_count(gpu)).filter(|gpu| {
        // Each keeps hundreds of compiled kernels.
        let most = if gpu.target.software { std::thread::available_parallelism().map_or(1, usize::from).min(4) } else { 1 };
        Arc::strong_count(gpu) == 1 || devices.len() >= most
    });
    free.cloned().unwrap_or_else(|| {
        let mut gpu = Gpu::open(std::env::var("ENGINE_DEVICE").ok().as_deref()).expect("an adapter");
        change(&mut gpu);
        devices.push(Arc::new(gpu));
        devices[devices.len() - 1].clone()
    })
}

/// The device of this test, which has a thread of its own.
pub(crate) fn gpu() -> Arc<Gpu> {
    static DEVICES: Devices = Mutex::new(Vec::new());
    thread_local!(static OWN: Arc<Gpu> = least_used(&DEVICES, |_| ()));
    OWN.with(Arc::clone)
}

fn family(name: &str) -> Family {
    *FAMILIES.iter().find(|f| f.name == name).expect("a family of that name")
}

/// What the cases of a family have brought so far. A software driver takes up to seconds for a kernel, so that the cases that bring nothing but another
/// combination of options are left to `engine check`.
#[derive(Default)]
struct Coverage {
    pairs: HashSet<(String, [(&'static str, u32); 2])>,
    compiled: HashSet<(*const Shader, bool)>,
}

impl Coverage {
    /// Whether to check a case with bounds checks: true where one of its constants has a new value, false where only two of them are new together; none where it
    /// brings nothing and is not compiled either.
    fn add(&mut self, plan: &Plan) -> Option<bool> {
        let (mut values, mut pairs) = (false, false);
        for shader in plan.entries().iter().map(|entry| &entry.shader) {
            values |= self.pairs.insert((shader.name.clone(), [("", 0); 2]));
            for (i, a) in shader.consts.iter().enumerate() {
                values |= self.pairs.insert((shader.name.clone(), [*a, *a]));
                let options = |(name, _): &(&str, u32)| !SIZES.contains(name);
                for b in shader.consts[..i].iter().filter(|b| options(a) && options(b)) {
                    pairs |= self.pairs.insert((shader.name.clone(), [*a, *b]));
                }
            }
        }
        let keys = |checked| plan.entries().iter().map(move |entry| (Arc::as_ptr(&entry.shader), checked));
        let known = |checked| keys(checked).all(|key| self.compiled.contains(&key));
        let checked = values || known(true);
        if !checked && !pairs && !known(false) {
            return None;
        }
        self.compiled.extend(keys(false).chain(keys(checked)));
        Some(checked)
    }
}

fn check(name: &str) {
    let (gpu, family) = (gpu(), family(name));
    let (mut coverage, mut broken) = (Coverage::default(), BTreeSet::new());
    let seed = std::env::var("ENGINE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121);
    let pinned = (0..family.pinned).map(|i| family.pinned_spec(i));
    let random = (0..12).map(|i| family.random_spec(seed, i));
    for target in targets(&gpu) {
        for (number, spec) in pinned.clone().chain(random.clone()).enumerate() {
            let Some(checked) = coverage.add(family.case(&spec, target).unwrap().plan()) else { continue };
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
    let own: BTreeSet<String> = shader_names().into_iter().filter(|kernel| kernel.starts_with(&format!("{name}/"))).collect();
    let whole: Vec<_> = own.difference(&broken).collect();
    assert!(whole.is_empty(), "no case breaks {whole:?}");
}

macro_rules! families {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
    };
}

engine::kernel_families!(families);

#[test]
fn layers() {
    check("layers");
}

/// Constants that say how a kernel divides its work; all others are options.
const SHAPES: [&str; 13] = ["WG", "SLICES", "FULL", "HEADS", "LANES", "TILE_M", "TILE_N", "ROWS", "VECS", "COLS", "D", "T", "BY_COLUMN"];

/// Those that are sizes of the data, of which there are many.
const SIZES: [&str; 5] = ["D", "T", "COLS", "HEADS", "LANES"];

/// The pinned cases have every pair of options of every kernel, each option with each of its values; the products have a test of their own.
#[test]
fn every_pair_of_options_has_a_case() {
    let gpu = gpu();
    let (mut values, mut seen) = (BTreeMap::<_, BTreeSet<u32>>::new(), BTreeSet::new());
    for family in FAMILIES {
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
#[test]
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

#[test]
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
