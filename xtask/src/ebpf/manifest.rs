//! The manifest: what the committed objects were built from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::build::FLAGS;
use super::toolchain::Toolchain;
use crate::workspace;

/// `ebpf/object/manifest.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Manifest {
    /// Over everything that [`sources`] names.
    pub(super) sources: String,
    /// `rustc --version`.
    pub(super) rustc: String,
    /// Over the sources of Rust's core library, which are compiled along.
    pub(super) rust_src: String,
    /// `bpf-linker --version`.
    pub(super) bpf_linker: String,
    /// SHA-256 of every object, by file name.
    pub(super) objects: BTreeMap<String, String>,
}

const HEAD: &str = "\
# Written by `cargo xtask ebpf`: what the objects beside this file were built from. Hashes are SHA-256.
# `cargo xtask ebpf --check` compares them with the sources, and builds the objects anew where the tools are the same.

";

impl Manifest {
    /// Of objects that were just built.
    pub(super) fn of(toolchain: &Toolchain, built: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        Ok(Self {
            sources: sources()?,
            rustc: toolchain.rustc.clone(),
            rust_src: tree(&toolchain.core, std::slice::from_ref(&toolchain.core))?,
            bpf_linker: toolchain.bpf_linker.clone(),
            objects: built
                .iter()
                .map(|(name, bytes)| (name.clone(), hash(bytes)))
                .collect(),
        })
    }

    /// The committed one.
    pub(super) fn read() -> Result<Self> {
        let path = path();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}; `cargo xtask ebpf` writes it", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a manifest", path.display()))
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = path();
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Why a build with these tools could give other objects, in words.
    pub(super) fn other_tools(&self, toolchain: &Toolchain) -> Option<String> {
        let tools = [
            (&self.rustc, &toolchain.rustc),
            (&self.bpf_linker, &toolchain.bpf_linker),
        ];
        let (expected, found) = tools.into_iter().find(|(expected, found)| expected != found)?;
        Some(format!(
            "the objects were built with {expected}, and here is {found}"
        ))
    }
}

/// Where the objects and the manifest are.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("ebpf/object")
}

fn path() -> PathBuf {
    folder().join("manifest.toml")
}

/// One hash over the programs, the layouts, their manifests, the lock file and the flags of the compiler.
pub(super) fn sources() -> Result<String> {
    let ebpf = workspace::root().join("ebpf");
    let parts = [
        "abi/Cargo.toml",
        "abi/src",
        "programs/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
        "programs/src",
    ];
    let files = tree(&ebpf, &parts.map(|part| ebpf.join(part)))?;
    Ok(hash(format!("{files}\n{}", FLAGS.join(" ")).as_bytes()))
}

/// The hashes of the committed objects.
pub(super) fn objects() -> Result<BTreeMap<String, String>> {
    let folder = folder();
    let mut objects = BTreeMap::new();
    for path in files(&folder)? {
        if path.extension().is_some_and(|extension| extension == "o") {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            objects.insert(relative(&folder, &path), hash(&bytes));
        }
    }
    Ok(objects)
}

/// One hash over files and what is in folders: names relative to `root`, and contents.
fn tree(root: &Path, parts: &[PathBuf]) -> Result<String> {
    let mut all = Vec::new();
    for part in parts {
        if part.is_dir() {
            all.extend(files(part)?);
        } else {
            all.push(part.clone());
        }
    }
    all.sort();
    let mut list = String::new();
    for path in all {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        writeln!(list, "{}  {}", hash(&bytes), relative(root, &path))?;
    }
    Ok(hash(list.as_bytes()))
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string can't fail.
            let _: std::fmt::Result = write!(text, "{byte:02x}");
            text
        })
}
