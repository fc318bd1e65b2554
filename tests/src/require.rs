//! What a test needs from the machine. Missing it skips the test with a printed reason; in CI a skip is a failure.

use std::path::PathBuf;
use std::process::Command;

/// Unwraps a probe's value, or ends the test: skipped with the reason on a developer's machine, failed when `CI` is
/// set, because a test that silently never runs there protects nothing.
#[macro_export]
macro_rules! require {
    ($probe:expr) => {
        match $probe {
            Ok(value) => value,
            Err(reason) => {
                $crate::require::skip(&reason);
                return;
            }
        }
    };
}

/// Prints why a test is skipped.
///
/// # Panics
/// When `CI` is set.
pub fn skip(reason: &str) {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    assert!(!in_ci, "this test may not be skipped in CI: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// A program found in `PATH` or in the directories of system programs.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("`{name}` is not installed"))
}

/// A curl that speaks HTTP/2.
pub fn curl() -> Result<PathBuf, String> {
    let curl = program("curl")?;
    let version = Command::new(&curl)
        .arg("--version")
        .output()
        .map_err(|error| format!("curl --version: {error}"))?;
    if String::from_utf8_lossy(&version.stdout).contains("HTTP2") {
        Ok(curl)
    } else {
        Err("curl is installed without HTTP/2".into())
    }
}

/// The right to start a Docker engine.
pub fn root() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err("needs root to start a Docker engine of its own".into())
    }
}
