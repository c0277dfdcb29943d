//! Cases of Fourier features.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::fourier::{Features, Frequencies};
use crate::random::Random;

/// dims: rows, count; flags: kind.
pub(super) const FAMILY: Family = Family {
    // Features at random have their matrix, and no others have.
    allows: |[(a, x), (b, y)]| (a, b) != ("KIND", "RANDOM") || (x == 4) == (y == 1),
    ..Family::new("fourier", spec, 96, build, &[(&[4096, 32], &[0]), (&[4096, 256], &[3])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let count = if i.is_multiple_of(4) { random.pick(&[1, 2, 8, 31, 32, 63, 64]) } else { random.pick(&DIMS[..15]) };
    let dims = vec![DIMS[i / 4 % 20], count];
    Spec { dims, flags: vec![i % 4], regime: [Regime::Normal, Regime::Normal, Regime::OneHot][i / 4 % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, count] = spec.dims[..] else { unreachable!("two sizes") };
    let x = b.input("x", &[rows, 2])?;
    let frequencies = match spec.flags[0] {
        0 => Frequencies::PowersOfTwo(count.min(64)),
        1 => Frequencies::MultiplesOfPi(count),
        2 => Frequencies::Multiples(count),
        _ => Frequencies::Random(b.normal("b", &[2, count])?, count),
    };
    let y = b.output("y", &[rows, frequencies.width()])?;
    // Sines and cosines of up to 128 turns to a few units in the last place of 1.
    b.tolerance = Tolerance::Nmse(1e-12);
    Features { x, y, frequencies }.record(&mut b.plan, "case")
}
