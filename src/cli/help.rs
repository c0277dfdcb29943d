//! `engine help`: of the commands, and of the keys of run files.

use clap::Args;

use super::args::JsonArg;
use crate::config::{ALIKE, Key, Table, Word};
use crate::error::{Error, Result, shortened};
use crate::host::Host;
use crate::registry::Config;

/// Help on a command, or on the keys of a run file
#[derive(Debug, Args)]
pub(super) struct HelpArgs {
    /// A command, or what a run file has: a key such as train.batch or batch, a table, a kind or a word such as epoch_cosine.
    /// `engine help keys` lists all keys, and `engine help keys train` those of a table that has the name of a command
    #[arg(value_name = "COMMAND|keys|KEY")]
    topic: Vec<String>,
    /// Print the JSON schema of a run file, by which editors complete and check it
    #[arg(long, conflicts_with_all = ["topic", "json", "markdown"])]
    schema: bool,
    /// Print the keys as a page in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    json: JsonArg,
}

impl HelpArgs {
    /// The command line that shows the help, if it is that of a command.
    pub(super) fn of_command(&self, engine: &clap::Command) -> Option<Vec<&str>> {
        let known = match self.topic.first() {
            Some(first) => engine.find_subcommand(first).is_some(),
            None => !(self.schema || self.markdown || self.json.json),
        };
        known.then(|| ["engine"].into_iter().chain(self.topic.iter().map(String::as_str)).chain(["--help"]).collect())
    }
}

pub(super) fn run(host: &Host, args: HelpArgs) -> Result<()> {
    if args.schema {
        return host.print_json(&Config::schema());
    }
    let all = Config::tables();
    let topics = if args.topic.first().is_some_and(|topic| topic == "keys") { &args.topic[1..] } else { &args.topic };
    let tables = match topics {
        [] => all,
        topics => topics.iter().map(|topic| about(&all, topic)).collect::<Result<Vec<_>>>()?.concat(),
    };
    match (args.json.json, args.markdown) {
        (true, _) => host.print_json(&tables),
        (_, true) => host.print(&page(&tables)),
        _ => host.print(&tables.iter().map(plain).collect::<Vec<_>>().join("\n")),
    }
}

/// What there is of a topic: tables of this name or kind, keys of this name, and words with the keys of their table that speak of them.
fn about(all: &[Table], topic: &str) -> Result<Vec<Table>> {
    // A shell may take brackets for a pattern.
    let same = |name: &str| name == topic || name.replace("[]", "") == topic;
    let last = |name: &str| name.trim_end_matches("[]").rsplit('.').next().is_some_and(|last| last == topic);
    let part = |table: &Table| -> Option<Table> {
        if same(&table.name) || last(&table.name) || table.kind.as_deref() == Some(topic) {
            return Some(table.clone());
        }
        let is_word = table.keys.iter().any(|key| key.words.iter().any(|word| word.name == topic));
        let keys = table.keys.iter().filter_map(|key| {
            let words: Vec<Word> = key.words.iter().filter(|word| word.name == topic && !word.about.is_empty()).cloned().collect();
            let named = same(&key.name) || last(&key.name);
            let told = is_word && (key.about.contains(&format!("`{topic}`")) || key.words.iter().any(|word| word.name == topic));
            (named || told).then(|| Key { words: if words.is_empty() { key.words.clone() } else { words }, ..key.clone() })
        });
        let keys: Vec<Key> = keys.collect();
        (!keys.is_empty()).then(|| Table { keys, ..table.clone() })
    };
    let found: Vec<Table> = all.iter().filter_map(part).collect();
    if found.is_empty() { Err(Error::Config(unknown(all, topic))) } else { Ok(found) }
}

/// Message for a topic that there is not, with the names nearest to it.
fn unknown(all: &[Table], topic: &str) -> String {
    let of_key = |key: &'_ Key| {
        [key.name.clone(), key.last().into()].into_iter().chain(key.words.iter().map(|word| word.name.clone())).collect::<Vec<_>>()
    };
    let names = all.iter().flat_map(|table| table.keys.iter().flat_map(of_key).chain(table.kind.clone()).chain([table.name.clone()]));
    let alike = |name: &String| strsim::jaro_winkler(name, topic);
    let mut near: Vec<String> = names.filter(|name| alike(name) >= ALIKE).collect();
    near.sort_by(|a, b| alike(b).total_cmp(&alike(a)).then(a.cmp(b)));
    near.dedup();
    near.truncate(3);
    let near = if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(" or ")) };
    format!("`{}` is no command, and no key, table, kind or word of a run file.{near} `engine help keys` lists all keys", shortened(topic))
}

/// Where a table is in a run file: its name, its kind, and the kind of the table that it is part of.
fn place(table: &Table) -> String {
    let kind = table.kind.as_ref().map_or(String::new(), |kind| format!(" kind = \"{kind}\""));
    let within = table.within.as_ref().filter(|_| table.name.contains('.')).map_or(String::new(), |within| format!(", of \"{within}\""));
    format!("[{}]{kind}{within}", table.name)
}

/// Largest width of a line.
const WIDTH: usize = 98;

/// Appends a text, in lines that begin with so many spaces.
fn wrap(out: &mut String, indent: usize, text: &str) {
    let mut width = WIDTH;
    for word in text.split(' ') {
        if width + 1 + word.chars().count() > WIDTH {
            *out += &format!("\n{:indent$}{word}", "");
            width = indent + word.chars().count();
        } else {
            *out += &format!(" {word}");
            width += 1 + word.chars().count();
        }
    }
}

/// The words that a key may be: a line for each that has a sentence, and one for the others.
fn words(key: &Key) -> Vec<String> {
    let (told, listed): (Vec<&Word>, Vec<&Word>) = key.words.iter().partition(|word| !word.about.is_empty());
    let listed = listed.iter().map(|word| format!("`{}`", word.name)).collect::<Vec<_>>().join(", ");
    told.iter().map(|word| format!("`{}`: {}", word.name, word.about)).chain((!listed.is_empty()).then_some(listed)).collect()
}

/// A table as text: a line for each key, and below it what it is.
fn plain(table: &Table) -> String {
    let mut out = place(table);
    wrap(&mut out, 2, &table.about);
    let width = |part: fn(&Key) -> &str| table.keys.iter().map(|key| part(key).chars().count()).max().unwrap_or(0);
    let [name, type_, default] = [width(Key::last), width(|key| &key.type_), width(|key| &key.default)];
    for key in &table.keys {
        let line = format!("{:name$}  {:type_$}  {:default$}  {}", key.last(), key.type_, key.default, key.range);
        out += &format!("\n  {}", line.trim_end());
        wrap(&mut out, 6, &key.about);
        words(key).iter().for_each(|line| wrap(&mut out, 8, line));
    }
    out + "\n"
}

/// Tables as a page in Markdown.
fn page(tables: &[Table]) -> String {
    let mut out = "# Keys of a run file\n\n".to_string();
    out += "`engine help keys` shows this page in a terminal, `engine help KEY` one key of it. `engine help --schema > run.schema.json` makes a JSON schema; an\n\
            editor that knows TOML, such as VS Code with Even Better TOML, then completes and checks a run file whose first line is\n\
            `#:schema run.schema.json`. A name in brackets is a list of tables: `[model.layers[]]` is a layer of `layers = [{ … }, …]`.\n";
    for table in tables {
        out += &format!("\n## `{}`\n\n{}\n", place(table), table.about);
        if table.keys.is_empty() {
            continue;
        }
        out += "\n| key | type | default | range | what it is |\n|---|---|---|---|---|\n";
        for key in &table.keys {
            let code = |text: &str| if text.is_empty() || text == "required" { text.to_string() } else { format!("`{text}`") };
            let about = [vec![key.about.clone()], words(key)].concat().join("<br>").replace('|', "\\|");
            out += &format!("| `{}` | {} | {} | {} | {about} |\n", key.last(), key.type_, code(&key.default), key.range);
        }
    }
    out
}
