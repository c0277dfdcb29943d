//! The file of a card: a page of Markdown.

use std::fmt::Write as _;

use serde_json::Value;

use super::kept::{Kept, Outcome};
use super::schedule::Part;
use crate::metrics::{bytes, duration};

/// Results of a part, by item.
type Results<'a> = [(&'a str, &'a Value)];

/// A part's heading, what it shows, and its table.
struct Section {
    part: &'static str,
    title: &'static str,
    about: &'static str,
    table: fn(&Results<'_>) -> String,
}

const SECTIONS: [Section; 10] = [
    Section { part: "devices", title: "Device", about: "Limits as the engine takes them.", table: device },
    Section {
        part: "check",
        title: "Kernels against f64",
        about: "Every kernel in every variant that the device takes. The error is the largest of a family, as a share of what is allowed; above 1 it \
                fails.",
        table: check,
    },
    Section {
        part: "steps",
        title: "Training steps against f64",
        about: "Each launch of a step of the shipped runs at their own batch and sizes, as the largest normalised square error of a result \
                (allowed 1e-8), and the gradient of all weights (allowed 1e-9). Where the gradient is too large for f64 it is that of a smaller \
                model.",
        table: steps,
    },
    Section {
        part: "profile",
        title: "Time of training steps",
        about: "Steps as trained, and the sum of their launches, each timed alone by timestamps. **The prediction is for an AMD RX 6600**, whatever \
                the card is: it is a lower bound, by the peaks of that card's arithmetic and memory and 4 µs a launch.",
        table: profile,
    },
    Section {
        part: "rates",
        title: "Products and copies",
        about: "Products of square f32 matrices, and copies on the device, read and write counted; beside the peak of the card where it is known.",
        table: rates,
    },
    Section {
        part: "tune",
        title: "What `engine tune` gains",
        about: "A step with the ways to launch its kernels that the engine's model chooses, and with those that were measured to be fastest alone. Ways that \
                do not make the step as a whole faster are not kept.",
        table: tune,
    },
    Section {
        part: "starts",
        title: "Start",
        about: "A whole process of one training step with its validation and checkpoint: with an empty cache of compiled shaders, and with the cache \
                that it has left. Mesa's and NVIDIA's drivers have such a cache of their own.",
        table: starts,
    },
    Section {
        part: "bits",
        title: "The same bits",
        about: "Two runs from the same seed: checksums (CRC-32C) of their weights.",
        table: bits,
    },
    Section {
        part: "memory",
        title: "Memory of a long run",
        about: "Up to a hundred steps of the largest shipped run at its own batch: the estimate, the engine's ledger, wgpu's allocator, and what the \
                driver says (amdgpu on Linux).",
        table: memory,
    },
    Section {
        part: "pytorch",
        title: "PyTorch on the same card",
        about: "The step of `lvm_mlp`, at the same shapes in f32. The engine's own time of it stands above.",
        table: pytorch,
    },
];

/// The page of what is kept.
pub(super) fn page<J>(kept: &Kept, name: &str, parts: &[Part<J>]) -> String {
    let mut out = format!(
        "# Card: {name}\n\n- card and driver: {}\n- engine: {}\n- date: {}\n- measured in {}\n\n",
        kept.device,
        kept.engine,
        kept.date,
        duration(kept.seconds)
    );
    let count = |part: &Part<J>, is: fn(&Outcome) -> bool| {
        part.items.iter().filter(|(item, _)| kept.outcome(part.name, item).is_some_and(is)).count()
    };
    let of = |section: &Section| parts.iter().find(|part| part.name == section.part);
    let sections: Vec<(&Section, &Part<J>)> = SECTIONS.iter().filter_map(|section| Some((section, of(section)?))).collect();
    let summary = sections.iter().map(|(section, part)| {
        let [done, failing, failed] =
            [|o: &Outcome| matches!(o, Outcome::Done(_)), Outcome::has_failures, |o: &Outcome| matches!(o, Outcome::Failed(_))]
                .map(|is| count(part, is));
        let missing = part.items.len() - done - failed;
        vec![section.title.into(), done.to_string(), failing.to_string(), failed.to_string(), missing.to_string()]
    });
    out += &table(&["part", "done", "of these with failures", "failed", "not done"], summary);
    for (section, part) in sections {
        let _ = writeln!(out, "\n## {}\n\n{}", section.title, section.about);
        let outcomes: Vec<_> = part.items.iter().map(|(item, _)| (item.as_str(), kept.outcome(part.name, item))).collect();
        let done: Vec<(&str, &Value)> =
            outcomes.iter().filter_map(|(item, o)| if let Some(Outcome::Done(value)) = o { Some((*item, value)) } else { None }).collect();
        if !done.is_empty() {
            let _ = write!(out, "\n{}", (section.table)(&done));
        }
        out += &left_out(&outcomes);
    }
    out
}

/// Failures of an item that are shown.
const FAILURES: usize = 5;

/// What has failed, and what has not been done.
fn left_out(outcomes: &[(&str, Option<&Outcome>)]) -> String {
    let mut out = String::new();
    for (item, outcome) in outcomes {
        match outcome {
            Some(Outcome::Failed(why)) => _ = writeln!(out, "- {item}: FAILED: {}", one_line(why)),
            Some(Outcome::TooLong(seconds)) => _ = writeln!(out, "- {item}: not done in the {} that were left for it", duration(*seconds)),
            Some(Outcome::Done(value)) => {
                let failures = [value, &value["smaller"]].into_iter().filter_map(|value| value["failures"].as_array()).flatten();
                failures.take(FAILURES).for_each(|what| _ = writeln!(out, "- {item}: FAILED: {}", one_line(&text(what))));
            }
            None => {}
        }
    }
    if outcomes.is_empty() {
        out += "- nothing: the folder lacks the run files of this part\n";
    }
    let waiting: Vec<&str> = outcomes.iter().filter(|(_, outcome)| outcome.is_none()).map(|(item, _)| *item).collect();
    if !waiting.is_empty() {
        let _ = writeln!(out, "- not done, as the time of this part was over: {}", waiting.join("; "));
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

/// A text that cannot end its line or table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// A table; all columns but the first are numbers.
fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = format!("| {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(heads.len() - 1));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>().join(" | "));
    }
    out
}

/// A number times a factor with these decimals; a dash where there is none.
fn number(value: &Value, factor: f64, decimals: usize) -> String {
    value.as_f64().map_or("–".into(), |value| format!("{:.decimals$}", factor * value))
}

fn scientific(value: &Value) -> String {
    value.as_f64().map_or("–".into(), |value| format!("{value:.1e}"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn size(value: &Value) -> String {
    value.as_u64().map_or("not told".into(), bytes)
}

fn device(results: &Results<'_>) -> String {
    let entries = results.iter().filter_map(|(_, value)| value.as_object()).flatten();
    let rows = entries.map(|(key, value)| {
        let shown = match key.strip_suffix("_bytes").and(value.as_u64()) {
            Some(n) if n >= 1024 => bytes(n),
            _ if value.is_null() => "not told".into(),
            _ => text(value),
        };
        vec![key.trim_end_matches("_bytes").replace('_', " "), shown]
    });
    table(&["limit", "value"], rows)
}

fn check(results: &Results<'_>) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (item, family) in
        results.iter().flat_map(|(item, value)| value["families"].as_array().into_iter().flatten().map(move |f| (item, f)))
    {
        let row = vec![
            text(&family["kernels"]),
            format!("{}{}", if item.ends_with("all cases") { "all " } else { "" }, family["cases"]),
            family["elements"].to_string(),
            number(&family["worst"], 1.0, 3),
            family["failed"].to_string(),
        ];
        // More cases come after a few of them.
        match rows.iter_mut().find(|other| other[0] == row[0]) {
            Some(other) => *other = row,
            None => rows.push(row),
        }
    }
    let heads = ["kernels", "cases", "elements", "error / allowed", "failed"];
    table(&heads, rows)
}

fn steps(results: &Results<'_>) -> String {
    let rows = results.iter().map(|(run, value)| {
        let model = &value["models"][0];
        let (whole, smaller) = (&model["whole_model"], &value["smaller"]["models"][0]);
        let gradient = match whole.is_null() {
            false => scientific(&whole["nmse"]),
            true if smaller.is_null() => "not done".into(),
            true => format!("{} (smaller)", scientific(&smaller["whole_model"]["nmse"])),
        };
        let fine = model["ok"] == true && (smaller.is_null() || smaller["ok"] == true);
        let verdict = if fine { "ok" } else { "FAILED" };
        vec![
            run.to_string(),
            model["batch"].to_string(),
            model["compared"].to_string(),
            scientific(&model["batch_nmse"]),
            gradient,
            verdict.into(),
        ]
    });
    table(&["run", "batch", "launches compared", "worst of a step", "gradient", ""], rows)
}

/// Kernels whose ratio to the prediction is shown.
const WORST: usize = 15;

fn profile(results: &Results<'_>) -> String {
    let ratio = |of: &Value| {
        of["step_seconds"].as_f64().or(of["seconds"].as_f64()).zip(of["roofline_seconds"].as_f64()).map(|(t, least)| t / least)
    };
    let shown = |ratio: Option<f64>| ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"));
    let rows = results.iter().map(|(run, value)| {
        let [step, kernels, least] = ["step_seconds", "kernel_seconds", "roofline_seconds"].map(|key| number(&value[key], 1e3, 3));
        vec![run.to_string(), step, kernels, least, shown(ratio(value))]
    });
    let mut out = table(&["run", "step (ms)", "launches alone (ms)", "RX 6600 at least (ms)", "step / least"], rows);
    let kernels = results.iter().flat_map(|(run, value)| value["kernels"].as_array().into_iter().flatten().map(|kernel| (*run, kernel)));
    let mut worst: Vec<(f64, &str, &Value)> = kernels.filter_map(|(run, kernel)| Some((ratio(kernel)?, run, kernel))).collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rows = worst.iter().take(WORST).map(|(ratio, run, kernel)| {
        let [seconds, least] = ["seconds", "roofline_seconds"].map(|key| number(&kernel[key], 1e6, 1));
        vec![text(&kernel["kernel"]), run.to_string(), kernel["calls"].to_string(), seconds, least, shown(Some(*ratio))]
    });
    if !worst.is_empty() {
        let heads = ["kernel", "run", "launches", "time (µs)", "RX 6600 at least (µs)", "time / least"];
        let _ = write!(
            out,
            "\nKernels that are furthest from the prediction, of those that an RX 6600 would run too:\n\n{}",
            table(&heads, rows)
        );
    }
    out
}

fn rates(results: &Results<'_>) -> String {
    let rows = results.iter().map(|(item, value)| {
        let [flops, bytes] = ["flops_per_second", "bytes_per_second"].map(|key| number(&value[key], 1e-9, 1));
        vec![item.to_string(), number(&value["seconds"], 1e3, 3), flops, bytes, number(&value["of_peak"], 100.0, 1)]
    });
    table(&["", "time (ms)", "GFLOP/s", "GB/s", "% of the peak"], rows)
}

fn tune(results: &Results<'_>) -> String {
    let rows = results.iter().map(|(run, value)| {
        let times = &value["step_seconds"];
        let gain =
            times["model"].as_f64().zip(times["tuned"].as_f64()).map_or("–".into(), |(before, after)| format!("{:.2}", before / after));
        let kept = if value["kept"] == true { "kept" } else { "not kept" };
        vec![run.to_string(), number(&times["model"], 1e3, 3), number(&times["tuned"], 1e3, 3), gain, kept.into()]
    });
    table(&["run", "before (ms)", "after (ms)", "times as fast", ""], rows)
}

fn starts(results: &Results<'_>) -> String {
    let rows = results.iter().map(|(run, v)| vec![run.to_string(), number(&v["cold_seconds"], 1.0, 2), number(&v["warm_seconds"], 1.0, 2)]);
    table(&["run", "empty cache (s)", "warm (s)"], rows)
}

fn bits(results: &Results<'_>) -> String {
    let rows = results.iter().map(|(run, value)| {
        let verdict = if value["same"] == true { "the same" } else { "DIFFERENT" };
        vec![run.to_string(), value["steps"].to_string(), text(&value["first"]), text(&value["second"]), verdict.into()]
    });
    table(&["run", "steps", "first", "second", ""], rows)
}

fn memory(results: &Results<'_>) -> String {
    let rows = results.iter().map(|(run, value)| {
        let sizes = ["estimate_bytes", "ledger_bytes", "allocator_bytes", "driver_bytes"].map(|key| size(&value[key]));
        let step = number(&value["step_seconds"], 1e3, 1);
        let finite = if value["finite"] == true { "yes" } else { "NO" };
        [vec![run.to_string()], sizes.to_vec(), vec![step, finite.into()]].concat()
    });
    table(&["run", "estimate", "ledger", "allocator", "driver", "step (ms)", "losses are finite"], rows)
}

fn pytorch(results: &Results<'_>) -> String {
    let shown = |(run, value): &(&str, &Value)| match value["absent"].as_str() {
        Some(why) => format!("Not here: {}.\n", one_line(why)),
        None => {
            let row = vec![run.to_string(), text(&value["torch"]), text(&value["device"]), number(&value["step_seconds"], 1e3, 3)];
            table(&["run", "PyTorch", "device", "step (ms)"], [row])
        }
    };
    results.iter().map(shown).collect()
}
