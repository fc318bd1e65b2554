//! The node: sources feed compile, compile feeds publish, publish feeds the data plane; the command line around it.
//!
//! [`app`] is the composition root. Data moves one way: [`sources`] -> [`compile`] -> [`publish`] -> data plane; the
//! control server reads the [`report`] of the last compile and the published generation. [`steering`] has the
//! kernel give new connections to the data plane's sockets, and [`edge`] owns what a cluster's lease is held for. A library beside the binary,
//! so that benches can reach `compile`.

pub mod app;
pub mod chase;
pub mod cli;
pub mod cluster;
pub mod compile;
pub mod control;
pub mod demo;
pub mod drains;
pub mod edge;
pub mod guard;
pub mod handover;
mod http_server;
pub mod kernel;
pub mod logging;
mod memory;
pub mod peers;
pub mod provider;
pub mod publish;
pub mod report;
pub mod runtime_file;
pub mod settings;
pub mod sources;
pub mod steering;
pub mod systemd;
pub mod vip;
