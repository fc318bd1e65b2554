//! The programs of this machine that users would type: what one printed, and how it ended.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a program may run: far beyond what any of them needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program did.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output without the white space around it.
    ///
    /// # Panics
    /// When the program failed.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim()
    }
}

/// Runs a program with these arguments and additional variables.
///
/// # Panics
/// When it can't be run or does not end.
pub async fn command(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output
        .unwrap_or_else(|_| panic!("{} {arguments:?} does not end", program.display()))
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
