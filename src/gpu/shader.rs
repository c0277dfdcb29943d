//! Shaders: embedded sources, specialisation, validation and reflection through naga. Needs no device.
//!
//! A kernel is one WGSL file with the entry point `main`. Two forms steer the loader, and leave the file legal as it is:
//! - `// uses: common/reduce, common/features_4 | common/features_1` names files that are appended after the kernel; of alternatives, the
//!   first whose consts are those that a dispatch asks for;
//! - `const NAME: u32 = 64u;` is a value that a dispatch may replace. WGSL evaluates consts while it is read, so the number is replaced in
//!   the text; all else works on naga's module.
//!
//! Branches on consts are folded, and bindings that no branch is left to use vanish from the layout.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use include_dir::{Dir, include_dir};

use super::fold::fold;
use super::forms::{Form, rewrite};
use super::join::join;
use super::target::Texel;
use crate::error::{Error, Result};

static SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/shaders");
type Key = (String, Vec<(&'static str, u32)>, Vec<(String, Form)>);
static LOADED: LazyLock<Mutex<HashMap<Key, Arc<Shader>>>> = LazyLock::new(Mutex::default);
/// Two kernels by their addresses, the workgroups of the first, and the bindings that are one.
type Pair = ([usize; 2], u32, Vec<(u32, u32)>);
static JOINED: LazyLock<Mutex<HashMap<Pair, Arc<Shader>>>> = LazyLock::new(Mutex::default);

/// One file's name and its text in place of the embedded one.
static REPLACED: OnceLock<(String, String)> = OnceLock::new();

/// Way in which a kernel uses a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// Kind of memory that is bound to a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// Storage buffer.
    Storage,
    /// Uniform buffer, instead of a read-only storage buffer.
    Uniform,
    /// Image with rows of 4,096 numbers, instead of a read-only storage buffer.
    Image(Texel),
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
    /// True if the kernel reads its values, as one with `Access::Write` may too.
    pub read: bool,
    /// Kind of memory that is bound.
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
    /// True if that is the const `WG`, which a dispatch may choose.
    pub sizeable: bool,
    /// Members of the immediate block: name, byte offset, type.
    pub params: Vec<(String, u32, ParamType)>,
    /// Bytes of the immediate block.
    pub params_bytes: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// True if it came from `add_source`, or a part of it: nobody has compared it with a reference.
    pub foreign: bool,
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
/// It keeps wgpu's bounds checks: what it reads or writes outside of its tensors is none of theirs. In buffers and in workgroup memory it
/// stores whole vectors: single numbers only of arrays of numbers. Loading it is refused otherwise.
///
/// A launch may hold another kernel, too, and its workgroups may have another size: a kernel finds its workgroup with `flat_group`
/// (`common/grid`), and one that has a `const WG`, no workgroup memory and a grid of threads must compute element `flat_group(…) * WG +
/// local`.
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

/// Names of the files that a kernel's text uses, with the alternatives of each.
#[doc(hidden)]
pub fn files_used(kernel: &str) -> Vec<Vec<&str>> {
    let lists = kernel.lines().filter_map(|line| line.strip_prefix("// uses: "));
    lists.flat_map(|list| list.split(", ")).map(|file| file.trim().split(" | ").collect()).collect()
}

fn specialise(name: &str, consts: &[(&'static str, u32)]) -> Result<String> {
    let kernel = source(name)?;
    let mut text = kernel.to_string();
    for alternatives in files_used(kernel) {
        let texts = alternatives.into_iter().map(source).collect::<Result<Vec<_>>>()?;
        let differs =
            |line: &str| const_line(line).is_some_and(|(name, value)| consts.iter().any(|(key, other)| *key == name && *other != value));
        let asked_for = texts.iter().find(|text| texts.len() == 1 || !text.lines().any(differs));
        text.push_str(asked_for.ok_or_else(|| Error::Internal(format!("shader {name}: no alternative for {consts:?}")))?);
    }
    for (key, _) in consts {
        let lines = text.lines().filter(|line| const_line(line).is_some_and(|(name, _)| name == *key)).count();
        if lines != 1 {
            return Err(Error::Internal(format!("shader {name}: {lines} lines declare const {key}, expected exactly one")));
        }
    }
    let values: HashMap<&str, u32> = consts.iter().copied().collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match const_line(line).and_then(|(key, _)| Some((key, values.get(key)?))) {
            Some((key, value)) => out.push_str(&format!("const {key}: u32 = {value}u;")),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

type Invalid = Box<naga::WithSpan<naga::valid::ValidationError>>;

fn validate(module: &naga::Module) -> std::result::Result<naga::valid::ModuleInfo, Invalid> {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let half = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SHADER_FLOAT16;
    Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES | Capabilities::SUBGROUP | half)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(module)
        .map_err(Box::new)
}

/// Place where a block stores a component of a vector that lies in memory which invocations share. For that, Metal and DirectX may write
/// the whole vector, the other components as they were read before (<https://github.com/gpuweb/gpuweb/issues/2112>): what other invocations
/// stored there meanwhile is lost.
fn component_store(block: &naga::Block, info: &naga::valid::FunctionInfo, types: &naga::UniqueArena<naga::Type>) -> Option<naga::Span> {
    use naga::{AddressSpace, Statement, TypeInner};
    let inside = |block| component_store(block, info, types);
    block.span_iter().find_map(|(statement, span)| match statement {
        Statement::Store { pointer, .. } => match info[*pointer].ty.inner_with(types) {
            TypeInner::ValuePointer { size: None, space: AddressSpace::WorkGroup | AddressSpace::Storage { .. }, .. } => Some(*span),
            _ => None,
        },
        Statement::Block(block) => inside(block),
        Statement::If { accept, reject, .. } => inside(accept).or_else(|| inside(reject)),
        Statement::Switch { cases, .. } => cases.iter().find_map(|case| inside(&case.body)),
        Statement::Loop { body, continuing, .. } => inside(body).or_else(|| inside(continuing)),
        _ => None,
    })
}

/// Bytes of workgroup memory that a module declares.
fn workgroup_bytes(module: &naga::Module) -> Result<u32> {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| Error::Internal(format!("sizes of a kernel's types: {e}")))?;
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    Ok(shared.map(|(_, v)| layouter[v.ty].to_stride()).sum())
}

impl Shader {
    /// Loads `family/pass` with the given const values. Cached: the same arguments give the same object.
    ///
    /// # Errors
    /// `Internal` when the file is missing, a const is not declared exactly once, or naga rejects the result; the message carries
    /// naga's own, with the line in the kernel's file.
    pub fn load(name: &str, consts: &[(&'static str, u32)]) -> Result<Arc<Shader>> {
        Self::cached(name, consts.to_vec(), &[])
    }

    /// The same kernel with the named arrays in another form where their types and uses allow.
    ///
    /// # Errors
    /// `Internal` when a part of the module is not understood.
    pub(crate) fn in_forms(&self, forms: &[(String, Form)]) -> Result<Arc<Shader>> {
        Self::cached(&self.name, self.consts.clone(), forms)
    }

    fn cached(name: &str, mut consts: Vec<(&'static str, u32)>, forms: &[(String, Form)]) -> Result<Arc<Shader>> {
        consts.sort_unstable();
        let key = (name.to_string(), consts.clone(), forms.to_vec());
        if let Some(shader) = LOADED.lock().expect("no panic while loading").get(&key) {
            return Ok(shader.clone());
        }
        let shader = Arc::new(Self::parse(name, consts, forms)?);
        // Another thread may have been faster: one address names a kernel for the life of the process, as pipelines are found by it.
        Ok(LOADED.lock().expect("no panic while loading").entry(key).or_insert(shader).clone())
    }

    /// Two kernels as one: the first `groups` workgroups run this one. Bindings of the other move up behind its own, but for those listed
    /// in `same` beside the binding of this one that they become.
    ///
    /// # Errors
    /// `Internal` when a part of the modules is not understood.
    pub(crate) fn beside(self: &Arc<Shader>, other: &Arc<Shader>, groups: u32, same: Vec<(u32, u32)>) -> Result<Arc<Shader>> {
        let key = ([self, other].map(|shader| Arc::as_ptr(shader) as usize), groups, same);
        if let Some(shader) = JOINED.lock().expect("no panic while joining").get(&key) {
            return Ok(shader.clone());
        }
        let same = &key.2;
        let name = format!("{} + {}", self.name, other.name);
        let broken = |what: &str| Error::Internal(format!("{name}: {what}"));
        let shift = self.bindings.iter().map(|b| b.index + 1).max().unwrap_or(0);
        let module = join(&self.module, &other.module, groups, shift, same).map_err(|why| broken(&why))?;
        validate(&module).map_err(|e| broken(&e.emit_to_string("")))?;
        let mut bindings = self.bindings.clone();
        let own = other.bindings.iter().filter(|b| same.iter().all(|(_, second)| *second != b.index));
        bindings.extend(own.map(|b| Binding { index: b.index + shift, ..b.clone() }));
        let mut params = self.params.clone();
        params.extend(other.params.iter().map(|(name, offset, kind)| (name.clone(), offset + self.params_bytes, *kind)));
        let workgroup_bytes = workgroup_bytes(&module)?;
        let params_bytes = self.params_bytes + other.params_bytes;
        let (workgroup, foreign) = (self.workgroup, self.foreign || other.foreign);
        let shader =
            Shader { name, consts: vec![], module, bindings, workgroup, sizeable: false, params, params_bytes, workgroup_bytes, foreign };
        // As for one kernel: one address for the life of the process.
        Ok(JOINED.lock().expect("no panic while joining").entry(key).or_insert(Arc::new(shader)).clone())
    }

    /// True if the variables of two bindings are of one kind and type, so that one can stand for both.
    pub(crate) fn binds_alike(&self, binding: &Binding, other: &Shader, its: &Binding) -> bool {
        use naga::TypeInner;
        // Address space, and the type with those that it is made of, whose handles are those of their module.
        let describe = |shader: &Shader, binding: &Binding| {
            let found = |v: &&naga::GlobalVariable| v.binding.is_some_and(|b| b.binding == binding.index);
            let variable = shader.module.global_variables.iter().map(|(_, v)| v).find(found)?;
            let types = &shader.module.types;
            let parts = match &types[variable.ty].inner {
                TypeInner::Array { base, size, stride } => vec![(format!("{size:?}"), *stride, types[*base].inner.clone())],
                TypeInner::Struct { members, .. } => {
                    members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset, types[m.ty].inner.clone())).collect()
                }
                inner => vec![(String::new(), 0, inner.clone())],
            };
            Some((variable.space, parts))
        };
        binding.kind == its.kind && describe(self, binding).is_some_and(|own| describe(other, its).as_ref() == Some(&own))
    }

    /// True if a variable is an array of floats, or of vectors of them.
    pub(crate) fn holds_floats(&self, name: &str) -> bool {
        use naga::{Scalar, TypeInner, VectorSize};
        let types = &self.module.types;
        let element = |ty| match types[ty].inner {
            TypeInner::Array { base, .. } => Some(&types[base].inner),
            _ => None,
        };
        let variable = self.module.global_variables.iter().find(|(_, v)| v.name.as_deref() == Some(name));
        let floats = [TypeInner::Scalar(Scalar::F32), TypeInner::Vector { size: VectorSize::Quad, scalar: Scalar::F32 }];
        variable.and_then(|(_, v)| element(v.ty)).is_some_and(|inner| floats.contains(inner))
    }

    /// Iterations that all loops of one invocation take together, at most, with these immediates.
    ///
    /// # Errors
    /// `Internal` when a loop has no bound that can be read off.
    pub fn loop_iterations(&self, immediates: &[u8]) -> Result<u64> {
        Ok(self.walk_loops(immediates)?.0)
    }

    /// The loops of one invocation, with the trips that they make with these immediates.
    ///
    /// # Errors
    /// `Internal` when a loop has no bound that can be read off.
    #[cfg(feature = "isa")]
    pub fn loops(&self, immediates: &[u8]) -> Result<Vec<super::loops::Loop>> {
        Ok(self.walk_loops(immediates)?.1)
    }

    fn walk_loops(&self, immediates: &[u8]) -> Result<(u64, Vec<super::loops::Loop>)> {
        let value = |offset: u32| Some(u32::from_le_bytes(*immediates.get(offset as usize..)?.first_chunk()?));
        super::loops::loops(&self.module, &value).map_err(|why| Error::Internal(format!("shaders/{}.wgsl: {why}", self.name)))
    }

    fn parse(name: &str, consts: Vec<(&'static str, u32)>, forms: &[(String, Form)]) -> Result<Shader> {
        let text = specialise(name, &consts)?;
        let path = format!("shaders/{name}.wgsl");
        let validate = |module: &naga::Module| {
            validate(module).map_err(|e| Error::Internal(format!("{path}: {}", e.emit_to_string_with_path(&text, &path))))
        };
        let mut module = naga::front::wgsl::parse_str(&text)
            .map_err(|e| Error::Internal(format!("{path}: {}", e.emit_to_string_with_path(&text, &path))))?;
        let info = validate(&module)?;
        let helpers = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
        let entries = module.entry_points.iter().enumerate().map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
        if let Some(span) = helpers.chain(entries).find_map(|(function, info)| component_store(&function.body, info, &module.types)) {
            let line = text.lines().nth(span.location(&text).line_number as usize - 1).unwrap_or_default().trim();
            return Err(Error::Internal(format!(
                "{path}: `{line}` stores one number of a vector in memory that invocations share: store whole vectors, or declare the array as numbers"
            )));
        }
        fold(&mut module);
        rewrite(&mut module, forms).map_err(|why| Error::Internal(format!("{path}: {why}")))?;
        let info = validate(&module)?;
        let reads = |variable: naga::Handle<naga::GlobalVariable>| info.get_entry_point(0)[variable].contains(naga::valid::GlobalUse::READ);

        let broken = |what: &str| Error::Internal(format!("{path}: {what}"));
        let entry = module.entry_points.iter().find(|e| e.name == "main").ok_or_else(|| broken("no entry point `main`"))?;
        if entry.workgroup_size[1..] != [1, 1] {
            return Err(broken("workgroups are one-dimensional"));
        }
        let workgroup = entry.workgroup_size[0];
        let workgroup_bytes = workgroup_bytes(&module)?;
        let (mut bindings, mut params, mut params_bytes) = (Vec::new(), Vec::new(), 0);
        for (handle, variable) in module.global_variables.iter() {
            let name = variable.name.clone().unwrap_or_default();
            match variable.space {
                naga::AddressSpace::Storage { access } => {
                    let slot = variable.binding.filter(|b| b.group == 0).ok_or_else(|| broken("bindings are in group 0"))?;
                    let access = if access.contains(naga::StorageAccess::STORE) { Access::Write } else { Access::Read };
                    bindings.push(Binding { name, index: slot.binding, access, read: reads(handle), kind: BindingKind::Storage });
                }
                naga::AddressSpace::Uniform => {
                    let slot = variable.binding.filter(|b| b.group == 0).ok_or_else(|| broken("bindings are in group 0"))?;
                    bindings.push(Binding { name, index: slot.binding, access: Access::Read, read: true, kind: BindingKind::Uniform });
                }
                naga::AddressSpace::Handle => {
                    let slot = variable.binding.filter(|b| b.group == 0).ok_or_else(|| broken("bindings are in group 0"))?;
                    let texel = Texel::of(&module.types[variable.ty].inner).ok_or_else(|| broken("an image of another kind"))?;
                    bindings.push(Binding { name, index: slot.binding, access: Access::Read, read: true, kind: BindingKind::Image(texel) });
                }
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
        let sizeable = text.lines().any(|line| const_line(line).is_some_and(|(key, _)| key == "WG"));
        let foreign = ADDED.lock().expect("no panic while adding").contains_key(name);
        Ok(Shader { name: name.to_string(), consts, module, bindings, workgroup, sizeable, params, params_bytes, workgroup_bytes, foreign })
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
    fn one_number_of_a_shared_vector_cannot_be_stored() {
        let text = |store: &str| {
            format!(
                "var<workgroup> v: array<vec4<f32>, 8>;\n@compute @workgroup_size(32)\nfn main(@builtin(local_invocation_index) local: u32) {{\n    if (local > 1u) {{\n        {store}\n    }}\n}}\n"
            )
        };
        for (name, store, fits) in [
            ("test/component", "v[local / 4u][local % 4u] = 1.0;", false),
            ("test/named", "v[local].x = 1.0;", false),
            ("test/whole", "v[local % 8u] = vec4<f32>();", true),
        ] {
            add_source(name, Box::leak(text(store).into_boxed_str())).unwrap();
            let loaded = Shader::load(name, &[]);
            assert_eq!(loaded.is_ok(), fits, "{name}");
            if let Err(error) = loaded {
                assert!(error.to_string().contains(&format!("`{store}` stores one number of a vector")), "{error}");
            }
        }
    }

    #[test]
    fn a_const_that_is_not_there_is_an_error() {
        let error = Shader::load("optimizer/update", &[("NO_SUCH_CONST", 1)]).unwrap_err();
        assert!(error.to_string().contains("0 lines declare const NO_SUCH_CONST"), "{error}");
    }
}
