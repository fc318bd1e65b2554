//! The HTTP data plane against scripted back ends over loopback.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "scripted clients and back ends are test code outside of test functions"
)]

mod duplex;
mod failover;
mod forwarding;
mod guarding;
mod handed;
mod health;
mod hostile;
mod limits;
mod protocols;
mod proxied;
mod proxying;
mod retrying;
mod shaping;
mod shutdown;
mod support;
mod tls;
