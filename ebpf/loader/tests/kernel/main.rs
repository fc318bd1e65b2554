//! The programs in the kernel: every verdict by `BPF_PROG_TEST_RUN`, and real sockets in namespaces of the test's own.
//!
//! Every test runs in [`sandbox`], under exactly the capabilities of the service.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests share reports by panicking"
)]

mod chase;
mod chase_cases;
mod cost;
mod devices;
mod grants;
mod guard;
mod judge;
mod lan;
mod lists;
mod lookup;
mod moves;
mod packets;
mod paths;
mod pins;
mod probe;
mod sandbox;
mod sockets;
mod steering;
