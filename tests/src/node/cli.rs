//! The binary's commands that end by themselves.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// What a command did.
#[derive(Clone, Debug)]
pub struct Cli {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cli {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When the command failed or printed something else.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs the binary with these arguments, nothing of our environment but what programs need to run, and these variables.
pub async fn constellation(arguments: &[&str], environment: &[(&str, &str)]) -> Cli {
    let owned = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    run(arguments, &owned.collect::<Vec<_>>()).await
}

pub(super) async fn run(arguments: &[&str], environment: &[(String, String)]) -> Cli {
    let command = Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(inherited())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(crate::PATIENCE, command).await;
    let output = output
        .unwrap_or_else(|_| panic!("constellation {arguments:?} does not end"))
        .unwrap();
    Cli {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The binary under test: `CONSTELLATION_BIN`, else the one built into the target directory of this test.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("CONSTELLATION_BIN") {
        return named.into();
    }
    // target/PROFILE/deps/TEST-HASH, or target/PROFILE/PROGRAM
    let own = std::env::current_exe().unwrap();
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("constellation"));
    let found = beside.into_iter().find(|binary| binary.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no `constellation` beside {}: run `cargo build` first, or `./dev test`, which builds it",
            own.display()
        )
    })
}

/// Variables that change what a node does must not leak in from the developer's shell.
pub(crate) fn inherited() -> impl Iterator<Item = (String, String)> {
    [
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LLVM_PROFILE_FILE",
        "RUST_BACKTRACE",
    ]
    .into_iter()
    .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
}
