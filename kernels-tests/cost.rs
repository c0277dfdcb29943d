//! The model of a card's caches, on plans whose bytes can be counted by hand.

use crate::runner::tests;
use engine::error::Result;
use engine::gpu::{CARD, LAUNCH, Role, Target};
use engine::kernels::activation;
use engine::kernels::matmul::{Activation, Matmul};
use engine::plan::{Cost, FixedPlan, LayoutOptions, Lowered, Memory, Plan, Tensor, Traffic};

tests![what_fits_a_cache_stays_there, a_factor_that_all_rows_need_is_read_again_where_it_fits_no_cache];

const MIB: usize = 1 << 18;

fn cost(record: impl FnOnce(&mut Plan) -> Result<Tensor>) -> (Cost, Lowered) {
    let mut plan = Plan::new("test", Target::default());
    let kept = record(&mut plan).unwrap();
    plan.keep(kept);
    let lowered = Memory::of(FixedPlan::from(plan), LayoutOptions::default()).unwrap().1;
    (lowered.cost(&CARD, 1), lowered)
}

/// y = relu(relu(x)) of so many elements.
fn twice(elements: usize) -> Cost {
    let made = cost(|plan| {
        let x = plan.persistent(Role::Dataset, "x", &[elements])?;
        let [y, z] = ["y", "z"].map(|name| plan.activation(name, &[elements]).unwrap());
        for (x, y) in [(x, y), (y, z)] {
            activation::Forward { x, y, kind: Activation::Relu }.record(plan, "relu")?;
        }
        Ok(z)
    });
    made.0
}

fn what_fits_a_cache_stays_there() {
    // Three tensors of 8 MiB: more than the L2 cache, less than the Infinity Cache.
    let small = twice(8 * MIB);
    assert_eq!(small.traffic, Traffic { touched: 32 << 20, cache: 32 << 20, memory: 0 });
    assert!(small.memory_of.is_empty());
    // Of 64 MiB each: every byte comes from memory, and what was written goes there.
    let large = twice(64 * MIB);
    assert_eq!(large.traffic, Traffic { touched: 256 << 20, cache: 256 << 20, memory: 256 << 20 });
    let bytes: Vec<u64> = large.memory_of.iter().map(|(_, bytes)| *bytes >> 20).collect();
    assert_eq!(bytes, [128, 64, 64]);
    // At the rate of the memory, as that is the slowest.
    assert!((large.seconds - 2.0 * LAUNCH - (256 << 20) as f64 / CARD.memory).abs() < 1e-9);
    // Of 128 KiB each: nothing leaves the L2 cache.
    assert_eq!(twice(MIB / 8).traffic, Traffic { touched: 512 << 10, cache: 0, memory: 0 });
}

fn a_factor_that_all_rows_need_is_read_again_where_it_fits_no_cache() {
    // 4,096 × 4,096 by 4,096 × 4,096: 4,096 tiles in 4 panels of 16 × 64. The card holds 224 workgroups of two waves.
    let n = 4096;
    let (cost, lowered) = cost(|plan| {
        let [a, b] = ["a", "b"].map(|name| plan.persistent(Role::Dataset, name, &[n, n]).unwrap());
        let y = plan.activation("y", &[n, n])?;
        Matmul::new(a, b, y, (n, n, n)).record(plan, "product")?;
        Ok(y)
    });
    let of = |name: &str| {
        let tensor = lowered.plan.find(name).unwrap();
        cost.memory_of.iter().find(|(t, _)| *t == tensor).map_or(0, |(_, bytes)| *bytes >> 20)
    };
    // A panel of A has 16 MiB, and all of B is walked through beside it: once for each panel.
    assert_eq!([of("b"), of("y")], [256, 64]);
    assert!((64..=64 * 5).contains(&of("a")), "{} MiB of A", of("a"));
    assert_eq!(cost.launches[0].flops, 2 * (n as u64).pow(3));
}
