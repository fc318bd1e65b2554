//! Real servers of the distribution, on free ports of the loopback interface, each in a directory of its own.
//!
//! What is not installed is a reason to skip a test ([`crate::require!`]); `./dev test` installs all of it where `CI`
//! is set. A server that was started answers already, and is ended by its process id when it is dropped.

mod daemon;
pub mod dns;
pub mod haproxy;
pub mod postgres;
pub mod redis;
pub mod smtp;
pub mod ssh;
pub mod traefik;

pub use daemon::Daemon;
