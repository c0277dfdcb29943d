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
    of_system(pci)
}

/// Time limit of Windows, which is the same for all its cards.
#[cfg(windows)]
fn of_system(_: &str) -> Option<TimeLimit> {
    let key = windows_registry::LOCAL_MACHINE.open(r"SYSTEM\CurrentControlSet\Control\GraphicsDrivers").ok();
    let value = |name: &str| key.as_ref().and_then(|key| key.get_u32(name).ok());
    of_windows(value("TdrLevel"), value("TdrDelay"))
}

/// Time limit by the registry's values of Windows: a level of 0 ends nothing, and without a delay it is 2 s.
#[cfg(any(windows, test))]
fn of_windows(level: Option<u32>, delay: Option<u32>) -> Option<TimeLimit> {
    let from = if delay.is_some() { "TdrDelay in the registry of Windows" } else { "Windows, as its registry has no TdrDelay" };
    (level != Some(0)).then(|| TimeLimit { seconds: delay.map_or(2.0, f64::from), from: from.into() })
}

/// Time limit by the driver that Linux has for the card.
#[cfg(not(windows))]
fn of_system(pci: &str) -> Option<TimeLimit> {
    let driver = std::fs::read_link(std::path::Path::new("/sys/bus/pci/devices").join(pci).join("driver")).ok()?;
    if driver.file_name()? != "amdgpu" {
        return None;
    }
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Some(of_amdgpu(&text("/sys/module/amdgpu/parameters/lockup_timeout"), &text("/proc/sys/kernel/osrelease")))
}

/// Time limit by amdgpu's parameter `lockup_timeout`, milliseconds for graphics and compute jobs, where what is missing or not positive
/// stands for the kernel's own: 10 s and 60 s, from Linux 7 on 2 s for both.
#[cfg(any(not(windows), test))]
fn of_amdgpu(parameter: &str, release: &str) -> TimeLimit {
    let recent = release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7);
    let set: Vec<f64> = parameter.trim().split(',').filter_map(|ms| ms.trim().parse::<f64>().ok()).collect();
    let own = if recent { [2.0, 2.0] } else { [10.0, 60.0] };
    let of = |at: usize| set.get(at).filter(|ms| **ms > 0.0).map_or(own[at], |ms| ms / 1e3);
    let from =
        if set.iter().any(|ms| *ms > 0.0) { "amdgpu.lockup_timeout".to_string() } else { format!("amdgpu of Linux {}", release.trim()) };
    TimeLimit { seconds: of(0).min(of(1)), from }
}

/// True if the Mesa driver for processors that Vulkan's loader will take is one whose kernels are faster with vectors of 512 bits. Products
/// are a quarter faster with them on Mesa 22, and take three times as long on Mesa 25 and 26. It cannot be asked once it is loaded, as it
/// reads its environment then; but the file by which the loader finds it names Vulkan 1.1 for the old one, and 1.4 for the new.
fn lavapipe_is_old() -> bool {
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find_map(std::env::var_os);
    let places: Vec<std::path::PathBuf> = match &named {
        Some(paths) => std::env::split_paths(paths).collect(),
        None => ["/etc", "/usr/local/share", "/usr/share"].iter().map(|root| std::path::Path::new(root).join("vulkan/icd.d")).collect(),
    };
    let files = places.into_iter().flat_map(|place| match std::fs::read_dir(&place) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![place],
    });
    let manifests = files.filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")));
    let texts: Vec<String> = manifests.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    !texts.is_empty() && texts.iter().all(|text| names_vulkan_1_1(text))
}

/// True if the file by which Vulkan's loader finds a driver names version 1.1.
fn names_vulkan_1_1(manifest: &str) -> bool {
    let parsed: serde_json::Value = serde_json::from_str(manifest).unwrap_or_default();
    parsed["ICD"]["api_version"].as_str().is_some_and(|version| version.starts_with("1.1."))
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
    let vectors = (wide && lavapipe_is_old()).then_some(("LP_NATIVE_VECTOR_WIDTH", "512"));
    select.into_iter().chain(vectors).filter(|(name, _)| std::env::var_os(name).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_vectors_follows_from_the_drivers_file() {
        assert!(names_vulkan_1_1(r#"{"ICD": {"api_version": "1.1.230", "library_path": "x"}, "file_format_version": "1.0.0"}"#));
        assert!(!names_vulkan_1_1(r#"{"ICD": {"api_version": "1.4.305", "library_path": "x"}, "file_format_version": "1.0.1"}"#));
        assert!(!names_vulkan_1_1("cut off"));
    }

    #[test]
    fn the_time_limit_of_windows_is_its_registrys() {
        let seconds = |level, delay| of_windows(level, delay).map(|limit| limit.seconds);
        assert_eq!(seconds(None, None), Some(2.0));
        assert_eq!(seconds(Some(3), Some(10)), Some(10.0));
        assert_eq!(seconds(Some(0), Some(10)), None);
    }

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
