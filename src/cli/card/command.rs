//! The command `engine card`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::children::{Children, Missing};
use super::kept::{Kept, Outcome, partial};
use super::measure::measure;
use super::page::page;
use super::parts::{Job, parts};
use super::schedule::{self, Clockwork, Part};
use crate::cli::args::{DeviceArg, JsonArg, VERSION, expect_writable};
use crate::cli::signals::stop_on_signals;
use crate::error::{Error, Result, argument};
use crate::export::WebCard;
use crate::files;
use crate::gpu::Gpu;
use crate::host::Host;
use crate::metrics::{bytes, duration};
use crate::runs::date;

/// Check and measure a card in ten minutes, into one file that can be sent
#[derive(Debug, Args)]
pub(in crate::cli) struct CardArgs {
    /// Folder of the shipped run files
    #[arg(value_name = "DIR", default_value = "data/runs")]
    runs: PathBuf,
    /// Minutes that it may take; each part has its share, and what does not fit is listed as not done
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// File to write; of one that is not finished, what is missing is measured [default: card-NAME-DATE.md]
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
    /// Write into a new folder a page on which a browser checks and measures the card of whoever opens it, instead of measuring here
    #[arg(long, value_name = "DIR", conflicts_with_all = ["minutes", "out", "json"])]
    web: Option<PathBuf>,
    /// Measure one thing in this process, and print it as JSON
    #[arg(long, value_name = "WHAT", hide = true)]
    measure: Option<String>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// Measures in processes of their own, and writes the file after each.
struct Measuring<'a> {
    host: &'a Host,
    name: &'a str,
    out: &'a Path,
    parts: &'a [Part<Job>],
    children: &'a Children,
    started: Instant,
}

impl Clockwork<Job> for Measuring<'_> {
    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn begins(&mut self, part: &Part<Job>, seconds: f64) {
        let number = 1 + self.parts.iter().position(|other| other.name == part.name).unwrap_or(0);
        let so_far = duration(self.now());
        self.host.say(&format!("{number:2} of {}  {:<9} at most {}, after {so_far}", self.parts.len(), part.name, duration(seconds)));
    }

    fn measure(&mut self, part: &Part<Job>, (item, job): &(String, Job), seconds: f64) -> Result<Outcome> {
        let began = Instant::now();
        let outcome = match job(self.children, began + Duration::from_secs_f64(seconds)) {
            Ok(value) => Outcome::Done(value),
            Err(Missing::Failed(why)) => Outcome::Failed(why),
            Err(Missing::TooLong) => Outcome::TooLong(seconds),
            Err(Missing::Stopped(signal)) => return Err(Error::Interrupted(signal, self.rest())),
        };
        let how = match &outcome {
            Outcome::Failed(_) => "FAILED",
            done if done.has_failures() => "failures",
            Outcome::Done(_) => "done",
            Outcome::TooLong(_) => "not done",
        };
        self.host.say(&format!("          {:<9} {item:<34} {how:<8} {:>6.1} s", part.name, began.elapsed().as_secs_f64()));
        Ok(outcome)
    }

    fn keep(&mut self, kept: &Kept) -> Result<()> {
        kept.save(self.out)?;
        files::write(self.out, page(kept, self.name, self.parts).as_bytes())
    }
}

impl Measuring<'_> {
    /// How what is missing is measured.
    fn rest(&self) -> String {
        format!("the same command with --out {} measures what is missing", self.out.display())
    }
}

/// A name for a file: letters, digits and dashes.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).take(5).collect::<Vec<_>>().join("-")
}

/// Writes the page on which a browser checks and measures a card.
fn write_web(host: &Host, folder: &Path, runs: &Path, device: Option<&str>) -> Result<()> {
    files::expect_new_folder(folder)?;
    let page = WebCard::of(runs, || host.open(device))?;
    page.write(folder)?;
    let ([families, cases, kernels], size) = (page.counts(), page.files().map(|(_, bytes)| bytes.len()).sum::<usize>());
    host.print(&format!(
        "{}: {cases} cases of {families} kernel families, {kernels} kernels, {}. Serve it, as with `python3 -m http.server -d {}`, and open http://localhost:8000",
        folder.display(),
        bytes(size as u64),
        argument(folder)
    ))
}

pub(in crate::cli) fn run(host: &Host, args: CardArgs) -> Result<()> {
    let CardArgs { runs, minutes, out, web, measure: what, device, json: JsonArg { json } } = args;
    let wanted = device.device.as_deref();
    if let Some(folder) = web {
        return write_web(host, &folder, &runs, wanted);
    }
    if let Some(what) = what {
        return host.print_json(&measure(&what, &Arc::new(host.open(wanted)?))?);
    }
    if !(minutes > 0.0 && minutes < 1e5) {
        return Err(Error::Config(format!("--minutes {minutes}: it must be above 0 and below 100,000")));
    }
    let program = host.program().ok_or_else(|| Error::Config("`engine card` starts its own program, which is none here".into()))?;
    // Not kept open: what is measured has the device for itself.
    let (summary, description) = Gpu::open(wanted).map(|gpu| (gpu.summary.clone(), gpu.describe()))?;
    let today = date(SystemTime::now());
    let out = out.unwrap_or_else(|| format!("card-{}-{today}.md", slug(&summary.name)).into());
    expect_writable(&out)?;
    let new = Kept { engine: VERSION.into(), device: description.clone(), date: today, seconds: 0.0, outcomes: Default::default() };
    let mut kept = Kept::open(&out, new)?;
    host.say(&format!("{description}\nengine {VERSION}: {minutes} minutes for {}", out.display()));
    let parts = parts(&runs)?;
    let stop = stop_on_signals(host)?;
    let scratch = tempfile::tempdir().map_err(|e| Error::create(&std::env::temp_dir(), e))?;
    let children = Children { program, device: summary.index.to_string(), scratch: scratch.path().into(), stop };
    let mut measuring = Measuring { host, name: &summary.name, out: &out, parts: &parts, children: &children, started: Instant::now() };
    schedule::measure(&parts, &mut kept, 60.0 * minutes, &mut measuring)?;
    measuring.keep(&kept)?;
    let items = || parts.iter().flat_map(|part| part.items.iter().map(|(item, _)| (part.name, item.as_str())));
    let failing = items().filter(|(part, item)| kept.outcome(part, item).is_some_and(Outcome::has_failures)).count();
    let missing = items().filter(|(part, item)| !kept.has(part, item)).count();
    let failed = items().filter(|(part, item)| matches!(kept.outcome(part, item), Some(Outcome::Failed(_)))).count();
    if missing == 0 {
        std::fs::remove_file(partial(&out)).map_err(|e| Error::write(&partial(&out), e))?;
    }
    let total = items().count();
    if json {
        return host.print_json(
            &serde_json::json!({ "file": out, "items": total, "with_failures": failing, "failed": failed, "not_done": missing, "card": kept }),
        );
    }
    let rest = if missing == 0 { String::new() } else { format!("\n{}", measuring.rest()) };
    let done = total - failed - missing;
    host.print(&format!(
        "{}: {done} of {total} measured, {failing} of these with failures; {failed} failed, {missing} not done{rest}",
        out.display()
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_has_the_name_of_the_card() {
        assert_eq!(super::slug("AMD Radeon RX 6600 (RADV NAVI23)"), "amd-radeon-rx-6600-radv");
    }
}
