//! Samples, and the cell that they make: one relay in one scenario.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::load::Seen;
use super::relay::Relay;
use super::scenario::Scenario;
use crate::bench::cpu::Memory;
use crate::bench::sample::{median, sorted};

/// One relay measured once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    #[serde(flatten)]
    seen: Seen,
    /// User and system time of the relay during the sample, seconds.
    cpu_seconds: f64,
    /// Memory at the end of it.
    memory: Memory,
}

/// One relay in one scenario.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) scenario: Scenario,
    pub(super) relay: Relay,
    /// Medians; `None`: the cell is invalid.
    pub(super) median: Option<Median>,
    /// Why it is.
    pub(super) faults: Vec<String>,
    samples: Vec<Sample>,
}

/// Medians over the samples of a cell.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Median {
    /// Units per second of the relay's CPU time.
    pub(super) per_cpu_second: f64,
    /// Half the distance between the best and the worst sample, as a share of the median.
    pub(super) spread: f64,
    /// Units per second.
    pub(super) per_second: f64,
    /// Median latency, microseconds.
    pub(super) p50: f64,
    /// 99th percentile, microseconds.
    pub(super) p99: f64,
    /// Resident memory, bytes.
    pub(super) resident: f64,
}

impl Sample {
    /// What the load generator saw, and what it cost the relay.
    pub(super) fn new(mut seen: Seen, cpu: Duration, memory: Memory) -> Self {
        let cpu_seconds = cpu.as_secs_f64();
        if cpu_seconds < 0.05 {
            seen.faults
                .push(format!("only {cpu_seconds} s of CPU time: too little to measure"));
        }
        Self {
            seen,
            cpu_seconds,
            memory,
        }
    }

    fn per_cpu_second(&self) -> f64 {
        self.seen.units / self.cpu_seconds
    }

    fn per_second(&self) -> f64 {
        self.seen.units / self.seen.seconds
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} per CPU-second, {:.0} per second, p50 {:.1} us",
            self.per_cpu_second(),
            self.per_second(),
            self.seen.p50
        )
    }
}

impl Cell {
    pub(super) fn new(scenario: Scenario, relay: Relay) -> Self {
        Self {
            scenario,
            relay,
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
            p50: median(&of(|sample| sample.seen.p50)),
            p99: median(&of(|sample| sample.seen.p99)),
            resident: median(&of(|sample| sample.memory.resident as f64)),
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::scenario::Tcp;
    use super::*;

    pub(in crate::bench::stream) fn cell(scenario: Tcp, relay: Relay, samples: &[(f64, f64)]) -> Cell {
        let mut cell = Cell::new(scenario.into(), relay);
        for &(units, cpu) in samples {
            let seen = Seen {
                units,
                seconds: 2.0,
                p50: 40.0,
                p99: 90.0,
                faults: Vec::new(),
            };
            cell.add(Sample::new(seen, Duration::from_secs_f64(cpu), Memory::default()));
        }
        cell.finish();
        cell
    }

    #[test]
    fn a_cell_is_the_median_of_its_samples_and_one_bad_sample_spoils_it() {
        let samples = [(50_000.0, 1.0), (30_000.0, 0.5), (10_000.0, 0.5)];
        let median = cell(Tcp::Ping1, Relay::Nginx, &samples).median.unwrap();
        assert_eq!((median.per_cpu_second, median.spread), (50_000.0, 0.4));
        assert_eq!(median.per_second, 15_000.0);
        let idle = cell(Tcp::Ping1, Relay::Nginx, &[(50_000.0, 1.0), (1.0, 0.0)]);
        assert!(idle.median.is_none());
        assert_eq!(idle.faults, ["only 0 s of CPU time: too little to measure"]);
        assert!(cell(Tcp::Ping1, Relay::Nginx, &[]).median.is_none());
    }
}
