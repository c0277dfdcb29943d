//! What the target of a plan allows a kernel to have.

use super::dispatch::Grid;
use super::fixed::FixedPlan;
use crate::error::{Error, Result};
use crate::gpu::{Access, BindingKind, Shader};

impl FixedPlan {
    /// Workgroups of a launch, in as few rows as the target allows.
    pub(super) fn workgroups(&self, grid: Grid, shader: &Shader) -> Result<[u32; 3]> {
        let groups = match grid {
            Grid::Threads(threads) => threads.div_ceil(shader.workgroup as usize),
            Grid::Groups(groups) => groups,
        };
        let x = groups.min(self.target.max_groups as usize).max(1);
        let y = groups.div_ceil(x);
        if y > 65_535 {
            return Err(Error::Internal(format!("{}: {groups} workgroups exceed the grid", shader.name)));
        }
        Ok([x as u32, y as u32, 1])
    }

    /// Fails where a kernel has more of something than the target allows.
    pub(super) fn has_room(&self, shader: &Shader, label: &str) -> Result<()> {
        let target = &self.target;
        let storage = shader.bindings.iter().filter(|b| b.kind == BindingKind::Storage).count() as u32;
        let reads = shader.bindings.iter().filter(|b| b.access == Access::Read).count() as u32;
        for (what, needed, allowed) in [
            ("bytes of workgroup memory", shader.workgroup_bytes, target.workgroup_memory),
            ("invocations in a workgroup", shader.workgroup, target.workgroup_invocations),
            ("storage buffers", storage, target.storage_buffers),
            // Each could become one.
            ("read-only arrays", if target.uniform_bytes > 0 { reads } else { 0 }, target.uniform_buffers),
            ("bytes of parameters", shader.params_bytes, target.immediate_bytes),
        ] {
            if needed > allowed {
                return Err(Error::Config(format!(
                    "{} at {label} needs {needed} {what}; the device allows {allowed}. Use smaller heads or layers there, or another device",
                    shader.name
                )));
            }
        }
        Ok(())
    }

    /// Fails where a kernel passes what the target allows.
    pub(super) fn within_limits(&self, shader: &Shader, label: &str, immediates: &[u8]) -> Result<()> {
        self.has_room(shader, label)?;
        let target = &self.target;
        if target.loop_iterations < u64::MAX {
            let iterations = shader.loop_iterations(immediates)?;
            if iterations > target.loop_iterations {
                return Err(Error::Config(format!(
                    "{} at {label}: one invocation may loop {iterations} times, and software adapters end its loops after {}, which would \
                     leave the rest out of the sum. Lower train.batch or the length of the sequences, or run on a GPU",
                    shader.name, target.loop_iterations
                )));
            }
        }
        Ok(())
    }
}
