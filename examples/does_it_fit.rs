//! Does it fit? The memory of a run on a card that is not there, and the largest batch for a budget: no device is asked.
//!
//! `cargo run --release --example does_it_fit`

use std::path::Path;

use engine::error::Result;
use engine::gpu::Target;
use engine::problem::Problem;
use engine::registry::Config;
use engine::tasks::Purpose;

pub(crate) fn main() -> Result<()> {
    // The default target is an RX 6600. A budget of 512 MiB leaves room for other programs.
    let (target, budget) = (Target::default(), 512 << 20);
    for run in ["lvm_mlp", "lvm_transformer", "mechanism_phase1", "integer_sequences_d64"] {
        let config = Config::load(Path::new(&format!("data/runs/{run}.toml")), &[])?;
        let mut problem = Problem::open(&config, Purpose::Train)?;
        let report = problem.place(target, budget)?.memory.report;
        let fits = report.total_bytes <= budget;
        let largest = problem.largest_batch(target, budget).map_or("no batch fits".into(), |b| format!("the largest batch is {b}"));
        println!("{run:24} batch {:5}: {:6.1} MiB, fits: {fits}; {largest}", config.train.batch, report.total_bytes as f64 / 1048576.0);
        assert_eq!(fits, problem.largest_batch(target, budget).is_some_and(|most| most >= config.train.batch));
    }
    Ok(())
}
