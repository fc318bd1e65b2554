//! For the fuzz targets: reads what the network brings as [`super::RaftNode::serve`], its peers and a follower do, without
//! a node. Each gives back how what it read is written.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::network::{Appended, Call, Installed, Voted};
use super::store;
use super::transfer::Stood;

/// A call.
#[must_use]
pub fn call(bytes: &[u8]) -> Option<Vec<u8>> {
    again::<Call>(bytes)
}

/// An answer, to each kind of call.
pub fn answers(bytes: &[u8]) {
    drop(again::<Appended>(bytes));
    drop(again::<Voted>(bytes));
    drop(again::<Installed>(bytes));
    drop(again::<Stood>(bytes));
}

/// A snapshot.
#[must_use]
pub fn snapshot(bytes: &[u8]) -> Option<Vec<u8>> {
    store::reread(bytes)
}

fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<Vec<u8>> {
    let read: T = postcard::from_bytes(bytes).ok()?;
    postcard::to_stdvec(&read).ok()
}
