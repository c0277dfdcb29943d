//! Low-rank adapters of linear layers (Hu et al. 2021, "LoRA: low-rank adaptation of large language models").

use crate::error::{Error, Result};
use crate::kernels::matmul::Matmul;
use crate::plan::{Adapter, Plan, Tensor};

/// A low-rank change of a frozen weight W (outputs, inputs), y = x·(W + s·B·A)ᵀ + b, of which A (rank, inputs) and B (outputs, rank) are
/// trained. With u = s·x·Aᵀ it is y = x·Wᵀ + b + u·Bᵀ, and the gradients are
/// dB = dyᵀ·u, du = s·dy·B, dA = duᵀ·x, dx = dy·W + du·A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRank {
    /// Rank of the change.
    pub rank: usize,
    /// s = α / rank.
    pub scale: f64,
}

/// Sizes of a linear layer and of its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// An adapter in a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    of: LowRank,
    sizes: Sizes,
    /// (rank, inputs).
    a: Tensor,
    /// (outputs, rank).
    b: Tensor,
    /// (rows, rank).
    u: Tensor,
}

impl LowRank {
    /// Declares the factors beside these weights, which the layer of this path stacks, and appends u. Those of a single weight have its
    /// name, those of several the path of the layer.
    ///
    /// # Errors
    /// `Config` when the rank is larger than that of the weight.
    pub(super) fn forward(self, plan: &mut Plan, label: &str, weights: Vec<String>, x: Tensor, sizes: Sizes) -> Result<Factors> {
        let (LowRank { rank, scale }, Sizes { rows, inputs, outputs }) = (self, sizes);
        if rank > inputs.min(outputs) {
            let most = inputs.min(outputs);
            return Err(Error::Config(format!(
                "adapt.rank = {rank}: {label} has {inputs} inputs and {outputs} outputs, so it is at most {most}"
            )));
        }
        let stem = match &weights[..] {
            [one] => one.strip_suffix(".weight").unwrap_or(one).to_string(),
            _ => label.to_string(),
        };
        let [a, b] = ["A", "B"].map(|factor| format!("{stem}.lora_{factor}.weight"));
        let [a, b] = plan.adapter(Adapter { weights, a, b, scale }, [inputs, outputs, rank])?;
        let u = plan.activation(format!("{label}.u"), &[rows, rank])?;
        Matmul { trans_b: true, scale, ..Matmul::new(x, a, u, (rows, rank, inputs)) }.record(plan, label)?;
        Ok(Factors { of: self, sizes, a, b, u })
    }
}

impl Factors {
    /// The product u·Bᵀ, for the caller to add to.
    pub(super) fn product(self, y: Tensor) -> Matmul {
        let Sizes { rows, outputs, .. } = self.sizes;
        Matmul { trans_b: true, ..Matmul::new(self.u, self.b, y, (rows, outputs, self.of.rank)) }
    }

    /// The product du·A, for the caller to add to.
    ///
    /// # Errors
    /// `Internal` before `backward_params`.
    pub(super) fn product_of_input(self, plan: &Plan, label: &str, dx: Tensor) -> Result<Matmul> {
        let Sizes { rows, inputs, .. } = self.sizes;
        let du = plan.find(&format!("{label}.du")).ok_or_else(|| Error::Internal(format!("{label}: no gradient of its adapter yet")))?;
        Ok(Matmul::new(du, self.a, dx, (rows, inputs, self.of.rank)))
    }

    /// Appends du, and dA and dB.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub(super) fn backward_params(self, plan: &mut Plan, label: &str, x: Tensor, dy: Tensor) -> Result<()> {
        let (LowRank { rank, scale }, Sizes { rows, inputs, outputs }) = (self.of, self.sizes);
        let du = plan.like(format!("{label}.du"), self.u)?;
        Matmul { scale, ..Matmul::new(dy, self.b, du, (rows, rank, outputs)) }.record(plan, label)?;
        for (left, right, weight, [m, n]) in [(dy, self.u, self.b, [outputs, rank]), (du, x, self.a, [rank, inputs])] {
            let gradient = plan.gradient(weight)?;
            Matmul { trans_a: true, accumulate: true, ..Matmul::new(left, right, gradient, (m, n, rows)) }.record(plan, label)?;
        }
        Ok(())
    }
}
