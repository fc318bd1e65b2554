//! A program that runs beside the bench and ends with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{cpu, interrupt};
use crate::workspace;

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A started program. Dropped: stopped, by process id, together with the processes it started.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with its output in `log`.
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run `{}`", workspace::show(&command)))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the program has ended, with the end of what it printed.
    pub(super) fn require_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.last_words()),
        }
    }

    /// What the program printed.
    pub(super) fn output(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// Waits for the program to end by itself.
    pub(super) fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let ended = interrupt::poll(deadline, Duration::from_millis(10), || {
            Ok(self.child.try_wait()?)
        })?;
        ended.with_context(|| {
            format!(
                "{} did not end within {deadline:?}: {}",
                self.name,
                self.last_words()
            )
        })
    }

    /// The end of what it printed, for an error.
    pub(super) fn last_words(&self) -> String {
        const KEPT: usize = 600;
        let text = self.output().unwrap_or_default();
        let text = text.trim();
        let start = text.len().saturating_sub(KEPT);
        let start = (start..text.len())
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        if text.is_empty() {
            "it printed nothing".to_owned()
        } else {
            text[start..].to_owned()
        }
    }

    /// SIGTERM, and SIGKILL for what is left of the tree after [`PATIENCE`].
    fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let tree = cpu::tree(self.pid()).unwrap_or_default();
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        let end = std::time::Instant::now() + PATIENCE;
        // Not `interrupt::poll`: an interrupted run has to stop its children all the same.
        while self.child.try_wait()?.is_none() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        for process in tree.iter().filter(|process| process.is_alive()) {
            // It may end between the question and the signal.
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap_or_default();
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop {} (process {}): {error:#}", self.name, self.pid());
        }
    }
}
