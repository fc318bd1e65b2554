//! `test`: every test of the workspace. `./dev test` installs what the tests need and then runs this.

use anyhow::Result;
use clap::Args;

use crate::workspace;

/// `test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    // The end-to-end tests start the real binaries, which no test target depends on.
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--workspace",
        "--bins",
        "--locked",
    ]))?;
    let filter = args.filter.as_deref();
    if workspace::has_cargo_command("nextest") {
        let mut nextest = workspace::cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
        workspace::run(nextest.args(filter))?;
    } else {
        let mut tests = workspace::cargo(&[
            "test",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--all-targets",
        ]);
        workspace::run(tests.args(filter))?;
    }
    // Neither of the two above runs the examples in the documentation.
    let mut examples = workspace::cargo(&["test", "--workspace", "--locked", "--doc"]);
    workspace::run(examples.args(filter))
}
