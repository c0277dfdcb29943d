//! Data of one's own, from `engine new` to `engine predict`, with the numbers that PyTorch has (kernels-tests/golden/make_samples.py).

use std::path::Path;

use engine::datasets::npz::{Npz, Numbers, write_arrays};
use serde_json::Value;

use crate::program::run;
use crate::runner::tests;

tests![
    sensor_windows_go_from_new_to_predict_as_in_pytorch,
    sequences_of_unequal_length_go_from_new_to_predict_as_in_pytorch,
    both_directions_are_those_of_pytorch,
    a_table_of_mixed_columns_goes_from_new_to_predict_as_in_pytorch,
    a_long_series_goes_from_new_to_predict_as_in_pytorch,
    padding_counts_in_nothing,
    what_the_data_do_not_have_is_refused,
    runs_resume_and_weights_keep_their_scales,
    other_files_are_read_as_the_training_file_was,
    weights_of_classes_do_not_depend_on_the_batch,
    targets_of_every_shape_train,
    arrays_side_by_side_are_those_of_an_archive,
    rows_of_json_are_rows_of_a_table,
    what_is_asked_again_can_be_learned,
    new_says_what_it_takes_for_what,
    a_stack_without_pooling_is_told_how_to_end,
    weights_of_elsewhere_keep_the_runs_scales,
    lines_are_counted_whatever_ends_them,
];

const GOLDEN: &str = "kernels-tests/golden/samples";

fn succeeds(args: &[&str]) -> String {
    let (code, text, said) = run(args);
    assert_eq!(code, 0, "{args:?}: {said}");
    text
}

/// A run on a file of `golden/samples`: `engine new` looks at it, ten steps follow, and losses, metrics and predictions are those of
/// PyTorch.
fn agrees(name: &str, file: &str, new: &[&str], layers: &str, batch: usize) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(format!("{GOLDEN}/expected.json")).unwrap()).unwrap();
    let expected = &expected[name];
    let (data, run_file, out) = (format!("{GOLDEN}/{file}"), path("run.toml"), path("run"));
    succeeds(&[&["new", "--data", &data, "--out", &run_file], new].concat());
    let (layers, batch, init) = (format!("model.layers={layers}"), format!("train.batch={batch}"), format!("{GOLDEN}/{name}.safetensors"));
    let mut args = vec!["train", &run_file, "--out", &out, "--init", &init, "--steps", "10"];
    let sets = [
        &layers,
        &batch,
        "data.split=sequential",
        "schedule.kind=constant",
        "optimizer.learning_rate=0.01",
        "train.shuffle=false",
        "train.log_every=1",
        "validation.every=10",
        "validation.select=loss",
    ];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    succeeds(&args);
    let lines = std::fs::read_to_string(Path::new(&out).join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let close = |what: &str, got: f64, want: f64, by: f64| {
        assert!((got - want).abs() <= by * want.abs().max(1e-3), "{name}: {what} is {got}, PyTorch has {want}");
    };
    let losses: Vec<f64> = lines.iter().filter(|line| line["split"] == "train").map(|line| line["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 10, "{lines:?}");
    for (step, (got, want)) in losses.iter().zip(expected["losses"].as_array().unwrap()).enumerate() {
        close(&format!("the loss of step {step}"), *got, want.as_f64().unwrap(), 1e-6);
    }
    let measured = lines.iter().find(|line| line["split"] == "validation").unwrap();
    for (metric, want) in expected["metrics"].as_object().unwrap() {
        close(metric, measured[metric].as_f64().unwrap(), want.as_f64().unwrap(), 1e-4);
    }
    // Predictions in the unit of the data, of all samples of the file.
    let predictions = path("out.jsonl");
    let mut args = vec!["predict", &out, "--checkpoint", "last", "--data", &data, "--out", &predictions];
    let classes = !measured["accuracy"].is_null();
    args.extend(classes.then_some("--probabilities"));
    succeeds(&args);
    let rows: Vec<Value> = std::fs::read_to_string(&predictions).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = expected["first"].as_u64().unwrap() as usize;
    let mut got = vec![];
    let output = if classes { "probabilities" } else { "output" };
    rows[first..first + 3].iter().for_each(|row| flat(&row[output], &mut got));
    let want: Vec<f64> = expected["outputs"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(got.len(), want.len(), "{name}");
    got.iter().zip(&want).for_each(|(got, want)| close("a prediction", *got, *want, 1e-4));
    // A table names what it has, where the data have names.
    if name == "series" {
        let table = path("out.csv");
        succeeds(&["predict", &out, "--data", &data, "--out", &table]);
        assert!(std::fs::read_to_string(table).unwrap().starts_with("sample,load_t+1,load_t+2,load_t+3,"));
    }
    rows.last().unwrap().clone()
}

fn flat(value: &Value, into: &mut Vec<f64>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| flat(item, into)),
        // Probabilities by the words of the classes.
        Value::Object(named) => named.values().for_each(|item| flat(item, into)),
        number => into.push(number.as_f64().unwrap()),
    }
}

fn sensor_windows_go_from_new_to_predict_as_in_pytorch() {
    let layers = "[{kind='gru',hidden=8},{kind='last'},{kind='linear'}]";
    let last = agrees("sensors", "sensors.npz", &[], layers, 7);
    assert_eq!((last["sample"].as_u64(), last["output"].as_array().unwrap().len()), (Some(89), 12));
}

fn sequences_of_unequal_length_go_from_new_to_predict_as_in_pytorch() {
    let layers = "[{kind='lstm',hidden=6},{kind='last'},{kind='linear'}]";
    let last = agrees("sequences", "sequences.npz", &[], layers, 7);
    assert!(last["prediction"].as_u64().unwrap() < 3);
}

/// A dilated convolution and a layer in both directions, whose second direction begins where each sequence ends.
fn both_directions_are_those_of_pytorch() {
    let layers = "[{kind='conv1d',out=5,kernel=3,dilation=2,causal=true},{kind='gru',hidden=4,bidirectional=true},{kind='mean_pool'},{kind='linear'}]";
    agrees("both_ways", "sequences.npz", &[], layers, 7);
}

fn a_table_of_mixed_columns_goes_from_new_to_predict_as_in_pytorch() {
    let layers = "[{kind='linear',out=8},{kind='gelu'},{kind='linear'}]";
    agrees("mixed", "mixed.csv", &[], layers, 9);
}

fn a_long_series_goes_from_new_to_predict_as_in_pytorch() {
    let layers = "[{kind='gru',hidden=8},{kind='last'},{kind='linear'}]";
    let last = agrees("series", "series.csv", &["--target", "load", "--window", "24,12"], layers, 6);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sunspots.toml").display().to_string();
    let text = succeeds(&["new", "--data", "data/samples/sunspots.csv", "--target", "sunspots", "--window", "33,11", "--out", &out]);
    assert!(text.contains("Column year counts the rows: it is left out"), "{text}");
    let written = std::fs::read_to_string(&out).unwrap();
    assert!(
        written.contains("inputs = { past = \"sunspots\" }") && written.contains("\nseason = 1") && !written.contains("\nseed"),
        "{written}"
    );
    // The last window ends where the series does: its future is nobody's yet.
    assert_eq!(last["sample"].as_u64(), Some(200 - 24));
}

const SEQUENCES: &str = "[model]\nkind = \"stack\"\nlayers = [LAYERS]\n[data]\nkind = \"samples\"\nfile = \"FILE\"\ninputs = { x = \"x\" }\n\
                         targets = { y = \"y\" }\nlengths = \"lengths\"\nnormalize = \"standard\"\n[loss]\nkind = \"regression\"\n\
                         [train]\nbatch = 4\nepochs = 2\nlog_every = 1\n";

fn new_says_what_it_takes_for_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let column = |values: [i32; 6]| {
        let rows = values.iter().enumerate().map(|(i, y)| format!("{},{},{y}\n", i as f32 + 0.5, 7 * i % 5));
        format!("a,b,y\n{}", rows.collect::<String>())
    };
    let (table, run_file) = (path("table.csv"), path("run.toml"));
    let new = |args: &[&str]| {
        let _ = std::fs::remove_file(&run_file);
        let (code, stdout, said) = run(&[&["new", "--out", &run_file], args].concat());
        (code, stdout + &said, std::fs::read_to_string(&run_file).unwrap_or_default())
    };
    for (values, classes, says) in [
        ([2, 3, 5, 2, 3, 5], false, "taken for a quantity, as its 3 different whole numbers, 2 to 5"),
        ([1999, 2000, 2000, 1999, 2000, 1999], false, "1999 to 2000"),
        ([0, 1, 2, 0, 1, 2], true, "one of 3 classes;"),
        ([1, 2, 3, 1, 2, 3], true, "one of 4 classes, 0 to 3, of which 3 occur;"),
    ] {
        std::fs::write(&table, column(values)).unwrap();
        let (code, said, written) = new(&["--data", &table, "--target", "y"]);
        assert!(code == 0 && said.contains(says) && written.contains("classes = true") == classes, "{values:?}: {said}");
    }
    // Rows with a hole are left out, and a column of holes is.
    let rows = (0..20).map(|i| format!("{},{},{},{}\n", if i == 4 { String::new() } else { i.to_string() }, "", i * i % 7, i % 2));
    std::fs::write(path("hole.csv"), format!("a,b,c,y\n{}", rows.collect::<String>())).unwrap();
    let (code, said, written) = new(&["--data", &path("hole.csv")]);
    assert!(code == 0 && said.contains("1 of 20 rows have an empty cell") && said.contains("Column b is left out: "), "{said}");
    assert!(said.contains("one of 2 classes") && written.contains("\nskip_non_finite = true "), "{written}");
    let out = path("holes");
    let said = run(&["train", &run_file, "--out", &out, "--set", "train.epochs=1"]);
    assert!(said.0 == 0 && said.2.contains("left out    1 samples"), "{said:?}");
    // Predictions count rows from 0, and messages name lines of the file.
    let (code, printed, said) = run(&["predict", &out, "--data", &path("hole.csv")]);
    assert!(code == 0 && printed.lines().count() == 19 && !printed.contains("{\"sample\":4,"), "{printed} {said}");
    let (code, _, said) = run(&["train", &run_file, "--out", &path("no"), "--set", "data.skip_non_finite=false"]);
    assert!(code == 65 && said.contains("hole.csv, line 6, column `a`: NaN, or no value, is not finite"), "{said}");
    // Of a series no moment can be left out.
    let (code, said, written) = new(&["--data", &path("hole.csv"), "--target", "c", "--window", "4,2"]);
    assert!(code == 0 && said.contains("Column a is left out: 1 of its 20 rows have no number, and windows"), "{said}");
    assert!(written.contains("# season = ") && written.contains("inputs = { past = [\"c\", \"y\"] }"), "{written}");
    let (code, said, _) = new(&["--data", &path("hole.csv"), "--target", "a", "--window", "4,2"]);
    assert!(code == 65 && said.contains("line 6, column `a`") && said.contains("whole series"), "{said}");
    let (code, said, _) = new(&[]);
    assert!(code == 2 && said.contains("engine new --data") && said.contains("lvm_mlp"), "{said}");
    let (code, said, _) = new(&["lvm_mlp", "--data", &table, "--target", "y"]);
    assert!(code == 2 && said.contains("by the names of the arrays") && said.contains("leave lvm_mlp out"), "{said}");
    let images: Vec<f32> = (0..30 * 64).map(|i| (i % 7) as f32 / 7.0).collect();
    let labels: Vec<i32> = (0..30).map(|i| i % 3).collect();
    let arrays = [("images", &[30, 8, 8][..], Numbers::F32(&images)), ("label", &[30], Numbers::I32(&labels))];
    write_arrays(Path::new(&path("images.npz")), &arrays).unwrap();
    let (_, said, _) = new(&["--data", &path("images.npz")]);
    assert!(said.contains("Array label is left out") && said.contains("--target label"), "{said}");
    for command in ["new", "predict", "eval"] {
        assert!(run(&[command, "--help"]).1.contains("FILE.parquet"), "{command}");
    }
    // The line that saves arrays under the names that a run reads.
    write_arrays(Path::new(&path("other.npz")), &[("p", &[30, 8, 8][..], Numbers::F32(&images))]).unwrap();
    for kind in ["lvm_mlp", "linkage_vae"] {
        let (code, said, _) = new(&[kind, "--data", &path("other.npz")]);
        assert!(code == 65 && said.contains("numpy.savez(") && said.contains("=a[\"p\"]"), "{kind}: {said}");
    }
}

fn a_stack_without_pooling_is_told_how_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let x: Vec<f32> = (0..20 * 4 * 2).map(|i| (i as f32).sin()).collect();
    let (y, classes): (Vec<f32>, Vec<i32>) = (0..20).map(|i| (i as f32, i % 3)).unzip();
    for (name, target, loss) in [("numbers", Numbers::F32(&y), ""), ("classes", Numbers::I32(&classes), "cross_entropy")] {
        let arrays = [("x", &[20, 4, 2][..], Numbers::F32(&x)), ("y", &[20], target)];
        write_arrays(Path::new(&path("data.npz")), &arrays).unwrap();
        let mut text = SEQUENCES
            .replace("lengths = \"lengths\"\n", "")
            .replace("LAYERS", "{kind='lstm',hidden=3},{kind='linear'}")
            .replace("FILE", &path("data.npz"));
        if !loss.is_empty() {
            text = text.replace("regression", loss).replace("normalize", "classes = true\nnormalize");
        }
        std::fs::write(path("run.toml"), text).unwrap();
        let (code, _, said) = run(&["train", &path("run.toml"), "--out", &path("run")]);
        assert!(code == 2 && said.contains("{ kind = \"last\" } or { kind = \"mean_pool\" }"), "{name}: {said}");
    }
}

/// Whatever stands after the end of a sequence, losses, metrics and weights are the same.
fn padding_counts_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<i32> = (0..30).map(|i| 1 + i * 7 % 6).collect();
    let results = |which: usize, layers: &str, each: bool| {
        let fill = [0.0f32, 1e3][which];
        let value = |i: usize, t: usize, c: usize| if t < lengths[i] as usize { ((i * 5 + t * 3 + c) as f32).sin() } else { fill };
        let x: Vec<f32> = (0..30 * 6 * 2).map(|n| value(n / 12, n / 2 % 6, n % 2)).collect();
        let y: Vec<f32> = (0..30 * 6).map(|n| value(n / 6, n % 6, 1)).collect();
        let file = folder.path().join(format!("{which}.npz"));
        let (shape, y) = if each { (vec![30, 6, 1], y) } else { (vec![30, 1], y.chunks(6).map(|y| y[0]).collect()) };
        let arrays =
            [("x", &[30, 6, 2][..], Numbers::F32(&x)), ("y", &shape, Numbers::F32(&y)), ("lengths", &[30], Numbers::I32(&lengths))];
        write_arrays(&file, &arrays).unwrap();
        let run_file = folder.path().join("run.toml").display().to_string();
        std::fs::write(&run_file, SEQUENCES.replace("LAYERS", layers).replace("FILE", "FILE.npz")).unwrap();
        let out = folder.path().join(format!("out{which}")).display().to_string();
        let _ = std::fs::remove_dir_all(&out);
        succeeds(&["train", &run_file, "--out", &out, "--set", &format!("data.file={}", file.display())]);
        let lines = std::fs::read_to_string(Path::new(&out).join("metrics.jsonl")).unwrap();
        let numbers = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            ["loss", "gradient_norm", "rmse", "mae"].map(|name| line[name].to_string()).join(" ")
        };
        (lines.lines().map(numbers).collect::<Vec<_>>(), std::fs::read(Path::new(&out).join("model.safetensors")).unwrap())
    };
    for (layers, each) in [
        ("{kind='lstm',hidden=3},{kind='last'},{kind='linear'}", false),
        ("{kind='gru',hidden=3},{kind='mean_pool'},{kind='linear'}", false),
        ("{kind='gru',hidden=4},{kind='attention_pool',heads=2},{kind='linear'}", false),
        ("{kind='linear',out=4},{kind='self_attention',heads=2,causal=true},{kind='linear',out=1}", true),
    ] {
        let [first, second] = [0, 1].map(|which| results(which, layers, each));
        assert_eq!(first.0, second.0, "{layers}");
        assert!(first.1.len() == second.1.len() && first.0.len() > 10, "{layers}: {:?}", first.0);
    }
}

fn what_the_data_do_not_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let x: Vec<f32> = (0..20 * 4 * 2).map(|i| (i as f32).sin()).collect();
    let y: Vec<f32> = (0..20).map(|i| (i % 3) as f32).collect();
    let lengths: Vec<i32> = (0..20).map(|i| 1 + i % 4).collect();
    let arrays = [("x", &[20, 4, 2][..], Numbers::F32(&x)), ("y", &[20], Numbers::F32(&y)), ("lengths", &[20], Numbers::I32(&lengths))];
    write_arrays(Path::new(&path("data.npz")), &arrays).unwrap();
    std::fs::write(path("bad.csv"), "a,b\n1,2\n3,x\n").unwrap();
    let run_file = path("run.toml");
    let text = SEQUENCES.replace("LAYERS", "{kind='lstm',hidden=3},{kind='last'},{kind='linear'}").replace("FILE", &path("data.npz"));
    std::fs::write(&run_file, text).unwrap();
    let (code, _, said) = run(&["new", "--data", &path("bad.csv"), "--target", "b", "--out", &path("bad.toml")]);
    assert!(code == 65 && said.contains("line 3: column `b`: `x` is no number"), "{said}");
    for (sets, code, says) in [
        (&["data.inputs={x='z'}"][..], 65, "has no array or column `z`; it has `x`, `y`, `lengths`"),
        (&["data.targets={}"], 2, "data.targets has 0 fields"),
        (&["data.inputs={y='x'}"], 2, "is in data.inputs and in data.targets"),
        (&["data.inputs={mask='x'}"], 2, "means something else"),
        (&["data.normalize={z='standard'}"], 2, "which is no field"),
        (&["data.normalize={y='unit'}"], 2, "cannot be undone"),
        (&["data.window={context=2,horizon=1}"], 2, "leave one of them out"),
        (&["data.season=3"], 2, "give data.window"),
        (&["data.balance=true"], 2, "data.classes = true"),
        (&["data.class_weights=[1.0,2.0]"], 2, "data.class_weights is for classes"),
        (&["data.split=auto"], 2, "no validation members"),
        (&["data.classes=true"], 2, "loss.kind = \"regression\""),
        (&["loss={kind='cross_entropy'}"], 2, "`y` is numbers: use loss.kind = \"regression\""),
        (&["data.inputs={x='x',z='x'}"], 2, "the model does not look at `z`"),
        (&["data.window={context=2,horizon=1}", "data.season=3"], 2, "leave one of them out"),
        (&["data.lengths=y"], 65, "is no length: it must be an integer from 1 on"),
        (&["model.layers=[{kind='flatten'},{kind='linear'}]"], 2, "looks at positions after the end of shorter sequences"),
        (&["model.layers=[{kind='linear'},{kind='self_attention',heads=1}]"], 2, "causal attention"),
        (&["model={kind='vector_mlp',hidden=4}"], 2, "needs `context`"),
        (&["train.batch=30"], 65, "do not fill one batch of 30"),
    ] {
        let mut args = vec!["train", &run_file, "--out", "unused"];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        let (found, _, said) = run(&args);
        assert!(found == code && said.contains(says), "{sets:?}: {found} {said}");
    }
    assert!(!Path::new("unused").exists());
}

/// What the scales were fitted to is not needed again: other data are normalised as the training data were.
fn runs_resume_and_weights_keep_their_scales() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let file = |name: &str, offset: f32| {
        let x: Vec<f32> = (0..40 * 3).map(|i| (i as f32 * 0.37).sin() * 5.0 + 100.0 + offset).collect();
        let y: Vec<f32> = x.chunks(3).map(|x| 2.0 * x[0] - x[1]).collect();
        write_arrays(Path::new(&path(name)), &[("x", &[40, 3], Numbers::F32(&x)), ("y", &[40], Numbers::F32(&y))]).unwrap();
        path(name)
    };
    let (data, other) = (file("data.npz", 0.0), file("other.npz", 50.0));
    let run_file = path("run.toml");
    succeeds(&["new", "--data", &data, "--out", &run_file]);
    let train = |out: &str, more: &[&str]| {
        let args = ["train", &run_file, "--out", out, "--set", "train.batch=8", "--set", "train.epochs=4"];
        succeeds(&[&args[..], more].concat());
        std::fs::read(Path::new(out).join("model.safetensors")).unwrap()
    };
    let (whole, halves) = (path("whole"), path("halves"));
    let weights = train(&whole, &[]);
    train(&halves, &["--steps", "7"]);
    assert_eq!(train(&halves, &["--resume"]), weights);
    let outputs = |data: &str| {
        let out = path("out.npz");
        succeeds(&["predict", &whole, "--data", data, "--out", &out]);
        Npz::open(Path::new(&out)).unwrap().array("outputs").unwrap().values.to_f32()
    };
    let mean = |values: Vec<f32>| values.iter().sum::<f32>() / values.len() as f32;
    // The target of the training data is about 100; inputs far beyond those of training do not look like them.
    let (own, shifted) = (mean(outputs(&data)), mean(outputs(&other)));
    assert!((own - 100.0).abs() < 10.0 && (shifted - own).abs() > 1.0, "{own} {shifted}");
    let text = succeeds(&["eval", &whole, "--data", &other]);
    assert!(text.contains("RMSE") && text.contains("mean"), "{text}");
    // Predictions of the validation samples are those of their rows.
    let (split, named) = (path("split.npz"), path("split.csv"));
    let (code, _, said) = run(&["eval", &whole, "--predictions", &named]);
    assert!(code == 2 && said.contains("name an .npz file"), "{said}");
    succeeds(&["eval", &whole, "--predictions", &split]);
    let array = |name: &str| Npz::open(Path::new(&split)).unwrap().array(name).unwrap().values.to_f32();
    let (all, rows) = (outputs(&data), array("rows"));
    assert_eq!(array("predictions"), rows.iter().map(|row| all[*row as usize]).collect::<Vec<_>>());
    assert!(rows.len() == 8 && Path::new(&whole).join("predictions.svg").exists());
}

/// Words stay words and numbers numbers, rows keep their numbers, the newest window is there, and baselines are those of the training data.
fn other_files_are_read_as_the_training_file_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: String| {
        std::fs::write(path(name), text).unwrap();
        path(name)
    };
    let rows = |row: &dyn Fn(usize) -> String| (0..40).map(row).collect::<Vec<_>>().join("\n");
    let words = ["low", "high", "7"];
    let data =
        write("data.csv", format!("size,grade,price\n{}\n", rows(&|i| format!("{},{},{}", i * i % 17, ["low", "high"][i % 2], i % 5))));
    let (run_file, out) = (path("run.toml"), path("run"));
    succeeds(&["new", "--data", &data, "--target", "price", "--out", &run_file]);
    let quantity = ["--set", "data.classes=false", "--set", "loss={kind='regression'}"];
    succeeds(&[&["train", &run_file, "--out", &out, "--steps", "3"], &quantity[..], &["--set", "data.skip_non_finite=true"]].concat());
    for (text, says) in [
        ("size,grade\n\"89,186.79\",low\n", "column `size`: `89,186.79` is no number, and the training data have numbers there"),
        ("size,grade\n1,7\n", "column `grade`: `7` is not in the training data, which have `high`, `low` there"),
        ("size\n1\n", "no array or column `grade`"),
    ] {
        let (code, _, said) = run(&["predict", &out, "--data", &write("other.csv", text.into())]);
        assert!(code == 65 && said.contains(says), "{text}: {said}");
    }
    // One word of two is still one of two, and a sample that is left out leaves its number out.
    let text = succeeds(&["predict", &out, "--data", &write("some.csv", "size,grade\n1,low\nNaN,low\n2,low\n".into())]);
    let numbers: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["sample"].clone()).collect();
    assert_eq!(numbers, [0, 2]);
    // Of 40 training samples 32 train; the mean is theirs, whatever is tested on.
    let far = write("far.csv", format!("size,grade,price\n{}\n", rows(&|i| format!("{i},{},{}", words[i % 2], 1000 + i))));
    let text = succeeds(&["eval", &out, "--data", &far]);
    let mean = text.lines().find(|line| line.starts_with("mean ")).unwrap();
    assert!(mean.split_whitespace().nth(2).unwrap().parse::<f64>().unwrap() > 900.0, "{text}");
    // Windows every 7 moments, and the newest, which ends with the series.
    let series = write("series.csv", format!("load\n{}\n", rows(&|i| (i as f32 * 0.7).sin().to_string())));
    let (run_file, out) = (path("series.toml"), path("series"));
    succeeds(&["new", "--data", &series, "--window", "5,2", "--out", &run_file]);
    let (code, _, said) = run(&["train", &run_file, "--out", &out, "--set", "data.season=6"]);
    assert!(code == 2 && said.contains("more than the 5 moments"), "{said}");
    let sets = ["--set", "data.window.stride=7", "--set", "train.batch=1", "--set", "data.validation_share=0.4"];
    succeeds(&[&["train", &run_file, "--out", &out, "--steps", "2"], &sets[..]].concat());
    let text = succeeds(&["predict", &out, "--data", &series]);
    let starts: Vec<u64> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["sample"].as_u64().unwrap()).collect();
    assert_eq!(starts, [0, 7, 14, 21, 28, 35]);
    // Numbers that 32-bit floats cannot tell apart are not trained on.
    let large: Vec<f32> = vec![1.7e9; 40];
    let (x, file) = ((0..40).map(|i| i as f32 % 7.0).collect::<Vec<_>>(), path("large.npz"));
    write_arrays(Path::new(&file), &[("x", &[40], Numbers::F32(&x)), ("y", &[40], Numbers::F32(&large))]).unwrap();
    let (code, _, said) = run(&["new", "--data", &file, "--out", &path("large.toml")]);
    assert!(code == 65 && said.contains("are 1.7e9 as 32-bit floats"), "{said}");
}

fn weights_of_classes_do_not_depend_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let x: Vec<f32> = (0..60 * 2).map(|i| (i as f32 * 0.9).sin()).collect();
    let y: Vec<i32> = (0..60).map(|i| i32::from(i % 5 == 0) + i32::from(i % 20 == 0)).collect();
    write_arrays(Path::new(&path("data.npz")), &[("x", &[60, 2], Numbers::F32(&x)), ("y", &[60], Numbers::I32(&y))]).unwrap();
    let run_file = path("run.toml");
    succeeds(&["new", "--data", &path("data.npz"), "--out", &run_file]);
    let losses = |name: &str, weights: &str, batch: usize, accumulate: usize| {
        let (batch, accumulate) = (format!("train.batch={batch}"), format!("train.accumulate={accumulate}"));
        let layers = "model.layers=[{kind='linear',out=8},{kind='tanh'},{kind='linear'}]";
        let out = path(name);
        let sets = [weights, layers, &batch, &accumulate, "train.epochs=3"];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        succeeds(&[&["train", &run_file, "--out", &out], &sets[..]].concat());
        let lines = std::fs::read_to_string(Path::new(&out).join("metrics.jsonl")).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["split"] == "validation").map(|line| line["loss"].as_f64().unwrap()).collect::<Vec<f64>>()
    };
    let (whole, parts) = (losses("whole", "data.balance=true", 12, 1), losses("parts", "data.balance=true", 4, 3));
    assert!(whole.len() == 3 && whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs()), "{whole:?} {parts:?}");
    // Another file is weighed by the 48 training samples: a class of n of them weighs 48 / 3n, however many this file has.
    let counted = |class: i32| {
        let (file, y) = (path(&format!("{class}.npz")), vec![class; 60]);
        write_arrays(Path::new(&file), &[("x", &[60, 2], Numbers::F32(&x)), ("y", &[60], Numbers::I32(&y))]).unwrap();
        let rows: Value = serde_json::from_str(&succeeds(&["eval", &path("whole"), "--data", &file, "--json"])).unwrap();
        let value = |name: &str| rows["this model"][name].as_f64().unwrap();
        16.0 * value("cross_entropy") / value("loss")
    };
    let counts = [counted(0), counted(1), counted(2)];
    assert!((counts.iter().sum::<f64>() - 48.0).abs() < 1e-3 && counts[0] > 4.0 * counts[2], "{counts:?}");
    // Weights in the same ratio, given by hand, are the same weights.
    let given = format!("data.class_weights=[{},{},{}]", 7.0 / counts[0], 7.0 / counts[1], 7.0 / counts[2]);
    let given = losses("given", &given, 12, 1);
    assert!(whole.iter().zip(&given).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs()), "{whole:?} {given:?}");
    let (uneven, one) =
        (losses("uneven", "data.class_weights=[1.0,1.0,9.0]", 12, 1), losses("one", "data.class_weights=[3.0,3.0,3.0]", 12, 1));
    assert!((uneven[0] - one[0]).abs() > 1e-3 * one[0], "{uneven:?} {one:?}");
    for (weights, says) in [
        ("[1.0,2.0]", "has 2 weights for 3 classes"),
        ("[1.0,0.0,2.0]", "no positive number"),
        ("{a=1.0,b=2.0,c=3.0}", "the classes are numbers: give a list of 3"),
    ] {
        let set = format!("data.class_weights={weights}");
        let (code, _, said) = run(&["train", &run_file, "--out", &path("refused"), "--set", &set]);
        assert!(code == 2 && said.contains(says), "{code} {said}");
    }
}

/// A folder of .npy files is the archive that numpy makes of the same arrays, and is watched as a file is.
fn arrays_side_by_side_are_those_of_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let x: Vec<f32> = (0..40 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    let y: Vec<f32> = x.chunks(3).map(|x| 2.0 * x[0] - x[1]).collect();
    write_arrays(Path::new(&path("one.npz")), &[("x", &[40, 3], Numbers::F32(&x)), ("y", &[40], Numbers::F32(&y))]).unwrap();
    std::fs::create_dir(path("arrays")).unwrap();
    let npy = |name: &str, shape: &str, values: &[f32]| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let numbers = values.iter().flat_map(|value| value.to_le_bytes());
        let bytes: Vec<u8> =
            b"\x93NUMPY\x01\x00".iter().copied().chain((text.len() as u16).to_le_bytes()).chain(text.bytes()).chain(numbers).collect();
        std::fs::write(Path::new(&path("arrays")).join(name), bytes).unwrap();
    };
    npy("x.npy", "(40, 3)", &x);
    npy("y.npy", "(40,)", &y);
    std::fs::write(Path::new(&path("arrays")).join("notes.txt"), "not an array").unwrap();
    let trained = |data: &str, name: &str| {
        let (run_file, out) = (path(&format!("{name}.toml")), path(name));
        succeeds(&["new", "--data", data, "--out", &run_file]);
        succeeds(&["train", &run_file, "--out", &out, "--set", "train.epochs=2"]);
        let lines = succeeds(&["predict", &out, "--data", data]);
        (std::fs::read(Path::new(&out).join("model.safetensors")).unwrap().len(), lines)
    };
    let (archive, arrays) = (trained(&path("one.npz"), "archive"), trained(&path("arrays"), "side_by_side"));
    assert_eq!(archive, arrays);
    assert!(succeeds(&["eval", &path("side_by_side"), "--data", &path("one.npz")]).contains("RMSE"));
    let listed = succeeds(&["inspect", &path("arrays")]);
    assert!(listed.contains("[40, 3]") && listed.contains("-0.99"), "{listed}");
    // A number that is changed in one of them is seen.
    let changed: Vec<f32> = y.iter().map(|y| y + 0.5).collect();
    npy("y.npy", "(40,)", &changed);
    let (code, _, said) = run(&["eval", &path("side_by_side")]);
    assert!(code == 65 && said.contains("arrays"), "{code} {said}");
    // A file that nobody needs may be anything.
    npy("y.npy", "(40,)", &y);
    std::fs::write(Path::new(&path("arrays")).join("z.npy"), "not an array").unwrap();
    std::fs::write(Path::new(&path("arrays")).join("._x.npy"), "hidden").unwrap();
    succeeds(&["predict", &path("side_by_side"), "--data", &path("arrays")]);
    assert!(succeeds(&["inspect", &path("arrays")]).contains("unusable"));
    npy("y.npy", "(41,)", &y);
    let (code, _, said) = run(&["train", &path("side_by_side.toml"), "--out", &path("again")]);
    assert!(code == 65 && said.contains("y.npy cannot be used: shape [41]"), "{code} {said}");
    std::fs::create_dir(path("empty")).unwrap();
    let (code, _, said) = run(&["new", "--data", &path("empty"), "--out", &path("empty.toml")]);
    assert!(code == 65 && said.contains("has no .npy files"), "{code} {said}");
}

/// Associative recall at a length that chunks do not divide: a state space of two chunks and more learns what stood behind a key.
fn what_is_asked_again_can_be_learned() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mixer = "{ kind = \"residual\", layers = [{ kind = \"rms_norm\" }, { kind = \"mamba2\", state = 8, head = 16, chunk = 4 }] }";
    let text = format!(
        "[model]\nkind = \"stack\"\nlayers = [{{ kind = \"embedding\", features = 32 }}, {mixer}, {{ kind = \"last\" }}, {{ kind = \"linear\" }}]\n\
         [data]\nkind = \"recall\"\nlength = 9\nkeys = 2\n\
         [loss]\nkind = \"cross_entropy\"\nweight = \"none\"\n[optimizer]\nkind = \"adamw\"\nlearning_rate = 3e-3\ndecay = \"reference\"\n\
         [schedule]\nkind = \"constant\"\n[train]\nbatch = 32\nsteps_per_epoch = 60\nepochs = 4\n[validation]\nselect = \"accuracy\"\nsequences = 64\n"
    );
    std::fs::write(path("run.toml"), text).unwrap();
    succeeds(&["train", &path("run.toml"), "--out", &path("run")]);
    let rows: Value = serde_json::from_str(&succeeds(&["eval", &path("run"), "--json"])).unwrap();
    let accuracy = rows["this model"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.95, "a guess is right half the time, and it was {accuracy}");
    // A sequence of one's own: value 1 (token 3) stands behind key 0.
    std::fs::write(path("asked.jsonl"), "{\"tokens\": [4, 4, 0, 3, 1, 2, 4, 4, 0]}\n").unwrap();
    let told = succeeds(&["predict", &path("run"), "--data", &path("asked.jsonl")]);
    assert!(told.contains("\"prediction\":1"), "{told}");
    let (code, _, said) = run(&["train", &path("run.toml"), "--set", "data.length=6", "--set", "data.keys=3"]);
    assert!(code == 2 && said.contains("data.length = 6 is out of range: it must be at least 2 · data.keys + 1 = 7"), "{said}");
}

/// A row of a table can be given as JSON, with its words, and gives what it gives in the file.
fn rows_of_json_are_rows_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data = format!("{GOLDEN}/mixed.csv");
    let (run_file, out, lines) = (path("run.toml"), path("run"), path("rows.jsonl"));
    succeeds(&["new", "--data", &data, "--out", &run_file]);
    succeeds(&["train", &run_file, "--out", &out, "--set", "train.epochs=2"]);
    let rows = [
        r#"{"id": 7, "size": 7.520571708679199, "age": 24, "colour": "red", "city": "Oslo"}"#,
        r#"{"size": 6.615230083465576, "age": 12, "colour": "blue", "city": "San José, Costa Rica", "price": 1}"#,
    ];
    std::fs::write(&lines, rows.join("\n")).unwrap();
    let parsed = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let (table, given) = (parsed(succeeds(&["predict", &out, "--data", &data])), parsed(succeeds(&["predict", &out, "--data", &lines])));
    assert_eq!((given.len(), &given[0]["id"]), (2, &Value::from(7)));
    for (table, given) in table.iter().zip(&given) {
        let value = |row: &Value| row["output"].as_f64().or_else(|| row["output"][0].as_f64()).unwrap();
        assert!((value(table) - value(given)).abs() <= 1e-5 * value(table).abs(), "{table} {given}");
    }
    // What the model does not look at may be anything.
    std::fs::write(&lines, rows[0].replace("\"id\": 7", "\"id\": \"k\", \"price\": null, \"more\": [1, {}]")).unwrap();
    assert_eq!(parsed(succeeds(&["predict", &out, "--data", &lines]))[0]["output"], given[0]["output"]);
    for (row, says) in [
        (r#"{"size": 1, "age": 2, "colour": "purple", "city": "Oslo"}"#, "`purple` is not in the training data"),
        (r#"{"size": "large", "age": 2, "colour": "red", "city": "Oslo"}"#, "`large` is no number"),
        (r#"{"size": null, "age": 2, "colour": "red", "city": "Oslo"}"#, "neither a number nor a word"),
        (r#"{"size": 1, "age": 2, "colour": "red"}"#, "city"),
    ] {
        std::fs::write(&lines, row).unwrap();
        let (code, _, said) = run(&["predict", &out, "--data", &lines]);
        assert!(code == 65 && said.contains("line 1") && said.contains(says), "{code} {said}");
    }
    let listed = succeeds(&["inspect", &data]);
    assert!(listed.contains("words") && listed.contains("different: "), "{listed}");
}

/// A number for each position, a table for each sequence, a word at each moment of a series; and a column that nobody reads may be of any
/// kind.
fn targets_of_every_shape_train() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.3).sin()).collect::<Vec<f32>>();
    let (x, each, table) = (wave(30 * 5 * 2), wave(30 * 5), wave(30 * 3 * 2));
    let lengths: Vec<i32> = (0..30).map(|i| 1 + i % 5).collect();
    let arrays = [
        ("x", &[30, 5, 2][..], Numbers::F32(&x)),
        ("each", &[30, 5], Numbers::F32(&each)),
        ("table", &[30, 3, 2], Numbers::F32(&table)),
        ("lengths", &[30], Numbers::I32(&lengths)),
    ];
    write_arrays(Path::new(&path("data.npz")), &arrays).unwrap();
    let row = |i: usize| format!("{},{},{}", (i as f32 * 0.5).sin(), ["up", "down"][i / 3 % 2], if i == 7 { "" } else { "x" });
    let rows = (0..60).map(row).collect::<Vec<_>>().join("\n");
    std::fs::write(path("series.csv"), format!("load,state,broken\n{rows}\n")).unwrap();
    let run_file = path("run.toml");
    let steps = |name: &str, layers: &str, data: &str, loss: &str| {
        let text = format!(
            "[model]\nkind = \"stack\"\nlayers = [{layers}]\n[data]\nkind = \"samples\"\n{data}\n[loss]\n{loss}\n[train]\nbatch = 4\n"
        );
        std::fs::write(&run_file, text).unwrap();
        let out = path(name);
        succeeds(&["train", &run_file, "--out", &out, "--steps", "4"]);
        out
    };
    let sequences = format!("file = {:?}\nlengths = \"lengths\"\ninputs = {{ x = \"x\" }}\n", path("data.npz"));
    let regression = "kind = \"regression\"";
    let both = "{kind='lstm',hidden=3,bidirectional=true},{kind='linear'}";
    let out = steps("each", both, &format!("{sequences}targets = {{ y = \"each\" }}"), regression);
    let text = succeeds(&["predict", &out, "--data", &path("data.npz")]);
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    // Nothing is predicted after the end of a sequence.
    std::fs::write(path("short.jsonl"), "{\"x\": [[0.1, 0.2], [0.3, 0.4]]}\n").unwrap();
    let short: Value = serde_json::from_str(&succeeds(&["predict", &out, "--data", &path("short.jsonl")])).unwrap();
    assert_eq!(short["output"].as_array().unwrap().len(), 2, "{short}");
    let numbers = first["output"].as_array().unwrap().iter().map(|value| value.is_number() || value[0].is_number());
    assert_eq!(numbers.collect::<Vec<bool>>(), [true, false, false, false, false], "{first}");
    let pooled = "{kind='lstm',hidden=3},{kind='last'},{kind='linear'}";
    let out = steps("table", pooled, &format!("{sequences}targets = {{ y = \"table\" }}"), regression);
    succeeds(&["eval", &out, "--predictions", &path("table.npz")]);
    // Nothing of a table is masked by the length of its sequence.
    let predicted = Npz::open(Path::new(&path("table.npz"))).unwrap().array("predictions").unwrap();
    assert!(predicted.shape == [6, 3, 2] && predicted.values.to_f32().iter().all(|v| v.is_finite()), "{predicted:?}");
    let series = format!("file = {:?}\ninputs = {{ past = \"load\" }}\nwindow = {{ context = 4, horizon = 1 }}\n", path("series.csv"));
    let classes = "kind = \"cross_entropy\"\nweight = \"none\"";
    let out = steps("state", pooled, &format!("{series}targets = {{ next = \"state\" }}\nclasses = true"), classes);
    let text = succeeds(&["predict", &out, "--data", &path("series.csv")]);
    assert!(text.lines().count() == 57 && text.lines().all(|line| line.contains("\"up\"") || line.contains("\"down\"")), "{text}");
    // Words as input of an embedding.
    let words = "{kind='embedding',features=4},{kind='gru',hidden=3},{kind='last'},{kind='linear'}";
    let words_in = series.replace("\"load\"", "\"state\"");
    let out = steps("words", words, &format!("{words_in}integers = [\"past\"]\ntargets = {{ next = \"load\" }}"), regression);
    let predicted = |line: &str| {
        std::fs::write(path("in.jsonl"), line).unwrap();
        run(&["predict", &out, "--data", &path("in.jsonl")])
    };
    let (by_word, by_number) = (predicted("[\"up\",\"down\",\"up\",\"up\"]\n"), predicted("[1,0,1,1]\n"));
    assert!(by_word.0 == 0 && by_word.1 == by_number.1, "{by_word:?} {by_number:?}");
    assert!(predicted("[\"up\",\"left\",\"up\",\"up\"]\n").2.contains("\"left\" is no word of the training data"));
}

/// A file of weights alone, as PyTorch writes it, is used with the normalisation of the run; tensors that the model lacks are named; rows
/// without a prediction too.
fn weights_of_elsewhere_keep_the_runs_scales() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rows: String = (0..60).map(|i| format!("{},{},{}\n", i, (i * 7) % 13, 100 + 3 * i)).collect();
    std::fs::write(path("t.csv"), format!("a,b,y\n{}", rows.replacen("5,9,", "5,,", 1))).unwrap();
    succeeds(&["new", "--data", &path("t.csv"), "--target", "y", "--out", &path("run.toml")]);
    succeeds(&["train", &path("run.toml"), "--out", &path("run"), "--steps", "5"]);
    succeeds(&["export", &path("run"), &path("exported.safetensors")]);
    let bytes = std::fs::read(path("exported.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = all.tensors().into_iter().filter(|(name, _)| !name.starts_with("normalization.")).collect();
    safetensors::serialize_to_file(tensors.clone(), None, Path::new(&path("bare.safetensors"))).unwrap();
    tensors.push(("7.weight".into(), tensors[0].1.clone()));
    safetensors::serialize_to_file(tensors.clone(), None, Path::new(&path("more.safetensors"))).unwrap();
    let renamed = tensors.iter().take(tensors.len() - 1).map(|(name, tensor)| (format!("head.{name}"), tensor.clone()));
    safetensors::serialize_to_file(renamed.collect::<Vec<_>>(), None, Path::new(&path("renamed.safetensors"))).unwrap();
    let predict = |weights: &[&str]| {
        let out = path("out.csv");
        let _ = std::fs::remove_file(&out);
        let (code, _, said) = run(&[&["predict", &path("run"), "--data", &path("t.csv"), "--out", &out], weights].concat());
        assert_eq!(code, 0, "{said}");
        (std::fs::read_to_string(out).unwrap(), said)
    };
    let (want, said) = predict(&[]);
    assert!(said.contains("1 of the 60 rows") && said.contains("samples 5, counted from 0"), "{said}");
    assert_eq!(predict(&["--checkpoint", &path("bare.safetensors")]).0, want);
    let (same, said) = predict(&["--checkpoint", &path("more.safetensors")]);
    assert!(same == want && said.contains("1 tensors of") && said.contains("7.weight"), "{said}");
    let (code, _, said) = run(&["predict", &path("run"), "--data", &path("t.csv"), "--checkpoint", &path("renamed.safetensors")]);
    assert!(code == 65 && said.contains("it has other names: head.0.bias, head.0.weight"), "{code} {said}");
    let (code, _, said) = run(&["train", &path("run.toml"), "--out", &path("b"), "--steps", "1", "--init", &path("more.safetensors")]);
    assert!(code == 0 && said.contains("left aside: 7.weight"), "{code} {said}");
}

fn lines_are_counted_whatever_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv").display().to_string();
    for end in ["\n", "\r\n"] {
        for (lines, says) in
            [(["a,b", "1,x", "2,y", "3,"], "line 4"), (["a,b", "1,x", "2", "3,z"], "line 3"), (["a,b", "1,", "2,", "3,"], "line 2")]
        {
            std::fs::write(&path, lines.join(end) + end).unwrap();
            let (code, _, said) = run(&["new", "--data", &path, "--target", "b"]);
            assert!(code == 65 && said.contains(says), "{end:?} {lines:?}: {said}");
        }
    }
    // A series with holes says how many.
    let series: String = (0..50).map(|i| if [7, 20].contains(&i) { "\n".into() } else { format!("{i}\n") }).collect();
    std::fs::write(&path, format!("time,y\n{}", series.lines().enumerate().map(|(i, y)| format!("{i},{y}\n")).collect::<String>()))
        .unwrap();
    let (code, _, said) = run(&["new", "--data", &path, "--target", "y", "--window", "5,2"]);
    assert!(code == 65 && said.contains("line 9") && said.contains("2 of 50 moments"), "{code} {said}");
}
