//! Every kernel against its f64 reference, on whatever adapter is there.

mod architecture;
mod cli;
mod examples;
mod faults;
#[cfg(feature = "isa")]
mod isa;
mod kernels;
mod limits;
mod mechanisms;
mod memory;
mod models;
mod options;
#[cfg(feature = "mpi")]
mod ranks;
mod resume;
mod sizes;
mod stack;
mod tune;
mod vectors;
