// Attention for processors that run shaders with subgroups of WG = 8 or 16. A workgroup is one subgroup, and each of its lanes has a row
// of its own. The rows of the other side come WG at a time: each lane loads one, and it is handed round by broadcast.
// What a lane's row has with those rows is 16 numbers, as columns of four; with 8 lanes the last two columns are 0.
const ABOVE: u32 = WG - 8u; // The lanes above 7 are named only where there are 16.

// What lanes 0 … 3 have loaded, as columns; and so on. A lane to broadcast from must be a constant.
fn lanes_0(v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}

fn lanes_4(v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

fn lanes_8(v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(v, ABOVE), subgroupBroadcast(v, ABOVE + 1u), subgroupBroadcast(v, ABOVE + 2u), subgroupBroadcast(v, ABOVE + 3u));
}

fn lanes_12(v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(v, ABOVE + 4u), subgroupBroadcast(v, ABOVE + 5u), subgroupBroadcast(v, ABOVE + 6u), subgroupBroadcast(v, ABOVE + 7u));
}

// sums + own · (the row of each lane), for four features.
fn add_dots(sums: mat4x4<f32>, own: vec4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    var s = mat4x4<f32>(sums[0] + own * lanes_0(rows), sums[1] + own * lanes_4(rows), sums[2], sums[3]);
    if (WG == 16u) {
        s = mat4x4<f32>(s[0], s[1], sums[2] + own * lanes_8(rows), sums[3] + own * lanes_12(rows));
    }
    return s;
}

// own + Σ weight · row, for four features of the row of each lane.
fn add_rows(own: vec4<f32>, weights: mat4x4<f32>, rows: vec4<f32>) -> vec4<f32> {
    var sum = own + lanes_0(rows) * weights[0] + lanes_4(rows) * weights[1];
    if (WG == 16u) {
        sum += lanes_8(rows) * weights[2] + lanes_12(rows) * weights[3];
    }
    return sum;
}

// The number that each lane has.
fn of_lanes(x: f32) -> mat4x4<f32> {
    let v = vec4<f32>(x, 0.0, 0.0, 0.0);
    var all = mat4x4<f32>(transpose(lanes_0(v))[0], transpose(lanes_4(v))[0], vec4<f32>(0.0), vec4<f32>(0.0));
    if (WG == 16u) {
        all = mat4x4<f32>(all[0], all[1], transpose(lanes_8(v))[0], transpose(lanes_12(v))[0]);
    }
    return all;
}

fn exp_4(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(exp_accurate(x.x), exp_accurate(x.y), exp_accurate(x.z), exp_accurate(x.w));
}

// exp(x · factor − shift), shift by column.
fn exps(x: mat4x4<f32>, factor: f32, shift: mat4x4<f32>) -> mat4x4<f32> {
    var e = mat4x4<f32>(exp_4(x[0] * factor - shift[0]), exp_4(x[1] * factor - shift[1]), vec4<f32>(0.0), vec4<f32>(0.0));
    if (WG == 16u) {
        e = mat4x4<f32>(e[0], e[1], exp_4(x[2] * factor - shift[2]), exp_4(x[3] * factor - shift[3]));
    }
    return e;
}

// a ⊙ b
fn times(a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}

// The same number everywhere.
fn all_of(x: f32) -> mat4x4<f32> {
    return mat4x4<f32>(vec4<f32>(x), vec4<f32>(x), vec4<f32>(x), vec4<f32>(x));
}

// x for the rows `start` + 0 … WG − 1 that are first … last, else `other`.
fn within(x: mat4x4<f32>, start: u32, first: u32, last: u32, other: f32) -> mat4x4<f32> {
    let rows = vec4<u32>(start, start + 1u, start + 2u, start + 3u);
    let low = vec4<u32>(first);
    let high = vec4<u32>(last);
    return mat4x4<f32>(
        select(vec4<f32>(other), x[0], (rows >= low) & (rows <= high)),
        select(vec4<f32>(other), x[1], (rows + 4u >= low) & (rows + 4u <= high)),
        select(vec4<f32>(other), x[2], (rows + 8u >= low) & (rows + 8u <= high) & vec4<bool>(WG == 16u)),
        select(vec4<f32>(other), x[3], (rows + 12u >= low) & (rows + 12u <= high) & vec4<bool>(WG == 16u)));
}

fn keep_4(index: u32, step: u32) -> vec4<f32> {
    let rate = p.rate;
    return vec4<f32>(
        keep(state.seed, p.stream, state.tick, index, rate), keep(state.seed, p.stream, state.tick, index + step, rate),
        keep(state.seed, p.stream, state.tick, index + 2u * step, rate), keep(state.seed, p.stream, state.tick, index + 3u * step, rate));
}

// The dropout of pairs whose numbers are `step` apart, or 1.
fn kept(index: u32, step: u32) -> mat4x4<f32> {
    if (DROPOUT == 0u) {
        return all_of(1.0);
    }
    var all = mat4x4<f32>(keep_4(index, step), keep_4(index + 4u * step, step), vec4<f32>(0.0), vec4<f32>(0.0));
    if (WG == 16u) {
        all = mat4x4<f32>(all[0], all[1], keep_4(index + 8u * step, step), keep_4(index + 12u * step, step));
    }
    return all;
}

fn largest(x: mat4x4<f32>) -> f32 {
    let m = max(max(x[0], x[1]), max(x[2], x[3]));
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn total_of(x: mat4x4<f32>) -> f32 {
    return dot((x[0] + x[1]) + (x[2] + x[3]), vec4<f32>(1.0));
}

// (head of all, first row) of a workgroup.
fn place_of(tile: u32) -> vec2<u32> {
    let tiles = (p.length + WG - 1u) / WG;
    return vec2<u32>(tile / tiles, tile % tiles * WG);
}
