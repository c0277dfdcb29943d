//! Two kernels as one, for a launch of both: its first workgroups run the one and the rest the other, so that neither waits for the other's
//! last wave.
//!
//! Kernels find their workgroup with `flat_group` of shaders/common/grid, whose arguments are all that differs. The parameters of the
//! second follow those of the first. A workgroup runs one of them, so arrays of one element type in workgroup memory are one.

use naga::{
    AddressSpace, ArraySize, BinaryOperator, Block, BuiltIn, Constant, Expression, Function, FunctionArgument, GlobalVariable, Handle,
    Literal, Module, Range, Span, Statement, StructMember, Type, TypeInner,
};

/// One module of two valid ones: the first `at` workgroups run `first`. Bindings of `second` move up by `shift`, but for those that are
/// listed in `same` beside the binding of `first` that they become.
///
/// # Errors
/// Part of the modules that is not understood.
pub(super) fn join(first: &Module, second: &Module, at: u32, shift: u32, same: &[(u32, u32)]) -> Result<Module, String> {
    let mut merge = Merge {
        second,
        types: vec![],
        constants: vec![None; second.constants.len()],
        expressions: vec![None; second.global_expressions.len()],
        globals: vec![],
        functions: vec![],
        parameters: None,
        into: first.clone(),
    };
    merge.add_types();
    for (handle, _) in second.constants.iter() {
        merge.constant(handle)?;
    }
    for (_, variable) in second.global_variables.iter() {
        let variable = merge.variable(variable, shift, same)?;
        merge.globals.push(variable);
    }
    for (_, function) in second.functions.iter() {
        let function = merge.function(function)?;
        let handle = merge.into.functions.append(function, Span::UNDEFINED);
        merge.functions.push(handle);
    }
    let [second_entry] = &second.entry_points[..] else { return Err("a kernel has one entry point".into()) };
    let function = merge.function(&second_entry.function)?;
    let mut module = merge.into;
    let [entry] = &mut module.entry_points[..] else { return Err("a kernel has one entry point".into()) };
    if entry.workgroup_size != second_entry.workgroup_size {
        return Err("workgroups of two sizes".into());
    }
    let bodies = [std::mem::take(&mut entry.function), function];
    let function = dispatcher(&mut module, bodies, at)?;
    module.entry_points[0].function = function;
    Ok(module)
}

/// The entry point, which calls one of two functions that were entry points.
fn dispatcher(module: &mut Module, bodies: [Function; 2], at: u32) -> Result<Function, String> {
    let mut main = Function::default();
    let mut calls = Vec::new();
    for mut body in bodies {
        let mut arguments = Vec::new();
        for argument in &mut body.arguments {
            let binding = argument.binding.take().ok_or("an entry point takes built-in values alone")?;
            let known = main.arguments.iter().position(|a: &FunctionArgument| a.binding.as_ref() == Some(&binding));
            let index = known.unwrap_or_else(|| {
                main.arguments.push(FunctionArgument { binding: Some(binding.clone()), ..argument.clone() });
                main.arguments.len() - 1
            });
            let naga::Binding::BuiltIn(built_in) = binding else { return Err("an entry point takes built-in values alone".into()) };
            if matches!(built_in, BuiltIn::GlobalInvocationId | BuiltIn::WorkGroupSize) {
                return Err(format!("{built_in:?} would be that of both kernels: use flat_group"));
            }
            arguments.push((built_in, index as u32, argument.ty));
        }
        body.diagnostic_filter_leaf = None;
        calls.push((module.functions.append(body, Span::UNDEFINED), arguments));
    }
    let group = calls[0].1.iter().find(|(built_in, ..)| *built_in == BuiltIn::WorkGroupId).ok_or("a kernel asks for its workgroup")?.1;
    let mut plain = |e| main.expressions.append(e, Span::UNDEFINED);
    let zero = plain(Expression::Literal(Literal::U32(0)));
    let count = plain(Expression::Literal(Literal::U32(at)));
    let group = plain(Expression::FunctionArgument(group));
    let handles: Vec<_> = (0..main.arguments.len() as u32).map(|index| plain(Expression::FunctionArgument(index))).collect();
    let x = plain(Expression::AccessIndex { base: group, index: 0 });
    let left = plain(Expression::Binary { op: BinaryOperator::Subtract, left: x, right: count });
    let condition = plain(Expression::Binary { op: BinaryOperator::Less, left: x, right: count });
    main.body.push(Statement::Emit(Range::new_from_bounds(x, condition)), Span::UNDEFINED);
    let mut branches = Vec::new();
    for ((function, arguments), number) in calls.into_iter().zip([x, left]) {
        let mut block = Block::new();
        let mut values = Vec::new();
        for (built_in, index, ty) in arguments {
            // A launch of two kernels has one row of workgroups: the number of rows does not matter.
            let mut value = handles[index as usize];
            if built_in == BuiltIn::WorkGroupId {
                let components = vec![number, zero, zero];
                value = main.expressions.append(Expression::Compose { ty, components }, Span::UNDEFINED);
                block.push(Statement::Emit(Range::new_from_bounds(value, value)), Span::UNDEFINED);
            }
            values.push(value);
        }
        block.push(Statement::Call { function, arguments: values, result: None }, Span::UNDEFINED);
        branches.push(block);
    }
    let (reject, accept) = (branches.pop().unwrap_or_default(), branches.pop().unwrap_or_default());
    main.body.push(Statement::If { condition, accept, reject }, Span::UNDEFINED);
    main.body.push(Statement::Return { value: None }, Span::UNDEFINED);
    Ok(main)
}

/// A module as it is taken over by another; what each handle of it becomes, by index.
struct Merge<'a> {
    second: &'a Module,
    types: Vec<Handle<Type>>,
    constants: Vec<Option<Handle<Constant>>>,
    expressions: Vec<Option<Handle<Expression>>>,
    globals: Vec<Handle<GlobalVariable>>,
    functions: Vec<Handle<Function>>,
    /// Variable of its parameters, and the number of those before them in one block.
    parameters: Option<(Handle<GlobalVariable>, u32)>,
    into: Module,
}

impl Merge<'_> {
    fn ty(&self, handle: Handle<Type>) -> Handle<Type> {
        self.types[handle.index()]
    }

    fn add_types(&mut self) {
        for (_, ty) in self.second.types.iter() {
            let mut ty = ty.clone();
            match &mut ty.inner {
                TypeInner::Array { base, .. } | TypeInner::Pointer { base, .. } | TypeInner::BindingArray { base, .. } => {
                    *base = self.ty(*base)
                }
                TypeInner::Struct { members, .. } => members.iter_mut().for_each(|m| m.ty = self.types[m.ty.index()]),
                _ => {}
            }
            let handle = self.into.types.insert(ty, Span::UNDEFINED);
            self.types.push(handle);
        }
        for (kind, handle) in &self.second.special_types.predeclared_types {
            self.into.special_types.predeclared_types.insert(kind.clone(), self.types[handle.index()]);
        }
    }

    fn constant(&mut self, handle: Handle<Constant>) -> Result<Handle<Constant>, String> {
        if let Some(known) = self.constants[handle.index()] {
            return Ok(known);
        }
        let old = &self.second.constants[handle];
        let constant = Constant { name: old.name.clone(), ty: self.ty(old.ty), init: self.expression(old.init)? };
        let new = self.into.constants.append(constant, Span::UNDEFINED);
        self.constants[handle.index()] = Some(new);
        Ok(new)
    }

    /// A constant expression, after those that it is made of.
    fn expression(&mut self, handle: Handle<Expression>) -> Result<Handle<Expression>, String> {
        if let Some(known) = self.expressions[handle.index()] {
            return Ok(known);
        }
        let expression = match &self.second.global_expressions[handle] {
            Expression::Literal(literal) => Expression::Literal(*literal),
            Expression::Constant(constant) => Expression::Constant(self.constant(*constant)?),
            Expression::ZeroValue(ty) => Expression::ZeroValue(self.ty(*ty)),
            Expression::Splat { size, value } => Expression::Splat { size: *size, value: self.expression(*value)? },
            Expression::Compose { ty, components } => {
                let components = components.iter().map(|c| self.expression(*c)).collect::<Result<_, _>>()?;
                Expression::Compose { ty: self.ty(*ty), components }
            }
            other => return Err(format!("a constant is {other:?}")),
        };
        let new = self.into.global_expressions.append(expression, Span::UNDEFINED);
        self.expressions[handle.index()] = Some(new);
        Ok(new)
    }

    fn variable(&mut self, old: &GlobalVariable, shift: u32, same: &[(u32, u32)]) -> Result<Handle<GlobalVariable>, String> {
        let mut variable = GlobalVariable { ty: self.ty(old.ty), ..old.clone() };
        variable.init = old.init.map(|init| self.expression(init)).transpose()?;
        // Each variable of the first takes the place of one of the second at most, but for tensors that this reads by two.
        let of = |h: &Handle<GlobalVariable>| &self.into.global_variables[*h];
        let find = |wanted: &dyn Fn(&Handle<GlobalVariable>) -> bool| {
            let mut firsts = self.into.global_variables.iter().map(|(handle, _)| handle);
            firsts.find(|h| wanted(h) && (old.binding.is_some() || !self.globals.contains(h)))
        };
        match (old.space, &mut variable.binding) {
            (_, Some(binding)) => {
                if let Some((of_first, _)) = same.iter().find(|(_, of_second)| *of_second == binding.binding) {
                    let found = find(&|h| of(h).binding.as_ref().is_some_and(|b| b.binding == *of_first));
                    let found = found.filter(|h| of(h).ty == variable.ty && of(h).space == variable.space);
                    return found.ok_or_else(|| format!("binding {of_first} is not like {}", binding.binding));
                }
                binding.binding += shift;
            }
            (AddressSpace::WorkGroup, None) => {
                let element = |ty: Handle<Type>| match self.into.types[ty].inner {
                    TypeInner::Array { base, size: ArraySize::Constant(count), stride } => Some(((base, stride), count)),
                    _ => None,
                };
                let wanted = element(variable.ty);
                let alike = |h: &Handle<GlobalVariable>| {
                    let other = of(h);
                    let arrays = element(other.ty).zip(wanted).is_some_and(|(a, b)| a.0 == b.0);
                    other.space == AddressSpace::WorkGroup && (other.ty == variable.ty || arrays)
                };
                if let Some(found) = find(&alike) {
                    if element(of(&found).ty).zip(wanted).is_some_and(|(has, wants)| has.1 < wants.1) {
                        self.into.global_variables[found].ty = variable.ty;
                    }
                    return Ok(found);
                }
            }
            (AddressSpace::Immediate, None) => {
                if let Some(found) = find(&|h| of(h).space == AddressSpace::Immediate) {
                    let first = &self.into.types[of(&found).ty].inner;
                    let (TypeInner::Struct { members, span }, TypeInner::Struct { members: more, span: length }) =
                        (first, &self.into.types[variable.ty].inner)
                    else {
                        return Err("the immediate block is a struct".into());
                    };
                    let count = members.len() as u32;
                    let moved = more.iter().map(|m| StructMember { offset: m.offset + span, ..m.clone() });
                    let inner = TypeInner::Struct { members: members.iter().cloned().chain(moved).collect(), span: span + length };
                    let ty = self.into.types.insert(Type { name: Some("Params".into()), inner }, Span::UNDEFINED);
                    self.into.global_variables[found].ty = ty;
                    self.parameters = Some((found, count));
                    return Ok(found);
                }
            }
            _ => {}
        }
        Ok(self.into.global_variables.append(variable, Span::UNDEFINED))
    }

    fn function(&self, old: &Function) -> Result<Function, String> {
        let mut function = old.clone();
        function.diagnostic_filter_leaf = None;
        function.arguments.iter_mut().for_each(|a| a.ty = self.ty(a.ty));
        function.result.iter_mut().for_each(|r| r.ty = self.ty(r.ty));
        function.local_variables.iter_mut().for_each(|(_, v)| v.ty = self.ty(v.ty));
        let parameters = |handle: &Handle<Expression>| match old.expressions[*handle] {
            Expression::GlobalVariable(global) => self.parameters.filter(|(found, _)| *found == self.globals[global.index()]),
            _ => None,
        };
        for (_, expression) in function.expressions.iter_mut() {
            match expression {
                Expression::Constant(handle) => *handle = self.constants[handle.index()].ok_or("a constant is missing")?,
                Expression::ZeroValue(ty)
                | Expression::Compose { ty, .. }
                | Expression::AtomicResult { ty, .. }
                | Expression::WorkGroupUniformLoadResult { ty }
                | Expression::SubgroupOperationResult { ty } => *ty = self.ty(*ty),
                Expression::GlobalVariable(handle) => *handle = self.globals[handle.index()],
                Expression::CallResult(handle) => *handle = self.functions[handle.index()],
                Expression::AccessIndex { base, index } => *index += parameters(base).map_or(0, |(_, before)| before),
                Expression::Load { pointer } if parameters(pointer).is_some() => return Err("parameters are read one by one".into()),
                Expression::Override(_) => return Err("a constant is set with the pipeline".into()),
                _ => {}
            }
        }
        self.calls(&mut function.body);
        Ok(function)
    }

    fn calls(&self, block: &mut Block) {
        for statement in block.iter_mut() {
            match statement {
                Statement::Call { function, .. } => *function = self.functions[function.index()],
                Statement::Block(inner) => self.calls(inner),
                Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|b| self.calls(b)),
                Statement::Loop { body, continuing, .. } => [body, continuing].into_iter().for_each(|b| self.calls(b)),
                Statement::Switch { cases, .. } => cases.iter_mut().for_each(|case| self.calls(&mut case.body)),
                _ => {}
            }
        }
    }
}
