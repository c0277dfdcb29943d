//! Cases of every kernel family, and of the layers that are made of them.

mod layers;

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};

macro_rules! families {
    ($($name:ident)*) => {
        $(mod $name;)*

        /// Every family, and the layers that are made of them.
        pub const FAMILIES: &[Family] = &[$($name::FAMILY,)* layers::FAMILY];
    };
}

crate::kernel_families!(families);
