//! `engine devices`: the adapters of this machine.

use std::fmt::Write as _;

use clap::Args;

use super::args::JsonArg;
use crate::error::Result;
use crate::gpu::{AdapterSummary, TimeLimit, Tuning, adapters};
use crate::host::Host;
use crate::metrics::bytes;
use crate::ranks::Ranks;

/// List the adapters of this machine
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    #[command(flatten)]
    json: JsonArg,
}

/// Numbers of the cards that the ranks of a run use without `--device`, one each: those of the best kind, because a graphics unit inside of
/// the processor would slow down a card beside it.
fn cards(all: &[AdapterSummary]) -> Vec<usize> {
    let usable: Vec<_> = all.iter().filter(|a| a.unusable.is_none() && a.kind != "software").collect();
    usable.iter().filter(|a| a.kind == usable[0].kind).map(|a| a.index).collect()
}

/// Adapter that a rank opens.
///
/// # Errors
/// `Config` when there are fewer cards than ranks.
pub(super) fn device_of(ranks: Ranks, wanted: Option<String>) -> Result<Option<String>> {
    if ranks.shared() { ranks.device(wanted.as_deref(), &cards(&adapters())) } else { Ok(wanted) }
}

pub(super) fn run(host: &Host, args: DevicesArgs) -> Result<()> {
    let all = adapters();
    if all.is_empty() {
        return host.open(None).map(|_| ());
    }
    if args.json.json {
        return host.print_json(&all);
    }
    let cards = cards(&all);
    let width = all.iter().map(|a| a.name.len()).max().unwrap_or(0);
    let mut out = format!("   {:width$}  {:8} {:10} {:>9}  driver\n", "name", "backend", "kind", "buffer");
    for a in all {
        let buffer = bytes(a.max_binding);
        let _ = writeln!(out, "{:2} {:width$}  {:8} {:10} {buffer:>9}  {}", a.index, a.name, a.backend, a.kind, a.driver);
        match Tuning::kept(&a) {
            Ok(tuning) if tuning.is_empty() => {}
            Ok(tuning) => {
                let file = Tuning::file(&a).unwrap_or_default();
                let _ = writeln!(out, "   choices measured by `engine tune`: {}, in {}", tuning.0.len(), file.display());
            }
            Err(why) => {
                let _ = writeln!(out, "   measurements left aside: {why}");
            }
        }
        if let Some(TimeLimit { seconds, from }) = &a.time_limit {
            let _ =
                writeln!(out, "   the system ends submissions after {seconds} s ({from}); the engine's take a quarter of a second at most");
        }
        if let Some(why) = a.unusable {
            let _ = writeln!(out, "   unusable: {why}");
        }
    }
    if let [_, _, ..] = cards[..] {
        let taken = cards.iter().enumerate().map(|(rank, card)| format!("rank {rank} takes {card}")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "\nwith `mpirun -n {} engine train` on this machine: {taken}", cards.len());
    }
    host.print(&out)
}
