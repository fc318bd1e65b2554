//! What acts under a cluster's lease, with real leases and a real kernel: steering, virtual addresses, and both together
//! while an address moves from one node to another. Each test has network namespaces of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod authority;
mod lessor;
mod moving;
mod site;
mod vanishing;
