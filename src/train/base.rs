//! The frozen weights beneath adapters: a run keeps them once, in a file beside those of its adapters, and weights are read as both
//! together.

use std::path::Path;

use super::tensor_file::{Base, Header, TensorFile, View, sealed, views, write_tensors};
use crate::error::{Error, Result};
use crate::plan::{Adapter, FixedPlan, Init, Parameter};

/// Name of the file in the folder of a run.
pub(super) const BASE: &str = "base.safetensors";

fn header() -> Header {
    Header { step: Some(0), ..Header::default() }
}

/// What adapters of this plan say of these frozen weights.
///
/// # Errors
/// `Internal` when the header cannot be written.
pub(super) fn describe(plan: &FixedPlan, frozen: &[f32]) -> Result<Base> {
    let tensors: Vec<View<'_>> = views(plan.frozen(), "", frozen);
    Ok(Base { checksum: sealed(&tensors, header())?.checksum, adapters: plan.adapters().to_vec() })
}

/// Writes frozen weights into the folder of a run.
///
/// # Errors
/// `Io` when the file cannot be written.
pub(super) fn write(run: &Path, parameters: &[Parameter], frozen: &[f32]) -> Result<()> {
    write_tensors(&run.join(BASE), &views(parameters, "", frozen), header())
}

/// Opens the frozen weights of the adapters in a file, which lie beside it or in the folder above.
///
/// # Errors
/// `MissingInput` where there are none, `Data` when they are damaged or others.
pub(super) fn open(adapters: &Path, base: &Base) -> Result<TensorFile> {
    let path = std::path::absolute(adapters).map_err(|e| Error::read(adapters, e))?;
    let found = path.ancestors().skip(1).take(2).map(|folder| folder.join(BASE)).find(|file| file.exists());
    let of = adapters.display();
    let found = found.ok_or_else(|| {
        let why = format!("{of} holds adapters alone, and the weights that they are for are missing: copy {BASE} of their run beside it");
        Error::MissingInput(why.into())
    })?;
    let file = TensorFile::open(&found)?;
    if file.header.checksum == base.checksum {
        return Ok(file);
    }
    let found = found.display();
    Err(Error::Data(format!("{found} has other weights than those that the adapters in {of} are for: put back the {BASE} of their run")))
}

/// Weights W + scale · B·A of these parameters, with their adapters from another file. Sums are taken in 64 bits, and rounded once.
///
/// # Errors
/// `Data` when a file is damaged, or they do not fit each other.
pub(super) fn merged(base: &mut TensorFile, adapters: &[Adapter], file: &mut TensorFile, parameters: &[Parameter]) -> Result<Vec<f32>> {
    let mut flat = base.fill(parameters, "")?;
    for Adapter { weights, a, b, scale } in adapters {
        let unfit = || Error::Data(format!("the adapter {a} does not fit the weights {}", weights.join(", ")));
        let mut factor = |name: &String| -> Result<(usize, usize, Vec<f32>)> {
            let shape = file.metadata.info(name).map(|info| info.shape.clone()).ok_or_else(unfit)?;
            let [rows, columns] = shape[..] else { return Err(unfit()) };
            let values = file.fill(&[Parameter { name: name.clone(), shape, offset: 0, init: Init::Zeros }], "")?;
            Ok((rows, columns, values))
        };
        let ((rank, inputs, a), (outputs, other, b)) = (factor(a)?, factor(b)?);
        let found: Vec<&Parameter> = weights.iter().filter_map(|name| parameters.iter().find(|p| p.name == *name)).collect();
        let fit = found.iter().all(|p| p.len() == p.shape[0] * inputs) && found.iter().map(|p| p.shape[0]).sum::<usize>() == outputs;
        if rank == 0 || inputs == 0 || rank != other || found.len() != weights.len() || !fit {
            return Err(unfit());
        }
        let rows = found.iter().flat_map(|p| (0..p.shape[0]).map(|row| p.offset + row * inputs));
        for (at, of_row) in rows.zip(b.chunks(rank)) {
            let mut change = vec![0.0f64; inputs];
            for (left, of_rank) in of_row.iter().zip(a.chunks(inputs)) {
                change.iter_mut().zip(of_rank).for_each(|(sum, right)| *sum += f64::from(*left) * f64::from(*right));
            }
            flat[at..at + inputs].iter_mut().zip(change).for_each(|(w, change)| *w = (f64::from(*w) + scale * change) as f32);
        }
    }
    Ok(flat)
}
