//! `fix`: mends what `verify` finds and a program can mend.

use anyhow::Result;

use crate::{generated, workspace};

/// Runs the verb.
pub(crate) fn run() -> Result<()> {
    // Before the format: a generated file may be Rust one day.
    generated::write()?;
    workspace::run(&mut workspace::cargo(&["fmt", "--all"]))?;
    if workspace::root().join("fuzz/Cargo.toml").is_file() {
        workspace::run(&mut workspace::cargo(&[
            "fmt",
            "--manifest-path",
            "fuzz/Cargo.toml",
        ]))?;
    }
    Ok(())
}
