//! Which kernel families have passed with all their cases, as they are now. `passed.txt` has a checksum of the files of each family and one
//! of what all share, from the last `make test-drivers` that passed; it is committed with a change. A family whose own files are others is
//! checked with more of its cases, and on a second driver with all; so is every family when what they share is another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::gpu::files_used;
use engine::harness::FAMILIES;
use engine::random::Random;
use sha2::{Digest, Sha256};

const FILE: &str = "kernels-tests/passed.txt";

/// What all kernels go through on their way to a device.
const SHARED: [&str; 10] = [
    "src/gpu",
    "src/plan",
    "src/kernels/mod.rs",
    "src/random.rs",
    "kernels-tests/harness",
    "kernels-tests/reference/mod.rs",
    "kernels-tests/cases/mod.rs",
    "kernels-tests/kernels.rs",
    "kernels-tests/drivers.sh",
    "kernels-tests/passed.rs",
];

/// Name of the checksum of what all share.
const ALL: &str = "shared";

fn files_of(path: &Path, found: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        found.push(path.into());
        return;
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.for_each(|entry| files_of(&entry.unwrap().path(), found));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A checksum of files and their names, whatever their line ends are.
fn checksum(mut files: Vec<PathBuf>, more: &str) -> String {
    files.sort();
    files.dedup();
    let mut sum = Sha256::new();
    for file in files {
        sum.update(file.to_string_lossy().replace('\\', "/"));
        sum.update([0]);
        sum.update(read(&file).replace("\r\n", "\n"));
        sum.update([0]);
    }
    sum.update(more);
    sum.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The files of a family: shaders with what they use, arguments, reference and cases; of `layers` the layers.
fn own_files(family: &str) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(format!("kernels-tests/cases/{family}.rs"))];
    if family == "layers" {
        files_of(Path::new("src/layers"), &mut files);
        return files;
    }
    files.extend(["src/kernels", "kernels-tests/reference"].map(|folder| PathBuf::from(format!("{folder}/{family}.rs"))));
    let mut shaders = vec![];
    files_of(&Path::new("shaders").join(family), &mut shaders);
    for shader in shaders {
        let text = read(&shader);
        files.extend(files_used(&text).into_iter().flatten().map(|name| PathBuf::from(format!("shaders/{name}.wgsl"))));
        files.push(shader);
    }
    files
}

/// Checksums as the files are now.
fn now() -> BTreeMap<String, String> {
    let mut shared = vec![];
    SHARED.iter().for_each(|path| files_of(Path::new(path), &mut shared));
    let lock = read(Path::new("Cargo.lock"));
    // What makes the drivers' shaders of ours.
    let made_by = ["naga", "wgpu", "wgpu-core", "wgpu-hal"].map(|name| {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n"))).unwrap_or_default();
        entry.lines().find(|line| line.starts_with("version")).unwrap_or_default().to_string()
    });
    let own = FAMILIES.iter().map(|family| (family.name.to_string(), checksum(own_files(family.name), "")));
    own.chain([(ALL.to_string(), checksum(shared, &made_by.join(" ")))]).collect()
}

/// Whether a family, or what all share, is other than when it passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed {
    pub(crate) own: bool,
    pub(crate) shared: bool,
    /// For draws that are the same until a file of the family is another.
    draw: u64,
}

impl Changed {
    pub(crate) fn of(family: &str) -> Changed {
        let (now, text) = (now(), fs::read_to_string(FILE).unwrap_or_default());
        let same = |name: &str| text.lines().any(|line| line == format!("{name} {}", now[name]));
        let draw = u64::from_str_radix(&now[family], 16).unwrap_or(0);
        Changed { own: !same(family), shared: !same(ALL), draw }
    }

    /// Whether a case is one of the twentieth that is drawn.
    pub(crate) fn draws(self, number: usize) -> bool {
        Random::new(self.draw, 0, number as u64).uniform() < 0.05
    }
}

/// Records that all families have passed as they are.
pub(crate) fn record() {
    let text: String = now().into_iter().map(|(name, sum)| format!("{name} {sum}\n")).collect();
    let told = if fs::read_to_string(FILE).is_ok_and(|old| old == text) { "is what passed" } else { "is new: commit it with the change" };
    fs::write(FILE, text).unwrap_or_else(|e| panic!("{FILE}: {e}"));
    println!("{FILE} {told}");
}
