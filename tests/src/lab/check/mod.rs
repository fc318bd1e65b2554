//! The checker: random faults to a cluster of real nodes, while the kernel of each is asked who it lets connections in for.
//!
//! [`schedule`] draws what happens from a seed, [`inject`] does it, [`probe`] and [`clients`] write down what they see, all by
//! the one clock that every namespace shares, and [`verdict`] judges that when it is over. A run that breaks a promise
//! prints its seed and keeps its files.

pub mod clients;
pub mod inject;
pub mod probe;
pub mod register;
pub mod schedule;
pub mod verdict;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, fs};

use anyhow::Result;
use constellation_boot_time::BootTime;
use constellation_history::{Operation, Register};
use serde_json::{Value, json};

use self::clients::{Seen, Transfer};
use self::probe::Probe;
use self::schedule::{Event, Limits};
use self::verdict::{Judgement, Record};
use super::{Lab, Plan, clock, members, until};

/// The lease that the kernel's grants belong to.
pub const LEASE: &str = "lb_leader";

/// A run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the nodes run.
    pub binary: PathBuf,
    /// How many.
    pub nodes: usize,
    /// For how long faults come.
    pub during: Duration,
    /// The longest time for which a process is frozen.
    pub max_stop: Duration,
    /// Merged into the configuration of each node.
    pub config: Value,
    /// More variables of the nodes.
    pub environment: Vec<(String, String)>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// By which it can be run again.
    pub seed: u64,
    /// What happened.
    pub events: Vec<Event>,
    /// What was seen of it.
    pub judgement: Judgement,
    /// Where the files of a run that broke a promise are.
    pub kept: Option<PathBuf>,
}

/// What the threads of a run share.
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    /// How often each node's process was started or is about to be.
    pub(crate) lives: Vec<AtomicU64>,
    /// The node whose kernel has let somebody in last under a lease.
    pub(crate) holder: AtomicUsize,
}

impl Shared {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn life(&self, node: usize) -> u64 {
        self.lives[node - 1].load(Ordering::SeqCst)
    }
}

/// Now, in nanoseconds since boot: the same figure in all namespaces, and in the kernel's maps.
pub(crate) fn now() -> u64 {
    BootTime::now().as_nanos()
}

/// Does one run.
///
/// # Errors
/// When the lab can't be made, or the cluster does not come together again: that is a finding, too, and says so.
pub fn run(settings: &Settings, seed: u64) -> Result<Report> {
    let mut lab = make(settings)?;
    let events = schedule::draw(
        seed,
        &Limits {
            nodes: settings.nodes,
            during: settings.during,
            max_stop: settings.max_stop,
        },
    );
    let outcome = watch(&lab, settings, seed, &events);
    let (mut judgement, register) = match outcome {
        Ok(record) => (verdict::judge(&record), record.register),
        Err(error) => (Judgement::broken(format!("{error:#}")), Vec::new()),
    };
    let kept = (!judgement.violations.is_empty()).then(|| lab.keep_files());
    if let Some(kept) = &kept {
        // The report shows the first few; whoever looks for the cause needs all.
        let kept = fs::write(kept.join("register"), told(&register));
        let failed = kept.map_err(|error| format!("what was written and read can't be kept: {error}"));
        judgement.violations.extend(failed.err());
    }
    Ok(Report {
        seed,
        events,
        judgement,
        kept,
    })
}

/// An operation in a line, as they were begun.
fn told(register: &[Operation<Register>]) -> String {
    let mut all: Vec<_> = register.iter().collect();
    all.sort_by_key(|one| one.called);
    all.into_iter().map(|one| format!("{one:?}\n")).collect()
}

fn make(settings: &Settings) -> Result<Lab> {
    let mut config = json!({
        "edge": { "steering": "ebpf" },
        // Who is preferred gets the lease back soon, so that it moves more often.
        "cluster": { "settle": "2s" },
    });
    crate::node::merge(&mut config, settings.config.clone());
    let lab = Lab::prepare(&Plan {
        nodes: settings.nodes,
        binary: settings.binary.clone(),
        base: None,
        config,
    })?;
    let first = lab.node(1);
    first.init()?;
    inject::start(&lab, 1, settings)?;
    for node in lab.nodes().skip(1) {
        node.join(&super::Joining::by(first.token()?))?;
        inject::start(&lab, node.number(), settings)?;
    }
    lab.formed(1..=settings.nodes)?;
    held(&lab)?;
    Ok(lab)
}

/// Waits until somebody has the lease, and may act.
fn held(lab: &Lab) -> Result<()> {
    until("somebody holds the lease of the edge", || {
        for node in lab.nodes() {
            if node.lease(LEASE)?["mine"] == true {
                return Ok(());
            }
        }
        let report = lab.node(1).cluster()?;
        let all: Vec<String> = members(&report).map(ToString::to_string).collect();
        anyhow::bail!(
            "nobody does; n1 says of leases {}, of nodes {all:#?}",
            report["leases"]
        )
    })
}

/// Lets everything happen, and writes it down.
fn watch(lab: &Lab, settings: &Settings, seed: u64, events: &[Event]) -> Result<Record> {
    let shared = Shared {
        stop: AtomicBool::new(false),
        lives: lab.nodes().map(|_| AtomicU64::new(1)).collect(),
        holder: AtomicUsize::new(1),
    };
    let shared = &shared;
    std::thread::scope(|scope| {
        let probers: Vec<_> = lab
            .nodes()
            .map(|node| scope.spawn(move || probe::probe(node, shared)))
            .collect();
        let observers: Vec<_> = lab
            .nodes()
            .map(|node| scope.spawn(move || clients::observe(node, shared)))
            .collect();
        let mover = scope.spawn(move || clients::transfer(lab, seed, shared));
        let registers: Vec<_> = lab
            .nodes()
            .map(|node| scope.spawn(move || register::client(node, lab.size(), seed, shared)))
            .collect();
        let injected = inject::run(lab, settings, events, shared).and_then(|()| together(lab));
        // Whatever happened: the threads end.
        shared.stop.store(true, Ordering::Relaxed);
        let join = "a thread of the checker ends";
        let probes: Vec<Vec<Probe>> = probers
            .into_iter()
            .map(|thread| thread.join().expect(join))
            .collect::<Result<_>>()?;
        let seen: Vec<Vec<Seen>> = observers
            .into_iter()
            .map(|thread| thread.join().expect(join))
            .collect();
        let transfers: Vec<Transfer> = mover.join().expect(join);
        let register = registers
            .into_iter()
            .flat_map(|thread| thread.join().expect(join))
            .collect();
        injected?;
        Ok(Record {
            probes,
            seen,
            transfers,
            register,
        })
    })
}

/// After all faults the cluster is whole again by itself.
fn together(lab: &Lab) -> Result<()> {
    lab.formed(1..=lab.size())?;
    held(lab)
}

impl Settings {
    /// What makes a process follow a clock of its own.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub(crate) fn clock_of(&self, lab: &Lab, node: usize) -> Result<Vec<(String, String)>> {
        let file = lab.node(node).folder().join("clock");
        if !file.exists() {
            std::fs::write(&file, "+0")?;
        }
        clock::by_file(&file).map_err(anyhow::Error::msg)
    }
}

impl Report {
    /// Whether all promises were kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.judgement.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.holds() { "holds" } else { "BROKEN" };
        writeln!(f, "seed {}: {state}; {}", self.seed, self.judgement.counts)?;
        if self.holds() {
            return Ok(());
        }
        for violation in self.judgement.violations.iter().take(10) {
            writeln!(f, "  {violation}")?;
        }
        let more = self.judgement.violations.len().saturating_sub(10);
        if more > 0 {
            writeln!(f, "  and {more} more")?;
        }
        for event in &self.events {
            writeln!(f, "  at {:>6} ms: {:?}", event.at.as_millis(), event.fault)?;
        }
        match &self.kept {
            Some(folder) => writeln!(f, "  files: {}", folder.display()),
            None => Ok(()),
        }
    }
}
