//! Kernels as other compilers get them. `make test-dxc` and `make test-tint` compile what `write` leaves under `target/kernels`.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use engine::export::{validated, wgsl};
use engine::gpu::{Access, BindingKind, Shader, Target};
use naga::back::hlsl;
use naga::valid::ModuleInfo;

use crate::shipped::shipped_kernels;

/// Where the files go: `verdict.py` looks for them there.
const FOLDER: &str = "target/kernels";

/// HLSL with the registers that wgpu gives a pipeline with one bind group on DirectX 12, and without checks, as our kernels run.
pub(crate) fn hlsl(shader: &Shader, info: &ModuleInfo) -> Result<String, hlsl::Error> {
    let (mut uniform, mut read, mut written) = (hlsl::BindTarget::default(), hlsl::BindTarget::default(), hlsl::BindTarget::default());
    let immediates_target = (shader.params_bytes > 0).then_some(uniform);
    if immediates_target.is_some() {
        uniform = hlsl::BindTarget { space: 1, register: 1, ..uniform };
    }
    let mut binding_map = hlsl::BindingMap::default();
    for binding in &shader.bindings {
        let next = match binding.kind {
            BindingKind::Uniform => &mut uniform,
            BindingKind::Storage if binding.access == Access::Read => &mut read,
            BindingKind::Storage | BindingKind::Image(_) => &mut written,
        };
        binding_map.insert(naga::ResourceBinding { group: 0, binding: binding.index }, *next);
        next.register += 1;
    }
    let options = hlsl::Options {
        // The text of our kernels is the same for every version from 6.0 on.
        shader_model: hlsl::ShaderModel::V6_0,
        binding_map,
        fake_missing_bindings: false,
        special_constants_binding: Some(uniform),
        immediates_target,
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions { entry_point: Some((naga::ShaderStage::Compute, "main".into())) };
    hlsl::Writer::new(&mut text, &options, &pipeline).write(&shader.module, info, None)?;
    Ok(text)
}

/// Writes the kernels of the shipped runs: as HLSL those of a card, as WGSL those of a card with the storage buffers that WebGPU promises.
pub(crate) fn write() {
    let folder = Path::new(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap_or_else(|e| panic!("{FOLDER}: {e}"));
    }
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{FOLDER}: {e}"));
    write_as("hlsl", Target::default(), hlsl);
    write_as("wgsl", Target { storage_buffers: 8, ..Target::default() }, wgsl);
}

/// Writes every different kernel of a target, with numbers of 32 and of 16 bits.
fn write_as<E: Display>(kind: &str, target: Target, text_of: fn(&Shader, &ModuleInfo) -> Result<String, E>) {
    let mut seen = HashSet::new();
    let sets = [vec![], vec!["train.precision=f16".to_string()]];
    for (shader, at) in sets.iter().flat_map(|set| shipped_kernels(&[target], set)) {
        let what = format!("{} {:?} of {at}", shader.name, shader.consts);
        let info = validated(&shader).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let text = text_of(&shader, &info).unwrap_or_else(|e| panic!("{what} as {kind}: {e}"));
        if !seen.insert(text.clone()) {
            continue;
        }
        let name = format!("{:03}-{}.{kind}", seen.len(), shader.name.replace(" + ", "+").replace('/', "-"));
        fs::write(Path::new(FOLDER).join(&name), format!("// {what}\n{text}")).unwrap_or_else(|e| panic!("{FOLDER}/{name}: {e}"));
    }
    println!("{} kernels are in {FOLDER} as {kind}", seen.len());
}
