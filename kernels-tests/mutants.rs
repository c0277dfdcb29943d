//! The check of the check: changes one place of one shader at random and runs the cases of its family, which must fail.
//! `cargo test --test mutants -- 400 1` makes four hundred mutants from seed 1; a third argument takes those of one folder of
//! `shaders/`. Each runs in a process of its own, since a kernel that writes anywhere may end it. A mutant that naga rejects does not
//! count. Those that no case can tell from the original stand in `mutants_equivalent.txt`: file, which of the lines that are alike, line,
//! mutated line and the reason, between tabs. `*` stands for any file, or for all lines that are alike; `1/2` is the first of two.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::gpu::{Gpu, Shader, files_used, replace_source, shader_names};
use engine::harness::{FAMILIES, Family, check_spec, targets};
use engine::random::Random;

/// Exit code of a process whose mutant no case noticed.
const SURVIVED: i32 = 0;
/// Exit code of a process whose mutant failed a case.
const KILLED: i32 = 10;
/// Exit code of a process whose mutant is no valid shader, or one that this device has no use for.
const INVALID: i32 = 11;
/// A case that takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(60);

/// One change of one file: `length` bytes at `at` become `new`.
#[derive(Debug, Clone)]
struct Mutant {
    file: String,
    at: usize,
    length: usize,
    new: String,
}

impl Mutant {
    fn apply(&self) -> String {
        let text = source(&self.file);
        format!("{}{}{}", &text[..self.at], self.new, &text[self.at + self.length..])
    }

    /// Number of the line; which of the lines that are alike it is, the line, and the line after the change.
    fn lines(&self) -> (usize, [String; 3]) {
        let (before, after) = (source(&self.file), self.apply());
        let number = before[..self.at].matches('\n').count();
        let line = |text: &str| text.lines().nth(number).unwrap_or_default().trim().to_string();
        let alike: Vec<usize> = before.lines().enumerate().filter(|(_, l)| l.trim() == line(&before)).map(|(i, _)| i).collect();
        let which = format!("{}/{}", alike.iter().position(|i| *i == number).map_or(0, |i| i + 1), alike.len());
        (number + 1, [which, line(&before), line(&after)])
    }

    fn group(&self) -> &str {
        self.file.split('/').next().unwrap_or_default()
    }
}

fn source(file: &str) -> String {
    let path = format!("shaders/{file}.wgsl");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A file and those that it uses.
fn files_of(file: &str) -> Vec<String> {
    let text = source(file);
    std::iter::once(file).chain(files_used(&text).into_iter().flatten()).map(String::from).collect()
}

/// Kernels that contain a file.
fn kernels_of(file: &str) -> Vec<String> {
    shader_names().into_iter().filter(|kernel| files_of(kernel).iter().any(|used| used == file)).collect()
}

/// Binary operators and functions, with what replaces them.
const SWAPS: [(&str, &str); 30] = [
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " + "),
    (" / ", " * "),
    (" % ", " / "),
    (" < ", " <= "),
    (" <= ", " < "),
    (" > ", " >= "),
    (" >= ", " > "),
    (" < ", " > "),
    (" == ", " != "),
    (" != ", " == "),
    (" && ", " || "),
    (" || ", " && "),
    (" >> ", " << "),
    (" << ", " >> "),
    (" & ", " | "),
    (" | ", " & "),
    (" ^ ", " | "),
    (" += ", " -= "),
    (" += ", " = "),
    (" -= ", " += "),
    (" *= ", " /= "),
    ("(-", "("),
    (" -", " "),
    (" min(", " max("),
    (" max(", " min("),
    ("(min(", "(max("),
    ("(max(", "(min("),
    ("fma(", "-fma("),
];

/// Every change of a file that this program knows. Declarations, and the consts that a dispatch replaces, stay as they are, and so does
/// how a loop counts.
fn mutants_of(file: &str) -> Vec<Mutant> {
    let text = source(file);
    let texts: Vec<String> = files_of(file).iter().map(|file| source(file)).collect();
    let params: Vec<&str> = texts
        .iter()
        .find_map(|text| text.lines().find_map(|l| l.strip_prefix("struct Params {")))
        .into_iter()
        .flat_map(|l| l.trim_end_matches(['}', ' ']).split(','))
        .filter_map(|field| field.trim().strip_suffix(": u32"))
        .collect();
    let (mut out, mut at) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let code = line.split("//").next().unwrap_or_default().trim_end();
        let trimmed = code.trim_start();
        let declares = ["@", "struct ", "var<", "fn ", "const "].iter().any(|word| trimmed.starts_with(word));
        if trimmed.is_empty() || declares {
            continue;
        }
        let counting = if trimmed.starts_with("for (") { code.rfind(';').unwrap_or(code.len()) } else { code.len() };
        let mut change = |from: usize, length: usize, new: String| {
            if from + length <= counting {
                out.push(Mutant { file: file.to_string(), at: start + from, length, new });
            }
        };
        for (old, new) in SWAPS {
            code.match_indices(old).for_each(|(i, _)| change(i, old.len(), new.to_string()));
        }
        numbers(code, &mut change);
        for (i, _) in code.match_indices("p.") {
            let name: String = code[i + 2..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let whole = !code[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
            if let (true, Some(place), 2..) = (whole, params.iter().position(|p| *p == name), params.len()) {
                change(i + 2, name.len(), params[(place + 1) % params.len()].to_string());
            }
        }
        let balanced = code.matches('(').count() == code.matches(')').count();
        let keeps = ["let ", "var ", "for ", "return ", "}"].iter().any(|word| trimmed.starts_with(word));
        if trimmed.ends_with(';') && balanced && !keeps {
            change(code.len() - trimmed.len(), trimmed.len(), String::new());
        }
        if let (Some(from), true) = (code.find("if ("), trimmed.ends_with(") {")) {
            let inside = (from + 4, code.len() - 3);
            change(inside.0, inside.1 - inside.0, "true".into());
            change(inside.0, inside.1 - inside.0, "false".into());
        }
    }
    out
}

/// Numbers of a line: whole ones are made one larger or smaller, others a hundredth larger, and zero one.
fn numbers(code: &str, change: &mut impl FnMut(usize, usize, String)) {
    let mut i = 0;
    while let Some(found) = code[i..].find(|c: char| c.is_ascii_digit()) {
        let from = i + found;
        let hex = code[from..].starts_with("0x");
        let length = code[from..]
            .char_indices()
            .find(|(j, c)| {
                let exponent = *c == '-' && !hex && code[from..from + j].ends_with('e');
                !(c.is_ascii_alphanumeric() || *c == '.' || exponent)
            })
            .map_or(code.len() - from, |(j, _)| j);
        i = from + length;
        if code[..from].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let number = &code[from..from + length];
        if let Some(whole) = number.strip_suffix('u') {
            let value = whole.strip_prefix("0x").map_or_else(|| whole.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok());
            if let Some(value) = value {
                change(from, length, format!("{}u", value.wrapping_add(1)));
                change(from, length, format!("{}u", value.wrapping_sub(1)));
            }
        } else if number.contains('.')
            && let Ok(value) = number.parse::<f64>()
        {
            change(from, length, if value == 0.0 { "1.0".into() } else { format!("{:?}", value * 1.01) });
        }
    }
}

/// Runs one mutant in this process and ends it with the outcome.
fn run_one(mutant: &Mutant) -> i32 {
    replace_source(&mutant.file, &mutant.apply());
    let kernels = kernels_of(&mutant.file);
    if kernels.iter().any(|kernel| Shader::load(kernel, &[]).is_err()) {
        return INVALID;
    }
    let families: Vec<&Family> =
        FAMILIES.iter().filter(|f| kernels.iter().any(|kernel| kernel.split('/').next() == Some(f.name))).collect();
    let gpu = Arc::new(Gpu::open(std::env::var("ENGINE_DEVICE").ok().as_deref()).expect("an adapter"));
    static CASES: AtomicUsize = AtomicUsize::new(0);
    std::thread::spawn(|| {
        let mut last = usize::MAX;
        while last != CASES.load(Relaxed) {
            last = CASES.load(Relaxed);
            std::thread::sleep(PATIENCE);
        }
        std::process::abort();
    });
    let mut ran = false;
    let most = families.iter().map(|f| f.pinned).max().unwrap_or(0);
    for i in 0..most {
        for family in families.iter().filter(|f| i < f.pinned) {
            for target in targets(&gpu) {
                match check_spec(&gpu, family, &family.pinned_spec(i), target, true) {
                    Ok(outcome) => ran |= kernels.iter().any(|kernel| outcome.kernels.contains(kernel)),
                    Err(what) => return if what.contains("shaders/") { INVALID } else { KILLED },
                }
                CASES.fetch_add(1, Relaxed);
            }
        }
    }
    if ran { SURVIVED } else { INVALID }
}

/// Exit code of a process that runs the mutant; none when it was ended from outside, by a fault or its own watch.
fn run_apart(mutant: &Mutant) -> Option<i32> {
    let this = std::env::current_exe().expect("the path of this program");
    let numbers = [mutant.at.to_string(), mutant.length.to_string()];
    let output = Command::new(this).args(["one", &mutant.file, &numbers[0], &numbers[1], &mutant.new]).output().expect("a process");
    output.status.code()
}

/// The mutants of all folders by turns, so that each gets its share, in an order that the seed gives.
fn shuffled(seed: u64, only: Option<&str>) -> Vec<Mutant> {
    let common = std::fs::read_dir("shaders/common").expect("shaders/common").map(|entry| entry.expect("a file").path());
    let mut files: Vec<String> =
        common.map(|path| format!("common/{}", path.file_stem().unwrap_or_default().to_string_lossy())).chain(shader_names()).collect();
    files.sort();
    let mut groups: BTreeMap<String, Vec<Mutant>> = BTreeMap::new();
    for mutant in files.iter().flat_map(|file| mutants_of(file)).filter(|m| only.is_none_or(|only| only == m.group())) {
        groups.entry(mutant.group().to_string()).or_default().push(mutant);
    }
    let mut turns = Vec::new();
    for (stream, group) in groups.values_mut().enumerate() {
        let mut random = Random::new(seed, stream as u32, 0);
        for turn in 0..group.len() {
            let other = random.between(turn as i64, group.len() as i64 - 1) as usize;
            group.swap(turn, other);
            turns.push((turn, stream, group[turn].clone()));
        }
    }
    turns.sort_by_key(|(turn, stream, _)| (*turn, *stream));
    turns.into_iter().map(|(_, _, mutant)| mutant).collect()
}

/// Outcomes of a folder: killed by a comparison, ended or hung, equivalent, survived.
type Tally = BTreeMap<String, [usize; 4]>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [one, file, at, length, new] = &args[..]
        && one == "one"
    {
        let mutant =
            Mutant { file: file.clone(), at: at.parse().expect("an offset"), length: length.parse().expect("a length"), new: new.clone() };
        std::process::exit(run_one(&mutant));
    }
    let number = |i: usize, otherwise: usize| args.get(i).map_or(otherwise, |a| a.parse().expect("numbers: count, seed"));
    let (count, seed) = (number(0, 400), number(1, 1));
    let mutants = shuffled(seed as u64, args.get(2).map(String::as_str));
    let list = std::fs::read_to_string(Path::new("kernels-tests/mutants_equivalent.txt")).expect("the list of equivalent mutants");
    let known = |mutant: &Mutant| {
        let (_, [which, before, after]) = mutant.lines();
        list.lines().any(|line| {
            let found = [mutant.file.as_str(), &which, &before, &after];
            line.split('\t').take(4).zip(found).all(|(listed, found)| listed == "*" || listed == found)
        })
    };
    // A family whose cases fail as they are would see every mutant.
    for group in mutants.iter().map(Mutant::group).collect::<std::collections::BTreeSet<_>>() {
        let unchanged = mutants
            .iter()
            .find(|m| m.group() == group)
            .map(|m| Mutant { new: source(&m.file)[m.at..][..m.length].to_string(), ..m.clone() });
        let outcome = unchanged.as_ref().and_then(run_apart);
        assert_eq!(outcome, Some(SURVIVED), "the cases of {group} fail without any change");
    }
    let (next, valid, start) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    let tally: Mutex<Tally> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while valid.load(Relaxed) < count
                    && let Some(mutant) = mutants.get(next.fetch_add(1, Relaxed))
                {
                    let outcome = match known(mutant) {
                        true => 2,
                        false => match run_apart(mutant) {
                            Some(INVALID) => continue,
                            Some(KILLED) => 0,
                            Some(SURVIVED) => {
                                let (number, [_, before, after]) = mutant.lines();
                                println!("survived  {}:{number}\n  - {before}\n  + {after}", mutant.file);
                                3
                            }
                            _ => 1,
                        },
                    };
                    valid.fetch_add(1, Relaxed);
                    tally.lock().expect("no panic while held").entry(mutant.group().to_string()).or_default()[outcome] += 1;
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no panic while held");
    println!("\n{:<20}{:>10}{:>16}{:>12}{:>10}", "shaders", "killed", "ended or hung", "equivalent", "survived");
    let mut all = [0; 4];
    for (group, outcomes) in &tally {
        all.iter_mut().zip(outcomes).for_each(|(sum, n)| *sum += n);
        println!("{group:<20}{:>10}{:>16}{:>12}{:>10}", outcomes[0], outcomes[1], outcomes[2], outcomes[3]);
    }
    println!("{:<20}{:>10}{:>16}{:>12}{:>10}", "all", all[0], all[1], all[2], all[3]);
    println!("\nseed {seed}, {} valid mutants, {:.0} s", all.iter().sum::<usize>(), start.elapsed().as_secs_f64());
    ExitCode::from(u8::from(all[3] > 0))
}
