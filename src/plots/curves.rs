//! Numbers over the steps of a run.

use std::collections::BTreeMap;

/// Points (x, y) in the order of x.
pub(crate) type Points = Vec<(f64, f64)>;

/// Points of each curve, by split and metric.
pub(crate) type Curves = BTreeMap<(String, String), Points>;
