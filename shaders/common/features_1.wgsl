// Access to one feature of a row at a time, where the number of features is no multiple of four.
const LANES: u32 = 1u;
alias Features = f32;

fn sum(x: Features) -> f32 {
    return x;
}
