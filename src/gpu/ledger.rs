//! What was allocated, by role.

use std::collections::BTreeMap;
use std::fmt;

/// Purpose of a buffer. Memory is reported and budgeted by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Weights.
    Parameters,
    /// Gradients of the weights.
    Gradients,
    /// Moments of the optimiser.
    Optimizer,
    /// Outputs of the forward pass that the backward pass needs, and their gradients.
    Activations,
    /// Partial sums, metric records and other scratch.
    Workspace,
    /// Keys and values of the positions decoded so far.
    KvCache,
    /// Inputs: batches, labels and the per-step state.
    Dataset,
    /// Host-visible buffers for reading back.
    Staging,
}

impl Role {
    /// Every role, in the order of reports.
    pub const ALL: [Role; 8] = [
        Role::Parameters,
        Role::Gradients,
        Role::Optimizer,
        Role::Activations,
        Role::Workspace,
        Role::KvCache,
        Role::Dataset,
        Role::Staging,
    ];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Parameters => "parameters",
            Role::Gradients => "gradients",
            Role::Optimizer => "optimizer",
            Role::Activations => "activations",
            Role::Workspace => "workspace",
            Role::KvCache => "kv_cache",
            Role::Dataset => "dataset",
            Role::Staging => "staging",
        })
    }
}

/// Bytes allocated so far, by role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger(BTreeMap<Role, u64>);

impl Ledger {
    /// Enters an allocation.
    pub fn add(&mut self, role: Role, bytes: u64) {
        *self.0.entry(role).or_default() += bytes;
    }

    /// Bytes of one role.
    pub fn of(&self, role: Role) -> u64 {
        self.0.get(&role).copied().unwrap_or(0)
    }

    /// Bytes of all roles.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}
