//! Runs that have ended or are under way, read from their folders: side by side, one by one, as a page. Nothing here trains.

mod charts;
mod columns;
mod compare;
mod folder;
mod follow;
mod groups;
mod names;
mod page;
mod sets;
mod status;

pub use compare::{Comparison, compare};
pub use folder::members;
pub(crate) use folder::{is_live, readable};
pub(crate) use follow::{Followed, follow};
pub use groups::Group;
pub(crate) use names::short_names;
pub(crate) use page::date;
pub use page::html_report;
pub use sets::Set;
pub use status::{Status, status, status_table};
