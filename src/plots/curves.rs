//! Numbers over the steps of a run.

use std::collections::BTreeMap;

/// (x, y), in the order of x.
pub(crate) type Points = Vec<(f64, f64)>;

/// Points by curve: split and metric.
pub(crate) type Curves = BTreeMap<(String, String), Points>;
