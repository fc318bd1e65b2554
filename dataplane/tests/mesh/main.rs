//! Nodes that serve through each other: real TLS with certificates of a cluster, over loopback.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "scripted clients and back ends are test code outside of test functions"
)]

mod cluster;
mod datagrams;
mod refusing;
mod relaying;
mod requests;
mod streams;
#[path = "../http/support.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the tests of HTTP, which use all of it"
)]
mod support;
