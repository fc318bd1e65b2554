//! Our own release binaries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::workspace;

/// The binary to measure: the one that was named, else a fresh release build.
pub(crate) fn binary(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return named
            .canonicalize()
            .with_context(|| format!("--binary {}", named.display()));
    }
    build("constellation")
}

/// This program as the load generator, the back end and the reference of a bench: an optimized one, whatever this is.
/// A debug build asks too slowly, and as the reference it would flatter everybody else.
pub(crate) fn helper() -> Result<PathBuf> {
    if cfg!(debug_assertions) {
        return build("xtask");
    }
    std::env::current_exe().context("cannot find this program")
}

fn build(package: &str) -> Result<PathBuf> {
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        package,
    ]))?;
    Ok(workspace::target()?.join("release").join(package))
}
