//! Tensors that are stored in 16 bits.

use std::collections::HashSet;

use super::passes::Halves;
use super::recording::Plan;
use super::tensor::{Storage, Tensor};
use crate::gpu::Role;

impl Plan {
    /// Stores activations and their gradients in 16 bits: pooled tensors of floats that only these families of kernels touch, of whose
    /// variables none is among `exact`, and that the host does not read. Kernels compute in 32 bits either way.
    pub(super) fn halve(&mut self, Halves { families, exact }: Halves) {
        let mut full: HashSet<Tensor> = self.read_back.iter().copied().collect();
        for entry in self.entries() {
            let family = entry.shader.name.split('/').next().unwrap_or_default();
            for (binding, tensor) in entry.shader.bindings.iter().zip(&entry.tensors) {
                if !families.contains(&family) || exact.contains(&binding.name.as_str()) || !entry.shader.holds_floats(&binding.name) {
                    full.insert(*tensor);
                }
            }
        }
        let pooled = |t: &Tensor| self.info(*t).storage == Storage::Transient(Role::Activations);
        let halved: Vec<Tensor> = self.tensors().map(|(t, _)| t).filter(|t| pooled(t) && !full.contains(t)).collect();
        self.set_half(&halved);
    }
}
