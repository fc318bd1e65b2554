//! Figures about the process, from `/proc/self`, under the names that Prometheus clients share.

use procfs::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Declares CPU time, memory, file descriptors, threads and start time. Where `/proc` is missing they are left out.
pub fn register_process(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessCollector));
}

/// Declares `constellation_build_info`.
pub fn register_build(registry: &mut Registry, version: &'static str) {
    registry.register(
        "constellation_build",
        "The version that runs",
        Info::new(vec![("version", version)]),
    );
}

#[derive(Debug)]
struct ProcessCollector;

struct Figures {
    cpu_seconds: f64,
    start_time: Option<f64>,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Figures {
    fn read() -> procfs::ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second();
        let max_fds = process
            .limits()
            .ok()
            .and_then(|limits| match limits.max_open_files.soft_limit {
                procfs::process::LimitValue::Value(value) => Some(value),
                procfs::process::LimitValue::Unlimited => None,
            });
        let started = procfs::boot_time_secs()
            .ok()
            .map(|boot| boot as f64 + stat.starttime as f64 / ticks as f64);
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks as f64,
            start_time: started,
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            threads: stat.num_threads,
            open_fds: process
                .fd_count()
                .ok()
                .and_then(|count| u64::try_from(count).ok()),
            max_fds,
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Ok(figures) = Figures::read() else {
            return Ok(());
        };
        let mut metric = |name: &str, help: &str, unit: Option<Unit>, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
        };
        let seconds = || Some(Unit::Seconds);
        let bytes = || Some(Unit::Bytes);
        metric(
            "process_cpu",
            "User and system CPU time",
            seconds(),
            &ConstCounter::new(figures.cpu_seconds),
        )?;
        if let Some(started) = figures.start_time {
            metric(
                "process_start_time",
                "When the process started, Unix time",
                seconds(),
                &ConstGauge::new(started),
            )?;
        }
        let resident = figures.resident_bytes as f64;
        metric(
            "process_resident_memory",
            "Resident memory",
            bytes(),
            &ConstGauge::new(resident),
        )?;
        let reserved = figures.virtual_bytes as f64;
        metric(
            "process_virtual_memory",
            "Virtual memory",
            bytes(),
            &ConstGauge::new(reserved),
        )?;
        metric(
            "process_threads",
            "Threads",
            None,
            &ConstGauge::new(figures.threads),
        )?;
        if let Some(open) = figures.open_fds {
            metric(
                "process_open_fds",
                "Open file descriptors",
                None,
                &ConstGauge::new(open as f64),
            )?;
        }
        if let Some(max) = figures.max_fds {
            metric(
                "process_max_fds",
                "Limit of open file descriptors",
                None,
                &ConstGauge::new(max as f64),
            )?;
        }
        Ok(())
    }
}
