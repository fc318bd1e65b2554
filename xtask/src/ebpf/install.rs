//! Getting rust-src and bpf-linker. For CI, and for whoever works on the programs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::toolchain::{BPF_LINKER, RUST_SRC, bpf_linker, cache, sysroot};
use crate::{nightly, workspace};

/// A Debian suite with a compiler of the nightly's version, where the component can't be had from rustup.
const SUITE: &str = "forky";

/// Gets what is missing.
pub(super) fn run() -> Result<()> {
    rust_src()?;
    if bpf_linker().is_none() {
        let mut cargo = nightly::command("cargo");
        cargo
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--root"])
            .arg(cache());
        workspace::run(&mut cargo)?;
    }
    Ok(())
}

/// The sources of the core library for the nightly toolchain.
fn rust_src() -> Result<()> {
    let place = sysroot()?.join(RUST_SRC);
    if place.join("library/core").is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
    if workspace::run(&mut rustup).is_ok() {
        return Ok(());
    }
    eprintln!("rustup can't get rust-src; trying Debian's package");
    let sources = debian_rust_src()?;
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // A link that leads nowhere is in the way.
    if place.is_symlink() {
        fs::remove_file(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    symlink(&sources, &place).with_context(|| format!("cannot link {}", place.display()))
}

/// Debian's sources of the same minor version, unpacked beside and not installed: the system stays as it is.
fn debian_rust_src() -> Result<PathBuf> {
    let version = nightly::output("rustc", &["--version"])?;
    let minor = minor(&version).with_context(|| format!("cannot tell the version of {version:?}"))?;
    let folder = cache().join("rust-src");
    let unpacked = folder.join("unpacked");
    if let Some(found) = unpacked_sources(&unpacked, minor)? {
        return Ok(found);
    }
    for program in ["apt-get", "dpkg"] {
        ensure!(
            workspace::program(program).is_some(),
            "{program} is missing: this is not a Debian"
        );
    }
    // Nothing of an earlier attempt.
    if folder.is_dir() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let lists = folder.join("lists");
    fs::create_dir_all(&lists).with_context(|| format!("cannot make {}", lists.display()))?;
    let list = folder.join("sources.list");
    fs::write(&list, source(&archive()?)).with_context(|| format!("cannot write {}", list.display()))?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).current_dir(&folder);
        apt.arg(format!("-oDir::Etc::SourceList={}", list.display()));
        apt.arg("-oDir::Etc::SourceParts=/nonexistent");
        apt.arg(format!("-oDir::State::Lists={}", lists.display()));
        workspace::run(&mut apt)
    };
    apt(&["update", "-q"])?;
    apt(&["download", "-q", "rust-src"])?;
    let package = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    workspace::run(Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
    match unpacked_sources(&unpacked, minor)? {
        Some(found) => Ok(found),
        None => bail!(
            "Debian's {} is not of version {minor}, as the nightly compiler is",
            package.display()
        ),
    }
}

/// Where this system gets its own packages.
fn archive() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("cannot run apt-get")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let archive = listed.lines().find(|uri| is_archive(uri));
    archive
        .map(str::to_owned)
        .context("apt has no archive of Debian among its sources (`apt-get indextargets`)")
}

/// Whether packages come from there, and not only mends of some of them.
fn is_archive(uri: &str) -> bool {
    uri.trim_end_matches('/').ends_with("/debian")
}

fn source(archive: &str) -> String {
    format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {archive} {SUITE} main\n")
}

/// `1.97` of `rustc 1.97.0-nightly (…)`.
fn minor(version: &str) -> Option<&str> {
    let number = version.split(' ').nth(1)?;
    let end = number.match_indices('.').nth(1)?.0;
    number.get(..end)
}

/// `usr/src/rustc-1.97.1` in an unpacked package.
fn unpacked_sources(unpacked: &Path, minor: &str) -> Result<Option<PathBuf>> {
    let folder = unpacked.join("usr/src");
    if !folder.is_dir() {
        return Ok(None);
    }
    let prefix = format!("rustc-{minor}.");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with(&prefix) && path.join("library/core").is_dir() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{is_archive, minor, source};

    #[test]
    fn the_minor_version_is_found() {
        assert_eq!(minor("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)"), Some("1.97"));
        assert_eq!(minor("rustc"), None);
    }

    #[test]
    fn the_archive_is_the_one_of_the_system() {
        assert!(is_archive("https://mirror.test/debian/") && is_archive("http://mirror.test/debian"));
        assert!(!is_archive("https://mirror.test/debian-security/"));
        assert!(
            source("https://mirror.test/debian/").ends_with("] https://mirror.test/debian/ forky main\n")
        );
    }
}
