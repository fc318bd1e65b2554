//! The testkit: everything an end-to-end test needs around the real `constellation` binary.
//!
//! A test starts [`backend::Backend`]s and a [`node::Node`], talks to the node with the clients in [`client`], and
//! looks at what came out on both sides. Nothing is faked inside the process under test: back ends, the Docker engine
//! and the clients are real and sit on the wire. Every listener takes port 0 or an address of its own, so tests run
//! in parallel; everything started is stopped by process id when it is dropped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a testkit reports by panicking and printing; nothing here is part of the product"
)]

pub mod backend;
pub mod busy;
pub mod certificates;
pub mod client;
pub mod differential;
pub mod docker;
mod eventually;
pub mod fault;
pub mod fleet;
pub mod flood;
pub mod host;
pub mod lab;
pub mod lan;
pub mod load;
pub mod metrics;
pub mod node;
pub mod packet;
pub mod peer;
pub mod proof;
pub mod require;
pub mod sandbox;
pub mod server;
pub mod service_manager;
pub mod stream;
pub mod tun;

pub use eventually::{PATIENCE, eventually};
