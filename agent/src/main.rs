//! The `constellation` binary: parse, build, run, drain, exit code.

use std::process::ExitCode;

/// Small requests are mostly small allocations; mimalloc serves them from per-thread pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    constellation_agent::cli::main().into()
}
