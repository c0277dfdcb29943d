//! Options that are keys of a run file: what to give instead.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::usual_name;
use crate::registry::Config;

/// Tables whose keys are meant first, where several have one of a name.
const FIRST: [&str; 2] = ["train", "optimizer"];

/// The error about an option that a command does not have, with the key of a run file that it is, if the command takes --set.
pub(super) fn with_key(mut told: clap::Error, args: &[OsString], program: &clap::Command) -> clap::Error {
    let Some(ContextValue::String(option)) = told.get(ContextKind::InvalidArg).filter(|_| told.kind() == ErrorKind::UnknownArgument) else {
        return told;
    };
    let option = option.split('=').next().unwrap_or_default().to_string();
    let command = args.iter().skip(1).find_map(|arg| program.find_subcommand(arg.to_str()?));
    if !command.is_some_and(|command| command.get_arguments().any(|arg| arg.get_long() == Some("set"))) {
        return told;
    }
    let Some(keys) = keys_of(&option) else { return told };
    let value = value_of(&option, args).unwrap_or_else(|| "VALUE".into());
    let instead = keys.iter().map(|key| format!("--set {key}={value}")).collect::<Vec<_>>().join("' or '");
    told.remove(ContextKind::SuggestedArg);
    told.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![format!("it is a key of the run file: '{instead}'").into()]));
    told
}

/// Full names of the keys that an option is, if it is one.
fn keys_of(option: &str) -> Option<Vec<String>> {
    let name = option.trim_start_matches('-').replace('-', "_").to_lowercase();
    let name = usual_name(&name);
    let named: Vec<_> = Config::tables().into_iter().filter(|of| of.keys.iter().any(|key| key.last() == name)).collect();
    let of_first = FIRST.iter().find(|first| named.iter().any(|of| of.name == **first));
    let mut keys: Vec<String> = match of_first {
        Some(first) => vec![format!("{first}.{name}")],
        None => named.iter().filter(|of| !of.name.contains(['[', '.'])).map(|of| format!("{}.{name}", of.name)).collect(),
    };
    keys.dedup();
    (!keys.is_empty()).then_some(keys)
}

/// The value that was given to an option.
fn value_of(option: &str, args: &[OsString]) -> Option<String> {
    let at = args.iter().position(|arg| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(option)))?;
    let value = match args[at].to_str()?.split_once('=') {
        Some((_, value)) => value,
        None => args.get(at + 1)?.to_str()?,
    };
    (!value.starts_with("--") && !value.ends_with(".toml")).then(|| value.to_string())
}
