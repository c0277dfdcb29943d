//! A trained run predicts: what its model gives for inputs whose targets nobody knows.
//!
//! `cargo run --release --example predict`

use std::path::Path;
use std::thread;

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

    // Its best weights on a device, opened once. Up to 64 samples are computed at once.
    let model = Predictor::open(&run, "best", &Host::default(), None, &[], 64)?;
    println!("it takes {:?} and gives {:?} numbers a sample", model.fields(), model.shape());

    // Several threads ask it, each for as many samples as it has: one, some, or more than a batch.
    let contexts = |samples: usize| (0..samples * model.fields()[0].len()).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
    let ask = &|samples: usize| model.predict(samples, &[("context", &contexts(samples))]);
    let answers: Vec<Result<Vec<f32>>> = thread::scope(|scope| {
        let threads = [1, 2, 100].map(|samples| scope.spawn(move || ask(samples)));
        threads.into_iter().map(|thread| thread.join().expect("a thread that did not panic")).collect()
    });
    for (samples, outputs) in [1, 2, 100].into_iter().zip(answers) {
        let outputs = outputs?;
        println!("the first of {samples} begins with {:.3?}", &outputs[..3]);
        assert!(outputs.len() == samples * 384 && outputs.iter().all(|v| v.is_finite()));
        // Their first sample is the same, and so are the bits of its output.
        assert_eq!(outputs[..384], ask(1)?[..]);
    }
    Ok(())
}
