//! One error type. Each variant is one class of failure and owns one exit code; each message says what went wrong, where,
//! why, and what to do.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// A failure, by the class that decides the exit code.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A wrong command line or configuration value, or a plan that the device cannot run. Exit code 2.
    #[error("{0}")]
    Config(String),
    /// A plan that needs more memory than it may have. Exit code 2.
    #[error("{message}")]
    OverBudget {
        /// Memory that it needs, in bytes.
        needed: u64,
        /// Memory that it may have, in bytes.
        budget: u64,
        /// Message that lists the largest parts and says what would fit.
        message: String,
    },
    /// Data that is there but cannot be used. Exit code 65.
    #[error("{0}")]
    Data(String),
    /// A file that should be there and is not. Exit code 66.
    #[error(transparent)]
    MissingInput(Failure),
    /// No adapter, or none that can run the kernels. Exit code 69.
    #[error("{0}")]
    NoGpu(String),
    /// The engine contradicts itself: a kernel, a plan or a shape that should have been right. Exit code 70.
    #[error("internal error: {0}. This is a bug in engine; please report it with the command that you ran")]
    Internal(String),
    /// An output that cannot be created. Exit code 73.
    #[error(transparent)]
    CannotCreate(Failure),
    /// Reading or writing failed half-way. Exit code 74.
    #[error(transparent)]
    Io(Failure),
    /// Memory ran out, or the device does not answer; the same command may work again. Exit code 75.
    #[error("{0}")]
    TryAgain(String),
    /// The device was lost: it can be opened again. Exit code 75.
    #[error("{0}")]
    Lost(String),
    /// A rule of the run ended it. Exit code 76.
    #[error("{0}")]
    Aborted(String),
    /// A signal ended the run; the text says what holds its state. Exit code 128 + signal.
    #[error("stopped by signal {0}; {1}")]
    Interrupted(i32, String),
}

/// A failure with a file: its message, and the system's error behind it, if there is one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    source: Option<Arc<std::io::Error>>,
}

impl Failure {
    /// A failure with the system's error behind it.
    pub(crate) fn new(message: String, source: std::io::Error) -> Self {
        Failure { message, source: Some(Arc::new(source)) }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure { message, source: None }
    }
}

/// Formats a number for messages, with an exponent if digits alone would be hard to read.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() || (1e-4..1e7).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}

/// Message for a key whose value is out of its range.
pub(crate) fn out_of_range(key: &str, value: f64, range: &str) -> String {
    format!("{key} = {} is out of range: it must be {range}", number(value))
}

/// The first 200 characters of a user's text.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}… ({} characters)", &text[..at], text.chars().count()),
        None => text.to_string(),
    }
}

/// A text made safe for a terminal, a log or a comment: control characters, which could move the cursor or change colours, are escaped.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && !"\n\t".contains(c), |c| c.escape_default().to_string())
}

/// A text in which the characters selected by `hidden` are escaped.
fn escaped(text: &str, hidden: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return text.into();
    }
    text.chars().map(|c| if hidden(c) { escape(c) } else { c.to_string() }).collect()
}

/// JSON in which each list of numbers is one line. A line of text ends in a quote, so that one that ends in a bracket opens a list.
fn compact(pretty: &str) -> String {
    let (mut out, mut lines) = (String::with_capacity(pretty.len()), pretty.lines().peekable());
    let number =
        |line: &str| line.trim_end_matches(',').trim_start().parse::<f64>().is_ok() || line.trim_end_matches(',').trim_start() == "null";
    while let Some(line) = lines.next() {
        out += line;
        if line.ends_with('[') && lines.peek().is_some_and(|next| number(next)) {
            while let Some(value) = lines.next_if(|next| number(next)) {
                out += value.trim_start();
                out += if value.ends_with(',') && lines.peek().is_some_and(|next| number(next)) { " " } else { "" };
            }
            // The end of the list, if that is what comes.
            out += lines.next_if(|next| next.trim_start().starts_with(']')).map_or("", str::trim_start);
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// JSON made safe for a terminal: control characters that JSON itself does not escape are escaped. A list of numbers is one line.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    let text = compact(&serde_json::to_string_pretty(value).map_err(|e| Error::Internal(format!("JSON: {e}")))?);
    Ok(escaped(&text, |c| ('\u{7f}'..='\u{9f}').contains(&c), |c| format!("\\u{:04x}", c as u32)).into_owned())
}

/// A path as it is written on a command line, quoted if necessary.
pub(crate) fn argument(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(plain) && !text.is_empty() { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Result of every fallible function in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for String {
    fn from(error: Error) -> String {
        error.to_string()
    }
}

impl Error {
    /// The error with a prefix that names the run or file concerned.
    pub(crate) fn of(mut self, what: &str) -> Self {
        let (Error::Config(text)
        | Error::OverBudget { message: text, .. }
        | Error::Data(text)
        | Error::MissingInput(Failure { message: text, .. })
        | Error::NoGpu(text)
        | Error::Internal(text)
        | Error::CannotCreate(Failure { message: text, .. })
        | Error::Io(Failure { message: text, .. })
        | Error::TryAgain(text)
        | Error::Lost(text)
        | Error::Aborted(text)
        | Error::Interrupted(_, text)) = &mut self;
        *text = format!("{what}: {text}");
        self
    }

    /// Exit code of the process for this class of failures.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Config(_) | Error::OverBudget { .. } => 2,
            Error::Data(_) => 65,
            Error::MissingInput(_) => 66,
            Error::NoGpu(_) => 69,
            Error::Internal(_) => 70,
            Error::CannotCreate(_) => 73,
            Error::Io(_) => 74,
            Error::TryAgain(_) | Error::Lost(_) => 75,
            Error::Aborted(_) => 76,
            Error::Interrupted(signal, _) => 128 + signal,
        }
    }

    /// Error for a failed read of `path`: missing input when it is not there, an I/O error otherwise.
    pub fn read(path: &Path, source: std::io::Error) -> Self {
        let file = path.ancestors().skip(1).find(|above| above.is_file());
        let message = match file.filter(|_| source.kind() == std::io::ErrorKind::NotADirectory) {
            Some(file) => {
                format!("{} is a file: a folder is wanted here, such as that of a run, which `engine train` makes", file.display())
            }
            None => format!("cannot read {}: {source}", path.display()),
        };
        match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::MissingInput(Failure::new(message, source)),
            _ => Error::Io(Failure::new(message, source)),
        }
    }

    /// Error for a failed creation of `path`.
    pub fn create(path: &Path, source: std::io::Error) -> Self {
        let message = format!("cannot create {}: {source}. Choose a folder that you can write to with --out", path.display());
        Error::CannotCreate(Failure::new(message, source))
    }

    /// Error for a failed write to `path`.
    pub fn write(path: &Path, source: std::io::Error) -> Self {
        let then = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ". Free some space; a run that was training goes on with --resume"
            }
            _ => "",
        };
        Error::Io(Failure::new(format!("cannot write {}: {source}{then}", path.display()), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_lines_of_json() {
        let value = serde_json::json!({ "a": [1, 2.5, null], "b": [[1], []], "c": ["[", 1], "d [": [{ "e": 1 }], "f": [1, "x"] });
        let text = json(&value).unwrap();
        assert!(text.contains("\"a\": [1, 2.5, null],\n") && text.contains("    [1],\n    []\n"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value, "{text}");
    }
}
