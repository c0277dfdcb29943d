// Partial sums of squares of the flat gradient. Workgroup g of G sums the elements of its own contiguous share.
// x is (n), where n and the share are multiples of 4. y is (at least G). There are G workgroups. y is overwritten.
// uses: common/grid, common/reduce
struct Params { n: u32, share: u32, partials: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // (n)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (G)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let g = flat_group(group, groups);
    let first = g * (p.share / 4u);
    // The sum is taken in blocks, so that the rounding errors of a long share do not add up.
    var sum = 0.0;
    for (var block = 0u; block < p.share / 4u; block += WG * 256u) {
        var part = 0.0;
        for (var i = block + local; i < min(block + WG * 256u, p.share / 4u); i += 4u * WG) {
            // Four loads are under way together.
            let others = i + vec4<u32>(0u, WG, 2u * WG, 3u * WG);
            let inside = (others < vec4<u32>(p.share / 4u)) & (first + others < vec4<u32>(p.n / 4u));
            let at = select(vec4<u32>(0u), first + others, inside);
            let a = x[at.x];
            let b = x[at.y];
            let c = x[at.z];
            let d = x[at.w];
            let squares = vec4<f32>(dot(a, a), dot(b, b), dot(c, c), dot(d, d));
            // Elements outside are left out by select, as 0 · NaN would be NaN.
            let sums = select(vec4<f32>(0.0), squares, inside);
            part += (sums.x + sums.y) + (sums.z + sums.w);
        }
        sum += part;
    }
    let total = row_sum(sum, local);
    if (local == 0u && g < p.partials) {
        y[g] = total;
    }
}
