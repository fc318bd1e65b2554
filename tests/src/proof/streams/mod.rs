//! What is promised of TCP streams: no byte lost, doubled or moved; an end in one direction leaves the other alone; a
//! reset stays a reset; no connection lost in a storm, no descriptor left behind; a ClientHello may come in any pieces,
//! and one that never comes whole hurts nobody.
//!
//! Both ends of every connection are here, and every byte is known by its position ([`crate::stream`]).

mod front;
mod hello;
mod jobs;
mod pieces;

use std::fmt;

pub use front::{Front, Proxy};
pub use hello::{cut, slow};
pub use jobs::{bulk, half_closes, resets, storm};

/// What one of the proofs showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was done, with its figures.
    pub what: String,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Report {
    /// Whether everything is as promised.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty()
    }

    /// # Panics
    /// When something is not as promised.
    pub fn assert_holds(&self) {
        assert!(self.holds(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} wrong", self.what, self.wrong.len())?;
        for line in self.wrong.iter().take(20) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
