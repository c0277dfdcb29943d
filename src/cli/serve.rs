//! `engine serve`: trained runs over HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::args::{DeviceArg, RunFolderArgs, parse_bytes, weights_of};
use super::signals::stop_on_signals;
use crate::error::{Error, Result};
use crate::files;
use crate::host::Host;
use crate::registry::Config;
use crate::serve::{Limits, Options, Run, serve};

/// Environment variable with the token.
const TOKEN: &str = "ENGINE_TOKEN";

/// Shortest token, in characters.
const SHORTEST: usize = 16;

/// Answer requests for predictions of trained runs over HTTP
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Run folders; each is called by its last name, or as in NAME=DIR
    #[arg(value_name = "[NAME=]DIR", required = true)]
    runs: Vec<PathBuf>,
    /// Weights of each run: the best so far, those of the newest checkpoint, or a file of them
    #[arg(long, value_name = "best|last|FILE", default_value = "best")]
    checkpoint: String,
    /// Address to listen on; 0.0.0.0 is all of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 for any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// File with a token that each request must bring along [default: that of the environment variable ENGINE_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Samples that are computed together at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Requests that may wait for a run; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queue: u32,
    /// Requests a second that each address may send [default: any]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Open connections; further ones wait
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Largest body of a request, and of the arrays that are packed in it
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_bytes)]
    max_body: u64,
    /// Samples of a request at most
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_samples: u32,
    /// Numbers or tokens that a sequence or a text is continued by at most
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_count: u32,
    /// Numbers or tokens of a prompt at most
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    max_prompt: u32,
    /// Seconds for the head of a request to arrive, for its body, and for its answer to be computed, each
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
    #[command(flatten)]
    device: DeviceArg,
}

pub(super) fn run(host: &Host, args: ServeArgs) -> Result<()> {
    let above_0 = |name: &str, value: f64| match value > 0.0 && value <= 1e6 {
        true => Ok(value),
        false => Err(Error::Config(format!("--{name} {value} is out of range: it must be above 0, and at most 1000000"))),
    };
    let limits = Limits {
        body: usize::try_from(args.max_body).unwrap_or(usize::MAX),
        samples: args.max_samples as usize,
        count: args.max_count as usize,
        prompt: args.max_prompt as usize,
        time: Duration::from_secs_f64(above_0("timeout", args.timeout)?),
    };
    let options = Options {
        token: token(args.token_file.as_deref())?,
        host: args.host,
        port: args.port,
        rate: args.rate.map(|rate| above_0("rate", rate)).transpose()?,
        queue: args.queue as usize,
        connections: args.connections as usize,
        limits,
    };
    let named = args.runs.iter().map(|run| named(run)).collect::<Result<Vec<_>>>()?;
    if let Some((name, _)) =
        named.iter().enumerate().find(|(i, (name, _))| named[..*i].iter().any(|(other, _)| other == name)).map(|(_, n)| n)
    {
        return Err(Error::Config(format!("two runs are called `{name}`: give one another name, as in `other=DIR`")));
    }
    let stop = stop_on_signals(host)?;
    let listener = options.listen()?;
    let mut runs = vec![];
    for (name, folder) in named {
        let weights = RunFolderArgs::named(folder.clone(), args.checkpoint.clone());
        let config = Config::of_run(weights.folder()?)?;
        let opened = weights_of(host, &weights)?;
        let run = Run::open(host, name, config, opened, args.device.device.as_deref(), args.batch as usize);
        runs.push(run.map_err(|e| e.of(&folder.display().to_string()))?);
    }
    serve(host, listener, runs, options, &stop)
}

/// Name and folder of a run.
fn named(run: &Path) -> Result<(String, PathBuf)> {
    let text = run.to_string_lossy();
    if let Some((name, folder)) = text.split_once('=').filter(|(name, _)| !run.exists() && !name.is_empty() && !name.contains('/')) {
        return Ok((name.into(), folder.into()));
    }
    let last = run.canonicalize().ok().and_then(|run| Some(run.file_name()?.to_string_lossy().into_owned()));
    // Without one, the folder is said to be none when it is opened.
    Ok((last.unwrap_or_else(|| text.into_owned()), run.into()))
}

/// The token of a file, or of the environment.
fn token(file: Option<&Path>) -> Result<Option<String>> {
    let found = match file {
        Some(file) => Some(files::text(file, files::SMALL).map_err(|e| Error::read(file, e))?),
        None => std::env::var(TOKEN).ok(),
    };
    let from = file.map_or_else(|| TOKEN.to_string(), |file| file.display().to_string());
    match found.map(|token| token.trim().to_string()) {
        Some(token) if token.len() < SHORTEST || token.contains(|c: char| !c.is_ascii_graphic()) => Err(Error::Config(format!(
            "{from}: a token has at least {SHORTEST} letters, digits or signs, without spaces. `openssl rand -hex 32` makes one"
        ))),
        token => Ok(token),
    }
}
