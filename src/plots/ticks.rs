//! Round numbers for axes.

/// Round numbers in a range, at most `most` of them: multiples of 1, 2 or 5 times a power of ten; whole ones if asked for.
pub(super) fn ticks(from: f64, to: f64, most: usize, whole: bool) -> Vec<f64> {
    let least = (to - from) / most as f64;
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power);
    let step = if whole { step.max(1.0) } else { step };
    let first = (from / step).ceil();
    let count = ((to / step).floor() - first).max(0.0) as usize;
    let rounded = |n: usize| (first + n as f64) * step;
    // Where neighbours are nearer than numbers can say, there is no second one.
    (0..=count.min(most)).map(rounded).filter(|tick| tick.is_finite() && (from..=to).contains(tick)).collect()
}

/// Round numbers between two powers of ten, at most `most` of them: 1, 2 and 5 times powers of ten, or these powers alone, or some of them.
pub(super) fn logarithmic_ticks(from: f64, to: f64, most: usize) -> Vec<f64> {
    let powers = || (from.floor() as i32..=to.ceil() as i32).map(|power| 10f64.powi(power));
    let within = |value: &f64| (from..=to).contains(&value.log10());
    let fine: Vec<f64> = powers().flat_map(|p| [p, 2.0 * p, 5.0 * p]).filter(within).collect();
    let whole: Vec<f64> = powers().filter(within).collect();
    match (fine.len(), whole.len()) {
        // Less than a third of a decade is nearly straight.
        (0 | 1, _) => ticks(10f64.powf(from), 10f64.powf(to), most, false),
        (n, _) if n <= most => fine,
        (_, n) => whole.into_iter().step_by(n.div_ceil(most)).collect(),
    }
}

/// Formats a number without superfluous digits.
pub(crate) fn shown_number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let text = format!("{value:.6}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".into() } else { short.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_epochs_whole() {
        let of = |list: Vec<f64>| list.into_iter().map(shown_number).collect::<Vec<_>>().join(" ");
        assert_eq!(of(ticks(0.0, 3.0, 6, true)), "0 1 2 3");
        assert_eq!(of(ticks(0.0, 3.0, 6, false)), "0 0.5 1 1.5 2 2.5 3");
        assert_eq!(of(ticks(0.0, 50.0, 6, true)), "0 10 20 30 40 50");
        assert_eq!(of(ticks(43.1, 58.9, 6, false)), "45 50 55");
        assert_eq!(of(logarithmic_ticks(-4.1, -1.4, 6)), "0.0001 0.001 0.01");
        assert_eq!(of(logarithmic_ticks(-0.1, 1.1, 6)), "1 2 5 10");
        assert_eq!(of(logarithmic_ticks(2.31, 2.47, 6)), "220 240 260 280");
        assert_eq!(of(logarithmic_ticks(-12.0, 12.0, 6)), "1e-12 1e-7 0.01 1000 1e8");
    }

    #[test]
    fn numbers_show_what_they_are_and_no_more() {
        for (value, text) in [(2.0, "2"), (0.25, "0.25"), (-0.0, "0"), (1500.0, "1500"), (2.5e-5, "2.5e-5"), (0.1 + 0.2, "0.3")] {
            assert_eq!(shown_number(value), text);
        }
    }
}
