//! Files that the binary can print and that are committed all the same, so that they can be read without a build.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Path from the root, and the arguments with which `constellation` prints the file.
const GENERATED: &[(&str, &[&str])] = &[("config/example.yaml", &["config", "example"])];

/// Fails when a committed file differs from what the binary prints.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in committed()? {
        if fs::read_to_string(workspace::root().join(path)).with_context(|| format!("cannot read {path}"))?
            != text
        {
            stale.push(path);
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "out of date: {}. Run `cargo xtask fix` and commit them",
        stale.join(", ")
    )
}

/// Writes the committed files anew.
pub(crate) fn write() -> Result<()> {
    for (path, text) in committed()? {
        fs::write(workspace::root().join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// What the committed files should say.
fn committed() -> Result<Vec<(&'static str, String)>> {
    let files = GENERATED.iter();
    files
        .map(|(path, arguments)| Ok((*path, print(arguments)?)))
        .collect()
}

fn print(arguments: &[&str]) -> Result<String> {
    let mut command = workspace::cargo(&["run", "--quiet", "--locked", "--package", "constellation", "--"]);
    command.args(arguments);
    let shown = workspace::show(&command);
    eprintln!("$ {shown}");
    let output = command
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed something else than UTF-8"))
}
