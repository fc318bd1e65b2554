//! Our own release binary.

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
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "constellation",
    ]))?;
    Ok(workspace::target()?.join("release/constellation"))
}
