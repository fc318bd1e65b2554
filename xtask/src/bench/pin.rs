//! Which CPU a program runs on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Starts programs on one CPU, and lets them end when this process does, however it ends.
#[derive(Debug)]
pub(super) struct Pin {
    taskset: PathBuf,
    setpriv: PathBuf,
}

impl Pin {
    /// Finds the programs that do it.
    pub(super) fn find() -> Result<Self> {
        let find = |name| {
            workspace::program(name)
                .with_context(|| format!("`{name}` (package util-linux) is not installed"))
        };
        Ok(Self {
            taskset: find("taskset")?,
            setpriv: find("setpriv")?,
        })
    }

    /// A command that becomes `program` on `cpu`: the process id stays the same.
    pub(super) fn command(&self, cpu: usize, program: &Path) -> Command {
        let mut command = self.anywhere(&self.taskset);
        command.args(["--cpu-list", &cpu.to_string()]).arg(program);
        command
    }

    /// A command that becomes `program`, on any CPU.
    pub(super) fn anywhere(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.setpriv);
        command.args(["--pdeathsig", "TERM"]).arg(program);
        command
    }
}

/// Fails when this process may not use `cpus`.
pub(super) fn require(cpus: &[usize]) -> Result<()> {
    let status = procfs::process::Process::myself()?.status()?;
    let allowed = status
        .cpus_allowed_list
        .context("/proc/self/status names no allowed CPUs")?;
    for &cpu in cpus {
        let number = u32::try_from(cpu)?;
        let usable = allowed
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number));
        ensure!(
            usable,
            "CPU {cpu} can't be used here (allowed: {allowed:?}); choose others with --proxy-cpu and --load-cpu"
        );
    }
    Ok(())
}
