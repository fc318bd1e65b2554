//! The data plane: listeners, TLS, HTTP through pingora, layer 4, metrics and the access log.
//!
//! It serves whatever [`Generation`] was published last and cannot name the agent. A connection takes the listener's
//! settings; a request takes one generation at its start and keeps it to its end. What the data plane learns leaves
//! through metrics and the access log.

pub mod access_log;
pub mod departure;
pub mod gate;
mod generation;
mod health;
pub mod http;
pub mod l4;
pub mod listener;
mod liveness;
pub mod mesh;
pub mod metrics;
pub mod named;
pub mod offence;
pub mod port_owner;
pub mod server;
pub mod settings;
mod sources;
pub mod tenure;
pub mod tls;
mod worker;

pub use constellation_table as table;
pub use generation::{Generation, Published};
pub use listener::Inherited;
pub use liveness::Workers;
pub use server::{DataPlane, StartError};
