//! From samples to cells, tables and JSON.

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use procfs::{Current as _, LoadAverage};
use serde::Serialize;

use super::cpu::Memory;
use super::load::{H1_CONNECTIONS, H2_CONNECTIONS, H2_STREAMS, Seen};
use super::peer::Proxy;
use super::scenario::Scenario;
use crate::workspace;

/// One proxy measured once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    #[serde(flatten)]
    seen: Seen,
    /// User and system time of the proxy during the sample, seconds.
    cpu_seconds: f64,
    /// Memory at the end of it.
    memory: Memory,
    /// Connections that the proxy opened to the back end meanwhile.
    backend_connections: u64,
}

impl Sample {
    /// What the load generator saw, and what it cost the proxy.
    pub(super) fn new(seen: Seen, cpu: Duration, memory: Memory, backend_connections: u64) -> Self {
        let mut sample = Self {
            seen,
            cpu_seconds: cpu.as_secs_f64(),
            memory,
            backend_connections,
        };
        if sample.cpu_seconds < 0.05 {
            sample.seen.faults.push(format!(
                "only {} s of CPU time: too little to measure",
                sample.cpu_seconds
            ));
        }
        // A handful of reconnects is life; one for every few requests is another kind of work.
        if backend_connections > 100 + sample.seen.requests / 10 {
            sample.seen.faults.push(format!(
                "{backend_connections} new connections to the back end: not kept"
            ));
        }
        sample
    }

    fn per_cpu_second(&self) -> f64 {
        self.seen.requests as f64 / self.cpu_seconds
    }

    fn per_second(&self) -> f64 {
        self.seen.requests as f64 / self.seen.seconds
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} req/CPU-s, {:.0} req/s",
            self.per_cpu_second(),
            self.per_second()
        )
    }
}

/// One proxy in one scenario.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) scenario: Scenario,
    pub(super) proxy: Proxy,
    /// Medians; `None`: the cell is invalid.
    pub(super) median: Option<Median>,
    /// Why it is.
    pub(super) faults: Vec<String>,
    samples: Vec<Sample>,
}

/// Medians over the samples of a cell.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Median {
    /// Requests per second of the proxy's CPU time.
    pub(super) per_cpu_second: f64,
    /// Half the distance between the best and the worst sample, as a share of the median.
    pub(super) spread: f64,
    /// Requests per second.
    pub(super) per_second: f64,
    /// Median latency, microseconds.
    pub(super) p50: f64,
    /// 99th percentile, microseconds.
    pub(super) p99: f64,
    /// Resident memory, bytes.
    pub(super) resident: f64,
    /// Memory with shared pages counted once, bytes.
    pub(super) proportional: f64,
}

impl Cell {
    pub(super) fn new(scenario: Scenario, proxy: Proxy) -> Self {
        Self {
            scenario,
            proxy,
            median: None,
            faults: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Something that makes the cell invalid.
    pub(super) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    pub(super) fn add(&mut self, sample: Sample) {
        self.faults.extend(sample.seen.faults.iter().cloned());
        self.samples.push(sample);
    }

    /// Computes the medians of a cell without faults.
    pub(super) fn finish(&mut self) {
        if !self.faults.is_empty() || self.samples.is_empty() {
            return;
        }
        let of = |figure: fn(&Sample) -> f64| sorted(self.samples.iter().map(figure));
        let rates = of(Sample::per_cpu_second);
        let rate = median(&rates);
        let range = rates.last().unwrap_or(&0.0) - rates.first().unwrap_or(&0.0);
        self.median = Some(Median {
            per_cpu_second: rate,
            spread: range / 2.0 / rate,
            per_second: median(&of(Sample::per_second)),
            p50: median(&of(|sample| sample.seen.p50 as f64)),
            p99: median(&of(|sample| sample.seen.p99 as f64)),
            resident: median(&of(|sample| sample.memory.resident as f64)),
            proportional: median(&of(|sample| sample.memory.proportional as f64)),
        });
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    match (
        sorted.get((sorted.len().max(1) - 1) / 2),
        sorted.get(sorted.len() / 2),
    ) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}

/// Where and how it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    /// Seconds since 1970.
    pub(super) when: u64,
    /// What git says about the tree.
    pub(super) commit: String,
    pub(super) kernel: String,
    pub(super) cpu: String,
    /// CPUs of the machine.
    pub(super) cpus: usize,
    pub(super) versions: Vec<(Proxy, String)>,
    pub(super) seconds: u32,
    pub(super) rounds: u32,
    pub(super) warm_up: u32,
    /// Load average over the minute before.
    pub(super) load_before: f32,
}

impl Conditions {
    pub(super) fn now(
        versions: Vec<(Proxy, String)>,
        seconds: u32,
        rounds: u32,
        warm_up: u32,
    ) -> Result<Self> {
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
            versions,
            seconds,
            rounds,
            warm_up,
            load_before: LoadAverage::current()?.one,
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
            "{} · {} CPUs · Linux {} · {} · load {:.2} · {} samples of {} s after {} s · wrk -c{H1_CONNECTIONS}, \
             h2load -c{H2_CONNECTIONS} -m{H2_STREAMS}",
            conditions.cpu,
            conditions.cpus,
            conditions.kernel,
            conditions.commit,
            conditions.load_before,
            conditions.rounds,
            conditions.seconds,
            conditions.warm_up,
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

    fn sample(requests: u64, cpu: f64) -> Sample {
        let seen = Seen {
            requests,
            seconds: 1.0,
            p50: 1000,
            p99: 2500,
            faults: Vec::new(),
        };
        let memory = Memory {
            resident: 20_000_000,
            proportional: 15_000_000,
        };
        Sample::new(seen, Duration::from_secs_f64(cpu), memory, 64)
    }

    fn cell(proxy: Proxy, samples: &[(u64, f64)]) -> Cell {
        let mut cell = Cell::new(Scenario::H1Small, proxy);
        for &(requests, cpu) in samples {
            cell.add(sample(requests, cpu));
        }
        cell.finish();
        cell
    }

    #[test]
    fn a_cell_is_the_median_of_its_samples() {
        let median = cell(Proxy::Nginx, &[(50_000, 1.0), (30_000, 0.5), (10_000, 0.5)])
            .median
            .unwrap();
        assert_eq!(median.per_cpu_second, 50_000.0);
        assert_eq!(median.spread, 0.4);
        assert_eq!(median.per_second, 30_000.0);
        let even = cell(Proxy::Nginx, &[(10_000, 1.0), (20_000, 1.0)])
            .median
            .unwrap();
        assert_eq!(even.per_cpu_second, 15_000.0);
    }

    #[test]
    fn one_bad_sample_makes_the_cell_invalid() {
        let mut faulty = sample(10_000, 1.0);
        faulty.seen.faults.push("3 timeouts".to_owned());
        for (bad, fault) in [
            (faulty, "3 timeouts"),
            (sample(10_000, 0.0), "only 0 s of CPU time: too little to measure"),
            (
                {
                    let good = sample(10_000, 1.0);
                    Sample::new(good.seen, Duration::from_secs(1), good.memory, 9_000)
                },
                "9000 new connections to the back end: not kept",
            ),
        ] {
            let mut cell = Cell::new(Scenario::H1Small, Proxy::Nginx);
            cell.add(sample(10_000, 1.0));
            cell.add(bad);
            cell.finish();
            assert!(cell.median.is_none(), "{fault}");
            assert_eq!(cell.faults, [fault]);
        }
        let mut empty = Cell::new(Scenario::H1Small, Proxy::Nginx);
        empty.finish();
        assert!(empty.median.is_none());
    }

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
