//! UDP entry points over real sockets on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "scripted clients and back ends are test code outside of test functions"
)]

mod addresses;
mod carrying;
mod ending;
mod flood;
mod moving;
mod support;
