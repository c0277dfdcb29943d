//! The state-space dual in chunks.

use super::Call;
use crate::harness::scalar::Scalar;
use crate::plan::Entry;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "arrange" => arrange(call),
        "decay" => decay(call),
        "scores" => scores(call),
        "group_scores" => group_scores(call),
        "weigh" => weigh(call),
        "pass_states" => pass_states(call),
        "combine" => combine(call),
        "scan" => scan(call),
        "dots" => dots(call),
        "pairs" => pairs(call),
        _ => return false,
    }
    true
}

struct Sizes {
    length: usize,
    chunks: usize,
    size: usize,
    heads: usize,
    groups: usize,
    features: usize,
    states: usize,
    width: usize,
    all_chunks: usize,
}

impl Sizes {
    fn of(e: &Entry) -> Sizes {
        let [batch, length, chunks, size, heads, groups, features, states, width] =
            ["batch", "length", "chunks", "size", "heads", "groups", "features", "states", "width"].map(|name| e.size(name));
        Sizes { length, chunks, size, heads, groups, features, states, width, all_chunks: batch * chunks }
    }

    fn rows(&self) -> usize {
        self.all_chunks * self.heads * self.size
    }

    /// Chunk, head and position of a row.
    fn place(&self, row: usize) -> [usize; 3] {
        [row / self.size / self.heads, row / self.size % self.heads, row % self.size]
    }

    /// Row of a position of a head, by group.
    fn by_group(&self, [chunk, head, i]: [usize; 3]) -> usize {
        let heads = self.heads / self.groups;
        ((chunk * self.groups + head / heads) * self.size + i) * heads + head % heads
    }

    /// Row of a position of a head's group.
    fn of_group(&self, [chunk, head, i]: [usize; 3]) -> usize {
        (chunk * self.groups + head / (self.heads / self.groups)) * self.size + i
    }

    /// Number of a position in its sequence, and of that in all sequences if it is one of them.
    fn position(&self, chunk: usize, i: usize) -> Option<usize> {
        let t = chunk % self.chunks * self.size + i;
        (t < self.length).then_some(chunk / self.chunks * self.length + t)
    }
}

/// x, keys and queries.
pub fn arrange<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let xbc = call.floats("xbc");
    let zero = S::constant(0.0);
    let at = |chunk: usize, i: usize, column: usize| s.position(chunk, i).map_or(zero, |row| xbc[row * s.width + column]);
    let x = (0..call.output_len("x")).map(|e| {
        let [chunk, head, i] = s.place(e / s.features);
        at(chunk, i, head * s.features + e % s.features)
    });
    let x = x.collect();
    call.set("x", x);
    for (name, first) in [("keys", s.heads * s.features), ("queries", s.heads * s.features + s.groups * s.states)] {
        let keys = (0..call.output_len(name)).map(|e| {
            let row = e / s.states;
            at(row / s.size / s.groups, row % s.size, first + row / s.size % s.groups * s.states + e % s.states)
        });
        let keys = keys.collect();
        call.set(name, keys);
    }
}

/// α, δ, slope.
pub fn decay<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let (low, high) = (call.entry.scalar("low"), call.entry.scalar("high"));
    let (zx, dt_bias, a_log) = (call.floats("zx"), call.floats("dt_bias"), call.floats("a_log"));
    let (zero, one) = (S::constant(0.0), S::constant(1.0));
    let (mut alphas, mut deltas, mut slopes) = (vec![], vec![], vec![]);
    for row in 0..s.rows() {
        let [chunk, head, i] = s.place(row);
        let (mut delta, mut slope) = (zero, zero);
        if let Some(position) = s.position(chunk, i) {
            let d = zx[(position + 1) * s.width - s.heads + head] + dt_bias[head];
            // ln(1 + eᵈ), by the sign of d so that nothing overflows.
            let step = if d.value() > 0.0 { d + (one + (-d).exp()).ln() } else { (one + d.exp()).ln() };
            (delta, slope) = match step.value() {
                step if step < low => (S::constant(low), zero),
                step if step > high => (S::constant(high), zero),
                _ => (step, one / (one + (-d).exp())),
            };
        }
        let before = if i == 0 { zero } else { alphas[row - 1] };
        alphas.push(before - delta * a_log[head].exp());
        deltas.push(delta);
        slopes.push(slope);
    }
    call.set("decay", [alphas, deltas, slopes].concat());
}

/// exp(α_i − α_j) δ_j, for j ≤ i.
fn weight<S: Scalar>(decay: &[S], rows: usize, i: usize, j: usize) -> S {
    (decay[i] - decay[j]).exp() * decay[rows + j]
}

/// m.
pub fn scores<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let (g, decay) = (call.floats("g"), call.floats("decay"));
    let m = (0..s.rows() * s.size).map(|e| {
        let (row, j) = (e / s.size, e % s.size);
        let [chunk, head, i] = s.place(row);
        match j <= i {
            true => g[s.of_group([chunk, head, i]) * s.size + j] * weight(&decay, s.rows(), row, row - i + j),
            false => S::constant(0.0),
        }
    });
    call.set("m", m.collect());
}

/// dg.
pub fn group_scores<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let (dm, decay) = (call.floats("dm"), call.floats("decay"));
    let mut dg = vec![S::constant(0.0); s.all_chunks * s.groups * s.size * s.size];
    for row in 0..s.rows() {
        let [chunk, head, i] = s.place(row);
        for j in 0..=i {
            let at = s.of_group([chunk, head, i]) * s.size + j;
            dg[at] = dg[at] + dm[row * s.size + j] * weight(&decay, s.rows(), row, row - i + j);
        }
    }
    call.set("dg", dg);
}

/// y.
pub fn weigh<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let from_start = call.entry.constant("FROM_START") == 1;
    let (x, decay) = (call.floats("x"), call.floats("decay"));
    let mut y = vec![S::constant(0.0); x.len()];
    for row in 0..s.rows() {
        let place = s.place(row);
        let weight = match from_start {
            true => decay[row].exp(),
            false => (decay[row - place[2] + s.size - 1] - decay[row]).exp() * decay[s.rows() + row],
        };
        for c in 0..s.features {
            y[s.by_group(place) * s.features + c] = weight * x[row * s.features + c];
        }
    }
    call.set("y", y);
}

/// border.
pub fn pass_states<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let reversed = call.entry.constant("REVERSED") == 1;
    let (carried, decay) = (call.floats("carried"), call.floats("decay"));
    let (size, zero) = (s.features * s.states, S::constant(0.0));
    let mut border = vec![zero; carried.len()];
    let (mut before, position) = (call.carried("kept", s.all_chunks / s.chunks), call.state().position);
    for sequence in 0..s.all_chunks / s.chunks {
        for head in 0..s.heads {
            let mut state = vec![zero; size];
            if let Some((kept, at)) = before.as_ref().filter(|_| position > 0) {
                state.copy_from_slice(&kept[at[sequence][0] + head * size..][..size]);
            }
            for step in 0..s.chunks {
                let chunk = sequence * s.chunks + if reversed { s.chunks - 1 - step } else { step };
                let at = chunk * s.heads + head;
                border[at * size..][..size].copy_from_slice(&state);
                let kept = decay[at * s.size + s.size - 1].exp();
                state.iter_mut().zip(&carried[at * size..]).for_each(|(state, carried)| *state = kept * *state + *carried);
            }
            if let Some((kept, at)) = &mut before {
                kept[at[sequence][1] + head * size..][..size].copy_from_slice(&state);
            }
        }
    }
    call.set("border", border);
    if let Some((kept, _)) = before {
        call.set("kept", kept);
    }
}

/// y and the states before the chunks.
pub fn scan<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let [xbc, decay, g, d] = ["xbc", "decay", "g", "d"].map(|name| call.floats(name));
    let zero = S::constant(0.0);
    let (mut y, mut border) = (vec![zero; call.output_len("y")], vec![zero; call.output_len("border")]);
    for (b, head) in (0..s.all_chunks / s.chunks).flat_map(|b| (0..s.heads).map(move |head| (b, head))) {
        let mut state = vec![zero; s.features * s.states];
        let group = head / (s.heads / s.groups);
        let first = [head * s.features, s.heads * s.features + group * s.states, s.heads * s.features + (s.groups + group) * s.states];
        for chunk in b * s.chunks..(b + 1) * s.chunks {
            border[(chunk * s.heads + head) * state.len()..][..state.len()].copy_from_slice(&state);
            let there: Vec<(usize, usize)> = (0..s.size).filter_map(|i| Some((i, s.position(chunk, i)?))).collect();
            let at = |row: usize, part: usize, len: usize| &xbc[row * s.width + first[part]..][..len];
            let alpha = |i: usize| decay[(chunk * s.heads + head) * s.size + i];
            let delta = |i: usize| decay[s.rows() + (chunk * s.heads + head) * s.size + i];
            for (i, row) in &there {
                let weights: Vec<(usize, S)> = there
                    .iter()
                    .filter(|(j, _)| j <= i)
                    .map(|(j, from)| (*from, g[s.of_group([chunk, head, *i]) * s.size + j] * (alpha(*i) - alpha(*j)).exp() * delta(*j)))
                    .collect();
                for p in 0..s.features {
                    let within = weights.iter().fold(zero, |sum, (from, weight)| sum + *weight * at(*from, 0, s.features)[p]);
                    let before = S::dot(&state[p * s.states..][..s.states], at(*row, 2, s.states));
                    y[(row * s.heads + head) * s.features + p] = within + alpha(*i).exp() * before + d[head] * at(*row, 0, s.features)[p];
                }
            }
            let last = alpha(s.size - 1);
            for (p, n) in (0..s.features).flat_map(|p| (0..s.states).map(move |n| (p, n))) {
                let brought = there.iter().map(|(j, row)| ((last - alpha(*j)).exp() * delta(*j), *row));
                let brought = brought.fold(zero, |sum, (weight, row)| sum + weight * at(row, 0, s.features)[p] * at(row, 1, s.states)[n]);
                state[p * s.states + n] = last.exp() * state[p * s.states + n] + brought;
            }
        }
    }
    call.set("y", y);
    call.set("border", border);
}

/// y.
pub fn combine<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let (within, x, d) = (call.floats("within"), call.floats("x"), call.floats("d"));
    let (before, decay) = (call.maybe("before"), call.maybe("decay"));
    let mut y = vec![S::constant(0.0); call.output_len("y")];
    for row in 0..s.rows() {
        let place = s.place(row);
        let Some(position) = s.position(place[0], place[2]) else { continue };
        for c in 0..s.features {
            let at = row * s.features + c;
            let mut sum = within[at] + d[place[1]] * x[at];
            if let (Some(before), Some(decay)) = (&before, &decay) {
                sum = sum + decay[row].exp() * before[s.by_group(place) * s.features + c];
            }
            y[(position * s.heads + place[1]) * s.features + c] = sum;
        }
    }
    call.set("y", y);
}

/// dots from `at` on; what else there is stays.
pub fn dots<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let (grouped, at) = (call.entry.constant("GROUPED") == 1, call.entry.size("at"));
    let (a, b) = (call.floats("a"), call.floats("b"));
    let mut dots = call.maybe("dots").unwrap_or_else(|| vec![S::constant(0.0); call.output_len("dots")]);
    for row in 0..s.rows() {
        let other = if grouped { s.by_group(s.place(row)) } else { row };
        dots[at + row] = S::dot(&a[row * s.features..][..s.features], &b[other * s.features..][..s.features]);
    }
    call.set("dots", dots);
}

/// sums.
pub fn pairs<S: Scalar>(call: &mut Call<'_, S>) {
    let s = Sizes::of(call.entry);
    let (dm, g, decay) = (call.floats("dm"), call.floats("g"), call.floats("decay"));
    let mut sums = Vec::with_capacity(s.rows() * (s.size + 1));
    for row in 0..s.rows() {
        let [chunk, head, r] = s.place(row);
        let first = row - r;
        let pair = |i: usize, j: usize| dm[(first + i) * s.size + j] * g[s.of_group([chunk, head, i]) * s.size + j];
        let mut sum = S::constant(0.0);
        for k in 0..=r {
            sums.push(sum);
            if k < r {
                sum = sum + pair(r, k) * weight(&decay, s.rows(), row, first + k);
            }
        }
        sums.extend((r..s.size).map(|i| pair(i, r) * (decay[first + i] - decay[row]).exp()));
    }
    call.set("sums", sums);
}
