//! Other forms of arrays. First what is done for processors that run shaders: some of their drivers load from storage buffers lane by lane,
//! and from uniform buffers and images ten times faster; so on those, arrays that a kernel reads are given to it in another form:
//! - `array<f32>`, `array<u32>` and `array<vec4<f32>>` of few elements as uniform arrays of vectors;
//! - larger ones of floats as images, which the plan copies them to before the launch.
//!
//! Arrays that a plan stores in 16 bits are converted where they are loaded and stored, on every device.
//!
//! Kernels are written for storage buffers of 32-bit numbers alone; here their modules are rewritten.

use std::collections::HashMap;

use naga::compact::{KeepUnused, compact};
use naga::front::Typifier;
use naga::proc::ResolveContext;
use naga::{
    AddressSpace, Arena, ArraySize, BinaryOperator, Block, Expression, Function, GlobalVariable, Handle, ImageClass, ImageDimension,
    Literal, Module, Range, Scalar, ScalarKind, Span, Statement, StorageAccess, StorageFormat, Type, TypeInner, VectorSize,
};

use super::target::{IMAGE_ROW, Target, Texel};

/// Drivers that load from uniform buffers and images faster than from storage buffers: Mesa's llvmpipe (matrix products three to four times
/// faster, on processors where a gather is slow). SwiftShader is slower with images. `benches/results/2026-11-21-drivers.md` has the
/// figures. It goes by name: a choice that hung on a timing at start could differ between a run and its resumption, and with it the bits.
const IMAGES_ARE_FASTER: [&str; 1] = ["llvmpipe"];

/// True if arrays are read from uniform buffers and images on this driver. Those that nobody has measured read storage buffers.
pub(super) fn prefers_images(driver: &str) -> bool {
    IMAGES_ARE_FASTER.iter().any(|name| driver.starts_with(name))
}

/// True if the driver puts each number of a storage buffer into its lane by way of the stack, which takes some twenty cycles on
/// processors without AVX-512. Mesa 22 does, 25 and 26 do not: `benches/results/2026-12-01-avx2.md`.
pub(super) fn inserts_by_stack(driver: &str) -> bool {
    driver.starts_with("llvmpipe Mesa 22.")
}

/// Another form for an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Uniform buffer of so many elements.
    Uniform(usize),
    /// Image, of 16-bit floats or not.
    Image { half: bool },
    /// Storage buffer of 16-bit floats.
    Half,
}

impl Target {
    /// Form from which an array of so many elements is read, if that is no storage buffer.
    pub(crate) fn form(&self, elements: usize) -> Option<Form> {
        if elements.next_multiple_of(4) * 4 <= self.uniform_bytes as usize {
            return Some(Form::Uniform(elements));
        }
        self.holds_image(elements).then_some(Form::Image { half: false })
    }

    /// True if so many elements are read from an image.
    pub(crate) fn holds_image(&self, elements: usize) -> bool {
        elements.div_ceil(IMAGE_ROW) <= self.image_rows as usize
    }
}

impl Texel {
    /// Name in shaders.
    fn format(self) -> StorageFormat {
        match (self.components, self.half) {
            (4, false) => StorageFormat::Rgba32Float,
            (4, true) => StorageFormat::Rgba16Float,
            (_, false) => StorageFormat::R32Float,
            (_, true) => StorageFormat::R16Float,
        }
    }

    /// Content of the texels of an image of that type.
    pub(super) fn of(image: &TypeInner) -> Option<Texel> {
        let TypeInner::Image { class: ImageClass::Storage { format, .. }, .. } = image else { return None };
        Texel::ALL.into_iter().find(|texel| texel.format() == *format)
    }
}

/// Place that loads of an array go to.
#[derive(Clone, Copy)]
struct Source {
    /// True if its elements are scalars, not vectors of four.
    scalar: bool,
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    Uniform,
    /// A buffer of 16-bit floats.
    Half,
    /// An image.
    Image,
}

/// Gives arrays of a valid module another form where their types and uses allow.
///
/// # Errors
/// Part of the module that is not understood.
pub(super) fn rewrite(module: &mut Module, forms: &[(String, Form)]) -> Result<(), String> {
    // As it is before, for the types of its expressions.
    let original = module.clone();
    let mut sources = HashMap::new();
    for (name, form) in forms {
        let found = module.global_variables.iter().find(|(_, v)| v.name.as_ref() == Some(name)).map(|(handle, _)| handle);
        let Some(handle) = found else { continue };
        if let Some(source) = declare(module, handle, *form) {
            sources.insert(handle, source);
        }
    }
    if sources.is_empty() {
        return Ok(());
    }
    let texel = add_type(module, TypeInner::Vector { size: VectorSize::Bi, scalar: Scalar::U32 });
    let handles: Vec<_> = module.functions.iter().map(|(handle, _)| handle).collect();
    for handle in handles {
        let function = std::mem::take(&mut module.functions[handle]);
        module.functions[handle] = Rebuild::function(&original, function, &sources, texel)?;
    }
    for at in 0..module.entry_points.len() {
        let function = std::mem::take(&mut module.entry_points[at].function);
        module.entry_points[at].function = Rebuild::function(&original, function, &sources, texel)?;
    }
    compact(module, KeepUnused::No);
    Ok(())
}

fn add_type(module: &mut Module, inner: TypeInner) -> Handle<Type> {
    module.types.insert(Type { name: None, inner }, Span::UNDEFINED)
}

/// Declares a variable in its form, if its type has one.
fn declare(module: &mut Module, handle: Handle<GlobalVariable>, form: Form) -> Option<Source> {
    let variable = &module.global_variables[handle];
    let AddressSpace::Storage { access } = variable.space else { return None };
    let TypeInner::Array { base, size: ArraySize::Dynamic, .. } = module.types[variable.ty].inner else { return None };
    let (element, scalar) = match module.types[base].inner {
        TypeInner::Scalar(scalar @ (Scalar::F32 | Scalar::U32)) => (scalar, true),
        TypeInner::Vector { size: VectorSize::Quad, scalar: Scalar::F32 } => (Scalar::F32, false),
        _ => return None,
    };
    if form == Form::Half {
        if element != Scalar::F32 {
            return None;
        }
        let (inner, stride) = if scalar {
            (TypeInner::Scalar(Scalar::F16), 2)
        } else {
            (TypeInner::Vector { size: VectorSize::Quad, scalar: Scalar::F16 }, 8)
        };
        let base = add_type(module, inner);
        let ty = add_type(module, TypeInner::Array { base, size: ArraySize::Dynamic, stride });
        module.global_variables[handle].ty = ty;
        return Some(Source { scalar, from: From::Half });
    }
    if access.contains(StorageAccess::STORE) {
        return None;
    }
    if let Form::Uniform(elements) = form {
        let base = add_type(module, TypeInner::Vector { size: VectorSize::Quad, scalar: element });
        let count = ArraySize::Constant(std::num::NonZeroU32::new(elements.div_ceil(4) as u32)?);
        let ty = add_type(module, TypeInner::Array { base, size: count, stride: 16 });
        let variable = &mut module.global_variables[handle];
        (variable.space, variable.ty) = (AddressSpace::Uniform, ty);
        return Some(Source { scalar, from: From::Uniform });
    }
    let Form::Image { half } = form else { return None };
    if element != Scalar::F32 {
        return None;
    }
    // Mesa computes the level of a sampled image, lane by lane, in a function that every load calls; a storage image has none.
    let format = Texel { components: if scalar { 1 } else { 4 }, half }.format();
    let class = ImageClass::Storage { format, access: StorageAccess::LOAD };
    let ty = add_type(module, TypeInner::Image { dim: ImageDimension::D2, arrayed: false, class });
    let variable = &mut module.global_variables[handle];
    (variable.space, variable.ty) = (AddressSpace::Handle, ty);
    Some(Source { scalar, from: From::Image })
}

/// Variable that a pointer leads to.
fn root(expressions: &Arena<Expression>, pointer: Handle<Expression>) -> Option<Handle<GlobalVariable>> {
    match expressions[pointer] {
        Expression::GlobalVariable(global) => Some(global),
        Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => root(expressions, base),
        _ => None,
    }
}

type Expr = Handle<Expression>;

/// An element of an image: its variable, the element, and the component of a vector.
#[derive(Clone, Copy)]
struct Element {
    scalar: bool,
    image: Handle<GlobalVariable>,
    index: Expr,
    component: Option<Component>,
}

#[derive(Clone, Copy)]
enum Component {
    Fixed(u32),
    Computed(Expr),
}

/// A function made anew: expressions may only use earlier ones, so those that are added shift the others.
struct Rebuild<'a> {
    sources: &'a HashMap<Handle<GlobalVariable>, Source>,
    expressions: Arena<Expression>,
    /// New handle of each old expression.
    handles: Vec<Expr>,
    /// Number of new expressions before each old one, and after the last.
    starts: Vec<usize>,
    /// All new handles.
    added: Vec<Expr>,
    numbers: HashMap<u32, Expr>,
    images: HashMap<Handle<GlobalVariable>, Expr>,
    /// Old pointers into images.
    elements: HashMap<Expr, Element>,
    /// Type of the coordinates of a texel.
    texel: Handle<Type>,
}

impl Rebuild<'_> {
    fn function(
        module: &Module,
        mut function: Function,
        sources: &HashMap<Handle<GlobalVariable>, Source>,
        texel: Handle<Type>,
    ) -> Result<Function, String> {
        let old = std::mem::take(&mut function.expressions);
        let mut types = Typifier::new();
        let context = ResolveContext::with_locals(module, &function.local_variables, &function.arguments);
        if let Some((last, _)) = old.iter().last() {
            types.grow(last, &old, &context).map_err(|e| e.to_string())?;
        }
        let mut new = Rebuild {
            sources,
            expressions: Arena::new(),
            handles: Vec::with_capacity(old.len()),
            starts: Vec::with_capacity(old.len() + 1),
            added: Vec::new(),
            numbers: HashMap::new(),
            images: HashMap::new(),
            elements: HashMap::new(),
            texel,
        };
        new.prepare(&old);
        for (handle, expression) in old.iter() {
            new.starts.push(new.added.len());
            let signed = |index: Expr| matches!(types[index].inner_with(&module.types), TypeInner::Scalar(Scalar::I32));
            let made = new.expression(handle, expression.clone(), &old, &signed)?;
            new.handles.push(made);
        }
        new.starts.push(new.added.len());
        for (_, variable) in function.local_variables.iter_mut() {
            variable.init = variable.init.map(|init| new.handles[init.index()]);
        }
        function.named_expressions =
            function.named_expressions.drain(..).map(|(handle, name)| (new.handles[handle.index()], name)).collect();
        let handles = std::mem::take(&mut new.handles);
        function.body = new.block(std::mem::take(&mut function.body), &handles)?;
        function.expressions = new.expressions;
        Ok(function)
    }

    /// Literals and images come first: they are not computed by any statement, so they cannot stand among what one does.
    fn prepare(&mut self, old: &Arena<Expression>) {
        let rows = [1, 4].map(|width| (IMAGE_ROW / width) as u32);
        let fixed = old.iter().filter_map(|(_, e)| if let Expression::AccessIndex { index, .. } = e { Some(*index) } else { None });
        for number in rows.iter().flat_map(|row| [row - 1, row.trailing_zeros()]).chain([2, 3]).chain(fixed) {
            if !self.numbers.contains_key(&number) {
                let handle = self.add(Expression::Literal(Literal::U32(number)));
                self.numbers.insert(number, handle);
            }
        }
        let mut images: Vec<_> =
            self.sources.iter().filter(|(_, source)| matches!(source.from, From::Image)).map(|(image, _)| *image).collect();
        images.sort_unstable();
        for image in images {
            let handle = self.add(Expression::GlobalVariable(image));
            self.images.insert(image, handle);
        }
    }

    fn add(&mut self, expression: Expression) -> Expr {
        let handle = self.expressions.append(expression, Span::UNDEFINED);
        self.added.push(handle);
        handle
    }

    fn number(&self, value: u32) -> Expr {
        self.numbers[&value]
    }

    fn binary(&mut self, op: BinaryOperator, left: Expr, right: u32) -> Expr {
        let right = self.number(right);
        self.add(Expression::Binary { op, left, right })
    }

    fn expression(
        &mut self,
        handle: Expr,
        mut expression: Expression,
        old: &Arena<Expression>,
        signed: &dyn Fn(Expr) -> bool,
    ) -> Result<Expr, String> {
        let (base, computed) = match expression {
            Expression::Access { base, index } => (Some(base), Some(index)),
            Expression::AccessIndex { base, .. } => (Some(base), None),
            _ => (None, None),
        };
        let source = base.and_then(|base| match old[base] {
            Expression::GlobalVariable(global) => self.sources.get(&global).map(|source| (global, *source)),
            _ => None,
        });
        if let Some((image, source)) = source.filter(|(_, source)| !matches!(source.from, From::Half)) {
            let mut index = match (computed, &expression) {
                (Some(index), _) => self.handles[index.index()],
                (None, Expression::AccessIndex { index, .. }) => self.number(*index),
                _ => return Err("an access without an index".into()),
            };
            if computed.is_some_and(signed) {
                index = self.add(Expression::As { expr: index, kind: ScalarKind::Uint, convert: None });
            }
            match source.from {
                From::Uniform if source.scalar => {
                    let base = self.handles[base.expect("an access").index()];
                    let (vector, lane) = (self.binary(BinaryOperator::ShiftRight, index, 2), self.binary(BinaryOperator::And, index, 3));
                    let base = self.add(Expression::Access { base, index: vector });
                    return Ok(self.add(Expression::Access { base, index: lane }));
                }
                From::Uniform | From::Half => {}
                From::Image => {
                    self.elements.insert(handle, Element { scalar: source.scalar, image, index, component: None });
                }
            }
        } else if let Some(element) = base.and_then(|base| self.elements.get(&base).copied()) {
            let component = match expression {
                Expression::AccessIndex { index, .. } => Component::Fixed(index),
                _ => Component::Computed(self.handles[computed.expect("an access").index()]),
            };
            self.elements.insert(handle, Element { component: Some(component), ..element });
        }
        match (&expression, self.elements.get(&handle)) {
            // Nothing but loads may use a pointer into an image.
            (_, Some(element)) => return Ok(element.index),
            (Expression::Load { pointer }, _) if self.elements.contains_key(pointer) => {
                return Ok(self.load(self.elements[pointer]));
            }
            _ => {}
        }
        let halves = matches!(&expression, Expression::Load { pointer } if self.halves(old, *pointer));
        operands(&mut expression, &mut |e| *e = self.handles[e.index()])?;
        let made = self.add(expression);
        Ok(if halves { self.add(Expression::As { expr: made, kind: ScalarKind::Float, convert: Some(4) }) } else { made })
    }

    /// True if a pointer leads to 16-bit floats.
    fn halves(&self, expressions: &Arena<Expression>, pointer: Expr) -> bool {
        root(expressions, pointer).and_then(|global| self.sources.get(&global)).is_some_and(|source| matches!(source.from, From::Half))
    }

    /// Element i of an image with rows of so many texels: texel (i mod row, ⌊i / row⌋).
    fn load(&mut self, element: Element) -> Expr {
        let row = (IMAGE_ROW / if element.scalar { 1 } else { 4 }) as u32;
        let x = self.binary(BinaryOperator::And, element.index, row - 1);
        let y = self.binary(BinaryOperator::ShiftRight, element.index, row.trailing_zeros());
        let coordinate = self.add(Expression::Compose { ty: self.texel, components: vec![x, y] });
        let image = self.images[&element.image];
        let base = self.add(Expression::ImageLoad { image, coordinate, array_index: None, sample: None, level: None });
        match element.component {
            _ if element.scalar => self.add(Expression::AccessIndex { base, index: 0 }),
            Some(Component::Fixed(index)) => self.add(Expression::AccessIndex { base, index }),
            Some(Component::Computed(index)) => self.add(Expression::Access { base, index }),
            None => base,
        }
    }

    /// A block with the new handles of its expressions.
    fn block(&mut self, block: Block, handles: &[Expr]) -> Result<Block, String> {
        let renamed = |e: &mut Expr| *e = handles[e.index()];
        let mut out = Block::with_capacity(block.len());
        for (mut statement, span) in block.span_into_iter() {
            match &mut statement {
                Statement::Emit(range) => {
                    let Some((first, last)) = range.first_and_last() else { continue };
                    let (start, end) = (self.starts[first.index()], self.starts[last.index() + 1]);
                    if start == end {
                        continue;
                    }
                    *range = Range::new_from_bounds(self.added[start], self.added[end - 1]);
                }
                Statement::Block(inner) => *inner = self.block(std::mem::take(inner), handles)?,
                Statement::If { condition, accept, reject } => {
                    renamed(condition);
                    *accept = self.block(std::mem::take(accept), handles)?;
                    *reject = self.block(std::mem::take(reject), handles)?;
                }
                Statement::Switch { selector, cases } => {
                    renamed(selector);
                    for case in cases {
                        case.body = self.block(std::mem::take(&mut case.body), handles)?;
                    }
                }
                Statement::Loop { body, continuing, break_if } => {
                    *body = self.block(std::mem::take(body), handles)?;
                    *continuing = self.block(std::mem::take(continuing), handles)?;
                    break_if.iter_mut().for_each(renamed);
                }
                Statement::Return { value } => value.iter_mut().for_each(renamed),
                Statement::Store { pointer, value } => {
                    [&mut *pointer, &mut *value].into_iter().for_each(renamed);
                    if self.halves(&self.expressions, *pointer) {
                        *value = self.add(Expression::As { expr: *value, kind: ScalarKind::Float, convert: Some(2) });
                        out.push(Statement::Emit(Range::new_from_bounds(*value, *value)), span);
                    }
                }
                Statement::WorkGroupUniformLoad { pointer, result } => [pointer, result].into_iter().for_each(renamed),
                Statement::Atomic { pointer, value, result, .. } => [pointer, value].into_iter().chain(result).for_each(renamed),
                Statement::Call { arguments, result, .. } => arguments.iter_mut().chain(result).for_each(renamed),
                Statement::SubgroupBallot { result, predicate } => std::iter::once(result).chain(predicate).for_each(renamed),
                Statement::SubgroupCollectiveOperation { argument, result, .. } => [argument, result].into_iter().for_each(renamed),
                Statement::SubgroupGather { mode, argument, result } => {
                    [argument, result].into_iter().for_each(renamed);
                    use naga::GatherMode as Mode;
                    match mode {
                        Mode::Broadcast(e) | Mode::Shuffle(e) | Mode::ShuffleDown(e) | Mode::ShuffleUp(e) | Mode::ShuffleXor(e) => {
                            renamed(e)
                        }
                        Mode::BroadcastFirst | Mode::QuadBroadcast(_) | Mode::QuadSwap(_) => {}
                    }
                }
                Statement::Break | Statement::Continue | Statement::Kill | Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => {}
                other => return Err(format!("no other form is known of {other:?}")),
            }
            out.push(statement, span);
        }
        Ok(out)
    }
}

/// Visits what an expression uses.
fn operands(expression: &mut Expression, visit: &mut dyn FnMut(&mut Expr)) -> Result<(), String> {
    match expression {
        Expression::Literal(_)
        | Expression::Constant(_)
        | Expression::ZeroValue(_)
        | Expression::FunctionArgument(_)
        | Expression::GlobalVariable(_)
        | Expression::LocalVariable(_)
        | Expression::CallResult(_)
        | Expression::AtomicResult { .. }
        | Expression::WorkGroupUniformLoadResult { .. }
        | Expression::SubgroupBallotResult
        | Expression::SubgroupOperationResult { .. } => {}
        Expression::Compose { components, .. } => components.iter_mut().for_each(visit),
        Expression::Access { base, index } => [base, index].into_iter().for_each(visit),
        Expression::AccessIndex { base: e, .. }
        | Expression::Splat { value: e, .. }
        | Expression::Swizzle { vector: e, .. }
        | Expression::Load { pointer: e }
        | Expression::Unary { expr: e, .. }
        | Expression::Relational { argument: e, .. }
        | Expression::As { expr: e, .. }
        | Expression::ArrayLength(e) => visit(e),
        Expression::Binary { left, right, .. } => [left, right].into_iter().for_each(visit),
        Expression::Select { condition, accept, reject } => [condition, accept, reject].into_iter().for_each(visit),
        Expression::Math { arg, arg1, arg2, arg3, .. } => std::iter::once(arg).chain(arg1).chain(arg2).chain(arg3).for_each(visit),
        other => return Err(format!("no other form is known of {other:?}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Form = Form::Image { half: false };

    #[test]
    fn only_measured_drivers_read_images() {
        assert!(prefers_images("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"));
        assert!(!prefers_images("SwiftShader driver"));
        assert!(!prefers_images(""));
    }

    #[test]
    fn old_mesa_alone_loads_by_way_of_the_stack() {
        assert!(inserts_by_stack("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"));
        assert!(!inserts_by_stack("llvmpipe Mesa 25.0.7-2 (LLVM 19.1.7)"));
        assert!(!inserts_by_stack("SwiftShader driver"));
    }

    /// Variables of a kernel whose arrays are all given another form: name and address space.
    fn spaces(body: &str, form: Form) -> Vec<(String, &'static str)> {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
            @group(0) @binding(1) var<storage, read> x: array<f32>;
            @group(0) @binding(2) var<storage, read> n: array<u32>;
            @group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
            fn at(i: u32) -> f32 {{ let xs = 3u; return x[xs + n[i]]; }}
            @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {{ {body} }}"
        );
        let mut module = naga::front::wgsl::parse_str(&text).unwrap();
        super::super::fold::fold(&mut module);
        let forms: Vec<(String, Form)> = ["y", "x", "n", "v"].iter().map(|name| (name.to_string(), form)).collect();
        rewrite(&mut module, &forms).unwrap();
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all()).validate(&module).unwrap();
        let space = |space| match space {
            AddressSpace::Storage { .. } => "buffer",
            AddressSpace::Uniform => "uniform",
            AddressSpace::Handle => "image",
            _ => "other",
        };
        module.global_variables.iter().map(|(_, v)| (v.name.clone().unwrap_or_default(), space(v.space))).collect()
    }

    #[test]
    fn arrays_change_by_type_and_use() {
        let uniform = Form::Uniform(9);
        for (body, form, expected) in [
            ("y[i] = vec4(x[n[x_of(i)]]);", uniform, &[("y", "buffer"), ("x", "uniform"), ("n", "uniform")][..]),
            ("y[i] = vec4(at(i) + x[0]) + v[i];", uniform, &[("y", "buffer"), ("x", "uniform"), ("n", "uniform"), ("v", "uniform")]),
            (
                "y[i] = vec4(at(i) + x[0]) + v[i] * v[n[1]].y + v[i][n[2]];",
                IMAGE,
                &[("y", "buffer"), ("x", "image"), ("n", "buffer"), ("v", "image")],
            ),
            ("y[i] = vec4(x[i32(i) - 1]);", IMAGE, &[("y", "buffer"), ("x", "image")]),
            ("y[i] = vec4(x[i32(i) - 1]);", uniform, &[("y", "buffer"), ("x", "uniform")]),
            ("y[i] += v[i];", IMAGE, &[("y", "buffer"), ("v", "image")]),
            ("y[i] += v[i];", uniform, &[("y", "buffer"), ("v", "uniform")]),
        ] {
            let body = body.replace("x_of(i)", "u32(x[i])");
            let expected: Vec<_> = expected.iter().map(|(name, space)| (name.to_string(), *space)).collect();
            assert_eq!(spaces(&body, form), expected, "{body}");
        }
    }
}
