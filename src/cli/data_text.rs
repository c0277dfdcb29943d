//! `engine data text`: a tokenizer of one's own, and the tokens of a text.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::{JsonArg, expect_others, expect_writable};
use crate::datasets::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::files;
use crate::host::Host;

#[derive(Debug, Args)]
pub(super) struct TextArgs {
    /// Text in UTF-8; several files are one text
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Different tokens: the 256 bytes, and the most frequent sequences of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(256..=65_536))]
    vocab: u32,
    /// Folder for tokenizer.json, train.bin and validation.bin
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArg,
}

/// Largest size of a text that is tokenized, in bytes.
const LARGEST: u64 = 16 << 30;

/// Trains a byte-level BPE on the first nine tenths of a text, and writes it with the tokens of both parts.
pub(super) fn run(host: &Host, args: &TextArgs) -> Result<()> {
    let mut text = String::new();
    for file in &args.files {
        let bytes = files::bytes(file, LARGEST).map_err(|e| Error::read(file, e))?;
        let wrong =
            |e: std::str::Utf8Error| Error::Data(format!("{} is no text in UTF-8: byte {} is wrong", file.display(), e.valid_up_to()));
        text += std::str::from_utf8(&bytes).map_err(wrong)?;
    }
    let count = text.chars().count();
    let (train, validation) = text.split_at(text.char_indices().nth(count * 9 / 10).map_or(text.len(), |(at, _)| at));
    if validation.is_empty() {
        return Err(Error::Data(format!("{}: {count} characters are too few to split a tenth off", args.files[0].display())));
    }
    if !args.out.is_dir() {
        expect_writable(&args.out)?;
        std::fs::create_dir(&args.out).map_err(|e| Error::create(&args.out, e))?;
    }
    let paths = ["tokenizer.json", "train.bin", "validation.bin"].map(|name| args.out.join(name));
    let read: Vec<&Path> = args.files.iter().map(PathBuf::as_path).collect();
    for path in &paths {
        expect_others(path, &read)?;
        expect_writable(path)?;
    }
    let tokenizer = Tokenizer::train(train, args.vocab as usize)?;
    let [of_tokenizer, of_train, of_validation] = &paths;
    files::write(of_tokenizer, tokenizer.json().as_bytes())?;
    let mut written = vec![];
    for (part, path) in [(train, of_train), (validation, of_validation)] {
        let tokens = tokenizer.encode(part).map_err(Error::Data)?;
        files::write(path, &tokens.iter().flat_map(|token| (*token as u16).to_le_bytes()).collect::<Vec<u8>>())?;
        written.push((path.display().to_string(), part.len(), tokens.len()));
    }
    let vocabulary = tokenizer.vocabulary();
    if args.json.json {
        let parts: Vec<_> = written.iter().map(|(file, bytes, tokens)| json!({ "file": file, "bytes": bytes, "tokens": tokens })).collect();
        return host.print_json(&json!({ "tokenizer": of_tokenizer, "vocabulary": vocabulary, "parts": parts }));
    }
    let part = |(file, bytes, tokens): &(String, usize, usize)| {
        format!("\n{file}: {tokens} tokens of {bytes} bytes, {:.2} bytes a token", *bytes as f64 / (*tokens).max(1) as f64)
    };
    host.print(&format!(
        "{}: {vocabulary} tokens{}\nIn a run file: file = \"{}\", validation_file = \"{}\", tokenizer = \"{}\"",
        of_tokenizer.display(),
        written.iter().map(part).collect::<String>(),
        of_train.display(),
        of_validation.display(),
        of_tokenizer.display()
    ))
}
