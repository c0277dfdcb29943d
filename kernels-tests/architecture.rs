//! The rules of the house: dependencies point one way, and every kernel family has its shader, reference and cases.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use engine::gpu::shader_names;

/// What each module may use of the crate.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("gpu", &["error", "fault"]),
    ("plan", &["error", "gpu"]),
    ("kernels", &["error", "gpu", "plan"]),
    ("layers", &["error", "gpu", "plan", "kernels"]),
    ("losses", &["error", "gpu", "plan", "kernels"]),
    ("optim", &["error", "gpu", "plan", "kernels"]),
    ("datasets", &["error", "random"]),
    ("models", &["error", "gpu", "plan", "kernels", "layers", "datasets", "random"]),
    ("train", &["error", "fault", "gpu", "plan", "kernels", "layers", "losses", "optim", "models", "datasets", "random", "config"]),
];

#[test]
fn dependencies_point_one_way() {
    for (module, allowed) in MAY_USE {
        for entry in fs::read_dir(Path::new("src").join(module)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for used in text.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(name == module || allowed.contains(&name.as_str()), "{} uses crate::{name}", path.display());
            }
        }
    }
}

#[test]
fn a_family_has_shader_arguments_reference_and_cases() {
    let families: BTreeSet<String> = shader_names().iter().map(|n| n.split('/').next().unwrap().to_string()).collect();
    for family in &families {
        for file in
            [format!("src/kernels/{family}.rs"), format!("kernels-tests/reference/{family}.rs"), format!("kernels-tests/{family}.rs")]
        {
            assert!(Path::new(&file).exists(), "{family} lacks {file}");
        }
    }
}

/// The state is written by the host as it lies: names and order of the two declarations must agree.
#[test]
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
