//! The curl of this machine: what a user would type.

use std::path::Path;

use tokio::process::Command;

/// What curl printed.
#[derive(Clone, Debug)]
pub struct Curl {
    /// Exit code.
    pub code: i32,
    /// Body (and heads with `-i`).
    pub stdout: String,
    /// What curl complains about.
    pub stderr: String,
}

/// Runs curl, silent but for errors, with 30 seconds to end.
pub async fn curl(program: &Path, arguments: &[&str]) -> Curl {
    let output = Command::new(program)
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    Curl {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
