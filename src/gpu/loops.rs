//! An upper bound on the loop iterations of one invocation, read off a kernel's module and the parameters of a dispatch.
//!
//! Software drivers of Mesa end all loops of an invocation together after 65,535 iterations, without a word
//! (`LP_MAX_TGSI_LOOP_ITERATIONS`), so a plan for such a device must know that no dispatch comes near. The bound is a product over
//! nested loops and a sum over loops that follow one another; both sides of a branch count, because lanes that disagree go through both.
//! Loops must count: `for (var i = a; i < b; i += c)`, `i <= b`, or `i > b` with `i >>= c` or `i -= c`, where the range of a, b and c
//! follows from constants, parameters and the invocation's index. `min`, `max`, `select` and sums of the variable of an outer loop are
//! understood, so that a tile of an outer loop counts as a tile. What cannot be bounded is an error.

use std::collections::HashMap;

use naga::{
    AddressSpace, BinaryOperator as Op, Block, BuiltIn, Expression, Function, Handle, Literal, LocalVariable, MathFunction, Module,
    Statement,
};

type Expr = Handle<Expression>;
type Local = Handle<LocalVariable>;

/// Smallest and largest value of an unsigned integer.
type Range = (u64, u64);
const ANY: Range = (0, u32::MAX as u64);

/// Trips of a loop that drivers unroll.
const UNROLLED: u64 = 4;

struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    /// Value of the parameter at a byte offset of the immediate block.
    parameter: &'a dyn Fn(u32) -> Option<u32>,
    workgroup: u32,
    entry: bool,
    /// Value that a variable was last set to on every path, if that is known.
    values: HashMap<Local, Expr>,
    /// Ranges of the variables of the loops around.
    counters: HashMap<Local, Range>,
    /// Loops met so far in the block at hand.
    loops: Vec<Loop>,
}

/// A loop of a kernel.
#[cfg_attr(not(feature = "isa"), expect(unreachable_pub, reason = "read by the predictions for cards"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loop {
    /// Trips at most each time that it is entered.
    pub trips: u64,
    /// The same trips whatever the parameters are, so that a compiler may unroll it.
    pub fixed: bool,
    /// Loops in its body.
    pub inner: Vec<Loop>,
}

/// Iterations of all loops of one invocation of `main` together, at most, and the loops in the order of the text, both sides of branches
/// included.
///
/// # Errors
/// Why a loop has no bound.
pub(super) fn loops(module: &Module, parameter: &dyn Fn(u32) -> Option<u32>) -> Result<(u64, Vec<Loop>), String> {
    let entry = module.entry_points.iter().find(|e| e.name == "main").ok_or("no entry point `main`")?;
    let mut walk = Walk::new(module, &entry.function, parameter, entry.workgroup_size[0], true);
    let iterations = walk.block(&entry.function.body)?;
    Ok((iterations, walk.loops))
}

impl<'a> Walk<'a> {
    fn new(module: &'a Module, function: &'a Function, parameter: &'a dyn Fn(u32) -> Option<u32>, workgroup: u32, entry: bool) -> Self {
        Walk { module, function, parameter, workgroup, entry, values: HashMap::new(), counters: HashMap::new(), loops: vec![] }
    }

    fn block(&mut self, block: &Block) -> Result<u64, String> {
        let mut total = 0u64;
        for statement in block {
            let cost = match statement {
                Statement::Block(inner) => self.block(inner)?,
                Statement::If { condition, accept, reject } => match self.truth(*condition) {
                    Some(truth) => {
                        let taken = if truth { accept } else { reject };
                        let cost = self.block(taken)?;
                        if returns(taken) {
                            return Ok(total.saturating_add(cost));
                        }
                        cost
                    }
                    None => {
                        let cost = self.block(accept)?.saturating_add(self.block(reject)?);
                        self.forget(&[accept, reject]);
                        cost
                    }
                },
                Statement::Switch { cases, .. } => {
                    let mut cost = 0u64;
                    for case in cases {
                        cost = cost.saturating_add(self.block(&case.body)?);
                    }
                    cases.iter().for_each(|case| self.forget(&[&case.body]));
                    cost
                }
                Statement::Store { pointer, value } => {
                    if let Expression::LocalVariable(local) = self.function.expressions[*pointer] {
                        self.values.insert(local, *value);
                        // What was known of others in terms of the old value is no longer true.
                        let stale: Vec<_> = self.values.iter().filter(|(_, v)| self.reads(**v, &[local])).map(|(l, _)| *l).collect();
                        for local in stale {
                            self.values.remove(&local);
                        }
                    }
                    0
                }
                Statement::Call { function, .. } => {
                    let callee = &self.module.functions[*function];
                    let mut inside = Walk::new(self.module, callee, self.parameter, self.workgroup, false);
                    let cost = inside.block(&callee.body)?;
                    self.loops.append(&mut inside.loops);
                    cost
                }
                Statement::Loop { body, continuing, break_if } => {
                    if break_if.is_some() {
                        return Err("a loop with `break if` has no bound that can be read off".into());
                    }
                    self.repeat(body, continuing)?
                }
                _ => 0,
            };
            total = total.saturating_add(cost);
        }
        Ok(total)
    }

    /// A counting loop: trips · (1 + inner loops). One of few trips, whatever the parameters are, is unrolled and counts
    /// as its body.
    fn repeat(&mut self, body: &Block, continuing: &Block) -> Result<u64, String> {
        let (trips, (counter, range), _) = self.trips(body, continuing)?;
        // Without the parameters, exactly so many trips.
        let blind = Walk { parameter: &|_| None, values: self.values.clone(), counters: HashMap::new(), loops: vec![], ..*self };
        let fixed = blind.trips(body, continuing).is_ok_and(|(_, _, exact)| exact);
        let looped = u64::from(!(fixed && trips <= UNROLLED));
        let before = std::mem::take(&mut self.loops);
        self.forget(&[body, continuing]);
        self.counters.insert(counter, range);
        let inner = self.block(body)?;
        self.forget(&[body, continuing]);
        self.counters.remove(&counter);
        let inner_loops = std::mem::replace(&mut self.loops, before);
        self.loops.push(Loop { trips, fixed, inner: inner_loops });
        Ok(trips.saturating_mul(inner.saturating_add(looped)))
    }

    /// Trips at most, the counter with its range, and whether start and end are each one known number.
    fn trips(&self, body: &Block, continuing: &Block) -> Result<(u64, (Local, Range), bool), String> {
        let e = &self.function.expressions;
        let condition = body
            .iter()
            .find_map(|s| match s {
                Statement::If { condition, accept, reject }
                    if accept.is_empty() && matches!(reject.iter().next(), Some(Statement::Break)) =>
                {
                    Some(*condition)
                }
                _ => None,
            })
            .ok_or("a loop without a condition has no bound that can be read off")?;
        let Expression::Binary { op, left, right } = e[condition] else {
            return Err("the condition of a loop is not a comparison".into());
        };
        let counter = self.local(left).ok_or("a loop's condition does not begin with its variable")?;
        let name = self.function.local_variables[counter].name.clone().unwrap_or_default();
        let mut steps = Vec::new();
        stores(&self.function.expressions, continuing, &mut |local, value| (local == counter).then(|| steps.push(value)));
        let mut inside = Vec::new();
        stores(&self.function.expressions, body, &mut |local, _| {
            inside.push(local);
            None
        });
        let [step] = steps[..] else { return Err(format!("loop over {name}: one step is expected")) };
        if inside.contains(&counter) || self.reads(right, &inside) || self.reads(right, &[counter]) {
            return Err(format!("loop over {name}: its variable or its end changes in its body"));
        }
        let first = self.values.get(&counter).copied().or(self.function.local_variables[counter].init);
        let first = first.ok_or_else(|| format!("loop over {name}: its start is not known"))?;
        let (low, high) = self.range(first);
        let exact = low == high && self.range(right).0 == self.range(right).1;
        let Expression::Binary { op: change, left: before, right: by } = e[step] else {
            return Err(format!("loop over {name}: its step is not a sum, a difference or a shift"));
        };
        if self.local(before) != Some(counter) {
            return Err(format!("loop over {name}: its step does not begin with its variable"));
        }
        let by = self.range(by).0;
        if by == 0 {
            return Err(format!("loop over {name}: its step may be 0"));
        }
        match (op, change) {
            (Op::Less | Op::LessEqual, Op::Add) => {
                let slack = u64::from(op == Op::LessEqual);
                let end = self.range(right).1.saturating_add(slack);
                if end >= ANY.1 {
                    return Err(format!("loop over {name}: its end is not known"));
                }
                let span = self.difference(right, first).saturating_add(slack);
                Ok((span.div_ceil(by), (counter, (low, end.saturating_sub(1).max(low))), exact))
            }
            (Op::Greater | Op::GreaterEqual, Op::ShiftRight) => {
                Ok((u64::from(64 - high.leading_zeros()).div_ceil(by) + u64::from(op == Op::GreaterEqual), (counter, (0, high)), exact))
            }
            (Op::Greater | Op::GreaterEqual, Op::Subtract) => Ok((high / by + 1, (counter, (0, high)), exact)),
            _ => Err(format!("loop over {name}: its condition and its step do not fit each other")),
        }
    }

    /// At most so much lies between `base` and `value`; 0 where `value` is smaller.
    fn difference(&self, value: Expr, base: Expr) -> u64 {
        let e = &self.function.expressions;
        let plain = self.range(value).1.saturating_sub(self.range(base).0);
        let by_base = match e[base] {
            Expression::Math { fun: MathFunction::Max, arg, arg1: Some(other), .. } => {
                self.difference(value, arg).min(self.difference(value, other))
            }
            // Of a sum that does not wrap, each part is a smaller base.
            Expression::Binary { op: Op::Add, left, right } if self.range(base) != ANY => {
                self.difference(value, left).min(self.difference(value, right))
            }
            _ => u64::MAX,
        };
        let by_value = if self.same(value, base) {
            0
        } else {
            match e[value] {
                Expression::Binary { op: Op::Add, left, right } if self.same(left, base) => self.range(right).1,
                Expression::Binary { op: Op::Add, left, right } if self.same(right, base) => self.range(left).1,
                Expression::Math { fun: MathFunction::Min, arg, arg1: Some(other), .. } => {
                    self.difference(arg, base).min(self.difference(other, base))
                }
                Expression::Select { condition, accept, reject } => match self.truth(condition) {
                    Some(true) => self.difference(accept, base),
                    Some(false) => self.difference(reject, base),
                    None => self.difference(accept, base).max(self.difference(reject, base)),
                },
                _ => u64::MAX,
            }
        };
        plain.min(by_base).min(by_value)
    }

    /// True if two expressions have the same value wherever both are evaluated between two stores.
    fn same(&self, a: Expr, b: Expr) -> bool {
        if a == b {
            return true;
        }
        match (&self.function.expressions[a], &self.function.expressions[b]) {
            (Expression::Load { .. }, Expression::Load { .. }) => match (self.local(a), self.local(b)) {
                (Some(x), Some(y)) => x == y,
                _ => false,
            },
            (Expression::Literal(x), Expression::Literal(y)) => x == y,
            (Expression::Binary { op: o, left: l, right: r }, Expression::Binary { op: p, left: m, right: s }) => {
                o == p && self.same(*l, *m) && self.same(*r, *s)
            }
            _ => false,
        }
    }

    /// The variable that an expression loads.
    fn local(&self, expression: Expr) -> Option<Local> {
        let Expression::Load { pointer } = self.function.expressions[expression] else { return None };
        match self.function.expressions[pointer] {
            Expression::LocalVariable(local) => Some(local),
            _ => None,
        }
    }

    /// True if an expression loads one of these variables.
    fn reads(&self, expression: Expr, locals: &[Local]) -> bool {
        let again = |e: Expr| self.reads(e, locals);
        match &self.function.expressions[expression] {
            Expression::LocalVariable(local) => locals.contains(local),
            Expression::Load { pointer } => again(*pointer),
            Expression::Access { base, index } => again(*base) || again(*index),
            Expression::AccessIndex { base, .. } => again(*base),
            Expression::Binary { left, right, .. } => again(*left) || again(*right),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => again(*expr),
            Expression::Select { condition, accept, reject } => again(*condition) || again(*accept) || again(*reject),
            Expression::Math { arg, arg1, arg2, .. } => again(*arg) || arg1.is_some_and(again) || arg2.is_some_and(again),
            _ => false,
        }
    }

    /// Drops what is known of variables that these blocks set.
    fn forget(&mut self, blocks: &[&Block]) {
        let mut changed = Vec::new();
        for block in blocks {
            stores(&self.function.expressions, block, &mut |local, _| {
                changed.push(local);
                None
            });
        }
        let stale: Vec<_> = self.values.iter().filter(|(l, v)| changed.contains(l) || self.reads(**v, &changed)).map(|(l, _)| *l).collect();
        for local in stale {
            self.values.remove(&local);
        }
    }

    /// Truth of a condition that the constants and parameters decide.
    fn truth(&self, condition: Expr) -> Option<bool> {
        let flipped = |op| match op {
            Op::Less => Op::GreaterEqual,
            Op::LessEqual => Op::Greater,
            Op::Greater => Op::LessEqual,
            _ => Op::Less,
        };
        match self.function.expressions[condition] {
            Expression::Literal(Literal::Bool(value)) => Some(value),
            Expression::Binary { op: Op::LogicalAnd, left, right } => match (self.truth(left), self.truth(right)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expression::Binary { op: Op::Equal, left, right } => {
                let (a, b) = (self.range(left), self.range(right));
                if a.0 == a.1 && a == b {
                    return Some(true);
                }
                (a.1 < b.0 || b.1 < a.0).then_some(false)
            }
            Expression::Binary { op: op @ (Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual), left, right } => {
                let (a, b) = (self.range(left), self.range(right));
                let always = |op| match op {
                    Op::Less => a.1 < b.0,
                    Op::LessEqual => a.1 <= b.0,
                    Op::Greater => a.0 > b.1,
                    _ => a.0 >= b.1,
                };
                if a == ANY || b == ANY {
                    return None;
                }
                always(op).then_some(true).or(always(flipped(op)).then_some(false))
            }
            _ => None,
        }
    }

    fn range(&self, expression: Expr) -> Range {
        let in_bounds = |range: Range| if range.1 > ANY.1 { ANY } else { range };
        match self.function.expressions[expression] {
            Expression::Literal(Literal::U32(v)) => (u64::from(v), u64::from(v)),
            Expression::Constant(constant) => match self.module.global_expressions[self.module.constants[constant].init] {
                Expression::Literal(Literal::U32(v)) => (u64::from(v), u64::from(v)),
                _ => ANY,
            },
            Expression::Literal(Literal::I32(v)) => u64::try_from(v).map_or(ANY, |v| (v, v)),
            Expression::FunctionArgument(index) if self.entry => match self.function.arguments[index as usize].binding {
                Some(naga::Binding::BuiltIn(BuiltIn::LocalInvocationIndex)) => (0, u64::from(self.workgroup) - 1),
                _ => ANY,
            },
            Expression::Load { pointer } => match self.function.expressions[pointer] {
                Expression::LocalVariable(local) => match (self.counters.get(&local), self.values.get(&local)) {
                    (Some(range), _) => *range,
                    (None, Some(value)) => self.range(*value),
                    (None, None) => ANY,
                },
                Expression::AccessIndex { base, index } => self.parameter_at(base, index).map_or(ANY, |v| (v.into(), v.into())),
                _ => ANY,
            },
            Expression::As { expr, kind: naga::ScalarKind::Uint, .. } => self.range(expr),
            Expression::Select { condition, accept, reject } => match self.truth(condition) {
                Some(true) => self.range(accept),
                Some(false) => self.range(reject),
                None => {
                    let (a, b) = (self.range(accept), self.range(reject));
                    (a.0.min(b.0), a.1.max(b.1))
                }
            },
            Expression::Math { fun, arg, arg1: Some(other), .. } => {
                let (a, b) = (self.range(arg), self.range(other));
                match fun {
                    MathFunction::Min => (a.0.min(b.0), a.1.min(b.1)),
                    MathFunction::Max => (a.0.max(b.0), a.1.max(b.1)),
                    _ => ANY,
                }
            }
            Expression::Binary { op, left, right } => {
                let (a, b) = (self.range(left), self.range(right));
                match op {
                    Op::Add => in_bounds((a.0 + b.0, a.1 + b.1)),
                    Op::Subtract if a.0 >= b.1 => (a.0 - b.1, a.1 - b.0),
                    Op::Multiply => in_bounds((a.0 * b.0, a.1.saturating_mul(b.1))),
                    Op::Divide if b.0 > 0 => (a.0 / b.1, a.1 / b.0),
                    Op::Modulo if b.0 > 0 => (0, a.1.min(b.1 - 1)),
                    Op::ShiftRight => (a.0 >> b.1.min(63), a.1 >> b.0.min(63)),
                    Op::And => (0, a.1.min(b.1)),
                    _ => ANY,
                }
            }
            _ => ANY,
        }
    }

    fn parameter_at(&self, base: Expr, index: u32) -> Option<u32> {
        let Expression::GlobalVariable(global) = self.function.expressions[base] else { return None };
        let variable = &self.module.global_variables[global];
        let naga::TypeInner::Struct { members, .. } = &self.module.types[variable.ty].inner else { return None };
        (variable.space == AddressSpace::Immediate).then(|| (self.parameter)(members[index as usize].offset)).flatten()
    }
}

/// True if a block ends the function.
fn returns(block: &Block) -> bool {
    match block.iter().last() {
        Some(Statement::Return { .. }) => true,
        Some(Statement::Block(inner)) => returns(inner),
        _ => false,
    }
}

/// Every store to a local variable in a block and the blocks within.
fn stores(expressions: &naga::Arena<Expression>, block: &Block, found: &mut dyn FnMut(Local, Expr) -> Option<()>) {
    for statement in block {
        match statement {
            Statement::Store { pointer, value } => {
                let mut at = *pointer;
                while let Expression::Access { base, .. } | Expression::AccessIndex { base, .. } = expressions[at] {
                    at = base;
                }
                if let Expression::LocalVariable(local) = expressions[at] {
                    found(local, *value);
                }
            }
            Statement::Block(inner) => stores(expressions, inner, found),
            Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|b| stores(expressions, b, found)),
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| stores(expressions, &case.body, found)),
            Statement::Loop { body, continuing, .. } => [body, continuing].into_iter().for_each(|b| stores(expressions, b, found)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(body: &str) -> Result<u64, String> {
        let text = format!(
            "const FEW: u32 = 4u;
            struct Params {{ n: u32, m: u32 }}
            var<immediate> p: Params;
            @group(0) @binding(0) var<storage, read> x: array<u32>;
            @group(0) @binding(1) var<storage, read_write> y: array<u32>;
            fn helper(v: u32) -> u32 {{ var s = v; for (var i = 0u; i < 7u; i++) {{ s += i; }} return s; }}
            @compute @workgroup_size(8)
            fn main(@builtin(local_invocation_index) local: u32) {{ var sum = 0u; {body} y[local] = sum; }}"
        );
        loops(&naga::front::wgsl::parse_str(&text).unwrap(), &|offset| Some([1000, 30][offset as usize / 4])).map(|found| found.0)
    }

    #[test]
    fn counting_loops_have_their_bound() {
        for (body, expected) in [
            ("sum = x[0];", 0),
            ("for (var i = 0u; i < p.n; i++) { sum += x[i]; }", 1000),
            ("for (var i = 0u; i <= p.n; i++) { sum += x[i]; }", 1001),
            ("for (var i = local; i < p.n; i += 8u) { sum += x[i]; }", 125),
            ("for (var i = 5u; i < p.n; i += 10u) { sum += x[i]; }", 100),
            ("for (var i = 0u; i < min(p.n, x[3]); i++) { sum += x[i]; }", 1000),
            ("let end = select(p.n, p.m, x[0] == 1u); for (var i = 0u; i < end; i++) { sum += x[i]; }", 1000),
            ("for (var i = 0u; i < p.n; i++) { sum += helper(i); }", 8000),
            ("for (var i = 0u; i < p.n; i++) { for (var j = 0u; j < FEW; j++) { sum += x[j]; } }", 1000),
            ("for (var i = 0u; i < p.n; i++) { for (var j = 0u; j < min(FEW, p.m); j++) { sum += x[j]; } }", 5000),
            ("for (var i = 0u; i < p.n; i++) { for (var j = 0u; j < p.m / 10u; j++) { sum += x[j]; } }", 4000),
            ("for (var i = 0u; i < p.n; i++) { for (var j = 0u; j < 5u; j++) { sum += x[j]; } }", 6000),
            ("if (FEW == 4u) { return; } for (var i = 0u; i < p.n; i++) { sum += x[i]; }", 0),
            ("for (var b = 0u; b < p.n; b += 64u) { for (var i = b + local; i < min(b + 64u, p.n); i += 8u) { sum += x[i]; } }", 16 * 9),
            ("for (var s = 32u; s > 0u; s >>= 1u) { sum += x[s]; }", 6),
            ("for (var i = 0u; i < p.m; i++) { for (var j = 0u; j < p.m; j++) { sum += x[j]; } }", 30 * 31),
            ("for (var t = 0u; t < p.n; t += 32u) { for (var j = t; j < min(t + 32u, p.n); j++) { sum += x[j]; } }", 32 * 33),
            ("for (var t = 0u; t < p.n; t += 32u) { for (var j = max(t, x[0]); j < min(t + 32u, p.n); j++) { sum += x[j]; } }", 32 * 33),
            ("if (p.m == 30u) { sum = 1u; } else { for (var i = 0u; i < p.n; i++) { sum += x[i]; } }", 0),
            (
                "if (x[0] == 30u) { for (var i = 0u; i < p.m; i++) { sum += 1u; } } else { for (var i = 0u; i < p.n; i++) { sum += x[i]; } }",
                1030,
            ),
        ] {
            assert_eq!(bound(body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn a_loop_without_a_bound_is_an_error() {
        for body in [
            "for (var i = 0u; i < x[0]; i++) { sum += x[i]; }",
            "loop { sum += 1u; if (sum > 10u) { break; } }",
            "for (var i = 0u; i < p.n; i += x[0]) { sum += 1u; }",
            "for (var i = 0u; i < p.n; i++) { i -= 1u; }",
            "var end = 4u; for (var i = 0u; i < end; i++) { end += 1u; }",
            "for (var i = 0u; i < p.n; i = i * 2u) { sum += 1u; }",
            "var s = p.n; while (s > 0u) { s = x[s]; }",
        ] {
            assert!(bound(body).is_err(), "{body}: {:?}", bound(body));
        }
    }
}
