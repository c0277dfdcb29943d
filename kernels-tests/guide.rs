//! The pages that a user reads: README and ARCHITECTURE are short, no sentence of a page is long, links lead somewhere, and every command
//! is run.
//!
//! A block of commands is fenced as `sh`. A comment before it says what a test changes, for a page shows what a user types:
//!
//! - `<!-- test: --set train.epochs=1 -->` is added to each `engine train` of the block,
//! - `<!-- test: 4000 → 40 -->` takes 40 for 4000 in it; several changes stand between semicolons,
//! - `<!-- test: file NAME -->` writes the block, whatever it is, to a file of this name,
//! - `<!-- test: not run, REASON -->` leaves it out, for a reason of the list below.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::{PROGRAM, output};
use crate::runner::{note, tests};

/// Why a block is not run.
const REASONS: [&str; 6] =
    ["an installation", "a whole training", "the tests themselves", "several processes", "a build of its own", "another program"];

/// The most lines and words that a page may have.
const MOST: [(&str, usize, usize); 2] = [("README.md", 180, 1800), ("ARCHITECTURE.md", usize::MAX, 2500)];

/// The most words of a sentence.
const LONGEST: usize = 35;

macro_rules! pages {
    ($($name:ident: $file:literal,)*) => {
        tests![pages_are_short, sentences_are_short, links_lead_somewhere, every_page_is_in_the_list, $($name,)*];

        /// Pages whose commands are run, each by a test.
        const PAGES: &[&str] = &[$($file,)*];

        $(fn $name() {
            run_page($file);
        })*
    };
}

pages! {
    readme: "README.md",
    index: "guide/README.md",
    own_data: "guide/own-data.md",
    predictions: "guide/predictions.md",
    serve: "guide/serve.md",
    text: "guide/text.md",
    next_vectors: "guide/next-vectors.md",
    sequences: "guide/sequences.md",
    mechanisms: "guide/mechanisms.md",
    stack: "guide/stack.md",
    mamba_2: "guide/mamba-2.md",
    rust: "guide/rust.md",
    kernels: "guide/kernels.md",
    keys: "guide/keys.md",
    pytorch: "guide/pytorch.md",
    export: "guide/export.md",
    browser: "guide/browser.md",
    best_weights: "guide/best-weights.md",
    memory: "guide/memory.md",
    many_runs: "guide/many-runs.md",
    several_cards: "guide/several-cards.md",
    speed: "guide/speed.md",
    card: "guide/card.md",
    when_a_run_died: "guide/when-a-run-died.md",
    commands: "guide/commands.md",
    logs: "guide/logs.md",
    tests_and_benches: "guide/tests-and-benches.md",
    inside: "guide/inside.md",
}

/// Pages of the guide.
fn guide() -> Vec<String> {
    let found = fs::read_dir("guide").unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<String> =
        found.filter(|path| path.extension().is_some_and(|e| e == "md")).map(|path| path.to_str().unwrap().replace('\\', "/")).collect();
    pages.sort();
    pages
}

/// Pages whose sentences and links are looked at.
fn read_pages() -> Vec<String> {
    let mut pages = guide();
    pages.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(String::from));
    pages
}

fn every_page_is_in_the_list() {
    let listed: BTreeSet<String> = PAGES.iter().map(ToString::to_string).collect();
    let mut want: BTreeSet<String> = guide().into_iter().collect();
    want.insert("README.md".into());
    assert_eq!(listed, want, "the list of pages in guide.rs is not what guide/ has");
    let index = fs::read_to_string("guide/README.md").unwrap();
    for page in guide().iter().filter(|page| !page.ends_with("README.md")) {
        let name = page.strip_prefix("guide/").unwrap();
        assert!(index.contains(&format!("({name})")), "guide/README.md has no link to {name}");
    }
}

fn pages_are_short() {
    for (page, most_lines, most_words) in MOST {
        let text = fs::read_to_string(page).unwrap();
        let (lines, words) = (text.lines().count(), text.split_whitespace().count());
        assert!(
            lines <= most_lines && words <= most_words,
            "{page} has {lines} lines and {words} words: at most {most_lines} and {most_words}"
        );
    }
    let readme = fs::read_to_string("README.md").unwrap();
    assert!(["make train  ", "make test  "].iter().all(|command| readme.contains(command)), "README.md does not name its two commands");
}

/// Sentences of a page: without code, tables, headings and comments. A list item ends a sentence, and so do `.`, `!`, `?` and `:`.
fn sentences(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    let mut fenced = false;
    let mut after_blank = true;
    for line in text.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            fenced = !fenced;
            paragraphs.push(String::new());
            continue;
        }
        let starts_item = trimmed.starts_with("- ") || trimmed.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        let code = line.starts_with("    ") && after_blank && !starts_item;
        let skipped = fenced || code || trimmed.is_empty() || ["#", "|", "<!--", "!["].iter().any(|mark| trimmed.starts_with(mark));
        after_blank = trimmed.is_empty() || (code && !fenced);
        if skipped || starts_item {
            paragraphs.push(String::new());
        }
        if !skipped {
            let last = paragraphs.last_mut().unwrap();
            last.push(' ');
            last.push_str(trimmed);
        }
    }
    let mut found = vec![];
    for paragraph in paragraphs {
        // Code is a word; marks of emphasis and targets of links are none.
        let plain: String = paragraph.split('`').enumerate().map(|(i, part)| if i % 2 == 1 { "code" } else { part }).collect();
        let mut sentence: Vec<&str> = vec![];
        let plain = plain.replace("**", "");
        for word in plain.split_whitespace() {
            if word.contains(char::is_alphanumeric) {
                sentence.push(word);
            }
            let word = word.trim_end_matches([')', '"', '*', '”']);
            if word.ends_with(['.', '!', '?', ':']) {
                found.push(std::mem::take(&mut sentence).join(" "));
            }
        }
        found.push(sentence.join(" "));
    }
    found.retain(|sentence| !sentence.is_empty());
    found
}

fn sentences_are_short() {
    assert_eq!(
        sentences("# A heading of words\n\nOne `two three` [four](five). Six:\n\n    no code\n\n- seven\n- eight\n  nine\n\n| ten |\n"),
        ["One code [four](five).", "Six:", "seven", "eight nine"]
    );
    let mut long = vec![];
    for page in read_pages() {
        for sentence in sentences(&fs::read_to_string(&page).unwrap()) {
            let words = sentence.split(' ').count();
            if words > LONGEST {
                long.push(format!("{page}: {words} words: {sentence}"));
            }
        }
    }
    assert!(long.is_empty(), "{} sentences of more than {LONGEST} words:\n{}", long.len(), long.join("\n"));
}

/// The name that a heading has in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn links_lead_somewhere() {
    let mut broken = vec![];
    let mut pages = read_pages();
    pages.extend(
        ["CONTRIBUTING.md", "SECURITY.md", "data/README.md", "kernels-tests/README.md", "benches/results/README.md"].map(String::from),
    );
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let folder = Path::new(&page).parent().unwrap();
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if target.contains("://") {
                continue;
            }
            let (file, section) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { PathBuf::from(&page) } else { folder.join(file) };
            let there = path.exists()
                && (section.is_empty() || fs::read_to_string(&path).unwrap().lines().any(|l| l.starts_with('#') && anchor(l) == section));
            if !there {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// A fenced block of a page, with the comment before it.
struct Block {
    /// Line of the page where it begins.
    line: usize,
    language: String,
    mark: String,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = vec![];
    let mut mark = String::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            if !open {
                found.push(Block { line: number + 1, language: language.into(), mark: std::mem::take(&mut mark), lines: vec![] });
            }
            open = !open;
        } else if open {
            found.last_mut().unwrap().lines.push(line.into());
        } else if let Some(comment) = line.strip_prefix("<!-- test: ") {
            mark = comment.trim_end_matches("-->").trim().into();
        } else if !line.trim().is_empty() {
            assert!(mark.is_empty(), "line {}: the mark `{mark}` is not of a block", number + 1);
            assert!(!line.starts_with("    engine "), "line {}: commands stand between ```sh and ```", number + 1);
        }
    }
    found
}

/// Runs the commands of a page one after the other, in a folder that has the data of this repository.
fn run_page(page: &str) {
    let folder = tempfile::tempdir().unwrap();
    let here = std::env::current_dir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    for part in ["runs", "samples"] {
        #[cfg(unix)]
        std::os::unix::fs::symlink(here.join("data").join(part), folder.path().join("data").join(part)).unwrap();
        #[cfg(windows)]
        std::os::windows::fs::symlink_dir(here.join("data").join(part), folder.path().join("data").join(part)).unwrap();
    }
    for Block { line, language, mark, lines } in blocks(&fs::read_to_string(page).unwrap()) {
        let place = format!("{page}, line {line}");
        if let Some(name) = mark.strip_prefix("file ") {
            fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
            continue;
        }
        if language != "sh" {
            assert!(mark.is_empty(), "{place}: a mark of commands before a block that has none");
            continue;
        }
        if let Some(reason) = mark.strip_prefix("not run, ") {
            assert!(REASONS.contains(&reason), "{place}: `{reason}` is no reason of the list in guide.rs");
            continue;
        }
        for command in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            run_command(folder.path(), command, &mark, &place);
        }
    }
}

/// Runs a line of a page.
fn run_command(folder: &Path, line: &str, mark: &str, place: &str) {
    let mut line = line.split("   #").next().unwrap().trim().to_string();
    for change in mark.split(';').map(str::trim).filter(|change| !change.is_empty()) {
        match change.split_once(" → ") {
            Some((from, to)) => line = line.replace(from, to),
            None if line.starts_with("engine train") => line = format!("{line} {change}"),
            None => {}
        }
    }
    // A shell puts quotes and stars into words, and lines into standard input.
    let whole = line.contains(['*', '|', '\'', '<']);
    assert!(whole || line.starts_with("engine "), "{place}: `{line}` is no command of engine; say why it is not run");
    let mut command = if whole {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("engine() {{ {PROGRAM:?} \"$@\"; }}\n{line}")]);
        shell
    } else {
        let mut program = Command::new(PROGRAM);
        program.args(&words(&line)[1..]);
        program
    };
    // What `engine tune` measures here is not for other tests.
    let (code, printed, error) = output(command.current_dir(folder).env("ENGINE_CACHE", folder.join("cache")).stdin(Stdio::null()));
    note!("{line}\n{printed}{error}");
    assert_eq!(code, 0, "{place}: {line}");
}

/// Words of a line, as a shell has them where it has but double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 0 {
            words.extend(part.split_whitespace().map(String::from));
        } else {
            words.push(part.into());
        }
    }
    words
}
