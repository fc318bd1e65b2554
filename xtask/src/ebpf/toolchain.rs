//! The tools that a build of the programs takes, and where they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{nightly, workspace};

/// The version that works with the nightly compiler's own LLVM, so that none has to be installed.
pub(super) const BPF_LINKER: &str = "0.10.0";

/// What was found.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// `rustc --version` of the nightly toolchain.
    pub(super) rustc: String,
    /// Where that toolchain is.
    pub(super) sysroot: PathBuf,
    /// The sources that come with it.
    pub(super) rust_src: PathBuf,
    /// Those of its core library.
    pub(super) core: PathBuf,
    /// `bpf-linker --version`.
    pub(super) bpf_linker: String,
    /// The folder that bpf-linker is in.
    pub(super) bin: PathBuf,
}

impl Toolchain {
    /// Finds everything, or says what is missing.
    pub(super) fn find() -> Result<Self> {
        let rustc = nightly::output("rustc", &["--version"])?;
        let sysroot = sysroot()?;
        let linked = sysroot.join("lib/rustlib/src/rust");
        let rust_src = linked.canonicalize().with_context(|| {
            format!(
                "{} is missing: the component rust-src of nightly",
                linked.display()
            )
        })?;
        let core = rust_src.join("library/core");
        ensure!(
            core.is_dir(),
            "{} is missing: the component rust-src is incomplete",
            core.display()
        );
        let linker = bpf_linker().with_context(|| {
            format!(
                "bpf-linker {BPF_LINKER} is neither in PATH nor in {}",
                cache().display()
            )
        })?;
        let output = Command::new(&linker)
            .arg("--version")
            .output()
            .context("cannot run bpf-linker")?;
        let bpf_linker = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let bin = linker.parent().map(PathBuf::from).unwrap_or_default();
        Ok(Self {
            rustc,
            sysroot,
            rust_src,
            core,
            bpf_linker,
            bin,
        })
    }
}

/// Where the nightly toolchain is.
pub(super) fn sysroot() -> Result<PathBuf> {
    nightly::output("rustc", &["--print", "sysroot"]).map(PathBuf::from)
}

/// Our own one first, since one in `PATH` may be of another version.
pub(super) fn bpf_linker() -> Option<PathBuf> {
    let ours = cache().join("bin/bpf-linker");
    if ours.is_file() {
        Some(ours)
    } else {
        workspace::program("bpf-linker")
    }
}

/// Where what is installed for this is kept, for all clones of the repository.
pub(super) fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || {
        std::env::var_os("HOME")
            .map_or_else(|| "/tmp".into(), PathBuf::from)
            .join(".cache")
    };
    cache.unwrap_or_else(home).join("constellation-ebpf")
}
