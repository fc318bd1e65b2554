//! A back end that fails on command: a process of its own (`testkit-fault`), so that it can be killed, stopped and
//! started again on its port, while what it saw stays in a journal outside of it.
//!
//! [`process`] starts and steers it, [`behaviour`] says what it can do, [`journal`] what it writes down. The rest runs
//! inside the process: [`server`] accepts, `connection` plays the behaviour out, `inbound` reads requests.

pub mod behaviour;
mod connection;
mod inbound;
pub mod journal;
pub mod process;
pub mod server;

pub(crate) use inbound::hex;

pub use behaviour::Behaviour;
pub use journal::{Entry, Seen};
pub use process::FaultBackend;
