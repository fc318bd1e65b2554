//! `verify`: what CI checks besides the tests. Every check runs, whatever the ones before it said.

use anyhow::{Result, bail};

use crate::{ebpf, generated, links, workspace};

type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("format of fuzz", || {
        if workspace::root().join("fuzz/Cargo.toml").is_file() {
            cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
        } else {
            Ok(())
        }
    }),
    ("lints", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ])
    }),
    ("generated files", generated::check),
    ("format of the eBPF programs", || {
        cargo(&["fmt", "--manifest-path", "ebpf/programs/Cargo.toml", "--check"])
    }),
    ("eBPF objects", ebpf::check),
    ("links", || links::check(&workspace::root())),
];

/// Runs the verb.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        match check() {
            Ok(()) => eprintln!("{name}: ok"),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "verify found faults in: {}. `cargo xtask fix` mends format and generated files",
        failed.join(", ")
    )
}

fn cargo(arguments: &[&str]) -> Result<()> {
    workspace::run(&mut workspace::cargo(arguments))
}
