//! The data plane's TCP routers against scripted back ends over loopback.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "scripted clients and back ends are test code outside of test functions"
)]

mod carrying;
mod ending;
mod entering;
mod failover;
mod secured;
mod support;
