// Matrix product for GPUs, for sizes that are multiples of 4. The formula, the shapes and the epilogue are those of common/matmul_vec4, and
// the tiles are those of common/matmul_block.
// One workgroup computes one tile, in the order of common/matmul_block.
// uses: common/across, common/grid, common/matmul_block, common/matmul_options, common/matmul_vec4, common/activation, common/math, common/random, common/state, common/sum

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>; // (batch, M, K)

fn load_a(i: u32) -> vec4<f32> {
    return a[i];
}

// Row of B, stored transposed, that is used for column n.
fn row_of_b(n: u32) -> u32 {
    return n;
}

// What y[i] already holds of the sum of this step.
fn sum_before(i: u32) -> vec4<f32> {
    if (accumulates()) {
        return y[i];
    }
    return vec4<f32>(0.0);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(flat_group(group, groups));
    if (place.z >= p.batch) {
        return;
    }
    let m0 = place.x;
    let n0 = place.y;
    var sums = vec4<f32>(0.0);
    multiply(place, local, &sums);
    if (ROW_SUM == 1u) {
        workgroupBarrier();
        put_along(local * 4u, sums);
        workgroupBarrier();
        if (n0 == 0u && TRANS_A == 0u && local < TILE_M) {
            // Four invocations of a slice have the steps of a row, and each has every sixteenth row.
            var sum = 0.0;
            for (var q = 0u; q < SLICES * 4u; q++) {
                sum += tiles[(q / 4u * 64u + local % 16u * 4u + q % 4u) * 4u + local / 16u];
            }
            store_row_sum(m0 + local, sum);
        }
        if (n0 == 0u && TRANS_A == 1u && local < TILE_M / 4u) {
            // Every invocation has loaded the same four rows of each of its steps.
            var sum = vec4<f32>(0.0);
            for (var q = 0u; q < WG / (TILE_M / 4u); q++) {
                sum += tile((q * (TILE_M / 4u) + local) * 4u);
            }
            for (var c = 0u; c < 4u; c++) {
                store_row_sum(m0 + local * 4u + c, sum[c]);
            }
        }
    }
}
