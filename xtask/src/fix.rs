//! `fix`: mends what `verify` finds and a program can mend.

use anyhow::Result;

use crate::{generated, workspace};

/// Runs the verb.
pub(crate) fn run() -> Result<()> {
    // Before the format: a generated file may be Rust one day.
    generated::write()?;
    workspace::run(&mut workspace::cargo(&["fmt", "--all"]))?;
    for workspace in ["fuzz/Cargo.toml", "ebpf/programs/Cargo.toml"] {
        if workspace::root().join(workspace).is_file() {
            workspace::run(&mut workspace::cargo(&["fmt", "--manifest-path", workspace]))?;
        }
    }
    Ok(())
}
