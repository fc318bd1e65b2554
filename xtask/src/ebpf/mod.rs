//! `ebpf`: the objects in `ebpf/object`, which the product embeds, from the programs in `ebpf/programs`.
//!
//! The objects are committed, so that building the product takes no eBPF tools. What keeps them honest is the manifest
//! beside them: hashes of the sources and of the objects, and the tools. `--check` compares these anywhere, and where the
//! same tools are at hand it builds the objects anew and compares every byte.

mod build;
mod install;
mod manifest;
mod strip;
mod toolchain;

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use self::manifest::Manifest;
use self::toolchain::Toolchain;
use crate::workspace;

/// `ebpf`.
#[derive(Debug, Args)]
pub(crate) struct EbpfArgs {
    /// Write nothing: fail when sources, manifest and objects do not belong together, or a build gives other objects.
    #[arg(long)]
    check: bool,
    /// Get rust-src and bpf-linker first. Where that fails it is said, and everything else goes on.
    #[arg(long)]
    install_toolchain: bool,
}

/// The objects, by the name of the program file they are built from.
const OBJECTS: &[&str] = &["edge_chase", "edge_guard", "edge_steer", "test_flood"];

/// Runs the verb.
pub(crate) fn run(args: &EbpfArgs) -> Result<()> {
    if args.install_toolchain {
        if let Err(error) = install::run() {
            shout(&format!(
                "the toolchain of the eBPF programs can't be had here: {error:#}"
            ));
        }
        if !args.check {
            return Ok(());
        }
    }
    if args.check { check() } else { write() }
}

/// Builds the objects and writes them with their manifest.
fn write() -> Result<()> {
    let toolchain = Toolchain::find()?;
    let built = build::all(&toolchain)?;
    let folder = manifest::folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, bytes) in &built {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Manifest::of(&toolchain, &built)?.write()
}

/// The check that `verify` runs, too. Installs nothing.
pub(crate) fn check() -> Result<()> {
    let manifest = Manifest::read()?;
    let sources = manifest::sources()?;
    ensure!(
        manifest.sources == sources,
        "the eBPF sources have changed since the objects were built (the manifest says {}, the sources are {sources}). \
         Run `cargo xtask ebpf` and commit ebpf/object",
        manifest.sources
    );
    let committed = manifest::objects()?;
    ensure!(
        manifest.objects == committed,
        "ebpf/object does not hold what its manifest says: {:?} instead of {:?}. Run `cargo xtask ebpf` and commit both",
        committed,
        manifest.objects
    );
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(error) => {
            shout(&format!("no rebuild: {error:#}"));
            return Ok(());
        }
    };
    if let Some(difference) = manifest.other_tools(&toolchain) {
        shout(&format!("no rebuild: {difference}"));
        return Ok(());
    }
    let built = Manifest::of(&toolchain, &build::all(&toolchain)?)?;
    if built.objects == manifest.objects {
        eprintln!(
            "eBPF objects: built anew with {}, byte for byte the same",
            toolchain.rustc
        );
        return Ok(());
    }
    if built.rust_src != manifest.rust_src {
        shout(
            "a build gives other objects, but from other sources of Rust's core library than those in the manifest",
        );
        return Ok(());
    }
    bail!(
        "a build with the tools of the manifest gives other objects: {:?} instead of {:?}. Run `cargo xtask ebpf`, and \
         find out why before committing them",
        built.objects,
        manifest.objects
    )
}

/// Says what nobody should overlook: that trust rests on the manifest alone.
fn shout(what: &str) {
    let line = "!".repeat(100);
    eprintln!("{line}\n!! eBPF objects NOT VERIFIED BY A BUILD\n!! {what}");
    eprintln!("!! Only hashes were compared: that sources, manifest and objects belong together.");
    eprintln!("!! `cargo xtask ebpf --install-toolchain` gets the tools.\n{line}");
}

/// Where the programs are.
fn programs() -> std::path::PathBuf {
    workspace::root().join("ebpf/programs")
}
