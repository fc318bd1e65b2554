//! Which processes are the lab's: those with its folder in their environment, which they hand on to what they start.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::until;

/// The variable with the lab's folder.
pub(super) const LAB: &str = "LAB_FOLDER";
/// The variable with the host's name.
pub(super) const HOST: &str = "LAB_HOST";
/// The variable that says what it is there.
pub(super) const ROLE: &str = "LAB_ROLE";

/// What holds a host's namespaces.
pub(super) const HOLDER: &str = "holder";
/// A node.
pub(super) const NODE: &str = "node";
/// A node's demo back end.
pub(super) const BACKEND: &str = "backend";
/// What makes packets late.
pub(super) const DELAY: &str = "delay";

/// The living processes of a lab with these variables.
pub(super) fn find(base: &Path, with: &[(&str, &str)]) -> Vec<Pid> {
    let lab = [LAB.as_bytes(), b"=", base.as_os_str().as_bytes()].concat();
    let with: Vec<Vec<u8>> = with
        .iter()
        .map(|(name, value)| format!("{name}={value}").into_bytes())
        .collect();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Gone, or another user's: not ours.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
        std::iter::once(&lab)
            .chain(&with)
            .all(|wanted| variables.contains(&wanted.as_slice()))
    })
    .filter(|pid| *pid != std::process::id().cast_signed())
    .map(Pid::from_raw)
    .filter(|pid| lives(*pid))
    .collect()
}

/// Whether it runs or is stopped: one that has ended and was not waited for does not. The first of its threads may end
/// before the others, which hold its files until they have.
pub(super) fn lives(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let stats = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    // The state is behind the name, which may contain anything.
    let ended =
        |stat: &String| matches!(stat.rsplit(") ").next(), Some(rest) if rest.starts_with(['Z', 'X']));
    stats.filter(|stat| !ended(stat)).count() > 0
}

/// Sends a signal; one that has ended meanwhile is none to complain about.
pub(super) fn signal(pids: &[Pid], signal: Signal) -> Result<()> {
    for pid in pids {
        match kill(*pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => anyhow::bail!("cannot send {signal} to {pid}: {error}"),
        }
    }
    Ok(())
}

/// Waits until none of them lives.
pub(super) fn gone(pids: &[Pid]) -> Result<()> {
    until("processes end", || {
        let left: Vec<&Pid> = pids.iter().filter(|pid| lives(**pid)).collect();
        ensure!(left.is_empty(), "{left:?} live");
        Ok(())
    })
}

/// Kills everything of a lab. What was started meanwhile by one of them is found in the next round.
pub(super) fn end_all(base: &Path) -> Result<()> {
    until("everything of the lab ends", || {
        let pids = find(base, &[]);
        signal(&pids, Signal::SIGKILL)?;
        ensure!(pids.is_empty(), "{} processes live", pids.len());
        Ok(())
    })
}

/// A variable's value, where a path is one.
pub(super) fn value(path: &Path) -> &OsStr {
    path.as_os_str()
}
