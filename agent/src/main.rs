//! The `constellation` binary: parse, build, run, drain, exit code.

mod sources;

fn main() {}
