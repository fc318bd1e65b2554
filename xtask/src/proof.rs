//! `faults`, `bodies`, `storm`, `silence`, `streams`, `upgrades`: what is promised, put to the proof on the release binary.
//!
//! The work is done by the program `proof` of the testkit, which the end-to-end tests share; this builds both and
//! starts it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::bench::node;
use crate::workspace;

/// What all of these verbs take.
#[derive(Debug, Args)]
pub(crate) struct ProofArgs {
    /// The binary to prove; by default the release is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Passed on; `-- --help` says what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs a verb.
pub(crate) fn run(verb: &str, args: &ProofArgs) -> Result<()> {
    let binary = node::binary(args.binary.as_deref())?;
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--locked",
        "--package",
        "constellation-tests",
        "--bins",
    ]))?;
    let mut proof = std::process::Command::new(workspace::target()?.join("debug/proof"));
    workspace::run(
        proof
            .arg(verb)
            .args(&args.arguments)
            .env("CONSTELLATION_BIN", binary),
    )
}
