//! What a tree of processes has used: CPU time and memory, from `/proc`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::{Process, all_processes};
use serde::Serialize;

/// Memory of a tree of processes, bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Memory {
    /// Resident set sizes added up: pages that processes share are counted once for each.
    pub(super) resident: u64,
    /// Proportional set sizes added up: shared pages are counted once in all.
    pub(super) proportional: u64,
}

/// The process and everything it started that still runs.
pub(super) fn tree(root: u32) -> Result<Vec<Process>> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all_processes().context("cannot list /proc")? {
        // Processes end while they are listed.
        if let Ok(process) = process
            && let Ok(stat) = process.stat()
        {
            children.entry(stat.ppid).or_default().push(process);
        }
    }
    let root = Process::new(i32::try_from(root)?).context("the process has ended")?;
    let mut found = vec![root];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let started = children.remove(&process.pid).unwrap_or_default();
        found.extend(started);
        next += 1;
    }
    Ok(found)
}

/// User and system time of the tree since its start. The kernel counts in ticks, usually of 10 ms.
pub(super) fn time(root: u32) -> Result<Duration> {
    let mut ticks = 0;
    for process in tree(root)? {
        let stat = process.stat().context("a process of the proxy has ended")?;
        ticks += stat.utime + stat.stime;
    }
    Ok(Duration::from_secs_f64(
        ticks as f64 / procfs::ticks_per_second() as f64,
    ))
}

/// Memory of the tree now.
pub(super) fn memory(root: u32) -> Result<Memory> {
    let mut memory = Memory::default();
    for process in tree(root)? {
        memory.resident += process.stat()?.rss * procfs::page_size();
        let rollup = process.smaps_rollup().context("cannot read smaps_rollup")?;
        let maps = rollup.memory_map_rollup.iter();
        memory.proportional += maps.filter_map(|map| map.extension.map.get("Pss")).sum::<u64>();
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_tree_holds_the_process_and_its_children() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let names = || -> Vec<String> {
            let tree = tree(shell.id()).unwrap();
            tree.iter().map(|process| process.stat().unwrap().comm).collect()
        };
        while names() != ["sh", "sleep"] {
            std::thread::yield_now();
        }
        assert!(memory(shell.id()).unwrap().proportional > 0);
        for process in tree(shell.id()).unwrap() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), nix::sys::signal::SIGKILL)
                .unwrap();
        }
        shell.wait().unwrap();
        assert!(time(shell.id()).is_err());
    }
}
