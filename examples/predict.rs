//! A trained run predicts: what its model gives for inputs whose targets nobody knows.
//!
//! `cargo run --release --example predict`

use std::path::Path;

use engine::error::Result;
use engine::host::Host;
use engine::predict::Predictor;
use engine::problem::Problem;
use engine::registry::Config;
use engine::tasks::Purpose;
use engine::train::{Options, train};

pub(crate) fn main() -> Result<()> {
    // A run to predict with.
    let set = ["data.file=data/samples/wikitext_minilm_small.npz", "train.batch=32", "train.epochs=2", "model.hidden=32", "abort_if=[]"];
    let config = Config::load(Path::new("data/runs/lvm_mlp.toml"), &set.map(String::from))?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = folder.path().join("run");
    train(Problem::open(&config, Purpose::Train)?, &Options { out: run.clone(), quiet: true, ..Options::default() })?;

    // Its best weights on a device, for two samples at a time.
    let model = Predictor::open(&run, "best", &Host::default(), None, &[], 2)?;
    println!("it takes {:?} and gives {:?} numbers a sample", model.fields(), model.shape());
    let contexts: Vec<f32> = (0..2 * model.fields()[0].len()).map(|i| (i as f32).sin()).collect();
    let outputs = model.predict(2, &[("context", &contexts)])?;
    println!("the first begins with {:.3?}, the second with {:.3?}", &outputs[..3], &outputs[outputs.len() / 2..][..3]);
    assert!(outputs.len() == 2 * 384 && outputs.iter().all(|v| v.is_finite()));
    Ok(())
}
