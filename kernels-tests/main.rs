//! Every kernel against its f64 reference, on whatever adapter is there.

mod architecture;
mod cli;
mod kernels;
mod mechanisms;
mod models;
mod options;
mod vectors;
