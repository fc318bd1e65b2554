//! `differential`: the same configuration and requests for the real Traefik and for our binary; `traefik`: the former is
//! there for tests.
//!
//! The work is done by the program `differential` of the testkit, which an end-to-end test shares; this builds what it
//! needs and starts it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;

use crate::{bench, workspace};

/// `differential`.
#[derive(Debug, Args)]
pub(crate) struct DifferentialArgs {
    /// The release of ours, rather than a debug build.
    #[arg(long)]
    release: bool,
    /// This binary of ours; nothing of the product is built then.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// `--pairs N`, `--seed S`, `--case N`, `--kind KIND`, `--show`; `-- --help` says what they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the verb.
pub(crate) fn run(args: &DifferentialArgs) -> Result<()> {
    let traefik = program()?;
    let binary = match &args.binary {
        Some(binary) => Path::canonicalize(binary)?,
        None => {
            let profile: &[&str] = if args.release { &["--release"] } else { &[] };
            let build = ["build", "--locked", "--package", "constellation"];
            workspace::run(workspace::cargo(&build).args(profile))?;
            let folder = if args.release { "release" } else { "debug" };
            workspace::target()?.join(folder).join("constellation")
        }
    };
    let build = ["build", "--locked", "--package", "constellation-tests"];
    workspace::run(workspace::cargo(&build).args(["--bin", "differential"]))?;
    let mut differential = std::process::Command::new(workspace::target()?.join("debug/differential"));
    differential.args(&args.arguments);
    workspace::run(
        differential
            .env("CONSTELLATION_BIN", binary)
            .env("TRAEFIK_BIN", traefik),
    )
}

/// Has Traefik where tests look for it.
pub(crate) fn install() -> Result<()> {
    println!("{}", program()?.display());
    Ok(())
}

fn program() -> Result<PathBuf> {
    let cache = workspace::target()?.join("peers");
    bench::traefik(&cache).map_err(|reason| anyhow!("Traefik can't be had: {reason}"))
}
