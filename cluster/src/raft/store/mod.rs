//! What a node keeps on disk: the log and the vote in one redb file, snapshots of the state in files beside it.
//!
//! Two places, since redb has one writer: a snapshot that takes long would hold up every entry. A thread of its own
//! (`writer`) does all writes to the log, each time with one `fsync` for everything that waits.

#![expect(
    clippy::result_large_err,
    reason = "openraft's traits are written with this error, which is not ours to make smaller"
)]

mod log;
mod machine;
mod recover;
mod snapshot;
mod writer;

pub use log::{Closed, LogStore};
pub use machine::{Machine, Observer, SharedState};
pub(super) use recover::finish;
pub use recover::{Recovered, recover};
pub(super) use snapshot::reread;
