//! Branches on consts: `if (FLAG == 1u) { … }` leaves the branch that is taken, and what nothing uses any more leaves the module:
//! functions, workgroup memory, and bindings, so that an option that is off needs no tensor.

use naga::compact::{KeepUnused, compact};
use naga::{Arena, Block, Expression, Function, Literal, Module, Statement};

/// Folds a valid module.
pub(super) fn fold(module: &mut Module) {
    let entries = module.entry_points.iter_mut().map(|entry| &mut entry.function);
    for function in module.functions.iter_mut().map(|(_, function)| function).chain(entries) {
        function.body = taken(&function.expressions, std::mem::take(&mut function.body));
        forget_names(function);
    }
    compact(module, KeepUnused::No);
}

/// The statements that run.
fn taken(expressions: &Arena<Expression>, block: Block) -> Block {
    let mut out = Block::new();
    for (statement, span) in block.span_into_iter() {
        match statement {
            Statement::If { condition, accept, reject } => match expressions[condition] {
                Expression::Literal(Literal::Bool(truth)) => {
                    out.extend_block(taken(expressions, if truth { accept } else { reject }));
                }
                _ => {
                    let (accept, reject) = (taken(expressions, accept), taken(expressions, reject));
                    if !(accept.is_empty() && reject.is_empty()) {
                        out.push(Statement::If { condition, accept, reject }, span);
                    }
                }
            },
            Statement::Block(inner) => out.push(Statement::Block(taken(expressions, inner)), span),
            Statement::Loop { body, continuing, break_if } => {
                let (body, continuing) = (taken(expressions, body), taken(expressions, continuing));
                out.push(Statement::Loop { body, continuing, break_if }, span);
            }
            Statement::Switch { selector, mut cases } => {
                for case in &mut cases {
                    case.body = taken(expressions, std::mem::take(&mut case.body));
                }
                out.push(Statement::Switch { selector, cases }, span);
            }
            other => out.push(other, span),
        }
        // What follows an end in the same block never runs.
        if matches!(out.last(), Some(Statement::Return { .. } | Statement::Break | Statement::Continue | Statement::Kill)) {
            break;
        }
    }
    out
}

/// Drops the names of expressions that are no longer computed: a name would keep them, and what they read.
fn forget_names(function: &mut Function) {
    let mut computed = vec![false; function.expressions.len()];
    mark(&function.body, &mut computed);
    let expressions = &function.expressions;
    function.named_expressions.retain(|handle, _| expressions[*handle].needs_pre_emit() || computed[handle.index()]);
}

/// Marks what a block computes: what it emits, and the results of its calls.
fn mark(block: &Block, computed: &mut [bool]) {
    for statement in block {
        match statement {
            Statement::Emit(range) => range.clone().for_each(|handle| computed[handle.index()] = true),
            Statement::Call { result: Some(handle), .. }
            | Statement::Atomic { result: Some(handle), .. }
            | Statement::WorkGroupUniformLoad { result: handle, .. }
            | Statement::SubgroupBallot { result: handle, .. }
            | Statement::SubgroupGather { result: handle, .. }
            | Statement::SubgroupCollectiveOperation { result: handle, .. } => computed[handle.index()] = true,
            Statement::Block(inner) => mark(inner, computed),
            Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|b| mark(b, computed)),
            Statement::Loop { body, continuing, .. } => [body, continuing].into_iter().for_each(|b| mark(b, computed)),
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| mark(&case.body, computed)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remains of a kernel: its bindings and workgroup arrays, and the number of its functions.
    fn left(declarations: &str, body: &str) -> (Vec<String>, usize) {
        let text = format!(
            "const ON: u32 = 1u; const OFF: u32 = 0u;
            @group(0) @binding(0) var<storage, read_write> y: array<f32>;
            @group(0) @binding(1) var<storage, read> x: array<f32>;
            var<workgroup> shared_x: array<f32, 64>;
            {declarations}
            @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {{ {body} }}"
        );
        let mut module = naga::front::wgsl::parse_str(&text).unwrap();
        let check = |module: &Module| {
            let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
            validator.validate(module).unwrap();
        };
        check(&module);
        fold(&mut module);
        check(&module);
        (module.global_variables.iter().filter_map(|(_, v)| v.name.clone()).collect(), module.functions.len())
    }

    #[test]
    fn what_is_off_leaves_nothing() {
        for (declarations, body, bindings, functions) in [
            ("", "var v = 1.0; if (ON == 1u) { v = x[i]; } y[i] = v;", &["y", "x"][..], 0),
            ("", "var v = 1.0; if (OFF == 1u) { let w = x[i]; v = w; } y[i] = v;", &["y"], 0),
            ("", "if (OFF != 0u) { y[i] = x[i]; } else if (ON == 1u) { y[i] = 2.0; } else { y[i] = x[i]; }", &["y"], 0),
            ("", "if (OFF == 1u) { shared_x[i] = x[i]; workgroupBarrier(); y[i] = shared_x[0]; }", &[], 0),
            ("fn f(i: u32) -> f32 { if (ON == 1u) { return 1.0; } return x[i]; }", "y[i] = f(i);", &["y"], 1),
            ("fn f(i: u32) -> f32 { return x[i]; }", "if (OFF == 1u) { y[i] = f(i); } y[i] = 0.0;", &["y"], 0),
            (
                "fn f(i: u32) { if (OFF == 1u) { y[i] = x[i]; } }",
                "if (i < 3u) { if (OFF == 1u) { let w = x[0]; f(i); } } y[i] = 0.0;",
                &["y"],
                0,
            ),
            ("", "for (var j = 0u; j < 4u; j++) { if (OFF == 1u) { y[j] = x[j]; continue; } y[j] = 0.0; }", &["y"], 0),
        ] {
            let (names, count) = left(declarations, body);
            assert_eq!((names, count), (bindings.iter().map(|s| s.to_string()).collect(), functions), "{body}");
        }
    }
}
