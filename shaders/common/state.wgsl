// Numbers that change from step to step. The host writes them before each submission. The Rust twin is kernels::State.
struct State {
    tick: u32,          // number of the micro-step since the run began: the counter of the random numbers
    seed: u32,          // key of the random numbers
    slot: u32,          // record of the metric ring that this step fills
    micro_step: u32,    // micro-step within the step; 0 overwrites the record, later ones add
    position: u32,      // position of the first token in its sequence (decoding)
    rows: u32,          // rows of the batch that count in the metrics
    count: u32,         // number that means are taken over: these rows, or fewer where some of them are masked
    learning_rate: f32, // of this step
    max_norm: f32,      // gradient clipping, 0 for none
    scale: f32,         // factor of the gradient of this micro-step: its share of what the means of the step are taken over
    drawn: f32,         // 1 where the terms of the loss that are left out of some batches are in this one, else 0
}
