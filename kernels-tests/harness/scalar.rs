//! Scalars that the references are generic over: f64, and a variable on a tape, which gives the exact gradient of an f64 computation
//! for all inputs in one reverse sweep. (Dual numbers would give the same figures, one direction at a time.)

use super::reference::{Call, Reference};
use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// What a reference may compute with.
pub trait Scalar: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self> {
    /// A constant.
    fn constant(value: f64) -> Self;
    /// A reference from outside, over this kind of numbers.
    fn reference(of: &Reference) -> fn(&str, &mut Call<'_, Self>) -> bool;
    /// Its value.
    fn value(self) -> f64;
    /// eˣ.
    fn exp(self) -> Self;
    /// ln x.
    fn ln(self) -> Self;
    /// √x.
    fn sqrt(self) -> Self;
    /// tanh x.
    fn tanh(self) -> Self;
    /// erf x.
    fn erf(self) -> Self;
    /// max(x, 0), with derivative 0 at 0.
    fn relu(self) -> Self;
    /// Σ aᵢ bᵢ.
    fn dot(a: &[Self], b: &[Self]) -> Self;
    /// Σ aᵢ.
    fn sum(a: &[Self]) -> Self {
        let ones = vec![Self::constant(1.0); a.len()];
        Self::dot(a, &ones)
    }
}

/// erf in f64: a Taylor series below 3, a continued fraction above; checked against tabulated values.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..=60).rev().fold(a, |f, k| a + f64::from(k) * 0.5 / f);
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    if x < 0.0 { -value } else { value }
}

impl Scalar for f64 {
    fn reference(of: &Reference) -> fn(&str, &mut Call<'_, Self>) -> bool {
        of.value
    }

    fn constant(value: f64) -> Self {
        value
    }
    fn value(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn erf(self) -> Self {
        erf(self)
    }
    fn relu(self) -> Self {
        if self > 0.0 { self } else { 0.0 }
    }
    fn dot(a: &[Self], b: &[Self]) -> Self {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }
}

#[derive(Default)]
struct Tape {
    /// For each node, the running magnitude |v| + Σ |∂v/∂parent| · magnitude(parent): what rounding errors scale with.
    magnitudes: Vec<f64>,
    /// For each node, the end of its edges.
    ends: Vec<usize>,
    /// (parent, ∂node/∂parent).
    edges: Vec<(u32, f64)>,
}

thread_local! {
    static TAPE: RefCell<Tape> = RefCell::default();
}

const CONSTANT: u32 = u32::MAX;

/// A value on this thread's tape, or a constant.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    node: u32,
    value: f64,
}

impl Var {
    /// Empties the tape; every `Var` made before is void.
    pub fn reset() {
        TAPE.with(|t| *t.borrow_mut() = Tape::default());
    }

    /// A variable to differentiate by.
    pub fn leaf(value: f64) -> Var {
        Var::node(value, &[], value.abs())
    }

    fn node(value: f64, edges: &[(Var, f64)], own: f64) -> Var {
        TAPE.with(|t| {
            let tape = &mut *t.borrow_mut();
            let mut magnitude = own;
            for (parent, weight) in edges {
                if parent.node == CONSTANT {
                    magnitude += weight.abs() * parent.value.abs();
                } else {
                    magnitude += weight.abs() * tape.magnitudes[parent.node as usize];
                    tape.edges.push((parent.node, *weight));
                }
            }
            tape.magnitudes.push(magnitude);
            tape.ends.push(tape.edges.len());
            Var { node: tape.ends.len() as u32 - 1, value }
        })
    }

    fn unary(self, value: f64, slope: f64) -> Var {
        Var::node(value, &[(self, slope)], value.abs())
    }

    /// Running magnitude of the value.
    pub fn magnitude(self) -> f64 {
        if self.node == CONSTANT { self.value.abs() } else { TAPE.with(|t| t.borrow().magnitudes[self.node as usize]) }
    }

    /// Gradients of Σ weightᵢ · rootᵢ by every node: (gradient, Σ of the absolute values along all paths).
    pub fn backward(roots: &[(Var, f64)]) -> Gradients {
        TAPE.with(|t| {
            let tape = t.borrow();
            let mut out = vec![(0.0, 0.0); tape.ends.len()];
            for (root, weight) in roots {
                if root.node != CONSTANT {
                    out[root.node as usize].0 += weight;
                    out[root.node as usize].1 += weight.abs();
                }
            }
            for node in (0..out.len()).rev() {
                let start = if node == 0 { 0 } else { tape.ends[node - 1] };
                let (g, a) = out[node];
                if a != 0.0 {
                    for (parent, weight) in &tape.edges[start..tape.ends[node]] {
                        out[*parent as usize].0 += g * weight;
                        out[*parent as usize].1 += a * weight.abs();
                    }
                }
            }
            Gradients(out)
        })
    }
}

/// Result of a reverse sweep.
#[derive(Debug)]
pub struct Gradients(Vec<(f64, f64)>);

impl Gradients {
    /// Gradient by a leaf, and the magnitude of what was summed to it.
    pub fn of(&self, var: Var) -> (f64, f64) {
        if var.node == CONSTANT { (0.0, 0.0) } else { self.0[var.node as usize] }
    }
}

impl Add for Var {
    type Output = Var;
    fn add(self, o: Var) -> Var {
        Var::node(self.value + o.value, &[(self, 1.0), (o, 1.0)], 0.0)
    }
}

impl Sub for Var {
    type Output = Var;
    fn sub(self, o: Var) -> Var {
        Var::node(self.value - o.value, &[(self, 1.0), (o, -1.0)], 0.0)
    }
}

impl Mul for Var {
    type Output = Var;
    fn mul(self, o: Var) -> Var {
        Var::node(self.value * o.value, &[(self, o.value), (o, self.value)], 0.0)
    }
}

impl Div for Var {
    type Output = Var;
    fn div(self, o: Var) -> Var {
        let value = self.value / o.value;
        Var::node(value, &[(self, 1.0 / o.value), (o, -value / o.value)], 0.0)
    }
}

impl Neg for Var {
    type Output = Var;
    fn neg(self) -> Var {
        Var::node(-self.value, &[(self, -1.0)], 0.0)
    }
}

impl Scalar for Var {
    fn reference(of: &Reference) -> fn(&str, &mut Call<'_, Self>) -> bool {
        of.tape
    }

    fn constant(value: f64) -> Self {
        Var { node: CONSTANT, value }
    }
    fn value(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        self.unary(e, e)
    }
    fn ln(self) -> Self {
        self.unary(self.value.ln(), 1.0 / self.value)
    }
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        self.unary(root, 0.5 / root)
    }
    fn tanh(self) -> Self {
        let t = self.value.tanh();
        self.unary(t, 1.0 - t * t)
    }
    fn erf(self) -> Self {
        self.unary(erf(self.value), std::f64::consts::FRAC_2_SQRT_PI * (-self.value * self.value).exp())
    }
    fn relu(self) -> Self {
        if self.value > 0.0 {
            return self.unary(self.value, 1.0);
        }
        // What rounding may carry over the kink has the rounding errors of x.
        let magnitude = self.magnitude();
        Var::node(0.0, &[(self, 0.0)], if -self.value < 1e-4 * magnitude { magnitude } else { 0.0 })
    }
    fn dot(a: &[Self], b: &[Self]) -> Self {
        let value = a.iter().zip(b).map(|(x, y)| x.value * y.value).sum();
        let edges: Vec<(Var, f64)> = a.iter().zip(b).flat_map(|(x, y)| [(*x, y.value), (*y, x.value)]).collect();
        Var::node(value, &edges, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_tables() {
        // Abramowitz & Stegun, table 7.1, and erfc(4) = 1.541725790e-8.
        for (x, y) in [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0), (4.0, 1.0 - 1.541_725_790e-8)] {
            assert!((erf(x) - y).abs() < 1e-10 && (erf(-x) + y).abs() < 1e-10, "{x} {}", erf(x));
        }
        assert!((erf(2.999_999_9) - erf(3.000_000_1)).abs() < 1e-10);
    }

    #[test]
    fn the_tape_agrees_with_central_differences() {
        fn f<S: Scalar>(x: &[S]) -> S {
            let a = (x[0] * x[1]).exp() / (x[2].sqrt() + S::constant(1.5));
            a - x[0].tanh() * x[1].erf() + S::dot(x, &[x[1], x[2], x[0]]).ln() - (-x[2]).relu() + x[0].relu()
        }
        let at = [0.7, 1.3, 2.1];
        Var::reset();
        let leaves = at.map(Var::leaf);
        let gradients = Var::backward(&[(f(&leaves), 1.0)]);
        for i in 0..3 {
            let (mut up, mut down) = (at, at);
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let slope = (f(&up) - f(&down)) / 2e-5;
            assert!((slope - gradients.of(leaves[i]).0).abs() < 1e-8, "{i}: {slope}");
        }
    }
}
