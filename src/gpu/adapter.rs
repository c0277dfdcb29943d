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

/// Environment variables for Vulkan's loader and drivers that a program sets before it opens an adapter and starts threads; without those
/// that the user has set.
pub fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    #[cfg(target_arch = "x86_64")]
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    let session = std::env::var_os("XDG_RUNTIME_DIR").is_some();
    // Mesa's layer that selects devices prints an error of its own where there is no session.
    let select = (!session).then_some(("NODEVICE_SELECT", "1"));
    // Mesa's driver for processors computes with vectors of 256 bits, on those with AVX-512 too, unless this is set.
    let vectors = wide.then_some(("LP_NATIVE_VECTOR_WIDTH", "512"));
    select.into_iter().chain(vectors).filter(|(name, _)| std::env::var_os(name).is_none())
}
