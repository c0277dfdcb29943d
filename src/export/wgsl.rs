//! Kernels as WGSL that a browser compiles: naga writes them back from the modules that run here.

use naga::back::wgsl::{WriterFlags, write_string};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

use crate::error::{Error, Result};
use crate::gpu::Shader;

/// What naga's writers need to know of a kernel's module.
///
/// # Errors
/// `Internal` when the module is not valid.
pub fn validated(shader: &Shader) -> Result<ModuleInfo> {
    Validator::new(ValidationFlags::all(), Capabilities::all())
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&shader.module)
        .map_err(|e| Error::Internal(format!("{} {:?}: {e:?}", shader.name, shader.consts)))
}

/// A kernel as WGSL, with the extensions that a browser wants to be told of and naga does not write.
///
/// # Errors
/// `Internal` when naga cannot write it.
pub fn wgsl(shader: &Shader, info: &ModuleInfo) -> Result<String> {
    let written = write_string(&shader.module, info, WriterFlags::empty());
    let text = written.map_err(|e| Error::Internal(format!("{} {:?} as WGSL: {e}", shader.name, shader.consts)))?;
    let immediates = if shader.params_bytes > 0 { "requires immediate_address_space;\n" } else { "" };
    let subgroups = if text.contains("subgroup") { "enable subgroups;\n" } else { "" };
    Ok(format!("{subgroups}{immediates}{text}"))
}
