// Access to four features of a row at a time.
const LANES: u32 = 4u;
alias Features = vec4<f32>;

fn sum(x: Features) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}
