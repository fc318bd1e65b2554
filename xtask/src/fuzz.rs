//! `fuzz`: runs the targets in `fuzz/`, a workspace of its own in the layout of cargo-fuzz.
//!
//! cargo-fuzz is not needed: a target is an ordinary binary that links libFuzzer, compiled with the coverage
//! instrumentation and the address sanitizer of a nightly compiler. What libFuzzer finds stays in the target
//! directory; `fuzz/corpus/TARGET`, if it is there, is read and never written. A crash is kept in
//! `fuzz/artifacts/TARGET`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{nightly, workspace};

/// Coverage as libFuzzer reads it (inline counters, the table of program counters, comparisons), and what a target
/// needs besides: `cfg(fuzzing)`, checked arithmetic, and no dead code dropped, which would drop counters.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Clink-dead-code -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks \
    --cfg fuzzing -Zsanitizer=address";

/// `fuzz`.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let fuzz = workspace::root().join("fuzz");
    let targets = select(&fuzz, args.target.as_deref())?;
    let triple = nightly_host()?;
    let build = workspace::target()?.join("fuzz");
    build_all(&fuzz, &triple, &build)?;
    let mut failed = Vec::new();
    for target in &targets {
        if let Err(error) = fuzz_one(&fuzz, &triple, &build, target, args.seconds) {
            eprintln!("{target}: {error:#}");
            failed.push(target.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "fuzzing found faults in: {}",
        failed.join(", ")
    );
    Ok(())
}

/// The targets by name: all, or the one that was asked for.
fn select(fuzz: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let sources = fuzz.join("fuzz_targets");
    let entries = fs::read_dir(&sources)
        .with_context(|| format!("no fuzz targets: cannot read {}", sources.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            targets.push(stem.to_owned());
        }
    }
    targets.sort();
    match only {
        None => Ok(targets),
        Some(name) if targets.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!("no fuzz target `{name}`; there are: {}", targets.join(", ")),
    }
}

/// The host triple of the nightly toolchain.
fn nightly_host() -> Result<String> {
    let text =
        nightly::output("rustc", &["-vV"]).context("fuzzing needs a nightly toolchain for its sanitizers")?;
    match text.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => bail!("rustc -vV of the nightly toolchain names no host"),
    }
}

fn build_all(fuzz: &Path, triple: &str, build: &Path) -> Result<()> {
    let mut cargo = nightly::command("cargo");
    // Naming the target keeps the flags away from build scripts and macros.
    cargo
        .args(["build", "--release", "--bins", "--target", triple, "--target-dir"])
        .arg(build);
    workspace::run(cargo.current_dir(fuzz).env("RUSTFLAGS", RUSTFLAGS))
}

fn fuzz_one(fuzz: &Path, triple: &str, build: &Path, target: &str, seconds: u32) -> Result<()> {
    let artifacts = fuzz.join("artifacts").join(target);
    let found = build.join("corpus").join(target);
    for directory in [&artifacts, &found] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = Command::new(build.join(triple).join("release").join(target));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    // An input that takes this long, or this much memory (MB), is a fault too.
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    // New inputs go to the first directory, the others are only read.
    let seeds = fuzz.join("corpus").join(target);
    command.arg(&found).args(seeds.is_dir().then_some(seeds));
    workspace::run(&mut command).with_context(|| format!("inputs that fail are in {}", artifacts.display()))
}
