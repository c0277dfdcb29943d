//! A training engine for small sequence models on any GPU: hand-written WGSL kernels, each with its hand-derived backward pass, recorded
//! once into a static plan and replayed every step. See ARCHITECTURE.md.

pub mod batch;
pub mod cli;
pub mod config;
pub mod datasets;
pub mod draw;
pub mod error;
mod fault;
pub mod generate;
pub mod gpu;
#[path = "../kernels-tests/harness/mod.rs"]
pub mod harness;
pub mod kernels;
pub mod layers;
pub mod losses;
pub mod metrics;
pub mod models;
pub mod optim;
pub mod plan;
pub mod problem;
pub mod random;
pub mod registry;
pub mod session;
pub mod tasks;
pub mod train;
