//! The last linear layer of a model of many classes, as its loss applies it: in chunks of rows, so that the logits of a whole batch are
//! never stored (Hsu et al. 2024, "Liger kernel: efficient Triton kernels for LLM training", fused linear cross-entropy).

use std::ops::Range;

use crate::error::Result;
use crate::gpu::Target;
use crate::kernels::matmul::Matmul;
use crate::plan::{Plan, Tensor};

/// Bytes of the logits of a chunk: 128 MiB, which every device of WebGPU binds. These are 667 rows of the 50,257 classes of GPT-2, and
/// 256 of 131,072. Each chunk reads and writes the gradient of the weight, 8 bytes a number, for 2 operations a row: a card that does 40
/// operations in the time of a byte waits for memory below 160 rows, and not above.
const CHUNK: u64 = 128 << 20;

/// Rows that a chunk is a multiple of where it has as many: those of a tile of a product.
const TILE: usize = 64;

/// Rows of a chunk of rows × outputs numbers, the same for all chunks but the last; all rows where they fit.
pub(super) fn chunk(target: &Target, rows: usize, outputs: usize) -> usize {
    let most = (CHUNK.min(target.max_binding) / (4 * outputs as u64)).max(1) as usize;
    if rows <= most {
        return rows;
    }
    let equal = rows.div_ceil(rows.div_ceil(most));
    let tiles = equal.next_multiple_of(TILE);
    if tiles <= most { tiles } else { equal }
}

/// What a last linear layer gives to the loss.
#[derive(Debug, Clone)]
pub enum Projected {
    /// Its outputs.
    Whole(Tensor),
    /// The layer, for the loss to apply.
    Chunked(Projection),
}

/// A linear layer over some rows at a time, y = x·Wᵀ + b, and their gradients.
#[derive(Debug, Clone)]
pub struct Projection {
    /// Path of the layer.
    pub label: String,
    /// (rows, inputs).
    pub x: Tensor,
    /// (outputs, inputs).
    pub weight: Tensor,
    /// (outputs).
    pub bias: Option<Tensor>,
    /// Number of rows.
    pub rows: usize,
    /// Features of a row of x.
    pub inputs: usize,
    /// Features of a row of y.
    pub outputs: usize,
    /// Rows of a chunk; the last may have fewer.
    pub chunk: usize,
}

impl Projection {
    /// Rows of each chunk.
    pub fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, chunk) = (self.rows, self.chunk);
        (0..rows).step_by(chunk).map(move |first| first..(first + chunk).min(rows))
    }

    /// Appends y = x·Wᵀ + b of these rows, at the beginning of y.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub fn forward(&self, plan: &mut Plan, rows: &Range<usize>, y: Tensor) -> Result<()> {
        let Projection { x, weight, bias, inputs, outputs, .. } = *self;
        let product = Matmul {
            trans_b: true,
            bias,
            a_at: Some(rows.start * inputs),
            y_at: Some(0),
            ..Matmul::new(x, weight, y, (rows.len(), outputs, inputs))
        };
        product.record(plan, &self.label)
    }

    /// Appends dW += dyᵀ·x and db += Σ dy of these rows, whose dy are at the beginning of `dy`, and their rows of dx = dy·W.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub fn backward(&self, plan: &mut Plan, rows: &Range<usize>, dy: Tensor, dx: Tensor) -> Result<()> {
        let Projection { x, weight, bias, inputs, outputs, .. } = *self;
        let part = Part { rows: rows.len(), inputs, outputs, x_at: rows.start * inputs, y_at: 0 };
        part.backward(plan, &self.label, (weight, bias), [x, dy, dx])
    }
}

/// Some rows of a linear layer: their sizes, and the elements at which they begin in its inputs and in its outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) x_at: usize,
    pub(super) y_at: usize,
}

impl Part {
    /// Appends dW += dyᵀ·x and db += Σ dy of these rows, and their rows of dx = dy·W.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub(super) fn backward(
        self,
        plan: &mut Plan,
        label: &str,
        (weight, bias): (Tensor, Option<Tensor>),
        [x, dy, dx]: [Tensor; 3],
    ) -> Result<()> {
        let Part { rows, inputs, outputs, x_at, y_at } = self;
        let dw = plan.gradient(weight)?;
        let db = bias.map(|bias| plan.gradient(bias)).transpose()?;
        let of_weight = Matmul {
            trans_a: true,
            accumulate: true,
            row_sum: db,
            a_at: Some(y_at),
            b_at: Some(x_at),
            ..Matmul::new(dy, x, dw, (outputs, inputs, rows))
        };
        of_weight.record(plan, label)?;
        let of_input = Matmul { a_at: Some(y_at), y_at: Some(x_at), ..Matmul::new(dy, weight, dx, (rows, inputs, outputs)) };
        of_input.record(plan, label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_of_tiles_and_fit() {
        let target = Target { max_binding: 1 << 31, ..Target::default() };
        for (rows, outputs, expected) in [(4096, 50_257, 640), (8192, 50_257, 640), (667, 50_257, 667), (4096, 131_072, 256), (64, 65, 64)]
        {
            assert_eq!(chunk(&target, rows, outputs), expected, "{rows} {outputs}");
        }
        // Fewer rows than a tile, down to one.
        let small = Target { max_binding: 4000, ..target };
        assert_eq!([chunk(&small, 7, 200), chunk(&small, 7, 1001)], [4, 1]);
    }
}
