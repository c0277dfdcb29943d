//! The rules of the house: dependencies point one way, and every kernel family has its shader, reference and cases.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::runner::tests;
use engine::gpu::shader_names;
use engine::harness::FAMILIES;
use engine::kernels::matmul::Activation;

tests![
    dependencies_point_one_way,
    no_files_go_round_in_a_circle,
    the_drawing_is_that_of_the_house,
    a_family_has_shader_arguments_reference_and_cases,
    the_step_state_is_the_same_in_shader_and_rust,
    the_record_of_a_step_is_the_same_in_shader_and_rust,
    activations_have_the_same_numbers_in_shader_and_rust,
    adding_takes_as_many_files_as_the_page_says,
    functions_can_be_seen_at_once,
    comments_fit_beside_code,
    equivalent_mutants_are_of_lines_that_exist,
];

/// Rooms from the ground up, several on a floor: a file uses its own room and those below. What is nobody's business alone, such as errors,
/// lies at the bottom.
const FLOORS: [&[&str]; 19] = [
    &["error", "random", "metrics"],
    &["fault", "ranks"],
    &["files"],
    &["datasets"],
    &["gpu", "sampling"],
    &["host", "plan", "draw", "plots"],
    &["bar", "kernels"],
    &["layers", "optim"],
    &["config", "batch"],
    &["losses"],
    &["models", "session"],
    &["tasks"],
    &["problem"],
    &["inference"],
    &["registry", "train"],
    &["generate", "harness", "isa", "predict", "runs"],
    &["export", "serve"],
    &["cli"],
    &["main", "lib"],
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn dependencies_point_one_way() {
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} is on no floor"));
    let mut found = vec![];
    files(Path::new("src"), &mut found);
    for path in found {
        let first = path.components().nth(1).unwrap();
        let room = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap();
        for used in fs::read_to_string(&path).unwrap().split("crate::").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(name == room || floor(&name) < floor(room), "{} uses crate::{name}", path.display());
        }
    }
}

/// Names of the modules that a file declares.
fn modules(text: &str) -> Vec<&str> {
    text.lines().filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')).collect()
}

/// Files of a folder that a file of it uses: those after `super::` or, in `mod.rs`, those whose names it takes over. What is not a sibling
/// after
/// `super::` is taken from `mod.rs`.
fn uses_in_folder(name: &str, text: &str, siblings: &[&str]) -> BTreeSet<String> {
    // Tests are not part of the structure.
    let text = text.split("#[cfg(test)]").next().unwrap();
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    if name == "mod" {
        let named = |sibling: &&&str| text.contains(&format!("use {sibling}::")) || text.contains(&format!(" {sibling}::"));
        return siblings.iter().filter(named).map(ToString::to_string).collect();
    }
    let mut used = BTreeSet::new();
    for rest in text.split("super::").skip(1).filter(|rest| !rest.starts_with("super")) {
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').map(|n| word(n.trim())).collect(),
            None => vec![word(rest)],
        };
        used.extend(names.into_iter().map(|n| if siblings.contains(&n.as_str()) { n } else { "mod".into() }));
    }
    used
}

/// Names of the rooms that a text uses.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let word = |used: &str| used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    text.split("#[cfg(test)]").next().unwrap().split("crate::").skip(1).map(word).collect()
}

/// Files of a room, floor by floor from the ground up, without `mod.rs`; fails where some go round in a circle.
fn order_of(folder: &Path) -> Vec<Vec<String>> {
    let declared = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let mut open: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let name = entry.file_stem().unwrap().to_str().unwrap().to_string();
        let used = uses_in_folder(&name, &fs::read_to_string(&entry).unwrap(), &modules(&declared));
        open.insert(name, used);
    }
    let mut floors = vec![];
    while !open.is_empty() {
        let free: Vec<String> =
            open.iter().filter(|(name, used)| !used.iter().any(|u| u != *name && open.contains_key(u))).map(|(n, _)| n.clone()).collect();
        assert!(!free.is_empty(), "{}: a circle among {open:?}", folder.display());
        free.iter().for_each(|name| drop(open.remove(name)));
        floors.push(free.into_iter().filter(|name| name != "mod").collect());
    }
    floors.retain(|floor: &Vec<String>| !floor.is_empty());
    floors
}

fn no_files_go_round_in_a_circle() {
    let used = |name: &str, text: &str| Vec::from_iter(uses_in_folder(name, text, &["a", "b"]));
    assert_eq!(used("a", "use super::{Thing, b::Other};"), ["b", "mod"]);
    assert_eq!(used("mod", "pub use b::Other;"), ["b"]);
    let mut found = vec![];
    files(Path::new("src"), &mut found);
    let folders: BTreeSet<&Path> = found.iter().filter(|path| path.ends_with("mod.rs")).filter_map(|path| path.parent()).collect();
    folders.into_iter().for_each(|folder| drop(order_of(folder)));
}

/// The drawing of the house: from the top floor down, what each room is by its own first sentence, the rooms that it uses, and the order of
/// its files.
fn drawing() -> String {
    let mut out = "| floor | room | what it is | uses |\n|---|---|---|---|\n".to_string();
    for (number, rooms) in FLOORS.iter().enumerate().rev().filter(|(_, rooms)| rooms.iter().all(|room| !["main", "lib"].contains(room))) {
        for room in *rooms {
            // The harness of the kernels' check lies with the tests.
            let places = [format!("src/{room}.rs"), format!("src/{room}"), format!("kernels-tests/{room}")].map(PathBuf::from);
            let place = places.iter().find(|place| place.exists()).unwrap();
            let mut found = vec![place.clone()];
            if place.is_dir() {
                found.clear();
                files(place, &mut found);
            }
            let head = fs::read_to_string(if place.is_dir() { place.join("mod.rs") } else { place.clone() }).unwrap();
            let doc: Vec<&str> = head.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
            let doc = doc.join(" ");
            let sentence = doc.split_once(". ").map_or(doc.trim_end_matches('.'), |(first, _)| first);
            let mut used: BTreeSet<String> = found.iter().flat_map(|path| rooms_used(&fs::read_to_string(path).unwrap())).collect();
            used.remove(*room);
            used.retain(|other| FLOORS.iter().any(|rooms| rooms.contains(&other.as_str())));
            let used = used.into_iter().collect::<Vec<_>>().join(", ");
            out += &format!("| {number} | `{room}` | {sentence} | {used} |\n");
        }
    }
    for room in ["plan", "problem", "train", "runs"] {
        let floors: Vec<String> = order_of(&PathBuf::from(format!("src/{room}"))).iter().map(|floor| floor.join(" ")).collect();
        out += &format!("\nFiles of `{room}`, from the ground up: {}.\n", floors.join(" → "));
    }
    out
}

/// `ENGINE_DRAW=1` draws it anew.
fn the_drawing_is_that_of_the_house() {
    const MARKS: [&str; 2] = ["<!-- drawn from the code -->\n", "<!-- end of the drawing -->"];
    let page = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let (before, rest) = page.split_once(MARKS[0]).unwrap();
    let (drawn, after) = rest.split_once(MARKS[1]).unwrap();
    if drawn == drawing() {
        return;
    }
    assert!(
        std::env::var_os("ENGINE_DRAW").is_some(),
        "ARCHITECTURE.md draws another house: ENGINE_DRAW=1 cargo test architecture draws it anew"
    );
    fs::write("ARCHITECTURE.md", format!("{before}{}{}{}{after}", MARKS[0], drawing(), MARKS[1])).unwrap();
}

fn a_family_has_shader_arguments_reference_and_cases() {
    let families: BTreeSet<String> = shader_names().iter().map(|n| n.split('/').next().unwrap().to_string()).collect();
    // One word in the list, besides those files.
    let listed: Vec<&str> = FAMILIES.iter().map(|family| family.name).filter(|name| *name != "layers").collect();
    assert_eq!(listed.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), families);
    assert_eq!(listed.len(), families.len(), "a family is listed twice");
    for family in &families {
        for file in
            [format!("src/kernels/{family}.rs"), format!("kernels-tests/reference/{family}.rs"), format!("kernels-tests/cases/{family}.rs")]
        {
            assert!(Path::new(&file).exists(), "{family} lacks {file}");
        }
    }
}

/// The state is written by the host as it lies: names and order of the two declarations must agree.
fn the_step_state_is_the_same_in_shader_and_rust() {
    let fields = |text: &str, start: &str| -> Vec<String> {
        let body = text.split_once(start).unwrap().1.split_once('}').unwrap().0.to_string();
        let lines = body.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//"));
        lines.map(|l| l.trim_start_matches("pub ").split(',').next().unwrap().to_string()).collect()
    };
    let shader = fields(&fs::read_to_string("shaders/common/state.wgsl").unwrap(), "struct State {");
    let rust = fields(&fs::read_to_string("src/kernels/mod.rs").unwrap(), "pub struct State {");
    assert_eq!(shader, rust);
}

/// Three shaders write words of the record that the host reads: each word has one place, and one meaning.
fn the_record_of_a_step_is_the_same_in_shader_and_rust() {
    let consts = |file: &str, kind: &str| -> BTreeMap<String, usize> {
        let text = fs::read_to_string(file).unwrap();
        let words = text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("const ")?.split_once(kind));
        words.map(|(name, value)| (name.trim_end_matches("_AT").into(), value.split([';', 'u']).next().unwrap().parse().unwrap())).collect()
    };
    let (shader, rust) = (consts("shaders/common/record.wgsl", ": u32 = "), consts("src/kernels/metrics.rs", ": usize = "));
    assert_eq!(shader, rust);
    let places: BTreeSet<usize> = rust.iter().filter(|(name, _)| *name != "RECORD").map(|(_, at)| *at).collect();
    assert!(places.len() == rust.len() - 1 && places.iter().all(|at| *at < rust["RECORD"]), "{rust:?}");
    let mut written = vec![];
    files(Path::new("shaders"), &mut written);
    for file in written.iter().filter(|file| !file.ends_with("common/record.wgsl")) {
        let text = fs::read_to_string(file).unwrap();
        let by_number = |line: &&str| {
            let mut places = line.split("records[").skip(1).map(|rest| rest.split(']').next().unwrap());
            places.any(|place| place.contains(|c: char| c.is_ascii_digit()) && !place.contains("_AT"))
        };
        assert_eq!(text.lines().find(by_number), None, "{}: a word of the record without its name", file.display());
    }
}

/// A dispatch gives the number of a variant to the shader.
fn activations_have_the_same_numbers_in_shader_and_rust() {
    let shader = fs::read_to_string("shaders/common/activation.wgsl").unwrap();
    let consts = shader.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(": u32 = "));
    let names: Vec<(String, u32)> =
        consts.map(|(name, value)| (name.replace('_', "").to_lowercase(), value.trim_end_matches("u;").parse().unwrap())).collect();
    let kinds = [
        Activation::Identity,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Tanh,
    ];
    assert_eq!(kinds.map(|kind| (format!("{kind:?}").to_lowercase(), kind as u32)).to_vec(), names);
}

/// No function is longer than 80 lines, unless its comment says why it is long.
fn functions_can_be_seen_at_once() {
    const MOST: usize = 80;
    let mut found = vec![];
    files(Path::new("src"), &mut found);
    let mut seen = 0;
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (first, line) in lines.iter().enumerate() {
            const STARTS: [&str; 5] = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "unsafe fn "];
            if !STARTS.iter().any(|start| line.trim_start().starts_with(start)) {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let Some(length) = lines[first..].iter().position(|line| **line == end) else { continue };
            seen += 1;
            let comment = lines[..first].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            let reason = comment.into_iter().any(|line| line.contains("Long, as"));
            assert!(length < MOST || reason, "{}: {} has {} lines", path.display(), line.trim(), length + 1);
        }
    }
    assert!(seen > 1000, "{seen} functions were found");
}

/// The files that the page says one takes to add something are those in which the newest of each kind stands.
/// Code has 140 columns (rustfmt.toml), which says nothing of comments.
fn comments_fit_beside_code() {
    let mut found = vec![];
    files(Path::new("src"), &mut found);
    let shaders = shader_names().into_iter().map(|name| PathBuf::from(format!("shaders/{name}.wgsl")));
    for path in found.into_iter().chain(shaders) {
        for (i, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let comment = line.trim_start().starts_with("//") && !line.starts_with("// uses:");
            assert!(!comment || line.chars().count() <= 140, "{}:{}: a comment of more than 140 columns", path.display(), i + 1);
        }
    }
}

fn adding_takes_as_many_files_as_the_page_says() {
    let mut found = vec![];
    files(Path::new("src"), &mut found);
    let naming = |words: &[&str]| {
        let names = |path: &&PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            // Tests are not counted.
            words.iter().any(|word| text.split("#[cfg(test)]").next().unwrap().contains(word))
        };
        found.iter().filter(names).map(|path| path.display().to_string()).collect::<BTreeSet<_>>()
    };
    let set = |list: &[&str]| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(naming(&["StackConfig"]), set(&["src/models/stack.rs", "src/models/mod.rs"]));
    assert_eq!(naming(&["StatTerm"]), set(&["src/losses/vectors/stat.rs", "src/losses/vectors/mod.rs"]));
    assert_eq!(naming(&["VaeLossConfig"]), set(&["src/losses/vae.rs", "src/losses/mod.rs"]));
    assert_eq!(naming(&["DevicesArgs"]), set(&["src/cli/devices.rs", "src/cli/mod.rs"]));
    // A kind of data is named beside these only by the command that makes its own files.
    let images = naming(&["ImagesConfig"]);
    assert_eq!(images, set(&["src/tasks/images.rs", "src/tasks/mod.rs", "src/cli/encode.rs"]));
    assert_eq!(naming(&["ResidualConfig"]), set(&["src/layers/residual.rs", "src/layers/mod.rs"]));
    // A layer: its file, its line, and the models that are made of it.
    let layer = naming(&["CrossAttention"]);
    assert!(layer.iter().all(|file| file.starts_with("src/layers/")), "{layer:?}");
}

fn equivalent_mutants_are_of_lines_that_exist() {
    let mut shaders = vec![];
    files(Path::new("shaders"), &mut shaders);
    let named = |path: &PathBuf| path.with_extension("").strip_prefix("shaders").unwrap().to_str().unwrap().replace('\\', "/");
    let texts: Vec<(String, String)> = shaders.iter().map(|path| (named(path), fs::read_to_string(path).unwrap())).collect();
    for row in fs::read_to_string("kernels-tests/mutants_equivalent.txt").unwrap().lines() {
        let [file, which, line, _, reason] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("five columns: {row}") };
        let alike = |text: &str| text.lines().filter(|here| here.trim() == line).count();
        let of = which.split_once('/').map(|(number, of)| (number.parse::<usize>().unwrap(), of.parse::<usize>().unwrap()));
        let has = |text: &str| of.map_or(alike(text) > 0, |(number, of)| alike(text) == of && (1..=of).contains(&number));
        let found = texts.iter().any(|(name, text)| (file == "*" || file == name) && has(text));
        assert!(!reason.is_empty() && found, "no shader has the line of {row}, or not so often");
    }
}
