// Softmax cross-entropy over rows, its distance-weighted forms and the pure distance loss, with the gradient in the same pass. KIND chooses
// the loss.
//   lse = max + ln Σ exp(x − max);  ce = lse − x[t];  p = exp(x − lse);  a = argmax x (lowest of equals);  d = |a − t|
//   KIND 0: loss = ce            1, 2, 3: loss = ce · (1 + alpha · w), w = d, d², √d (w carries no gradient)
//   KIND 4: loss = Σ_i p_i |i − t|
// The gradient follows from ∂lse/∂x = p, so ∂ce/∂x = p − onehot(t) (Bishop 2006, eq. 4.108 and 4.109). For KIND 4 it follows from
// ∂p_j/∂x_i = p_j (δ_ij − p_i) (eq. 4.106).
//   ∂loss/∂x_i = Σ_j |j − t| p_j (δ_ij − p_i) = p_i (|i − t| − Σ_j p_j |j − t|)
//   dx = k · (1 + alpha · w) · (p − onehot(t));   KIND 4: dx_i = k · p_i · (|i − t| − loss)
//   k = s · state.scale / state.count for rows below state.rows whose target is a class, 0 for the rest
// With PER 0, s = 1. With PER 1, s = 1 / the number of targets that are classes in the row's sequence of `length` rows, so that each
// sequence has the same weight.
// With SMOOTH, the following replaces ce in the loss (Szegedy et al. 2016, section 7). Its gradient by x is p − (1 − ε) onehot(t) − ε / C.
//   (1 − ε) ce + ε Σ_i −ln p_i / C = (1 − ε) ce + ε (lse − Σ_i x_i / C)
// With WEIGHTED, loss and gradient of a row are multiplied by its weight.
// x and dx are (rows, cols). They are the rows from row_at on of a batch, whose targets and weights are (all rows). y is (all rows, 4) =
// s · (loss, ce, (a = t), d), and 0 where the target is no class. With IN_PLACE, dx holds x and is overwritten with its gradient.
// LANES invocations share a row. y and dx are overwritten.
// uses: common/grid, common/reduce, common/math, common/state
const KIND: u32 = 0u;
const GRADIENT: u32 = 1u;
const PER: u32 = 0u;
const SMOOTH: u32 = 0u;
const WEIGHTED: u32 = 0u;
const IN_PLACE: u32 = 0u;

struct Params { rows: u32, cols: u32, row_at: u32, length: u32, alpha: f32, smoothing: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (rows, cols)
@group(0) @binding(1) var<storage, read> targets: array<u32>;  // (all rows), below cols where they count
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (all rows, 4)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // (rows, cols)
@group(0) @binding(4) var<storage, read> state: State;
@group(0) @binding(5) var<storage, read> weights: array<f32>;  // (all rows)

fn logit(i: u32) -> f32 {
    if (IN_PLACE == 1u) {
        return dx[i];
    }
    return x[i];
}

fn distance_to(i: u32, t: u32) -> f32 {
    return f32(max(i, t) - min(i, t));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    let start = safe * p.cols;
    let of_all = p.row_at + safe;
    let known = targets[of_all] < p.cols;
    let t = min(targets[of_all], p.cols - 1u);
    // Read before the lanes meet: its owner may overwrite it after they have parted.
    let of_target = logit(start + t);
    // One pass for maximum, its first index and the sum of exponentials (Milakov & Gimelshein 2018). The sum is taken in blocks, so that
    // the rounding errors of a long row do not add up.
    var best = -3.0e38;
    var first = p.cols;
    var sum = 0.0;
    for (var block = lane; block < p.cols; block += LANES * 32u) {
        var part = 0.0;
        for (var c = block; c < min(block + LANES * 32u, p.cols); c += LANES) {
            let v = logit(start + c);
            let e = exp_accurate(-abs(v - best));
            if (v > best) {
                best = v;
                first = c;
                sum *= e;
                part = fma(part, e, 1.0);
            } else {
                part += e;
            }
        }
        sum += part;
    }
    let lane_best = best;
    best = row_max(best, local);
    // The lowest index is the highest negative one; indices below 2^24 are exact in f32.
    let a = u32(-row_max(-select(f32(p.cols), f32(first), lane_best == best), local));
    let total = row_sum(sum * exp_accurate(lane_best - best), local);
    let d = distance_to(a, t);
    let ce = log_accurate(total) - (of_target - best);
    var factor = 1.0;
    if (KIND == 1u) {
        factor += p.alpha * d;
    } else if (KIND == 2u) {
        factor += p.alpha * d * d;
    } else if (KIND == 3u) {
        factor += p.alpha * sqrt(d);
    }
    var loss = ce * factor;
    if (SMOOTH == 1u) {
        // Sums are taken of x − max, as in ce.
        var below = 0.0;
        for (var block = lane; block < p.cols; block += LANES * 32u) {
            var part = 0.0;
            for (var c = block; c < min(block + LANES * 32u, p.cols); c += LANES) {
                part += logit(start + c) - best;
            }
            below += part;
        }
        let uniform_ce = log_accurate(total) - row_sum(below, local) / f32(p.cols);
        loss = factor * mix(ce, uniform_ce, p.smoothing);
    }
    if (KIND == 4u) {
        var expected = 0.0;
        for (var block = lane; block < p.cols; block += LANES * 32u) {
            var part = 0.0;
            for (var c = block; c < min(block + LANES * 32u, p.cols); c += LANES) {
                part = fma(exp_accurate(logit(start + c) - best), distance_to(c, t), part);
            }
            expected += part;
        }
        loss = row_sum(expected, local) / total;
    }
    var share = 1.0;
    if (PER == 1u) {
        var counted = 0.0;
        for (var other = lane; other < p.length; other += LANES) {
            counted += select(0.0, 1.0, targets[of_all - of_all % p.length + other] < p.cols);
        }
        share /= max(row_sum(counted, local), 1.0);
    }
    if (row >= p.rows) {
        return;
    }
    var weight = 1.0;
    if (WEIGHTED == 1u) {
        weight = weights[of_all];
    }
    if (lane == 0u) {
        y[of_all * 4u] = select(0.0, share * weight * loss, known);
        y[of_all * 4u + 1u] = select(0.0, share * ce, known);
        y[of_all * 4u + 2u] = select(0.0, share, known && a == t);
        y[of_all * 4u + 3u] = select(0.0, share * d, known);
    }
    if (GRADIENT == 1u) {
        let k = select(0.0, share * weight * (state.scale / f32(state.count)), known && of_all < state.rows);
        for (var c = lane; c < p.cols; c += LANES) {
            let prob = exp_accurate(logit(start + c) - best) / total;
            var wanted = select(0.0, 1.0, c == t);
            if (SMOOTH == 1u) {
                wanted = mix(wanted, 1.0 / f32(p.cols), p.smoothing);
            }
            let plain = factor * (prob - wanted);
            dx[start + c] = k * select(plain, prob * (distance_to(c, t) - loss), KIND == 4u);
        }
    }
}
