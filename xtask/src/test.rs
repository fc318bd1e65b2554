//! `test`: every test, through `./dev test`, which is the one place that knows what tests need and how they are run.
//! It is a shell script because it has to work where nothing is installed yet.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::workspace;

/// `test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Passed on to `./dev test`, such as a part of a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the verb.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let root = workspace::root();
    workspace::run(
        Command::new(root.join("dev"))
            .arg("test")
            .args(&args.arguments)
            .current_dir(&root),
    )
}
