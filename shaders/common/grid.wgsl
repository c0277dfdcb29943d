// Grids past 65,535 workgroups are folded into two dimensions; this undoes it.
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
