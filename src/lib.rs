//! A training engine for small sequence models on any GPU: hand-written WGSL kernels, each with its hand-derived backward pass, recorded
//! once into a static plan and replayed every step. See ARCHITECTURE.md.
//!
//! A run is a [`problem::Problem`]: a model, data and a loss, by the kinds of a run file ([`registry`]) or of one's own. Whether it fits a
//! card is known before any is asked for:
//!
//! ```
//! use engine::{gpu::Target, problem::Problem, registry::Config, tasks::Purpose};
//!
//! let text = r#"
//!     model = { kind = "vector_mlp", hidden = 64 }
//!     data = { kind = "vectors", file = "mine.npz", dim = 384, context = 5 }
//!     loss = { kind = "vectors", cosine = { weight = 1.0 } }
//! "#;
//! let config = Config::parse(text, "my run", &["train.batch=64".into()])?;
//! let mut problem = Problem::open(&config, Purpose::Train)?;
//! let memory = problem.place(Target::default(), 8 << 30)?.memory;
//! assert!(memory.report.total_bytes < 64 << 20);
//! # Ok::<(), engine::error::Error>(())
//! ```
//!
//! A plan of one's own is recorded layer by layer, on the host; what does not fit together is an error, not a panic:
//!
//! ```
//! use engine::gpu::{Role, Target};
//! use engine::layers::{Layer, Linear};
//! use engine::plan::Plan;
//!
//! let mut plan = Plan::training("example", Target::default());
//! let x = plan.persistent(Role::Dataset, "x", &[32, 10])?;
//! let mut layer = Linear::new("linear", 10, 4);
//! let y = layer.forward(&mut plan, x)?;
//! assert_eq!(plan.shape(y), [32, 4]);
//! assert_eq!(plan.parameter_count(), 10 * 4 + 4);
//! # Ok::<(), engine::error::Error>(())
//! ```
//!
//! `examples/` has a linear regression on a plan of its own, a model, data, a kernel and a loss term of one's own, and the estimator.

// Not in unit tests, which are given what the tests alone need; on Windows one crate is of no use.
#![cfg_attr(all(target_os = "linux", not(test)), warn(unused_crate_dependencies))]

mod bar;
pub mod batch;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod datasets;
#[cfg(feature = "cli")]
pub mod draw;
pub mod error;
pub mod export;
#[doc(hidden)]
pub mod fault;
mod files;
pub mod generate;
pub mod gpu;
#[cfg(feature = "check")]
#[path = "../kernels-tests/harness/mod.rs"]
pub mod harness;
pub mod host;
pub mod inference;
#[cfg(feature = "isa")]
pub mod isa;
pub mod kernels;
pub mod layers;
pub mod losses;
pub mod metrics;
pub mod models;
pub mod optim;
pub mod plan;
mod plots;
pub mod predict;
pub mod problem;
pub mod random;
pub mod ranks;
pub mod registry;
#[cfg(feature = "cli")]
pub mod runs;
mod sampling;
#[cfg(feature = "serve")]
mod serve;
pub mod session;
pub mod tasks;
pub mod train;
