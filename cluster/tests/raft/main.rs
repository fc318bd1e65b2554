//! The replicated log as it is: openraft over real files, disks that fail, and three nodes in one process.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "all of this is a test, also what stands outside of functions marked as one"
)]

mod calls;
mod disk;
mod faults;
mod figures;
mod leases;
mod nodes;
mod recover;
mod suite;
mod testnet;
mod transfer;
