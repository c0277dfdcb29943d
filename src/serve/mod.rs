//! Trained runs over HTTP. A thread for each run owns its programs, and what has queued while a batch was computed is the next batch.

mod batches;
mod doc;
mod formats;
mod generations;
mod guard;
mod meters;
mod predictions;
mod refusal;
mod router;
mod run;
mod sequences;
mod server;
mod shared;

pub(crate) use run::Run;
pub(crate) use server::{Options, serve};
pub(crate) use shared::Limits;
