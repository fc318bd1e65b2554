//! The routing core through its public face: one binary, so that its helpers are compiled once.
#![expect(clippy::panic, reason = "a test fails by panicking, helpers included")]

mod algorithms;
mod allocation;
mod asked;
mod balancing;
mod built;
mod explaining;
mod health;
mod kinds;
mod model;
mod reference;
mod robust;
mod rule_errors;
mod rules;
mod stream_built;
mod stream_explaining;
mod stream_reference;
mod stream_rules;
mod streams;
