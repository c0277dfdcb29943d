//! What an adapter says of itself.

/// One adapter, as `engine devices` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSummary {
    /// Number for `--device`.
    pub index: usize,
    /// Name given by the driver.
    pub name: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Discrete, integrated, virtual or software.
    pub kind: String,
    /// Driver and its version.
    pub driver: String,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Smallest and largest subgroup.
    pub subgroup: (u32, u32),
    /// Why the engine cannot run on it, if so.
    pub unusable: Option<String>,
}
