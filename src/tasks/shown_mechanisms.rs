//! What a page of mechanisms has of their file: the types that it may ask for, and samples to begin with.

use std::collections::BTreeSet;

use serde::Serialize;

use super::mechanisms::MechanismsConfig;
use crate::datasets::linkages::{HALF, KINDS, RANGE};
use crate::datasets::mechanisms::{Joints, NonFinite, load};
use crate::error::{Error, Result};

/// A type of mechanism that a file has.
#[derive(Debug, Serialize)]
struct ShownType {
    number: u32,
    name: String,
    /// Rigid bodies, each a list of its joints, the fixed joints, and the number of joints; none of them where only the file's maker knows.
    links: Vec<Vec<usize>>,
    ground: Vec<usize>,
    joints: Option<usize>,
}

/// What a page shows of mechanisms.
#[derive(Debug, Serialize)]
pub struct ShownMechanisms {
    latents: usize,
    /// Largest absolute value of a latent.
    largest: f32,
    types: Vec<ShownType>,
    /// Latents and types of some samples.
    samples: Vec<(Vec<f32>, u32)>,
    /// Largest absolute coordinate, and half the side of the picture of a curve, in mm; none where only the file's maker knows.
    frame: Option<[f64; 2]>,
}

impl ShownMechanisms {
    /// Those of a run, with some samples from all of its file.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` when it is none of mechanisms or has a type that the model does not know.
    pub fn of(config: &MechanismsConfig, samples: usize, integers_below: Option<usize>) -> Result<ShownMechanisms> {
        let (data, _) = load(&config.file, Joints::Unread, NonFinite::of(config.skip_non_finite))?;
        let numbers: BTreeSet<u32> = data.types.iter().copied().collect();
        if let Some(beyond) = numbers.iter().find(|number| integers_below.is_some_and(|below| **number as usize >= below)) {
            return Err(Error::Data(format!("{}: type {beyond} is none of those that the model knows", config.file.display())));
        }
        let of_type = |number: u32| match KINDS.get(number as usize).filter(|_| data.linkages) {
            Some(kind) => ShownType {
                number,
                name: kind.name.replace('_', " "),
                links: kind.links.iter().map(|link| link.to_vec()).collect(),
                ground: kind.ground.to_vec(),
                joints: Some(kind.joints),
            },
            None => ShownType { number, name: format!("type {number}"), links: vec![], ground: vec![], joints: None },
        };
        let (count, width) = (data.types.len(), data.width);
        let sample = |i: usize| (data.latents[i * width..(i + 1) * width].to_vec(), data.types[i]);
        Ok(ShownMechanisms {
            latents: width,
            largest: data.latents.iter().fold(0.0, |largest, value| value.abs().max(largest)),
            types: numbers.into_iter().map(of_type).collect(),
            samples: (0..samples.min(count)).map(|n| sample(n * count / samples.min(count))).collect(),
            frame: data.linkages.then_some([RANGE + 1.0, HALF]),
        })
    }

    /// Numbers of a latent.
    pub fn latents(&self) -> usize {
        self.latents
    }

    /// Whether it is known where a joint lies in the picture of its curve.
    pub fn has_frame(&self) -> bool {
        self.frame.is_some()
    }
}
