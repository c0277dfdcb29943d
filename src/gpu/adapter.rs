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
    /// Time after which the system ends a submission, if it does.
    pub time_limit: Option<TimeLimit>,
}

/// Time after which a system ends what a card does not finish.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TimeLimit {
    /// Seconds.
    pub seconds: f64,
    /// Who says so.
    pub from: String,
}

/// Time limit of the card at this PCI address.
pub(super) fn time_limit(pci: &str, kind: &str) -> Option<TimeLimit> {
    if kind == "software" {
        return None;
    }
    if cfg!(windows) {
        return Some(TimeLimit { seconds: 2.0, from: "Windows, unless its registry has another TdrDelay".into() });
    }
    let driver = std::fs::read_link(std::path::Path::new("/sys/bus/pci/devices").join(pci).join("driver")).ok()?;
    if driver.file_name()? != "amdgpu" {
        return None;
    }
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Some(of_amdgpu(&text("/sys/module/amdgpu/parameters/lockup_timeout"), &text("/proc/sys/kernel/osrelease")))
}

/// Time limit by amdgpu's parameter `lockup_timeout`, milliseconds for graphics and compute jobs, where what is missing or not positive
/// stands for the kernel's own: 10 s and 60 s, from Linux 7 on 2 s for both.
fn of_amdgpu(parameter: &str, release: &str) -> TimeLimit {
    let recent = release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7);
    let set: Vec<f64> = parameter.trim().split(',').filter_map(|ms| ms.trim().parse::<f64>().ok()).collect();
    let own = if recent { [2.0, 2.0] } else { [10.0, 60.0] };
    let of = |at: usize| set.get(at).filter(|ms| **ms > 0.0).map_or(own[at], |ms| ms / 1e3);
    let from =
        if set.iter().any(|ms| *ms > 0.0) { "amdgpu.lockup_timeout".to_string() } else { format!("amdgpu of Linux {}", release.trim()) };
    TimeLimit { seconds: of(0).min(of(1)), from }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_limit_is_the_parameters_or_the_kernels() {
        let seconds = |parameter: &str, release: &str| of_amdgpu(parameter, release).seconds;
        assert_eq!(seconds("\n", "6.12.1-amd64\n"), 10.0);
        assert_eq!(seconds("-1\n", "7.0.3"), 2.0);
        assert_eq!(seconds("20000,5000,0,0\n", "6.1.0"), 5.0);
        assert_eq!(seconds("5000\n", "6.1.0"), 5.0);
        assert_eq!(seconds("", "unreadable"), 10.0);
        assert_eq!(of_amdgpu("", "7.1.0\n").from, "amdgpu of Linux 7.1.0");
        assert_eq!(of_amdgpu("0,500", "7.1.0\n"), TimeLimit { seconds: 0.5, from: "amdgpu.lockup_timeout".into() });
    }
}
