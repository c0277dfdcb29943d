//! Runs that have ended or are under way, read from their folders: side by side, one by one, as a page. Nothing here trains.

mod charts;
mod columns;
mod compare;
mod folder;
mod groups;
mod names;
mod page;
mod sets;
mod status;

pub use compare::{Comparison, compare};
pub use folder::members;
pub(crate) use folder::readable;
pub use groups::Group;
pub use page::html_report;
pub use sets::Set;
pub use status::{Status, status, status_table};
