//! The command line. Standard output carries results, standard error everything else; `--json` makes results machine-readable.

mod commands;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Result};

#[derive(Debug, Parser)]
#[command(name = "engine", version, about = "Train small sequence models on any GPU: no CUDA, no ROCm", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A run file and what is overridden in it.
#[derive(Debug, Args)]
struct RunArgs {
    /// Run file; those shipped are in data/runs/
    #[arg(value_name = "RUN.toml")]
    run: PathBuf,
    /// Override a key, as in --set train.batch=64 (repeatable)
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
}

/// A run folder and which of its weights are meant.
#[derive(Debug, Args)]
struct WeightsArgs {
    /// Run folder
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Weights: the best so far, those of the newest checkpoint, or a file of them
    #[arg(long, value_name = "best|last|FILE", default_value = "best")]
    checkpoint: String,
}

#[derive(Debug, Args)]
struct DeviceArg {
    /// Adapter by number or part of its name (see `engine devices`)
    #[arg(long, value_name = "N|NAME")]
    device: Option<String>,
}

#[derive(Debug, Args)]
struct JsonArg {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Data {
    /// The sequences that a run trains on, validates on and is tested on, for other programs
    Sequences {
        #[command(flatten)]
        run: RunArgs,
        /// File to write: train (steps, samples, 9), validation (validations, sequences, 9), test (4, sequences, 9)
        #[arg(long, value_name = "FILE.npz")]
        out: PathBuf,
    },
    /// Planar linkages: four-bars and six-bars with images of the curves that they trace
    Linkages {
        /// How many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500_000))]
        count: u32,
        /// Same seed, same samples
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// File to write
        #[arg(long, value_name = "FILE.npz")]
        out: PathBuf,
        /// Types of linkages, as in --only four_bar,watt_1 [default: all]
        #[arg(long, value_name = "TYPE", value_delimiter = ',')]
        only: Vec<String>,
        /// Draw the first samples
        #[arg(long, value_name = "FILE.svg")]
        sheet: Option<PathBuf>,
        #[command(flatten)]
        json: JsonArg,
    },
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a run into a folder of its own
    Train {
        #[command(flatten)]
        run: RunArgs,
        /// Run folder [default: runs/ and the name of the run file]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Go on from the newest valid checkpoint of the folder
        #[arg(long)]
        resume: bool,
        /// Start from these weights (safetensors with PyTorch names)
        #[arg(long, value_name = "FILE")]
        init: Option<PathBuf>,
        /// Memory budget, as in 8GiB [default: 8GiB, or what the card has free]
        #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
        budget: Option<u64>,
        #[command(flatten)]
        device: DeviceArg,
        /// End after this many steps; the schedule stays that of the run
        #[arg(long, value_name = "N")]
        steps: Option<u64>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Test a trained run: on fresh sequences by family, or on the vectors, mechanisms or images of a file
    Eval {
        #[command(flatten)]
        weights: WeightsArgs,
        /// Fresh sequences of each family, of a run on sequences [default: 500]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        sequences: Option<u32>,
        /// File to test on, all of it [default: the validation samples of the run's own]
        #[arg(long, value_name = "FILE.npz")]
        data: Option<PathBuf>,
        /// Write predictions and cosines here
        #[arg(long, value_name = "OUT.npz")]
        predictions: Option<PathBuf>,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Runs side by side: parameters, best epoch, scores, time, status
    Compare {
        /// Run folders
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<PathBuf>,
        /// Print Markdown
        #[arg(long)]
        markdown: bool,
        /// Draw the validation curves
        #[arg(long, value_name = "FILE.svg")]
        svg: Option<PathBuf>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Write the weights of a run alone, for PyTorch
    Export {
        #[command(flatten)]
        weights: WeightsArgs,
        /// File to write
        #[arg(value_name = "OUT.safetensors")]
        out: PathBuf,
    },
    /// Latents of images by a trained VAE, with the types, joints and mask of the file
    Encode {
        #[command(flatten)]
        weights: WeightsArgs,
        /// Images
        #[arg(long, value_name = "FILE.npz")]
        data: PathBuf,
        /// File to write
        #[arg(long, value_name = "OUT.npz")]
        out: PathBuf,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Continue a sequence, or make mechanisms from latents, with a trained run
    Generate {
        #[command(flatten)]
        weights: WeightsArgs,
        /// Numbers to continue, as in 1,2,4,8
        #[arg(long, value_delimiter = ',')]
        prompt: Vec<u32>,
        /// Latents and types of mechanisms [default: those of the run]
        #[arg(long, value_name = "FILE.npz", conflicts_with = "prompt")]
        data: Option<PathBuf>,
        /// Numbers of samples in the file, as in 3,14 [default: the first six, or six that validate]
        #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with = "prompt")]
        sample: Vec<usize>,
        /// Draw the predicted mechanisms over the true ones
        #[arg(long, value_name = "FILE.svg", conflicts_with = "prompt")]
        svg: Option<PathBuf>,
        /// How many numbers to add [default: 5]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: Option<u32>,
        /// Beam search of this width
        #[arg(long, value_name = "WIDTH", conflicts_with = "temperature", value_parser = clap::value_parser!(u32).range(1..=256))]
        beam: Option<u32>,
        /// Draw from the softmax at this temperature
        #[arg(long)]
        temperature: Option<f64>,
        /// Seed of --temperature [default: 1]
        #[arg(long)]
        seed: Option<u64>,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Parameters and memory of runs: on an RX 6600, or on a device of this machine
    Estimate {
        /// Run files; several give one line each
        #[arg(value_name = "RUN.toml", required = true)]
        runs: Vec<PathBuf>,
        /// Override a key, as in --set data.dim=768 (repeatable)
        #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
        set: Vec<String>,
        /// Memory budget, as in 8GiB [default: 8GiB, or what the card of --device has free]
        #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
        budget: Option<u64>,
        /// List every tensor
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Numerical check of every kernel, and of a run's whole gradient, on your device
    Check {
        /// Run files whose whole-model gradient to check too
        #[arg(value_name = "RUN.toml")]
        runs: Vec<PathBuf>,
        /// Override a key of the run files, as in --set data.dim=32 (repeatable)
        #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
        set: Vec<String>,
        /// Cases of each kernel family [default: all]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        cases: Option<u32>,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Time every kernel of a training step
    Profile {
        #[command(flatten)]
        run: RunArgs,
        /// Repetitions; medians are shown
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rounds: u32,
        /// List every dispatch instead of sums by kernel
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Make a data set
    Data {
        #[command(subcommand)]
        what: Data,
    },
    /// Print the plan of a training step
    Plan {
        #[command(flatten)]
        run: RunArgs,
    },
    /// List the adapters of this machine
    Devices {
        #[command(flatten)]
        json: JsonArg,
    },
    /// Show what is in an .npz or .safetensors file, or in a run file
    Inspect {
        /// File
        file: PathBuf,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// 8GiB, 500MB, 1048576.
fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("expected a size such as 8GiB, 500MB or 1048576".into()),
    };
    let value = number.parse::<f64>().map_err(|_| "expected a size such as 8GiB, 500MB or 1048576".to_string())? * factor;
    if (1.0..9e18).contains(&value) { Ok(value as u64) } else { Err("a budget is at least one byte".into()) }
}

/// 1.5 GiB, 3.2 MiB, 17 B.
fn bytes(value: u64) -> String {
    let v = value as f64;
    match value {
        0..1024 => format!("{value} B"),
        1024..1_048_576 => format!("{:.1} KiB", v / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", v / 1_048_576.0),
        _ => format!("{:.2} GiB", v / 1_073_741_824.0),
    }
}

/// Writes a result to standard output; a closed pipe ends the program quietly.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Io(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Writes a result as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print(&serde_json::to_string_pretty(value).map_err(|e| Error::Internal(format!("JSON: {e}")))?)
}

/// Runs the command line and gives the exit code.
pub fn main() -> i32 {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: no other thread has been started. Without a session, Mesa's device-select layer prints an error of its own.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    std::panic::set_hook(Box::new(|info| {
        let _ = writeln!(std::io::stderr(), "engine: internal error: {info}. Please report it with the command that you ran");
    }));
    let cli = Cli::parse();
    let result = std::panic::catch_unwind(|| commands::run(cli.command));
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            let _ = writeln!(std::io::stderr(), "engine: {error}");
            error.exit_code()
        }
        Err(_) => 70,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        assert_eq!(parse_bytes("8GiB"), Ok(8 << 30));
        assert_eq!(parse_bytes("1.5 MiB"), Ok(1_572_864));
        assert_eq!(parse_bytes("500MB"), Ok(500_000_000));
        assert_eq!(parse_bytes("77"), Ok(77));
        assert!(parse_bytes("lots").is_err() && parse_bytes("0").is_err() && parse_bytes("-1").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
