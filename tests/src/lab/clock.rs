//! A wall clock of its own for one process, by libfaketime: only the wall clock, what counts time goes on as it does.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Where Debian and its relatives have it, by architecture.
const PLACES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The library.
///
/// # Errors
/// When it is not installed.
pub fn library() -> Result<PathBuf, String> {
    let found = PLACES.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| "libfaketime is not installed (package faketime)".to_owned())
}

/// The variables for a process whose wall clock is off by this much, such as `+5h`.
///
/// # Errors
/// When the library is not installed.
pub fn off(by: &str) -> Result<Vec<(String, String)>, String> {
    Ok(vec![
        ("LD_PRELOAD".into(), library()?.display().to_string()),
        ("FAKETIME".into(), by.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
    ])
}

/// The variables for a process whose wall clock is off by what this file says, and follows it.
///
/// # Errors
/// When the library is not installed.
pub fn by_file(file: &Path) -> Result<Vec<(String, String)>, String> {
    Ok(vec![
        ("LD_PRELOAD".into(), library()?.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE".into(), file.display().to_string()),
        ("FAKETIME_NO_CACHE".into(), "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
    ])
}
