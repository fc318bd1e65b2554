//! What keys there are and what they hold.
//!
//! The Rust types say it once; `schemars` turns them into a JSON schema; [`Shape`] is that schema made ready for
//! [`read`], which checks a tree of nodes against it and gives the values in the form that `serde` takes.

mod format;
mod published;
mod read;
mod shape;
mod suggest;
mod value;

pub(crate) use published::published;
pub(crate) use read::{Reading, Unknown, read, shown};
pub(crate) use shape::{Field, Shape, Text};
pub(crate) use suggest::nearest;
