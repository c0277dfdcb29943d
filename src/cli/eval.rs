//! `engine eval`: tests of a trained run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{DeviceArg, JsonArg, RunFolderArgs, expect_apart, trained, weights_of};
use crate::datasets::npz::{Numbers, write_arrays};
use crate::error::{Error, Result};
use crate::files;
use crate::host::Host;
use crate::metrics::table;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{ClosingScores, DataKind, Purpose, Test};

/// Test a trained run: on fresh sequences by family, or on the vectors, mechanisms or images of a file
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    #[command(flatten)]
    weights: RunFolderArgs,
    /// Fresh sequences of each family, of a run on sequences [default: 500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sequences: Option<u32>,
    /// File to test on, all of it [default: the validation samples of the run's own]
    #[arg(long, value_name = "FILE.npz|FILE.csv|FILE.parquet|FOLDER")]
    data: Option<PathBuf>,
    /// Write predictions and the rows of the samples in their file here
    #[arg(long, value_name = "OUT.npz")]
    predictions: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: EvalArgs) -> Result<()> {
    let EvalArgs { weights, sequences, data, predictions, device, json } = args;
    let mut config = Config::of_run(weights.folder()?)?;
    let purpose = match &data {
        Some(file) => {
            config.data.on_file(file)?;
            Purpose::Test
        }
        None => Purpose::Train,
    };
    if let Some(path) = &predictions {
        let read: Vec<&Path> = config.data.files().into_iter().map(|(_, file)| file).collect();
        expect_apart(path, &read, weights.folder()?)?;
        if files::extension(path) != "npz" {
            let path = path.display();
            return Err(Error::Config(format!(
                "--predictions {path}: they are arrays, so name an .npz file. `engine predict` writes .csv"
            )));
        }
    }
    let problem = Problem::open(&config, purpose)?;
    if data.is_none() {
        problem.source().expect_file()?;
    }
    let weights = weights_of(host, &weights)?;
    if data.is_none() {
        weights.expect_data(&problem.files, &mut BTreeMap::new())?;
    }
    let (problem, session) = trained(host, weights, problem, device.device.as_deref())?;
    let test = Test { sequences: sequences.map(|n| n as usize), predictions: predictions.is_some() };
    let (ClosingScores { rows, notes, .. }, arrays) = problem.scorecard().test(&session, test)?;
    if let Some(path) = &predictions {
        let views: Vec<_> = arrays.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), Numbers::from(v))).collect();
        write_arrays(path, &views)?;
    }
    if json.json {
        return host.print_json(&rows.into_iter().collect::<BTreeMap<_, _>>());
    }
    let names = arrays.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", ");
    let written = predictions.map(|path| format!("{} has {names}; rows are those of the samples in their file", path.display()));
    let notes: Vec<String> = notes.into_iter().chain(written).collect();
    host.print(&format!("{}\n{}", table(&rows, &problem.card().table_columns), notes.join("\n")))
}
