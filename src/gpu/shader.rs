//! Shaders: embedded sources, specialisation, validation and reflection through naga. Needs no device.
//!
//! A kernel is one WGSL file with the entry point `main`. Three comment forms steer the loader, and leave the file legal as it is:
//! - `// uses: common/reduce, common/random` names files that are appended after the kernel;
//! - `const NAME: u32 = 64u;` is a value that a dispatch may replace;
//! - a trailing `// if NAME` drops its line when that const is 0, so that optional bindings vanish from the layout.
//!
//! On request, read-only arrays become uniform buffers or images: processors that run shaders load those ten times faster.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use include_dir::{Dir, include_dir};

use crate::error::{Error, Result};

static SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/shaders");
type Key = (String, Vec<(&'static str, u32)>, Vec<(String, Form)>);
static LOADED: LazyLock<Mutex<HashMap<Key, Arc<Shader>>>> = LazyLock::new(Mutex::default);

/// One file's name and its text in place of the embedded one.
static REPLACED: OnceLock<(String, String)> = OnceLock::new();

/// How a kernel uses a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// What is bound to a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// Storage buffer.
    Storage,
    /// Uniform buffer, instead of a read-only storage buffer.
    Uniform,
    /// Image with rows of 16 KiB and so many components a texel, instead of a read-only storage buffer.
    Image(u32),
}

/// Another form for a read-only array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Uniform buffer of so many elements.
    Uniform(usize),
    /// Image.
    Image,
}

/// One binding of group 0, as the shader declares it.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Variable name.
    pub name: String,
    /// `@binding(…)`.
    pub index: u32,
    /// Declared access.
    pub access: Access,
    /// What is bound.
    pub kind: BindingKind,
}

/// Scalar type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamType {
    /// `u32`.
    U32,
    /// `f32`.
    F32,
}

/// A specialised, validated and reflected kernel.
#[derive(Debug)]
pub struct Shader {
    /// `family/pass`.
    pub name: String,
    /// Const values in place of the file's own, sorted by name.
    pub consts: Vec<(&'static str, u32)>,
    /// Validated module.
    pub module: naga::Module,
    /// Storage bindings by index.
    pub bindings: Vec<Binding>,
    /// Invocations along x of one workgroup.
    pub workgroup: u32,
    /// Members of the immediate block: name, byte offset, type.
    pub params: Vec<(String, u32, ParamType)>,
    /// Bytes of the immediate block.
    pub params_bytes: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
}

/// Names of all kernels, `family/pass`, without the shared files.
pub fn shader_names() -> Vec<String> {
    let mut names: Vec<String> = SOURCES
        .dirs()
        .flat_map(|dir| dir.files())
        .map(|file| file.path().with_extension("").to_string_lossy().replace('\\', "/"))
        .filter(|name| !name.starts_with("common/"))
        .collect();
    names.sort();
    names
}

/// Gives one file of `shaders/` another text for the life of the process; for the check of the kernels' check, before the first shader is
/// loaded.
#[doc(hidden)]
pub fn replace_source(name: &str, text: &str) {
    REPLACED.set((name.to_string(), text.to_string())).expect("one replacement a process");
}

/// Kernels from outside.
static ADDED: LazyLock<Mutex<HashMap<String, &'static str>>> = LazyLock::new(Mutex::default);

/// Makes a kernel of one's own known as `family/pass`: its WGSL text, in the form that the module describes. It may use the shared files.
///
/// # Errors
/// `Config` when there is another kernel of that name.
pub fn add_source(name: &str, text: &'static str) -> Result<()> {
    let mut added = ADDED.lock().expect("no panic while adding");
    if SOURCES.get_file(format!("{name}.wgsl")).is_some() || added.get(name).is_some_and(|known| *known != text) {
        return Err(Error::Config(format!("there is another kernel {name}: choose another name")));
    }
    added.insert(name.to_string(), text);
    Ok(())
}

fn source(name: &str) -> Result<&'static str> {
    if let Some(text) = ADDED.lock().expect("no panic while adding").get(name) {
        return Ok(text);
    }
    if let Some((_, text)) = REPLACED.get().filter(|(replaced, _)| replaced == name) {
        return Ok(text);
    }
    SOURCES
        .get_file(format!("{name}.wgsl"))
        .and_then(|file| file.contents_utf8())
        .ok_or_else(|| Error::Internal(format!("shader {name}: no such file under shaders/")))
}

/// Value of `const NAME: u32 = 64u;` on this line, if it is one.
fn const_line(line: &str) -> Option<(&str, u32)> {
    let (name, value) = line.trim().strip_prefix("const ")?.split_once(": u32 = ")?;
    Some((name, value.split_once("u;")?.0.parse().ok()?))
}

fn specialise(name: &str, consts: &[(&'static str, u32)]) -> Result<String> {
    let kernel = source(name)?;
    let mut text = kernel.to_string();
    for used in kernel.lines().filter_map(|line| line.strip_prefix("// uses: ")).flat_map(|list| list.split(", ")) {
        text.push_str(source(used.trim())?);
    }
    let mut values: HashMap<String, u32> = text.lines().filter_map(const_line).map(|(name, value)| (name.to_string(), value)).collect();
    for (key, value) in consts {
        let lines = text.lines().filter(|line| const_line(line).is_some_and(|(name, _)| name == *key)).count();
        if lines != 1 {
            return Err(Error::Internal(format!("shader {name}: {lines} lines declare const {key}, expected exactly one")));
        }
        values.insert((*key).to_string(), *value);
    }
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if let Some((key, _)) = const_line(line) {
            out.push_str(&format!("const {key}: u32 = {}u;", values[key]));
        } else if let Some((_, condition)) = line.rsplit_once("// if ") {
            match values.get(condition.trim()) {
                Some(0) => {}
                Some(_) => out.push_str(line),
                None => return Err(Error::Internal(format!("shader {name}: `// if {condition}` names no const"))),
            }
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    Ok(out)
}

/// `var<storage, read> name: array<f32>` (or u32, or vec4<f32>) → `var<uniform> name: array<vec4<f32>, count>`, and each `name[i]` to match.
fn uniform(text: &str, name: &str, elements: usize) -> Option<String> {
    let declaration = |element: &str| format!("var<storage, read> {name}: array<{element}>;");
    let element = ["f32", "u32", "vec4<f32>"].into_iter().find(|e| text.contains(&declaration(e)))?;
    let (vector, scalar) = if element == "vec4<f32>" { (element.to_string(), false) } else { (format!("vec4<{element}>"), true) };
    let replacement = format!("var<uniform> {name}: array<{vector}, {}u>;", elements.div_ceil(4));
    let text = text.replace(&declaration(element), &replacement);
    Some(if scalar { replace_index(&text, name, &|i| format!("{name}[({i}) >> 2u][({i}) & 3u]")) } else { text })
}

/// `var<storage, read> name: array<f32>` (or vec4<f32>) → `var name: texture_2d<f32>`, and each `name[i]` to match.
fn image(text: &str, name: &str) -> Option<String> {
    let declaration = |element: &str| format!("var<storage, read> {name}: array<{element}>;");
    let (element, load) = [("f32", ".x"), ("vec4<f32>", "")].into_iter().find(|(e, _)| text.contains(&declaration(e)))?;
    let row = super::target::IMAGE_ROW / if element == "f32" { 1 } else { 4 };
    let (mask, shift) = (row - 1, row.trailing_zeros());
    let text = text.replace(&declaration(element), &format!("var {name}: texture_2d<f32>;"));
    Some(replace_index(&text, name, &|i| format!("textureLoad({name}, vec2<u32>(({i}) & {mask}u, ({i}) >> {shift}u), 0){load}")))
}

/// `name[i]` → `access(i)` throughout.
fn replace_index(text: &str, name: &str, access: &dyn Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some(at) = rest.find(&format!("{name}[")) {
        let open = at + name.len();
        let whole = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        out.push_str(&rest[..at]);
        let mut depth = 0;
        let close = rest[open..].find(|c| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            depth == 0
        });
        let (true, Some(close)) = (whole, close) else {
            out.push_str(&rest[at..=open]);
            rest = &rest[open + 1..];
            continue;
        };
        out.push_str(&access(&replace_index(&rest[open + 1..open + close], name, access)));
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    out
}

impl Shader {
    /// Loads `family/pass` with the given const values. Cached: the same arguments give the same object.
    ///
    /// # Errors
    /// `Internal` when the file is missing, a const is not declared exactly once, or naga rejects the result; the message carries
    /// naga's own, with the line in the kernel's file.
    pub fn load(name: &str, consts: &[(&'static str, u32)]) -> Result<Arc<Shader>> {
        Self::load_with(name, consts, &[])
    }

    /// Loads as `load`, with the named read-only arrays in another form where their type allows.
    pub(crate) fn load_with(name: &str, consts: &[(&'static str, u32)], forms: &[(String, Form)]) -> Result<Arc<Shader>> {
        let mut consts = consts.to_vec();
        consts.sort_unstable();
        let key = (name.to_string(), consts.clone(), forms.to_vec());
        if let Some(shader) = LOADED.lock().expect("no panic while loading").get(&key) {
            return Ok(shader.clone());
        }
        let shader = Arc::new(Self::parse(name, consts, forms)?);
        LOADED.lock().expect("no panic while loading").insert(key, shader.clone());
        Ok(shader)
    }

    /// Iterations that all loops of one invocation take together, at most, with these immediates.
    ///
    /// # Errors
    /// `Internal` when a loop has no bound that can be read off.
    pub fn loop_iterations(&self, immediates: &[u8]) -> Result<u64> {
        let value = |offset: u32| Some(u32::from_le_bytes(*immediates.get(offset as usize..)?.first_chunk()?));
        super::loops::iterations(&self.module, &value).map_err(|why| Error::Internal(format!("shaders/{}.wgsl: {why}", self.name)))
    }

    fn parse(name: &str, consts: Vec<(&'static str, u32)>, forms: &[(String, Form)]) -> Result<Shader> {
        let mut text = specialise(name, &consts)?;
        let plain = text.clone();
        for (variable, form) in forms {
            let changed = match form {
                Form::Uniform(elements) => uniform(&text, variable, *elements),
                Form::Image => image(&text, variable),
            };
            text = changed.unwrap_or(text);
        }
        let path = format!("shaders/{name}.wgsl");
        let module = naga::front::wgsl::parse_str(&text)
            .map_err(|e| Error::Internal(format!("{path}: {}", e.emit_to_string_with_path(&text, &path))))?;
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32)
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|e| Error::Internal(format!("{path}: {}", e.emit_to_string_with_path(&text, &path))))?;

        let broken = |what: &str| Error::Internal(format!("{path}: {what}"));
        let entry = module.entry_points.iter().find(|e| e.name == "main").ok_or_else(|| broken("no entry point `main`"))?;
        if entry.workgroup_size[1..] != [1, 1] {
            return Err(broken("workgroups are one-dimensional"));
        }
        let workgroup = entry.workgroup_size[0];
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).map_err(|e| broken(&e.to_string()))?;
        let (mut bindings, mut params, mut params_bytes, mut workgroup_bytes) = (Vec::new(), Vec::new(), 0, 0);
        for (_, variable) in module.global_variables.iter() {
            let name = variable.name.clone().unwrap_or_default();
            match variable.space {
                naga::AddressSpace::Storage { access } => {
                    let slot = variable.binding.filter(|b| b.group == 0).ok_or_else(|| broken("bindings are in group 0"))?;
                    let access = if access.contains(naga::StorageAccess::STORE) { Access::Write } else { Access::Read };
                    bindings.push(Binding { name, index: slot.binding, access, kind: BindingKind::Storage });
                }
                naga::AddressSpace::Uniform => {
                    let slot = variable.binding.filter(|b| b.group == 0).ok_or_else(|| broken("bindings are in group 0"))?;
                    bindings.push(Binding { name, index: slot.binding, access: Access::Read, kind: BindingKind::Uniform });
                }
                naga::AddressSpace::Handle => {
                    let slot = variable.binding.filter(|b| b.group == 0).ok_or_else(|| broken("bindings are in group 0"))?;
                    let components = if plain.contains(&format!("{name}: array<vec4<f32>>;")) { 4 } else { 1 };
                    bindings.push(Binding { name, index: slot.binding, access: Access::Read, kind: BindingKind::Image(components) });
                }
                naga::AddressSpace::WorkGroup => workgroup_bytes += layouter[variable.ty].to_stride(),
                naga::AddressSpace::Immediate => {
                    let naga::TypeInner::Struct { members, span } = &module.types[variable.ty].inner else {
                        return Err(broken("the immediate block is a struct"));
                    };
                    params_bytes = *span;
                    for member in members {
                        let kind = match module.types[member.ty].inner {
                            naga::TypeInner::Scalar(naga::Scalar::U32) => ParamType::U32,
                            naga::TypeInner::Scalar(naga::Scalar::F32) => ParamType::F32,
                            _ => return Err(broken("parameters are u32 or f32")),
                        };
                        params.push((member.name.clone().unwrap_or_default(), member.offset, kind));
                    }
                }
                _ => {}
            }
        }
        bindings.sort_by_key(|b| b.index);
        Ok(Shader { name: name.to_string(), consts, module, bindings, workgroup, params, params_bytes, workgroup_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shader_is_valid_as_it_stands() {
        let names = shader_names();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            Shader::load(&name, &[]).unwrap();
        }
    }

    #[test]
    fn a_const_that_is_not_there_is_an_error() {
        let error = Shader::load("adamw/update", &[("NO_SUCH_CONST", 1)]).unwrap_err();
        assert!(error.to_string().contains("0 lines declare const NO_SUCH_CONST"), "{error}");
    }

    #[test]
    fn nested_indices_of_uniform_arrays_are_rewritten() {
        assert_eq!(
            replace_index("y[i] = xs[x[x[1]]] + p.x[2];", "x", &|i| format!("x[({i}) >> 2u][({i}) & 3u]")),
            "y[i] = xs[x[(x[(1) >> 2u][(1) & 3u]) >> 2u][(x[(1) >> 2u][(1) & 3u]) & 3u]] + p.x[2];"
        );
    }
}
