// Grids of more than 65,535 workgroups are folded into two dimensions. This undoes the folding.
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
