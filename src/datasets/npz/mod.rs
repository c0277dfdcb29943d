//! NumPy's .npz archives: a reader that trusts nothing it is given, and a writer.
//!
//! A file says how big it is in three places: the zip directory, the .npy header and the data. All three must agree exactly, and nothing is
//! allocated on the word of one alone. Only what is asked for is read, so that a pickle nobody needs is never looked at.

// The zip directory and the .npy header are parsed here, because the crates are not made for hostile files. zip, in 0.6 as in 9.4: accepts
// what follows the end record and junk behind the directory (of two archives one after the other it reads one), keeps one of two members of
// a name, and reserves more than 160 times the file's length on a forged count. npyz 0.9: takes time exponential in the nesting of a dtype,
// allocates what a header claims, and multiplies its shape unchecked. To write is another matter: headers are npyz's, and the records of a
// zip with two methods are a page, which is less than a crate.

mod archive;
mod npy;
#[cfg(test)]
mod tests;
mod write;
mod zip;

pub use archive::{Array, Look, Member, NpyFile, Npz};
pub use write::{Numbers, write, write_arrays};
