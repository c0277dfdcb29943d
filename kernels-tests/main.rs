//! Every kernel against its f64 reference, on whatever adapter is there.

mod kernels;
