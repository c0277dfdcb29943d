//! Video memory that no program holds.

/// Bytes that the card at this PCI address has free, by Linux' amdgpu, which counts those of all programs.
pub(super) fn by_amdgpu(pci: &str) -> Option<u64> {
    let folder = std::path::Path::new("/sys/bus/pci/devices").join(pci);
    let value = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(value("mem_info_vram_total")?.saturating_sub(value("mem_info_vram_used")?))
}

/// Bytes of its own memory that a device still gives this process, by Vulkan's extension `VK_EXT_memory_budget`.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn by_vulkan(device: &wgpu::Device) -> Option<u64> {
    use ash::vk;
    // SAFETY: nothing is destroyed while this guard is held.
    let device = unsafe { device.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = device.shared_instance();
    if instance.instance_api_version() < vk::API_VERSION_1_1 || !device.enabled_device_extensions().contains(&ash::ext::memory_budget::NAME)
    {
        return None;
    }
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut memory = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the handles are of a device that is alive, and both structures live until the call returns.
    unsafe { instance.raw_instance().get_physical_device_memory_properties2(device.raw_physical_device(), &mut memory) };
    let properties = memory.memory_properties;
    let heaps = properties.memory_heaps.into_iter().take(properties.memory_heap_count as usize).enumerate();
    let own = heaps.filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)).map(|(number, _)| number);
    let left: u64 = own.map(|number| budget.heap_budget[number].saturating_sub(budget.heap_usage[number])).sum();
    // A driver that knows nothing says 0.
    Some(left).filter(|left| *left > 0)
}

/// Metal and DirectX are not asked.
#[cfg(target_vendor = "apple")]
pub(super) fn by_vulkan(_device: &wgpu::Device) -> Option<u64> {
    None
}
