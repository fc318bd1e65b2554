//! The build: the same bytes from every folder, since every path is replaced by one that is always the same.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::toolchain::Toolchain;
use super::{OBJECTS, programs, strip};
use crate::{nightly, workspace};

const TARGET: &str = "bpfel-unknown-none";

/// Flags of the compiler that are the same everywhere. Debug information is where BTF comes from, which names maps and
/// lines for the verifier's log and for bpftool. No program looks at a CPU's registers, so one architecture serves all.
pub(super) const FLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Clinker=bpf-linker",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Zremap-cwd-prefix=/ebpf",
];

/// Builds all objects; by file name.
pub(super) fn all(toolchain: &Toolchain) -> Result<BTreeMap<String, Vec<u8>>> {
    let build = workspace::target()?.join("ebpf");
    let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    for (path, name) in remapped(toolchain) {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(toolchain.bin.clone()).chain(env::split_paths(&path)))?;
    let mut cargo = nightly::command("cargo");
    cargo.args([
        "build",
        "--release",
        "--bins",
        "--locked",
        "--target",
        TARGET,
        "-Zbuild-std=core",
        "--target-dir",
    ]);
    cargo.arg(&build).current_dir(programs());
    // In this form a flag may contain blanks.
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("PATH", path);
    workspace::run(&mut cargo)?;
    let built = OBJECTS.iter().map(|name| {
        let path = build.join(TARGET).join("release").join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stripped =
            strip::debug_sections(&bytes).with_context(|| format!("cannot strip {}", path.display()))?;
        Ok((format!("{name}.o"), stripped))
    });
    built.collect()
}

/// The folders of this machine that appear in the compiler's output, and what stands for them.
fn remapped(toolchain: &Toolchain) -> Vec<(PathBuf, &'static str)> {
    let home = || env::var_os("HOME").map_or_else(PathBuf::new, |home| Path::new(&home).join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from);
    vec![
        (programs(), "/ebpf"),
        (workspace::root(), "/constellation"),
        (cargo, "/cargo"),
        (toolchain.rust_src.clone(), "/rust-src"),
        (toolchain.sysroot.clone(), "/rust"),
    ]
}
