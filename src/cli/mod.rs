//! The command line, one file a command. Standard output carries results, standard error everything else; `--json` makes results
//! machine-readable.

mod args;
mod astray;
mod card;
mod check;
mod compare;
mod completions;
mod data;
mod data_text;
mod devices;
mod encode;
mod estimate;
mod eval;
mod export;
mod generate;
mod help;
mod inspect;
#[cfg(feature = "isa")]
mod isa;
mod live;
mod live_draw;
mod new;
mod new_samples;
mod new_text;
mod output;
mod plan;
mod predict;
mod preflight;
mod profile;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod signals;
mod status;
mod sweep;
mod train;
mod tune;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;

use args::VERSION;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Result, visible};
use crate::host::Host;
use crate::ranks::Ranks;

#[derive(Debug, Parser)]
#[command(
    name = "engine",
    version = VERSION,
    about = "Train small sequence models on any GPU: no CUDA, no ROCm",
    max_term_width = 110,
    disable_help_subcommand = true
)]
struct Cli {
    /// Colours: where there is a terminal and NO_COLOR is not set, always, or never
    #[arg(long, global = true, value_name = "auto|always|never", default_value = "auto", hide_possible_values = true)]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a run into a folder of its own
    Train(train::TrainArgs),
    /// Test a trained run: on fresh sequences by family, or on the vectors, mechanisms or images of a file
    #[command(visible_alias = "test")]
    Eval(eval::EvalArgs),
    /// Outputs of a trained run for inputs without targets: of a file, or of JSON lines on standard input
    Predict(predict::PredictArgs),
    /// Runs side by side: parameters, best epoch, scores, time, status
    Compare(compare::CompareArgs),
    /// How far runs are: epoch, rate, time left, best so far, nearest rule, process
    Status(status::StatusArgs),
    /// Write runs as one HTML file: curves, tables, settings, notes and pictures, for a browser without a network
    Report(report::ReportArgs),
    /// Write a trained model for other programs: weights for PyTorch, ONNX, a torch module, or a page for browsers
    Export(export::ExportArgs),
    /// Latents of images by a trained VAE, with the types, joints and mask of the file
    Encode(encode::EncodeArgs),
    /// Continue a text or a sequence, or make mechanisms from latents, with a trained run
    Generate(generate::GenerateArgs),
    /// Answer requests for predictions of trained runs over HTTP
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),
    /// Parameters and memory of runs: on an RX 6600, or on a device of this machine
    Estimate(estimate::EstimateArgs),
    /// Look before a long run: the data with their norms, sizes, memory, and some steps with their time
    Preflight(preflight::PreflightArgs),
    /// Numerical check of every kernel, and of a run's whole gradient, on your device
    Check(check::CheckArgs),
    /// Check and measure a card in ten minutes, into one file that can be sent
    Card(card::CardArgs),
    /// Time every kernel of a training step, and under mpirun the exchange of its gradients
    Profile(profile::ProfileArgs),
    /// Measure which ways to launch a run's kernels are fastest on this device, and keep them for the runs after it
    Tune(tune::TuneArgs),
    /// Make a data set
    Data(data::DataArgs),
    /// Print the plan of a training step
    Plan(plan::PlanArgs),
    /// Compile a run's kernels for an AMD card that is not there, and predict its step
    #[cfg(feature = "isa")]
    Isa(isa::IsaArgs),
    /// List the adapters of this machine
    Devices(devices::DevicesArgs),
    /// Write a commented run file for your own data, after looking into them
    New(new::NewArgs),
    /// Print what a shell completes, or write manual pages
    Completions(completions::CompletionsArgs),
    /// Show what is in a data file, a text, a folder of .npy files, a .safetensors or .onnx file, or a run file
    Inspect(inspect::InspectArgs),
    /// Help on a command, or on the keys of a run file
    Help(help::HelpArgs),
}

fn dispatch(host: &Host, command: Command, ranks: Ranks) -> Result<()> {
    match command {
        Command::Train(args) => train::run(host, args, ranks),
        Command::Eval(args) => eval::run(host, args),
        Command::Predict(args) => predict::run(host, args),
        Command::Compare(args) => compare::run(host, args),
        Command::Status(args) => status::run(host, args),
        Command::Report(args) => report::run(host, args),
        Command::Export(args) => export::run(host, args),
        Command::Encode(args) => encode::run(host, args),
        Command::Generate(args) => generate::run(host, args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(host, args),
        Command::Estimate(args) => estimate::run(host, args),
        Command::Preflight(args) => preflight::run(host, args),
        Command::Check(args) => check::run(host, args),
        Command::Card(args) => card::run(host, args),
        Command::Profile(args) => profile::run(host, args, ranks),
        Command::Tune(args) => tune::run(host, args),
        Command::Data(args) => data::run(host, args),
        Command::Plan(args) => plan::run(host, args),
        #[cfg(feature = "isa")]
        Command::Isa(args) => isa::run(host, args),
        Command::Devices(args) => devices::run(host, args),
        Command::New(args) => new::run(host, args),
        Command::Completions(args) => completions::run(host, args, Cli::command()),
        Command::Inspect(args) => inspect::run(host, args),
        Command::Help(args) => help::run(host, args),
    }
}

/// Waits for the first rank to report an error that all ranks have; gives true if it has ended them.
fn ended_by_the_first() -> bool {
    let told = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in crate::ranks::ENDING {
        let _ = signal_hook::flag::register(*signal, told.clone());
    }
    for _ in 0..60 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        if told.load(std::sync::atomic::Ordering::Relaxed) {
            return true;
        }
    }
    false
}

/// Runs the program with its arguments, environment and streams, and gives the exit code.
pub fn main() -> i32 {
    for (name, value) in crate::gpu::environment() {
        // SAFETY: no other thread has been started.
        unsafe { std::env::set_var(name, value) };
    }
    // A file beyond the limit of `ulimit -f` is a failed write, not the end of the process.
    #[cfg(unix)]
    // SAFETY: no handler runs, and no other thread has been started.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let host = Host::default();
    let of_panics = host.clone();
    std::panic::set_hook(Box::new(move |info| {
        live::leave(&of_panics);
        of_panics.say(&match info.payload_as_str().is_some_and(refused) {
            true => "engine: the system refuses another thread. Close other programs or raise its limits; a run goes on with --resume"
                .to_string(),
            false => format!("engine: internal error: {info}. Please report it with the command that you ran"),
        });
    }));
    run(std::env::args_os(), &host)
}

/// Runs a command line, which begins with the name of the program, and gives the exit code.
pub fn run<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>, host: &Host) -> i32 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let coloured = |colour: ColorChoice| match colour {
        ColorChoice::Auto => host.clone(),
        always_or_never => host.clone().coloured(always_or_never == ColorChoice::Always),
    };
    let program = Cli::command().color(colour_of(&args));
    let cli = match program.clone().try_get_matches_from(&args).and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(told) => return shown(&astray::with_key(told, &args, &program), &coloured(colour_of(&args))),
    };
    let host = &coloured(cli.color);
    if let Command::Help(help) = &cli.command
        && let Some(line) = help.of_command(&Cli::command())
    {
        return run(line, host);
    }
    let report = |error: &Error| {
        host.say(&format!("engine: {error}"));
        error.exit_code()
    };
    let shares = host.is_process() && matches!(cli.command, Command::Train(_) | Command::Profile(_));
    let joined = if shares { Ranks::join() } else { Ok((Ranks::default(), None)) };
    let (ranks, _joined) = match joined {
        Ok(joined) => joined,
        Err(error) => return report(&error),
    };
    let command = if matches!(cli.command, Command::Train(_)) { "train" } else { "profile" };
    if let Err(error) = ranks.expect_same_start(&[("command", command.into())]) {
        ranks.abort(report(&error));
    }
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| dispatch(host, cli.command, ranks)));
    if matches!(result, Ok(Err(Error::Interrupted(..)))) {
        // All ranks stop at the same step. A launcher may end the others when the first has an exit code: what they clean up is done by
        // then.
        ranks.meet();
    }
    if ranks.shared() && !ranks.leads() && !matches!(result, Ok(Ok(()))) && ended_by_the_first() {
        // Without the end of MPI, which waits for all.
        std::process::exit(75);
    }
    let code = match &result {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => report(error),
        Err(panic) => match panic.downcast_ref::<String>().is_some_and(|text| refused(text)) {
            true => 75,
            false => 70,
        },
    };
    if shares { ranks.abort(code) } else { code }
}

/// The colours that a command line asks for, whatever else is wrong with it.
fn colour_of(args: &[OsString]) -> ColorChoice {
    let after = |(at, arg): (usize, &OsString)| match arg.to_str()?.strip_prefix("--color")? {
        "" => args.get(at + 1)?.to_str().map(String::from),
        value => value.strip_prefix('=').map(String::from),
    };
    let given = args.iter().enumerate().find_map(after);
    given.and_then(|word| word.parse().ok()).unwrap_or(ColorChoice::Auto)
}

/// True for the panic of the standard library when the system refuses to start a thread.
fn refused(panic: &str) -> bool {
    panic.starts_with("failed to spawn thread")
}

/// Prints help, or the error in a command line, and gives the exit code.
fn shown(told: &clap::Error, host: &Host) -> i32 {
    // Its own colours aside, a control character is one of the command line.
    let plain = told.render().to_string();
    let written = if host.is_process() && visible(&plain) == plain {
        // In colours where that is a terminal.
        told.print()
    } else if told.use_stderr() {
        host.say(plain.trim_end());
        Ok(())
    } else {
        host.print(&plain).map_err(std::io::Error::other)
    };
    match written {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            host.say(&format!("engine: standard output: {e}"));
            74
        }
        _ => told.exit_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_known_where_the_command_line_is_wrong() {
        for (line, want) in [
            ("engine --color never trian", ColorChoice::Never),
            ("engine trian --color=always", ColorChoice::Always),
            ("engine trian --color", ColorChoice::Auto),
            ("engine trian --colors=never", ColorChoice::Auto),
        ] {
            assert_eq!(colour_of(&line.split(' ').map(OsString::from).collect::<Vec<_>>()), want, "{line}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
