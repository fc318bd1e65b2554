//! The nightly toolchain, which fuzzing and the eBPF programs need; the product does not.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A program of the nightly toolchain, free of what the pinned toolchain left in the environment.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    for variable in [
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// What a program of the nightly toolchain prints, without the white space around it.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program).args(arguments).output();
    let output =
        output.context("cannot run rustup, which finds the nightly toolchain; see https://rustup.rs")?;
    if !output.status.success() {
        bail!(
            "there is no nightly toolchain: {}. Install one: rustup toolchain install nightly --profile minimal",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
