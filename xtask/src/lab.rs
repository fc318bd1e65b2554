//! `lab`, `cluster-faults`, `cluster-bench`: clusters of real nodes in network namespaces.
//!
//! The work is done by the program `lab` of the testkit, which the end-to-end tests share; this builds what it needs and
//! starts it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace;

/// What all of these verbs take.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// The nodes run the release.
    #[arg(long)]
    release: bool,
    /// The nodes run this binary; nothing of the product is built then.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// Passed on; `-- --help` says what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs a verb of the program; `lab` itself hands on its own.
pub(crate) fn run(verb: Option<&str>, args: &LabArgs) -> Result<()> {
    let first = args.arguments.first().and_then(|word| word.to_str());
    // Only these start nodes that don't run yet from a binary that is not known.
    let starts = verb.is_some() || first == Some("up");
    // Before every verb, so it is not shown.
    let built = workspace::cargo(&["build", "--quiet", "--locked", "--package", "constellation-tests"])
        .args(["--bin", "lab"])
        .status()?;
    if !built.success() {
        bail!("the program `lab` is not built");
    }
    let mut lab = std::process::Command::new(workspace::target()?.join("debug/lab"));
    lab.args(verb.map(OsStr::new)).args(&args.arguments);
    if starts {
        lab.env("CONSTELLATION_BIN", binary(args)?);
    }
    let status = lab.status()?;
    if !status.success() {
        bail!("`{}` ends with {status}", workspace::show(&lab));
    }
    Ok(())
}

fn binary(args: &LabArgs) -> Result<PathBuf> {
    if let Some(binary) = &args.binary {
        return Ok(Path::canonicalize(binary)?);
    }
    if args.arguments.iter().any(|word| word == "--bug") {
        return broken();
    }
    let (profile, folder) = if args.release {
        ("release", "release")
    } else {
        ("dev", "debug")
    };
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--locked",
        "--profile",
        profile,
    ]))?;
    Ok(workspace::target()?.join(folder).join("constellation"))
}

/// One that can leave out rules. It gets a name of its own, and the name of the product is the product's again.
fn broken() -> Result<PathBuf> {
    let build = |more: &[&str]| workspace::run(workspace::cargo(&["build", "--locked"]).args(more));
    build(&["--features", "deliberate-bugs"])?;
    let folder = workspace::target()?.join("debug");
    let broken = folder.join("constellation-with-bugs");
    std::fs::copy(folder.join("constellation"), &broken)?;
    build(&[])?;
    Ok(broken)
}
