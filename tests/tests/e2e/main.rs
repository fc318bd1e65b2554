//! End-to-end tests: the real binary, real sockets, real clients. One module for each promise.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

mod attacks;
mod bad_input;
mod balancing;
mod bodies;
mod certificates;
mod command_line;
mod docker;
mod endpoints;
mod faults;
mod file_provider;
mod forwarding;
mod framing;
mod hostile_answers;
mod observability;
mod protocols;
mod quickstart;
mod service_kinds;
mod shutdown;
mod silence;
mod storm;
mod streams;
mod tls;
mod unbroken;
mod upstream;
