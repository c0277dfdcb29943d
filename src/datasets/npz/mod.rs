//! NumPy's .npz archives: a reader that trusts nothing it is given, and a writer.
//!
//! A file says how big it is in three places: the zip directory, the .npy header and the data. All three must agree exactly, and nothing is
//! allocated on the word of one alone. Only what is asked for is read, so that a pickle nobody needs is never looked at.

// The zip directory and the .npy header are parsed here, because the crates are not made for hostile files. zip 9.4: accepts what follows the
// end record, junk behind the directory and entries that run past it (of two archives one after the other it reads the first), keeps one of
// two members of a name, and reserves 166 times the file's length on a forged count. npyz 0.9: takes time exponential in the nesting of a
// dtype, allocates what a header claims, and multiplies its shape unchecked. Both are fine for writing.

mod archive;
mod npy;
#[cfg(test)]
mod tests;
mod write;
mod zip;

pub use archive::{Array, Member, Npz};
pub use write::{Numbers, write, write_arrays};
