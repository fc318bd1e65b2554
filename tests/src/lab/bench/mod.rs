//! Figures of clusters of real nodes. They say how long something took on this machine, and are no test.

mod failover;
mod handover;
mod idle;
mod spread;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Joining, Lab, Plan};

/// The address of the cluster that clients go to.
pub(crate) const VIRTUAL: &str = "10.231.0.200";

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the nodes run.
    pub binary: PathBuf,
    /// How often what can be repeated is.
    pub times: usize,
    /// Only figures whose name contains this.
    pub only: Option<String>,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is.
    pub what: String,
    /// What it came to.
    pub value: String,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<72} {}", self.what, self.value)
    }
}

impl Figure {
    fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            value: value.into(),
        }
    }

    /// Of several times.
    fn of(what: impl Into<String>, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let show = |time: Option<&Duration>| {
            time.map_or_else(
                || "-".to_owned(),
                |time| format!("{:.1} ms", time.as_secs_f64() * 1e3),
            )
        };
        let value = format!(
            "n={} min {} median {} p99 {} max {}",
            times.len(),
            show(times.first()),
            show(at(50)),
            show(at(99)),
            show(times.last())
        );
        Self::new(what, value)
    }
}

/// Measures all of it; each figure is told as soon as it is there.
///
/// # Errors
/// When a lab can't be made, or what is measured does not happen.
pub fn run(settings: &Settings, mut tell: impl FnMut(Figure)) -> Result<()> {
    let wanted = |name: &str| {
        settings
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    if wanted("idle") || wanted("failover") || wanted("form") {
        let lab = form(settings, &mut tell)?;
        if wanted("idle") {
            idle::measure(&lab, &mut tell)?;
        }
        if wanted("failover") {
            failover::measure(&lab, settings.times, &mut tell)?;
        }
    }
    if wanted("handover") {
        let lab = Lab::up(&plan(settings, 3, holder()))?;
        handover::measure(&lab, settings.times, &mut tell)?;
    }
    if wanted("spread") {
        let lab = Lab::up(&plan(settings, 5, json!({ "edge": { "serve": "every-node" } })))?;
        spread::measure(&lab, settings.times.max(20), &mut tell)?;
    }
    Ok(())
}

/// One node answers, at an address that moves with the lease.
fn holder() -> Value {
    json!({
        "edge": {
            "steering": "ebpf",
            "virtualIps": [format!("{VIRTUAL}/24")],
            "chase": { "devices": ["mesh"] },
        },
        // Nothing moves by itself while it is measured.
        "cluster": { "settle": "1h" },
    })
}

fn plan(settings: &Settings, nodes: usize, config: Value) -> Plan {
    Plan {
        nodes,
        binary: settings.binary.clone(),
        base: None,
        config,
    }
}

/// Five nodes, and how long each step took.
fn form(settings: &Settings, tell: &mut impl FnMut(Figure)) -> Result<Lab> {
    let lab = Lab::prepare(&plan(settings, 5, holder()))?;
    let began = Instant::now();
    lab.node(1).init()?;
    lab.node(1).start()?;
    let mut joins = Vec::new();
    for node in lab.nodes().skip(1) {
        let token = lab.node(1).token()?;
        let began = Instant::now();
        node.join(&Joining::by(token))?;
        node.start()?;
        lab.formed([1, node.number()])?;
        joins.push(began.elapsed());
    }
    lab.formed(1..=5)?;
    let all = Figure::new(
        "five nodes: init to all see all",
        format!("{:.2} s", began.elapsed().as_secs_f64()),
    );
    tell(all);
    tell(Figure::of(
        "a node joins, starts, and both sides hear of each other",
        joins,
    ));
    Ok(lab)
}
