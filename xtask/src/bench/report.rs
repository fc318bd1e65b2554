//! The report: where and how it was measured, the tables, the JSON.

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use procfs::{Current as _, LoadAverage};
use serde::Serialize;

use super::load::{H1_CONNECTIONS, H2_CONNECTIONS, H2_STREAMS};
use super::peer::Proxy;
use super::sample::Cell;
use crate::workspace;

/// Where and when it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    /// Seconds since 1970.
    when: u64,
    /// What git says about the tree.
    commit: String,
    kernel: String,
    cpu: String,
    /// CPUs of the machine.
    cpus: usize,
    /// Load average over the minute before.
    load_before: f32,
}

impl Machine {
    pub(super) fn now() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let describe = Command::new("git")
            .args(["describe", "--always", "--dirty", "--abbrev=12"])
            .current_dir(workspace::root())
            .output();
        let commit = describe.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Ok(Self {
            when: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            commit: commit.unwrap_or_default(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            cpu: cpu.map_or("unknown", |(_, model)| model).to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            load_before: LoadAverage::current()?.one,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} · {} CPUs · Linux {} · {} · load {:.2}",
            self.cpu, self.cpus, self.kernel, self.commit, self.load_before
        )
    }
}

/// Where and how it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    #[serde(flatten)]
    pub(super) machine: Machine,
    pub(super) versions: Vec<(Proxy, String)>,
    pub(super) seconds: u32,
    pub(super) rounds: u32,
    pub(super) warm_up: u32,
}

impl Conditions {
    pub(super) fn now(
        versions: Vec<(Proxy, String)>,
        seconds: u32,
        rounds: u32,
        warm_up: u32,
    ) -> Result<Self> {
        Ok(Self {
            machine: Machine::now()?,
            versions,
            seconds,
            rounds,
            warm_up,
        })
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) conditions: Conditions,
    pub(super) cells: Vec<Cell>,
}

impl Report {
    /// The tables for people.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let conditions = &self.conditions;
        writeln!(
            out,
            "{} · {} samples of {} s after {} s · wrk -c{H1_CONNECTIONS}, h2load -c{H2_CONNECTIONS} -m{H2_STREAMS}",
            conditions.machine, conditions.rounds, conditions.seconds, conditions.warm_up,
        )?;
        for (proxy, version) in &conditions.versions {
            writeln!(out, "- {}: {version}", proxy.name())?;
        }
        writeln!(
            out,
            "\n| scenario | proxy | req/CPU-s | ± | req/s | p50 ms | p99 ms | RSS MB | PSS MB |"
        )?;
        writeln!(out, "|---|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for cell in &self.cells {
            write!(out, "| {} | {} |", cell.scenario.name(), cell.proxy.name())?;
            match &cell.median {
                Some(median) => writeln!(
                    out,
                    " {:.0} | {:.0} % | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} |",
                    median.per_cpu_second,
                    median.spread * 100.0,
                    median.per_second,
                    median.p50 / 1e3,
                    median.p99 / 1e3,
                    median.resident / 1e6,
                    median.proportional / 1e6,
                )?,
                None => writeln!(out, " invalid | | | | | | |")?,
            }
        }
        self.write_ratios(out)?;
        for cell in self.cells.iter().filter(|cell| cell.median.is_none()) {
            let reason = cell
                .faults
                .first()
                .map_or("no sample", String::as_str)
                .replace('\n', " ");
            writeln!(
                out,
                "\ninvalid: {} {}: {reason}",
                cell.scenario.name(),
                cell.proxy.name()
            )?;
        }
        Ok(())
    }

    /// Requests per CPU-second, ours divided by the peer's: above 1 ours does more with the same CPU time.
    fn write_ratios(&self, out: &mut String) -> fmt::Result {
        let ours: Vec<&Cell> = self
            .cells
            .iter()
            .filter(|cell| cell.proxy == Proxy::Constellation)
            .collect();
        let peers: Vec<Proxy> = self.conditions.versions.iter().map(|(proxy, _)| *proxy).collect();
        let peers: Vec<Proxy> = peers
            .into_iter()
            .filter(|proxy| *proxy != Proxy::Constellation)
            .collect();
        if ours.is_empty() || peers.is_empty() {
            return Ok(());
        }
        write!(out, "\n| ours : peer, req/CPU-s |")?;
        for peer in &peers {
            write!(out, " {} |", peer.name())?;
        }
        writeln!(out, "\n|---|{}", "--:|".repeat(peers.len()))?;
        for cell in ours {
            write!(out, "| {} |", cell.scenario.name())?;
            for &peer in &peers {
                match self.ratio(cell, peer) {
                    Some(ratio) => write!(out, " {ratio:.2} |")?,
                    None => write!(out, " - |")?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn ratio(&self, ours: &Cell, peer: Proxy) -> Option<f64> {
        let theirs = self
            .cells
            .iter()
            .find(|cell| cell.scenario == ours.scenario && cell.proxy == peer)?;
        Some(ours.median?.per_cpu_second / theirs.median?.per_cpu_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::tests::cell;

    #[test]
    fn ratios_are_ours_by_theirs_and_invalid_cells_have_none() {
        let mut report = Report {
            conditions: Conditions::now(Vec::new(), 1, 1, 1).unwrap(),
            cells: vec![
                cell(Proxy::Constellation, &[(30_000, 1.0)]),
                cell(Proxy::Nginx, &[(40_000, 1.0)]),
                cell(Proxy::Envoy, &[]),
            ],
        };
        report.conditions.versions = report
            .cells
            .iter()
            .map(|cell| (cell.proxy, "1".to_owned()))
            .collect();
        let text = report.markdown();
        assert!(text.contains("| h1-128 | 0.75 | - |\n"), "{text}");
        assert!(
            text.contains("| h1-128 | nginx | 40000 | 0 % | 40000 | 1.00 | 2.50 | 20 | 15 |\n"),
            "{text}"
        );
        assert!(text.contains("invalid: h1-128 envoy: no sample\n"), "{text}");
    }
}
