//! Floors under what RADV makes of the kernels of the shipped runs for the RX 6600, and under the predicted steps. No card is needed,
//! Mesa's drivers are.

use serde_json::Value;

use crate::program::process;
use crate::runner::tests;
use crate::shipped::shipped_runs;

tests![
    shipped_kernels_keep_their_registers_and_their_pace,
    long_attention_keeps_its_registers_and_its_pace,
    a_large_product_is_near_the_peak,
    the_estimate_has_the_prediction_of_the_whole_step,
    other_families_and_unknown_ones,
];

/// Runs whose predicted step is further than 1.25 times from its roofline, with how far it may be, and why.
const FAR: [(&str, f64, &str); 18] = [
    ("gpt_cpu", 1.68, "some milliseconds: made for a processor, with norms of few rows and a head of 65 classes"),
    (
        "gpt2_124m",
        1.34,
        "50,257 classes are no multiple of four, so that the head takes the tiles for odd sizes; attention over 1,024 positions",
    ),
    ("gpt2_lora", 1.42, "the same, of which attention is a larger part; products of adapters with eight columns"),
    ("integer_sequences", 2.0, "kernels of microseconds: chains of dependent loads, of two features"),
    ("integer_sequences_d64", 1.7, "the same with 64 features"),
    (
        "linkage_vae_conv",
        1.58,
        "760 launches over chunks of images that stay in the cache; the first layer's gradient has few outputs and a long sum",
    ),
    ("lvm_amn", 1.7, "below 1 ms: all that it touches stays in the cache, and 32 rows leave a SIMD few waves"),
    ("lvm_amn_attempt2", 1.9, "the same"),
    ("mamba2_small", 1.33, "scans of 256 positions in chunks, whose states pass from one to the next"),
    ("mechanism_small", 1.62, "sequences of some tokens and 64 features: short attention, and norms of few rows"),
    ("sunspots", 1.4, "below 1 ms: one time step after the other"),
    ("lvm_gru", 1.3, "products of 32 rows, one time step after the other"),
    ("lvm_gru_unified", 1.27, "the same"),
    ("lvm_lstm_small", 1.33, "the same"),
    ("lvm_lstm_unified", 1.28, "the same"),
    ("lvm_stack", 1.27, "the same"),
    ("lvm_mamba2", 1.39, "chunks of 32 rows, and a depthwise convolution that is bound by its arithmetic"),
    ("lvm_mamba2_unified", 1.37, "the same"),
];

/// Skips the test where there is no compiler for the card.
fn expect_compiler() {
    #[cfg(not(feature = "isa"))]
    crate::runner::skip("the feature `isa` is not built in");
    #[cfg(feature = "isa")]
    if let Err(why) = engine::isa::environment("navi23") {
        crate::runner::skip(&why.to_string());
    }
}

fn predict(args: &[&str]) -> Value {
    expect_compiler();
    let (code, out, text) = process(&[&["isa", "--json"], args].concat(), &[]);
    assert_eq!(code, 0, "{args:?}: {text}");
    serde_json::from_str(&out).unwrap()
}

fn shipped_kernels_keep_their_registers_and_their_pace() {
    let runs: Vec<String> = shipped_runs().iter().map(|file| file.display().to_string()).collect();
    let predicted = predict(&runs.iter().map(String::as_str).collect::<Vec<_>>());
    for (run, of) in runs.iter().zip(predicted.as_array().unwrap()) {
        assert_eq!(of["run"], run.as_str());
        let name = std::path::Path::new(run).file_stem().unwrap().to_string_lossy();
        for variant in of["variants"].as_array().unwrap() {
            let number = |key: &str| variant[key].as_f64().unwrap();
            assert!(number("spills") == 0.0 && number("scratch") == 0.0, "{name}: {variant}");
            assert!(number("waves") >= 4.0, "{name}: registers or workgroup memory leave too few waves: {variant}");
            // The tile of 64 × 64 is the one for large products; smaller ones have their loads in the same stretch of code, and those of
            // adapters, which add to the product with the frozen weight, have sums of a few numbers.
            let consts = variant["consts"].as_str().unwrap();
            if variant["kernel"] == "matmul/block" && consts.contains("ROWS=8 ") && !consts.contains("BIAS=2 ") {
                assert!(number("hot_fma") / number("hot_vector") >= 0.9, "{name}: {variant}");
            }
        }
        let factor = of["seconds"].as_f64().unwrap() / of["roofline"].as_f64().unwrap();
        let most = FAR.iter().find(|(run, ..)| *run == name).map_or(1.255, |(_, most, _)| *most);
        assert!(factor <= most, "{name}: predicted {factor:.2} times its roofline, at most {most}");
        // What a launch takes at least is a bound.
        for launch in of["launches"].as_array().unwrap() {
            let [seconds, least] = ["seconds", "roofline"].map(|key| launch[key].as_f64().unwrap());
            assert!(least <= seconds, "{name}: {launch}");
        }
    }
}

fn long_attention_keeps_its_registers_and_its_pace() {
    // Positions, heads of 512 features, samples.
    for (context, heads, batch) in [(33, 32, 64), (128, 16, 64), (128, 8, 64), (512, 4, 16), (4096, 8, 1), (4096, 4, 2)] {
        let sets = [
            format!("data.context={context}"),
            format!("model.heads={heads}"),
            format!("train.batch={batch}"),
            "data.file=none.npz".into(),
        ];
        let args: Vec<&str> = ["data/runs/lvm_transformer.toml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
        let of = predict(&args);
        let tiled = |v: &&Value| v["kernel"].as_str().unwrap().starts_with("attention/");
        let variants: Vec<&Value> = of["variants"].as_array().unwrap().iter().filter(tiled).collect();
        assert_eq!(variants.len(), 3, "{context} positions: {variants:?}");
        for variant in variants {
            let number = |key: &str| variant[key].as_f64().unwrap();
            assert!(number("spills") == 0.0 && number("scratch") == 0.0 && number("waves") >= 4.0, "{context} positions: {variant}");
        }
        let factor = of["seconds"].as_f64().unwrap() / of["roofline"].as_f64().unwrap();
        assert!(factor <= 1.67, "{context} positions, {heads} heads: predicted {factor:.2} times its roofline");
    }
}

fn a_large_product_is_near_the_peak() {
    let layers = "model.layers=[{kind=\"linear\",out=4096},{kind=\"last\"}]";
    let sets = ["data.dim=4096", "data.context=1", "data.file=none.npz", "train.batch=4096", layers];
    let args: Vec<&str> = ["data/runs/lvm_stack.toml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", *set])).collect();
    let of = predict(&args);
    let product = &of["launches"][0];
    assert_eq!(product["kernel"], "matmul/block");
    let share = product["roofline"].as_f64().unwrap() / product["seconds"].as_f64().unwrap();
    assert!(share >= 0.85, "4096³: {:.1} % of the peak", 100.0 * share);
}

fn the_estimate_has_the_prediction_of_the_whole_step() {
    let of = |accumulate: &str| predict(&["data/runs/integer_sequences.toml", "--set", accumulate])["seconds"].as_f64().unwrap();
    let (one, four) = (of("train.accumulate=1"), of("train.accumulate=4"));
    assert!(four > 3.5 * one && four < 4.0 * one, "{one} s with one micro-step, {four} s with four");
    let arguments = ["estimate", "data/runs/integer_sequences.toml", "--set", "train.accumulate=4", "--json"];
    let estimate: Value = serde_json::from_str(&process(&arguments, &[]).1).unwrap();
    assert_eq!(estimate["predicted_seconds"].as_f64(), Some(four), "{estimate}");
    assert!(estimate["roofline_seconds"].as_f64().unwrap() < four);
}

fn other_families_and_unknown_ones() {
    expect_compiler();
    for card in ["navi21", "gfx1100"] {
        // A Mesa that does not know a family says so.
        let (code, _, text) = process(&["isa", "data/runs/lvm_mlp.toml", "--card", card], &[]);
        assert!(code == 0 || code == 69, "{card}: {code} {text}");
    }
    assert_eq!(process(&["isa", "data/runs/lvm_mlp.toml", "--card", "voodoo"], &[]).0, 2);
}
