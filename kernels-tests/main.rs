//! Every kernel against its f64 reference, on whatever adapter is there.

mod architecture;
mod cli;
mod examples;
mod faults;
mod kernels;
mod limits;
mod mechanisms;
mod models;
mod options;
mod resume;
mod sizes;
mod stack;
mod vectors;
