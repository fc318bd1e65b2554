//! What a fault back end saw, written line by line to a file that outlives it: a killed process loses nothing of it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Nanoseconds of the monotonic clock, which all processes of the machine share.
    pub at: u64,
    /// What was seen.
    pub seen: Seen,
    /// `X-Request-Id`; empty when there was none.
    pub id: String,
    /// Method.
    pub method: String,
    /// Number of the connection within the process.
    pub connection: u64,
}

/// What was seen of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Its head.
    Head,
    /// The end of its body.
    Body {
        /// Whether it ended as its framing says it should.
        complete: bool,
        /// Bytes of body that came.
        length: u64,
        /// Their SHA-256 in hex.
        sha256: String,
    },
}

/// Writes entries; one `write` each, to a file opened for appending.
#[derive(Debug)]
pub(super) struct Writer(File);

impl Writer {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    pub(super) fn write(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).unwrap();
        line.push(b'\n');
        (&self.0).write_all(&line).unwrap();
    }
}

/// All entries so far.
pub(super) fn read(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often each request's head came, over several back ends.
pub fn heads_by_id<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> HashMap<&'e str, usize> {
    let mut counts = HashMap::new();
    for entry in entries.into_iter().filter(|entry| entry.seen == Seen::Head) {
        *counts.entry(entry.id.as_str()).or_default() += 1;
    }
    counts
}

/// Now, as in [`Entry::at`].
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}
