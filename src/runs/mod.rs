//! Runs that have ended or are under way, read from their folders: side by side, one by one, as a page. Nothing here trains.

mod columns;
mod compare;
mod page;
mod status;

pub(crate) use compare::readable;
pub use compare::{Comparison, Group, compare};
pub use page::html_report;
pub use status::{Status, status, status_table};
