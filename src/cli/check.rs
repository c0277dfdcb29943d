//! `engine check`: kernels and gradients against f64.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::args::{DeviceArg, JsonArg, KeyValue};
use crate::bar::Bar;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::harness::batch::{ALLOWED, check_batch};
use crate::harness::model::check_model;
use crate::harness::{FAMILIES, check_spec, targets};
use crate::host::Host;
use crate::registry::Config;

/// Numerical check of every kernel, and of a run's whole gradient, on your device
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Run files whose whole-model gradient to check too
    #[arg(value_name = "RUN.toml")]
    runs: Vec<PathBuf>,
    /// Override a key of the run files, as in --set data.dim=32 (repeatable)
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true)]
    set: Vec<String>,
    /// Cases of each kernel family [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    cases: Option<u32>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: CheckArgs) -> Result<()> {
    let CheckArgs { runs, set, cases, device, json: JsonArg { json } } = args;
    let cases = cases.map(|n| n as usize);
    let configs = runs.iter().map(|path| Config::load(path, &set)).collect::<Result<Vec<_>>>()?;
    let gpu = Arc::new(host.open(device.device.as_deref())?);
    if !json {
        host.print(&format!("{}\n\n{:<16}{:>8}{:>12}{:>18}{:>9}", gpu.describe(), "kernels", "cases", "elements", "error / allowed", ""))?;
    }
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let targets = targets(&gpu);
    for family in FAMILIES {
        let count = cases.unwrap_or(family.pinned).min(family.pinned);
        let (mut worst, mut elements, mut failed) = (0.0f64, 0, 0);
        let bar = if json { None } else { Bar::new(host, (targets.len() * count) as u64, family.name) };
        for &target in &targets {
            for i in 0..count {
                bar.iter().for_each(|bar| bar.add(1));
                match check_spec(&gpu, family, &family.pinned_spec(i), target, true) {
                    Ok(outcome) => {
                        worst = worst.max(outcome.worst);
                        elements += outcome.elements;
                    }
                    Err(what) => {
                        failed += 1;
                        failures.push(what);
                    }
                }
            }
        }
        bar.iter().for_each(Bar::clear);
        let status = if failed == 0 { "ok".to_string() } else { format!("{failed} FAILED") };
        if !json {
            host.print(&format!("{:<16}{:>8}{elements:>12}{worst:>18.3}{status:>9}", family.name, targets.len() * count))?;
        }
        rows.push(
            json!({ "kernels": family.name, "cases": targets.len() * count, "elements": elements, "worst": worst, "failed": failed }),
        );
    }
    let mut models = Vec::new();
    for (path, config) in runs.iter().zip(&configs) {
        models.push(check_run(host, &gpu, path, config, json, &mut failures)?);
    }
    if json {
        host.print_json(&json!({ "device": gpu.describe(), "families": rows, "models": models, "failures": failures }))?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Internal(format!("kernels differ from their references:\n{}", failures.join("\n"))))
    }
}

/// Checks a step of a run at its own batch size, and its whole gradient if that is small enough. Gives a row of the results.
fn check_run(host: &Host, gpu: &Arc<Gpu>, path: &Path, config: &Config, json: bool, failures: &mut Vec<String>) -> Result<Value> {
    let b = check_batch(gpu, config)?;
    let mut ok = b.worst.0 <= ALLOWED;
    if !json {
        host.print(&format!(
            "\n{}: a step at batch {}: {} of {} different dispatches compared with f64, largest NMSE {:.1e} (allowed {ALLOWED:.0e}, {}): {}",
            path.display(),
            b.batch,
            b.dispatches.1,
            b.dispatches.0,
            b.worst.0,
            b.worst.1,
            if ok { "ok" } else { "FAILED" }
        ))?;
    }
    if !ok {
        failures.push(format!("{}: a step at its own batch {b:?}", path.display()));
    }
    let mut row = json!({ "run": path, "batch": b.batch, "compared": b.dispatches.1, "batch_nmse": b.worst.0 });
    if let Some(o) = check_model(gpu, config)? {
        let fine = o.nmse <= 1e-9 && o.dead.is_empty() && (o.loss.0 - o.loss.1).abs() <= 1e-5 * o.loss.1.abs();
        if !fine {
            failures.push(format!("{}: whole-model gradient {o:?}", path.display()));
        }
        ok &= fine;
        if !json {
            host.print(&format!(
                "{}: gradient of {} weights, NMSE {:.1e} (allowed 1e-9), worst tensor {} {:.1e}; loss {:.6}, oracle {:.6}: {}",
                path.display(),
                o.weights,
                o.nmse,
                o.worst.1,
                o.worst.0,
                o.loss.0,
                o.loss.1,
                if fine { "ok" } else { "FAILED" }
            ))?;
        }
        let whole = json!({ "weights": o.weights, "nmse": o.nmse, "loss": o.loss.0, "oracle_loss": o.loss.1 });
        row["whole_model"] = whole;
    } else if !json {
        host.print(&format!(
            "{}: the whole gradient is too large for the f64 tape; a smaller model is checked with --set, as in --set data.dim=32",
            path.display()
        ))?;
    }
    row["ok"] = ok.into();
    Ok(row)
}
