//! The HTTP data plane against scripted back ends over loopback.

mod failover;
mod forwarding;
mod hostile;
mod protocols;
mod proxying;
mod shutdown;
mod support;
mod tls;
