//! `engine check`: kernels and gradients against f64.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use super::args::{DeviceArg, JsonArg, KeyValue, VERSION, expect_writable};
use crate::bar::Bar;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{Gpu, Target};
use crate::harness::batch::{ALLOWED, check_batch};
use crate::harness::model::check_model;
use crate::harness::{FAMILIES, Family, check_spec, targets};
use crate::host::Host;
use crate::registry::Config;
use crate::runs::date;

/// Numerical check of every kernel, and of a run's whole gradient, on your device
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Run files whose whole-model gradient to check too
    #[arg(value_name = "RUN.toml")]
    runs: Vec<PathBuf>,
    /// Override a key of the run files, as in --set data.dim=32 (repeatable)
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true)]
    set: Vec<String>,
    /// Cases of each kernel family; with 0 the run files alone are checked [default: all]
    #[arg(long)]
    cases: Option<u32>,
    /// Kernel families, as in --family matmul,softmax [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    family: Vec<String>,
    /// Write what was found as a page of Markdown
    #[arg(long, value_name = "FILE.md")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// What the cases of a family have shown on a device.
struct Row {
    name: &'static str,
    cases: usize,
    elements: usize,
    /// Largest error, as a share of what is allowed.
    worst: f64,
    failed: usize,
}

impl Row {
    fn status(&self) -> String {
        if self.failed == 0 { "ok".into() } else { format!("{} FAILED", self.failed) }
    }
}

pub(super) fn run(host: &Host, args: CheckArgs) -> Result<()> {
    let CheckArgs { runs, set, cases, family, certificate, device, json: JsonArg { json } } = args;
    if cases == Some(0) && runs.is_empty() {
        return Err(Error::Config("--cases 0 leaves nothing to check: name run files, which are then checked alone".into()));
    }
    let families = named(&family)?;
    let configs = runs.iter().map(|path| Config::load(path, &set)).collect::<Result<Vec<_>>>()?;
    certificate.as_deref().map_or(Ok(()), expect_writable)?;
    let gpu = Arc::new(host.open(device.device.as_deref())?);
    if !json {
        host.print(&format!("{}\n", gpu.describe()))?;
    }
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    if cases != Some(0) {
        if !json {
            host.print(&format!("{:<16}{:>8}{:>12}{:>18}{:>9}", "kernels", "cases", "elements", "error / allowed", ""))?;
        }
        let targets = targets(&gpu);
        for family in families {
            let count = cases.map_or(family.pinned, |n| (n as usize).min(family.pinned));
            let row = check_family(host, &gpu, (family, count), &targets, json, &mut failures);
            if !json {
                host.print(&format!("{:<16}{:>8}{:>12}{:>18.3}{:>9}", row.name, row.cases, row.elements, row.worst, row.status()))?;
            }
            rows.push(row);
        }
    }
    let mut models = Vec::new();
    for (path, config) in runs.iter().zip(&configs) {
        models.push(check_run(host, &gpu, path, config, json, &mut failures)?);
    }
    if let Some(file) = certificate {
        files::write(&file, page(&gpu, &rows, &models).as_bytes())?;
    }
    if json {
        let families: Vec<_> = rows
            .iter()
            .map(|r| json!({ "kernels": r.name, "cases": r.cases, "elements": r.elements, "worst": r.worst, "failed": r.failed }))
            .collect();
        host.print_json(&json!({ "device": gpu.describe(), "families": families, "models": models, "failures": failures }))?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Internal(format!("kernels differ from their references:\n{}", failures.join("\n"))))
    }
}

/// Families of these names; without names, all of them.
fn named(names: &[String]) -> Result<Vec<&'static Family>> {
    if let Some(unknown) = names.iter().find(|name| FAMILIES.iter().all(|family| family.name != **name)) {
        let there = FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ");
        return Err(Error::Config(format!("--family {unknown}: there is no such family. There are {there}")));
    }
    Ok(FAMILIES.iter().filter(|family| names.is_empty() || names.iter().any(|name| name == family.name)).collect())
}

/// Checks the first cases of a family, in each variant that the device takes.
fn check_family(
    host: &Host,
    gpu: &Arc<Gpu>,
    (family, count): (&Family, usize),
    targets: &[Target],
    json: bool,
    failures: &mut Vec<String>,
) -> Row {
    let mut row = Row { name: family.name, cases: targets.len() * count, elements: 0, worst: 0.0, failed: 0 };
    let bar = if json { None } else { Bar::new(host, row.cases as u64, family.name) };
    for &target in targets {
        for i in 0..count {
            bar.iter().for_each(|bar| bar.add(1));
            match check_spec(gpu, family, &family.pinned_spec(i), target, true) {
                Ok(outcome) => {
                    row.worst = row.worst.max(outcome.worst);
                    row.elements += outcome.elements;
                }
                Err(what) => {
                    row.failed += 1;
                    failures.push(what);
                }
            }
        }
    }
    bar.iter().for_each(Bar::clear);
    row
}

/// The results as a page of Markdown.
fn page(gpu: &Gpu, rows: &[Row], models: &[Value]) -> String {
    let failed: usize = rows.iter().map(|row| row.failed).sum::<usize>() + models.iter().filter(|model| model["ok"] != true).count();
    let verdict = if failed == 0 { "Everything agrees with f64.".to_string() } else { format!("{failed} checks FAILED.") };
    let mut out = format!(
        "# Check of {}\n\n{verdict}\n\n- card: {}\n- engine: {VERSION}\n- date: {}\n",
        gpu.summary.name,
        gpu.describe(),
        date(SystemTime::now())
    );
    if !rows.is_empty() {
        out += "\nThe error is the largest of a family, as a share of what is allowed.\n\n| kernels | cases | elements | error / allowed | |\n|---|---:|---:|---:|---|\n";
    }
    for row in rows {
        let _ = writeln!(out, "| {} | {} | {} | {:.3} | {} |", row.name, row.cases, row.elements, row.worst, row.status());
    }
    if !models.is_empty() {
        out += "\nThe largest normalised square error of a result of a training step, and of the gradient of all weights.\n\n| run | batch | step | gradient | |\n|---|---:|---:|---:|---|\n";
    }
    for model in models {
        let shown = |value: &Value| value.as_f64().map_or("too large for f64 here".to_string(), |error| format!("{error:.1e}"));
        let (run, ok) = (model["run"].as_str().unwrap_or_default(), if model["ok"] == true { "ok" } else { "FAILED" });
        let (step, gradient) = (shown(&model["batch_nmse"]), shown(&model["whole_model"]["nmse"]));
        let _ = writeln!(out, "| {run} | {} | {step} | {gradient} | {ok} |", model["batch"]);
    }
    out
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
