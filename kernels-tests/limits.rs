//! Every kernel of every shipped run against the limits of the APIs and drivers that it may meet. No device is needed.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::passed::Changed;
use crate::runner::{all, note, tests};
use crate::shipped::{plans, shipped_kernels, shipped_runs};
use crate::written;
use engine::error::{Error, Result};
use engine::export::{validated, wgsl};
use engine::gpu::{BindingKind, CARD, Role, Shader, Target};
use engine::harness::FAMILIES;
use engine::kernels::matmul::Matmul;
use engine::kernels::{Dropout, attention, normalize};
use engine::plan::{Entry, LayoutOptions, Memory, Plan, Section};

tests![
    steps_keep_to_their_launches,
    parts_of_a_step_lie_one_after_another,
    no_launch_of_a_shipped_run_takes_long_on_a_slow_card,
    no_loop_of_a_shipped_run_is_cut_off_on_software_adapters,
    shipped_kernels_stay_within_what_every_api_has,
    kernels_can_be_written_for_every_api,
    attention_fits_the_workgroup_memory_of_every_api,
    dropout_of_attention_never_draws_the_same_numbers_twice,
    what_a_device_does_not_allow_is_refused_with_the_kernels_name,
];

/// What a software adapter asks for: Mesa's lavapipe.
fn lavapipe() -> Target {
    Target {
        software: true,
        subgroup: 8,
        max_binding: 128 << 20,
        uniform_bytes: 65_536,
        image_rows: 16_384,
        slow_loads: true,
        loop_iterations: 65_471,
        ..Target::default()
    }
}

/// What cannot be split ends in time on a card that is twenty times slower than an RX 6600, of whose limits three quarters are reached.
fn no_launch_of_a_shipped_run_takes_long_on_a_slow_card() {
    for run in shipped_runs() {
        for plan in plans(&run, Target::default()) {
            let lowered = Memory::of(plan, LayoutOptions::default()).unwrap().1;
            let longest = lowered.cost(&CARD, 1).launches.iter().map(|launch| launch.seconds).fold(0.0, f64::max);
            // The weights of GPT-2 and their moments are 2 GB, which one launch updates; Windows ends one after two seconds.
            let most = if run.ends_with("gpt2_124m.toml") { 1.0 } else { 0.25 };
            assert!(20.0 * longest / 0.75 < most, "{}: {} takes {longest} s", run.display(), lowered.plan.name);
        }
    }
}

/// Every different kernel of the cases of all families, which have sizes and options that no shipped run has. Of families that are as they
/// were when they passed, a twentieth of the cases is drawn.
fn kernels_of_cases() -> Vec<(Arc<Shader>, String)> {
    let mut seen = HashSet::new();
    let mut kernels = Vec::new();
    for family in FAMILIES {
        let changed = Changed::of(family.name);
        for number in (0..family.pinned).filter(|number| all() || changed.own || changed.draws(*number)) {
            let spec = family.pinned_spec(number);
            for target in [Target::default(), lavapipe()] {
                let case = family.case(&spec, target).unwrap();
                let new = case.plan().entries().iter().filter(|entry| seen.insert(Arc::as_ptr(&entry.shader)));
                kernels.extend(new.map(|entry| (entry.shader.clone(), format!("{} {spec:?}", family.name))));
            }
        }
    }
    kernels
}

/// Each launch costs a card some microseconds.
fn steps_keep_to_their_launches() {
    let most = [
        ("integer_sequences", 35),
        ("lvm_transformer", 75),
        ("mechanism_phase1", 120),
        ("lvm_lstm", 40),
        ("lvm_mlp", 9),
        ("lvm_amn", 20),
        ("lvm_best", 10),
        ("lvm_transformer_composite", 126),
        ("lvm_transformer_infonce", 122),
        ("lvm_transformer_unified", 69),
    ];
    for (run, most) in most {
        let run = PathBuf::from(format!("data/runs/{run}.toml"));
        let plan = plans(&run, Target::default()).into_iter().find(|plan| plan.options.trains).unwrap();
        let launches = plan.launches().count();
        assert!(launches <= most, "{}: {launches} launches", run.display());
    }
}

/// Terms of a loss go back to the forward pass after they have recorded gradients; passes over the plan see each part as a whole all the
/// same. What would then run before what it needs is refused.
fn parts_of_a_step_lie_one_after_another() {
    for run in shipped_runs() {
        for plan in plans(&run, Target::default()) {
            assert!(plan.entries().is_sorted_by_key(Entry::runs_in), "{}: {}", run.display(), plan.name);
        }
    }
    let mut plan = Plan::training("order", Target::default());
    let [x, y] = ["x", "y"].map(|name| plan.persistent(Role::Dataset, name, &[4, 4]).unwrap());
    let norm = plan.persistent(Role::Dataset, "norm", &[4]).unwrap();
    let of = |x, y| normalize::Forward { x, y, norm, rows: 4, cols: 4 };
    plan.within(Section::Backward, |plan| of(x, y).record(plan, "later")).unwrap();
    let refused = of(y, x).record(&mut plan, "earlier").unwrap_err().to_string();
    assert!(refused.contains("normalize/forward at earlier: it belongs before normalize/forward at later"), "{refused}");
}

/// Recording fails where a bound is passed; this shows how far the shipped runs stay from it.
fn no_loop_of_a_shipped_run_is_cut_off_on_software_adapters() {
    let mut most: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for run in shipped_runs() {
        for plan in plans(&run, lavapipe()) {
            for entry in plan.entries() {
                let iterations = entry.shader.loop_iterations(&entry.immediates).unwrap();
                let known = most.entry(entry.shader.name.clone()).or_default();
                if iterations >= known.0 {
                    *known = (iterations, format!("{} {}", run.display(), entry.label));
                }
            }
        }
    }
    for (kernel, (iterations, at)) in &most {
        note!("{iterations:>8} {kernel:28} {at}");
        assert!(*iterations <= lavapipe().loop_iterations, "{kernel} at {at}: {iterations}");
    }
}

/// DirectX 12 and Metal have 32 KiB of workgroup memory; WebGPU promises 256 invocations, 8 storage buffers and 64 bytes of immediates.
fn shipped_kernels_stay_within_what_every_api_has() {
    for (shader, at) in shipped_kernels(&[Target { storage_buffers: 8, ..Target::default() }, lavapipe()], &[]) {
        let storage = shader.bindings.iter().filter(|b| b.kind == BindingKind::Storage).count();
        let sizes = (shader.workgroup_bytes, shader.workgroup, storage, shader.params_bytes);
        let fits = sizes.0 <= 32_768 && sizes.1 <= 256 && sizes.2 <= 8 && sizes.3 <= 64;
        assert!(
            fits,
            "{} {:?} of {at}: workgroup memory, invocations, storage buffers, immediates are {sizes:?}",
            shader.name, shader.consts
        );
    }
}

/// SPIR-V for Vulkan, HLSL for DirectX 12, MSL for Metal, WGSL for browsers.
fn kernels_can_be_written_for_every_api() {
    use naga::back::{msl, spv};
    let (shipped, cases) = (shipped_kernels(&[Target::default(), lavapipe()], &[]), kernels_of_cases());
    assert!(shipped.len() > 100 && cases.len() > 50, "{} {}", shipped.len(), cases.len());
    for (shader, at) in shipped.into_iter().chain(cases) {
        let what = format!("{} {:?} of {at}", shader.name, shader.consts);
        let info = validated(&shader).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let words = spv::write_vec(&shader.module, &info, &spv::Options { lang_version: (1, 3), ..Default::default() }, None)
            .unwrap_or_else(|e| panic!("{what} as SPIR-V: {e}"));
        assert!(words.len() > 50);
        let text = written::hlsl(&shader, &info).unwrap_or_else(|e| panic!("{what} as HLSL: {e}"));
        assert!(text.contains("numthreads"));
        let text = wgsl(&shader, &info).unwrap_or_else(|e| panic!("{what} as WGSL: {e}"));
        assert!(text.contains("@compute"));
        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
        let (text, _) = msl::write_string(&shader.module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{what} as MSL: {e}"));
        assert!(text.contains("kernel void"));
    }
}

/// A causal attention of the given head size, forward and backward, on a target.
fn record_attention(head_dim: usize, length: usize, target: Target) -> Result<Plan> {
    record_attention_of(1, None, head_dim, length, target)
}

fn record_attention_of(batch: usize, dropout: Option<Dropout>, head_dim: usize, length: usize, target: Target) -> Result<Plan> {
    use engine::gpu::Role::Dataset;
    let mut plan = Plan::new("attention", target);
    let shape = attention::Shape { batch, length, heads: 1, head_dim, causal: true, dropout, rope: None };
    let n = batch * length * head_dim;
    let qkv = plan.persistent(Dataset, "qkv", &[3 * n])?;
    let dy = plan.persistent(Dataset, "dy", &[n])?;
    let (y, lse, dqkv) = (plan.activation("y", &[n])?, plan.activation("lse", &[batch * length])?, plan.activation("dqkv", &[3 * n])?);
    attention::Forward { qkv, q: None, y, lse, shape }.record(&mut plan, "forward")?;
    attention::Backward { qkv, q: None, y, lse, dy, dqkv, shape }.record(&mut plan, "backward")?;
    Ok(plan)
}

fn attention_fits_the_workgroup_memory_of_every_api() {
    for head_dim in [1, 16, 32, 63, 64, 65, 96, 128] {
        for length in [8, 33, 64, 257] {
            record_attention(head_dim, length, Target::default()).unwrap();
            // What WebGPU promises.
            record_attention(head_dim, length, Target { workgroup_memory: 16_384, ..Target::default() }).unwrap();
        }
    }
}

fn dropout_of_attention_never_draws_the_same_numbers_twice() {
    let record = |batch, dropout| record_attention_of(batch, dropout, 16, 4096, Target::default());
    let dropout = Some(Dropout { rate: 0.1, stream: 1 });
    record(256, dropout).unwrap();
    record(257, None).unwrap();
    let error = record(257, dropout).unwrap_err();
    assert!(matches!(error, Error::Config(_)) && error.to_string().contains("train.accumulate"), "{error}");
}

fn what_a_device_does_not_allow_is_refused_with_the_kernels_name() {
    let refused = |target| record_attention(64, 64, target).unwrap_err().to_string();
    let mut plan = Plan::new("product", Target { workgroup_memory: 1024, ..Target::default() });
    let [x, w, y] = ["x", "w", "y"].map(|name| plan.persistent(engine::gpu::Role::Dataset, name, &[256, 256]).unwrap());
    let text = Matmul::new(x, w, y, (256, 256, 256)).record(&mut plan, "product").unwrap_err().to_string();
    assert!(text.contains("matmul/") && text.contains("bytes of workgroup memory; the device allows 1024"), "{text}");
    let text = refused(Target { workgroup_invocations: 8, ..Target::default() });
    assert!(text.contains("invocations in a workgroup"), "{text}");
    let text = refused(Target { storage_buffers: 2, ..Target::default() });
    assert!(text.contains("storage buffers"), "{text}");
    let text = refused(Target { immediate_bytes: 8, ..Target::default() });
    assert!(text.contains("bytes of parameters"), "{text}");
    // Tiles loop less often than rows, and take heads of a multiple of 4 features.
    let text = record_attention(127, 4096, lavapipe()).unwrap_err().to_string();
    assert!(text.contains("attention/forward") && text.contains("65471"), "{text}");
    record_attention(128, 4096, lavapipe()).unwrap();
}
