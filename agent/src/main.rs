//! The `constellation` binary: parse, build, run, drain, exit code.

fn main() {}
