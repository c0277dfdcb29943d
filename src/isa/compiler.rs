//! Mesa's RADV compiler for a card that is not there: its null device, through plain Vulkan.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ash::{khr, vk};

use crate::error::{Error, Result};
use crate::gpu::{BindingKind, Shader};

/// Environment variables with which RADV compiles for a family of cards, with no hardware present.
///
/// # Errors
/// `NoGpu` when the driver is not installed.
pub fn environment(card: &str) -> Result<[(&'static str, String); 2]> {
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let manifest = |folder: &&str| {
        let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("radeon_icd"))).min()
    };
    let found: Option<PathBuf> = folders.iter().find_map(manifest);
    let found = found.ok_or_else(|| {
        Error::NoGpu(format!(
            "there is no radeon_icd file of Mesa in {}: install Mesa's Vulkan drivers (Debian, Ubuntu: mesa-vulkan-drivers); no card is needed",
            folders.join(", ")
        ))
    })?;
    Ok([("VK_DRIVER_FILES", found.display().to_string()), ("RADV_FORCE_FAMILY", card.to_string())])
}

/// Compiled kernel, with the statistics of the compiler.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    /// Number of vector registers of a lane.
    pub vgprs: u64,
    /// Number of vector and scalar registers that are spilled.
    pub spills: u64,
    /// Scratch memory of a wave in bytes.
    pub scratch: u64,
    /// Workgroup memory in bytes.
    pub lds: u64,
    /// Number of waves that a SIMD can hold at once.
    pub waves: u64,
    /// Number of lanes of a wave.
    pub wave: u32,
    /// Assembly as text.
    pub assembly: String,
}

/// RADV's compiler, on a null device.
pub struct Compiler {
    instance: ash::Instance,
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    /// Name of the device, as in "Null hardware (RADV NAVI23)".
    pub name: String,
    /// Compiled kernels, by the addresses of their shaders, which stay valid for the life of the process.
    known: RefCell<HashMap<*const Shader, Compiled>>,
    /// Vulkan loader, kept loaded as long as the instance lives.
    _entry: ash::Entry,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

fn failed(what: &'static str) -> impl Fn(vk::Result) -> Error {
    move |code| Error::NoGpu(format!("RADV's null device: {what}: {code}"))
}

/// Text of a fixed-size array that ends at its first zero.
fn text(array: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = array.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// SPIR-V of a shader, as wgpu passes it to the driver for unchecked kernels.
fn spirv(shader: &Shader) -> Result<Vec<u32>> {
    use naga::back::spv;
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let broken = |why: String| Error::Internal(format!("{} as SPIR-V: {why}", shader.name));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&shader.module)
        .map_err(|e| broken(e.to_string()))?;
    let none = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies { index: none, buffer: none, image_load: none, binding_array: none },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(&shader.module, &info, &options, Some(&pipeline)).map_err(|e| broken(e.to_string()))
}

impl Compiler {
    /// Opens the null device that the environment of this process selects (`environment`).
    ///
    /// # Errors
    /// `NoGpu` without the Vulkan loader, or when there is no such device.
    pub fn open() -> Result<Compiler> {
        // SAFETY: the loader is the system's, and stays loaded as long as the entry lives, which the compiler keeps.
        let entry = unsafe { ash::Entry::load() }.map_err(|e| {
            Error::NoGpu(format!("no Vulkan loader ({e}): install libvulkan1 (Debian, Ubuntu) or your system's Vulkan package"))
        })?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        // SAFETY: valid structures that live through each call; objects are destroyed in `drop`, in order.
        unsafe {
            let instance = entry
                .create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)
                .map_err(failed("no instance"))?;
            let devices = instance.enumerate_physical_devices().map_err(failed("no devices"))?;
            let name = |device: &vk::PhysicalDevice| text(&instance.get_physical_device_properties(*device).device_name);
            let Some(physical) = devices.iter().copied().find(|device| name(device).starts_with("Null hardware")) else {
                instance.destroy_instance(None);
                return Err(Error::NoGpu("RADV gives no null device: this Mesa is too old, or does not know the family of cards".into()));
            };
            let name = name(&physical);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let mut executable = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut half = vk::PhysicalDeviceVulkan12Features::default().shader_float16(true);
            let mut storage = vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true);
            // As wgpu opens it.
            let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let extensions = [khr::pipeline_executable_properties::NAME.as_ptr()];
            let device = instance
                .create_device(
                    physical,
                    &vk::DeviceCreateInfo::default()
                        .queue_create_infos(&queues)
                        .enabled_extension_names(&extensions)
                        .enabled_features(&features)
                        .push_next(&mut executable)
                        .push_next(&mut half)
                        .push_next(&mut storage),
                    None,
                )
                .map_err(failed("it does not open"))?;
            let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Compiler { instance, device, executables, name, known: RefCell::default(), _entry: entry })
        }
    }

    /// Compiles a kernel, unless it already has.
    ///
    /// # Errors
    /// `Internal` when naga or the driver refuses it.
    pub fn compile(&self, shader: &Arc<Shader>) -> Result<Compiled> {
        if let Some(known) = self.known.borrow().get(&Arc::as_ptr(shader)) {
            return Ok(known.clone());
        }
        let compiled = self.compiled(shader)?;
        self.known.borrow_mut().insert(Arc::as_ptr(shader), compiled.clone());
        Ok(compiled)
    }

    fn compiled(&self, shader: &Shader) -> Result<Compiled> {
        let words = spirv(shader)?;
        let refused = |code: vk::Result| Error::Internal(format!("{}: RADV does not compile it: {code}", shader.name));
        let bindings: Vec<_> = shader
            .bindings
            .iter()
            .map(|b| {
                let kind = match b.kind {
                    BindingKind::Storage => vk::DescriptorType::STORAGE_BUFFER,
                    BindingKind::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                    BindingKind::Image(_) => vk::DescriptorType::STORAGE_IMAGE,
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(b.index)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let d = &self.device;
        // SAFETY: valid structures that live through each call; every object is destroyed before the function returns, but where one cannot
        // be made: then the process ends.
        unsafe {
            let module = d.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None).map_err(refused)?;
            let set =
                d.create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings), None).map_err(refused)?;
            let range = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(shader.params_bytes.max(4))];
            let sets = [set];
            let layout = d
                .create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&range), None)
                .map_err(refused)?;
            let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(module).name(c"main");
            let create = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR)
                .stage(stage)
                .layout(layout);
            let made = d.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let result = made.map_err(|(_, code)| refused(code)).and_then(|pipelines| {
                let compiled = self.read(pipelines[0]).map_err(refused);
                d.destroy_pipeline(pipelines[0], None);
                compiled
            });
            d.destroy_pipeline_layout(layout, None);
            d.destroy_descriptor_set_layout(set, None);
            d.destroy_shader_module(module, None);
            result
        }
    }

    /// Statistics and assembly of a pipeline with one executable.
    ///
    /// # Safety
    /// The pipeline is one of this device, has not been destroyed, and was made with both capture flags.
    unsafe fn read(&self, pipeline: vk::Pipeline) -> std::result::Result<Compiled, vk::Result> {
        let e = &self.executables;
        // SAFETY: the pipeline is alive and was made with both capture flags.
        let (properties, statistics, representations) = unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
            (
                e.get_pipeline_executable_properties(&info)?,
                e.get_pipeline_executable_statistics(&executable)?,
                self.representations(&executable)?,
            )
        };
        let mut compiled = Compiled { wave: properties.first().map_or(0, |p| p.subgroup_size), ..Compiled::default() };
        for statistic in &statistics {
            if statistic.format != vk::PipelineExecutableStatisticFormatKHR::UINT64 {
                continue;
            }
            // SAFETY: the format says that this member of the union is set.
            let value = unsafe { statistic.value.u64 };
            match text(&statistic.name).as_str() {
                "VGPRs" => compiled.vgprs = value,
                "Spilled VGPRs" | "Spilled SGPRs" => compiled.spills += value,
                "Scratch size" => compiled.scratch = value,
                "LDS size" => compiled.lds = value,
                "Subgroups per SIMD" => compiled.waves = value,
                _ => {}
            }
        }
        let assembly = representations.into_iter().find(|(name, _)| name == "Assembly");
        compiled.assembly = assembly.map_or(String::new(), |(_, text)| text);
        Ok(compiled)
    }

    /// Names and texts of the internal representations of an executable.
    ///
    /// # Safety
    /// The executable is one of a pipeline for which `read` may be called.
    unsafe fn representations(
        &self,
        executable: &vk::PipelineExecutableInfoKHR<'_>,
    ) -> std::result::Result<Vec<(String, String)>, vk::Result> {
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // SAFETY: asked once for how many there are, once for their sizes, once for their text, into memory of those sizes.
        unsafe {
            get(self.device.handle(), executable, &mut count, std::ptr::null_mut()).result()?;
            let mut list = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(self.device.handle(), executable, &mut count, list.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> = list.iter().map(|one| vec![0; one.data_size]).collect();
            list.iter_mut().zip(&mut texts).for_each(|(one, text)| one.p_data = text.as_mut_ptr().cast());
            get(self.device.handle(), executable, &mut count, list.as_mut_ptr()).result()?;
            let read = |bytes: &Vec<u8>| CStr::from_bytes_until_nul(bytes).map_or(String::new(), |s| s.to_string_lossy().into_owned());
            Ok(list.iter().zip(&texts).map(|(one, bytes)| (text(&one.name), read(bytes))).collect())
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // SAFETY: nothing of the device is left.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// True if this process has the environment of a null device of this family.
pub fn is_environment_of(card: &str) -> bool {
    std::env::var("RADV_FORCE_FAMILY").is_ok_and(|family| family == card)
        && std::env::var("VK_DRIVER_FILES").is_ok_and(|f| Path::new(&f).exists())
}
