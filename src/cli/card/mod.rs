//! `engine card`: one command that checks and measures a card, and writes what it finds into one file.

mod children;
mod command;
mod kept;
mod measure;
mod page;
mod parts;
mod schedule;

pub(super) use command::{CardArgs, run};
