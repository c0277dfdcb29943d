//! Models that a run file composes: gradients against the f64 oracle, PyTorch's names, and what does not fit.

use engine::harness::model::check_model;
use engine::problem::Problem;
use engine::registry::Config;
use engine::tasks::Purpose;

use crate::program::plain_gpu as gpu;
use crate::runner::tests;

tests![the_oracle_agrees_on_every_layer, weights_have_the_names_of_a_sequential, what_does_not_fit_is_refused_by_shapes_and_names,];

const VECTORS: &str =
    "[data]\nkind = \"vectors\"\nfile = \"none.npz\"\ndim = 12\ncontext = 3\n[loss]\nkind = \"vectors\"\ncosine = { weight = 1.0 }\n";
const IMAGES: &str = "[data]\nkind = \"images\"\nfile = \"none.npz\"\nside = 6\n[loss]\nkind = \"vae\"\ndivergence = 0.0\n";
const INTEGERS: &str = "[data]\nkind = \"integer_sequences\"\n[loss]\nkind = \"cross_entropy\"\n";

fn stack(layers: &str, rest: &str) -> Config {
    Config::parse(&format!("[model]\nkind = \"stack\"\nlayers = [{layers}]\n{rest}"), "stack.toml", &[]).unwrap()
}

fn the_oracle_agrees_on_every_layer() {
    for (layers, rest) in [
        (
            "{kind='flatten'},{kind='linear',out=7},{kind='gelu'},{kind='dropout',rate=0.2},{kind='linear',out=9},{kind='relu'},{kind='linear'}",
            VECTORS,
        ),
        (
            "{kind='linear',out=8},{kind='positions'},{kind='self_attention',heads=2,dropout=0.1},{kind='norm'},{kind='mean_pool'},{kind='linear'}",
            VECTORS,
        ),
        ("{kind='transformer_block',heads=3,feed_forward=10,dropout=0.1,causal=true},{kind='last'},{kind='linear'}", VECTORS),
        ("{kind='lstm',hidden=5},{kind='gru',hidden=6},{kind='last'},{kind='sigmoid'},{kind='linear'}", VECTORS),
        (
            "{kind='residual',layers=[{kind='norm'},{kind='linear',out=20},{kind='gelu_tanh'},{kind='dropout',rate=0.3},{kind='linear',out=12},\
             {kind='dropout',rate=0.1}]},{kind='gru',hidden=5},{kind='residual',layers=[{kind='rms_norm'},{kind='linear',out=5},{kind='relu'}]},\
             {kind='dropout',rate=0.2},{kind='gelu'},{kind='mean_pool'},{kind='rms_norm'},{kind='linear'}",
            VECTORS,
        ),
        ("{kind='flatten'},{kind='linear',out=5},{kind='relu'},{kind='linear',out=36},{kind='sigmoid'}", IMAGES),
        (
            "{kind='flatten'},{kind='linear',out=8},{kind='silu'},{kind='linear',out=6},{kind='tanh'},{kind='linear'},{kind='silu'},{kind='linear'}",
            VECTORS,
        ),
        (
            "{kind='conv1d',out=5,kernel=3},{kind='learned_positions'},{kind='gelu'},{kind='conv1d',out=6,kernel=2,dilation=2,causal=true},\
             {kind='lstm',hidden=3,bidirectional=true},{kind='gru',hidden=4,bidirectional=true},{kind='attention_pool',heads=2},{kind='linear'}",
            VECTORS,
        ),
        (
            "{kind='embedding',features=8},{kind='transformer_block',heads=2,feed_forward=8,causal=true,activation='gelu'},{kind='linear',out=256}",
            INTEGERS,
        ),
    ] {
        let outcome = check_model(&gpu(), &stack(layers, rest)).unwrap().unwrap();
        assert!(outcome.nmse <= 1e-9 && outcome.dead.is_empty(), "{layers}: {outcome:?}");
        assert!((outcome.loss.0 - outcome.loss.1).abs() <= 1e-5 * outcome.loss.1, "{layers}: {outcome:?}");
    }
}

fn weights_have_the_names_of_a_sequential() {
    let layers =
        "{kind='lstm',hidden=5},{kind='residual',layers=[{kind='norm'},{kind='linear',out=5}]},{kind='last'},{kind='relu'},{kind='linear'}";
    let problem = Problem::open(&stack(layers, VECTORS), Purpose::Train).unwrap();
    let plan = problem.record_evaluation(gpu().target).unwrap().0;
    let names: Vec<&str> = plan.parameters().iter().map(|p| p.name.as_str()).collect();
    let lstm = ["0.weight_ih_l0", "0.bias_ih_l0", "0.weight_hh_l0", "0.bias_hh_l0"];
    assert_eq!(names, [&lstm[..], &["1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias", "4.weight", "4.bias"]].concat());
}

fn what_does_not_fit_is_refused_by_shapes_and_names() {
    let wrong = |layers: &str, rest: &str| {
        let text = format!("[model]\nkind = \"stack\"\nlayers = [{layers}]\n{rest}");
        let config = Config::parse(&text, "stack.toml", &[]);
        let problem = config.and_then(|config| Problem::open(&config, Purpose::Train)?.record_training(gpu().target).map(|_| ()));
        let error = problem.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    for (layers, rest, says) in [
        ("", VECTORS, "model.layers is empty"),
        ("{kind='linear',out=0}", VECTORS, "model.layers[0].out = 0 is out of range"),
        ("{kind='residual',layers=[{kind='dropout',rate=1.5}]}", VECTORS, "model.layers[0].layers[0].rate = 1.5"),
        ("{kind='linear',out=8}", VECTORS, "compares vectors of 12 numbers; the model gives"),
        (
            "{kind='flatten'},{kind='lstm',hidden=4},{kind='linear'}",
            VECTORS,
            "model.layers[1] takes sequences (length, features), and is given [36]",
        ),
        (
            "{kind='residual',layers=[{kind='linear',out=8}]},{kind='last'}",
            VECTORS,
            "adds its input [3, 12] to what its layers give, [3, 8]",
        ),
        ("{kind='self_attention',heads=5},{kind='last'}", VECTORS, "model.layers[0].heads = 5 must divide the 12 features"),
        ("{kind='linear',out=8}", INTEGERS, "begin with { kind = \"embedding\""),
        ("{kind='embedding',features=8},{kind='last'},{kind='linear',out=256}", INTEGERS, "needs logits for each of"),
        ("{kind='flatten'},{kind='linear',out=36}", &IMAGES.replace("0.0", "1.0"), "needs a model with a posterior"),
        ("{kind='flatten'},{kind='linear'}", IMAGES, "no `target` to tell how many features come out"),
        ("{kind='norm'},{kind='nothing'}", VECTORS, "layers[1]: there is no choice `nothing`"),
        ("{kind='norm'},{kind='droput',rate=0.1}", VECTORS, "Did you mean `dropout`?"),
        ("{kind='residual',layers=[{kind='dropout'}]}", VECTORS, "layers[0]: layers[0]: there is no `rate`"),
        ("{kind='mean_pool'}", VECTORS, "the model has no weights to train"),
        ("{kind='embedding',features=8},{kind='linear',out=10}", INTEGERS, "the targets are below 256, and the model gives 10"),
    ] {
        let text = wrong(layers, rest);
        assert!(text.contains(says), "{layers}: {text}");
    }
    // Parts that do not go together, by what one needs and the other has.
    let vectors = VECTORS.split("[loss]").next().unwrap();
    let text = wrong("{kind='last'},{kind='linear'}", &format!("{vectors}[loss]\nkind = \"cross_entropy\"\n"));
    assert!(text.contains("loss.kind = \"cross_entropy\" needs classes to predict"), "{text}");
    let mixed = format!("[model]\nkind = \"vector_mlp\"\nhidden = 4\n{INTEGERS}");
    let error = Problem::open(&Config::parse(&mixed, "mixed.toml", &[]).unwrap(), Purpose::Train)
        .unwrap()
        .record_training(gpu().target)
        .unwrap_err();
    assert!(error.to_string().contains("model.kind = \"vector_mlp\" needs `context`") && error.exit_code() == 2, "{error}");
}
