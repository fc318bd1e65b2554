//! Samples, and the cell that they make: one proxy in one scenario.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::cpu::Memory;
use super::load::Seen;
use super::peer::Proxy;
use super::scenario::Scenario;

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

/// In ascending order.
pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle one, or between the two in the middle.
pub(super) fn median(sorted: &[f64]) -> f64 {
    match (
        sorted.get((sorted.len().max(1) - 1) / 2),
        sorted.get(sorted.len() / 2),
    ) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}

#[cfg(test)]
pub(super) mod tests {
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

    pub(in crate::bench) fn cell(proxy: Proxy, samples: &[(u64, f64)]) -> Cell {
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
}
