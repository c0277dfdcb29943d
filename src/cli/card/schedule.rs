//! The time of a card: each part has its share and a hard end, and what it leaves goes to the parts after it.

use super::kept::{Kept, Outcome};
use crate::error::Result;

/// A part of a card.
pub(super) struct Part<J> {
    pub(super) name: &'static str,
    /// Its weight among the parts that share what is left of the time.
    pub(super) share: f64,
    /// What it measures one by one, by name.
    pub(super) items: Vec<(String, J)>,
}

/// Seconds below which nothing is begun.
const LEAST: f64 = 0.5;

/// What a schedule is told: how late it is, how an item is measured within so many seconds, and what is done with what there is.
pub(super) trait Clockwork<J> {
    /// Seconds since the start.
    fn now(&self) -> f64;

    /// A part begins, which has so many seconds.
    fn begins(&mut self, part: &Part<J>, seconds: f64);

    /// Measures an item.
    ///
    /// # Errors
    /// `Interrupted` when all of it is to end.
    fn measure(&mut self, part: &Part<J>, item: &(String, J), seconds: f64) -> Result<Outcome>;

    /// Keeps what there is.
    ///
    /// # Errors
    /// What the writing of it fails with.
    fn keep(&mut self, kept: &Kept) -> Result<()>;
}

/// Measures within so many seconds what is not kept yet.
///
/// # Errors
/// Those of the clockwork.
pub(super) fn measure<J>(parts: &[Part<J>], kept: &mut Kept, seconds: f64, clockwork: &mut impl Clockwork<J>) -> Result<()> {
    let end = clockwork.now() + seconds;
    let open: Vec<&Part<J>> = parts.iter().filter(|part| part.items.iter().any(|(item, _)| !kept.has(part.name, item))).collect();
    for (number, part) in open.iter().enumerate() {
        let shares: f64 = open[number..].iter().map(|part| part.share).sum();
        let begun = clockwork.now();
        let given = (end - begun).max(0.0) * part.share / shares;
        clockwork.begins(part, given);
        for item in &part.items {
            let (started, missing) = (clockwork.now(), !kept.has(part.name, &item.0));
            let left = begun + given - started;
            if missing && left >= LEAST {
                let outcome = clockwork.measure(part, item, left)?;
                kept.seconds += clockwork.now() - started;
                kept.outcomes.entry(part.name.into()).or_default().insert(item.0.clone(), outcome);
                clockwork.keep(kept)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::error::Error;

    /// Items that take so many seconds, less than none where they fail; everything is cut off after so many items.
    struct Clock {
        now: f64,
        given: Vec<f64>,
        measured: Vec<String>,
        until: usize,
    }

    impl Clockwork<f64> for Clock {
        fn now(&self) -> f64 {
            self.now
        }

        fn begins(&mut self, _part: &Part<f64>, seconds: f64) {
            self.given.push(seconds);
        }

        fn measure(&mut self, _part: &Part<f64>, (item, takes): &(String, f64), seconds: f64) -> Result<Outcome> {
            if self.measured.len() == self.until {
                return Err(Error::Interrupted(2, "cut off".into()));
            }
            self.measured.push(item.clone());
            self.now += takes.abs().min(seconds);
            Ok(match *takes {
                takes if takes < 0.0 => Outcome::Failed("no".into()),
                takes if takes > seconds => Outcome::TooLong(seconds),
                takes => Outcome::Done(json!(takes)),
            })
        }

        fn keep(&mut self, _kept: &Kept) -> Result<()> {
            Ok(())
        }
    }

    fn parts() -> Vec<Part<f64>> {
        let items = |list: &[(&str, f64)]| list.iter().map(|(name, takes)| (name.to_string(), *takes)).collect();
        vec![
            Part { name: "first", share: 1.0, items: items(&[("a", 4.0), ("b", -2.0)]) },
            Part { name: "second", share: 2.0, items: items(&[("c", 10.0), ("d", 100.0), ("e", 1.0)]) },
            Part { name: "third", share: 1.0, items: items(&[("f", 9.0)]) },
        ]
    }

    fn run(kept: &mut Kept, seconds: f64, until: usize) -> (Clock, Result<()>) {
        let mut clock = Clock { now: 0.0, given: vec![], measured: vec![], until };
        let result = measure(&parts(), kept, seconds, &mut clock);
        (clock, result)
    }

    fn nothing() -> Kept {
        Kept { engine: "1".into(), device: "card".into(), date: "today".into(), seconds: 0.0, outcomes: BTreeMap::new() }
    }

    #[test]
    fn a_part_has_its_share_and_an_end_and_leaves_the_rest() {
        let mut kept = nothing();
        let (clock, result) = run(&mut kept, 40.0, usize::MAX);
        result.unwrap();
        // Of 40 seconds a quarter; then two thirds of the 34 that are left; then all.
        assert_eq!(clock.given.iter().map(|s| s.round()).collect::<Vec<_>>(), [10.0, 23.0, 11.0]);
        assert_eq!(clock.measured, ["a", "b", "c", "d", "f"]);
        assert_eq!(kept.outcome("first", "b"), Some(&Outcome::Failed("no".into())));
        assert!(matches!(kept.outcome("second", "d"), Some(Outcome::TooLong(_))));
        assert_eq!(kept.outcome("second", "e"), None);
        assert!(clock.now <= 40.0 && (kept.seconds - clock.now).abs() < 1e-9);
    }

    #[test]
    fn what_is_missing_is_measured_by_the_next_call() {
        let mut kept = nothing();
        let (clock, result) = run(&mut kept, 40.0, 3);
        assert!(matches!(result, Err(Error::Interrupted(..))));
        assert_eq!(clock.measured, ["a", "b", "c"]);
        let (clock, result) = run(&mut kept, 400.0, usize::MAX);
        result.unwrap();
        assert_eq!(clock.measured, ["d", "e", "f"]);
        let (clock, _) = run(&mut kept, 400.0, usize::MAX);
        assert!(clock.measured.is_empty() && clock.given.is_empty());
    }
}
