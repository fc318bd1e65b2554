//! What a cluster costs when nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Figure;
use crate::lab::{Lab, LabNode};
use crate::metrics::Metrics;

/// How long is looked.
const LOOK: Duration = Duration::from_secs(10);

/// What a node has used since it started.
#[derive(Clone, Copy)]
struct Used {
    at: Instant,
    gossip: f64,
    /// Seconds.
    cpu: f64,
    /// Bytes.
    memory: f64,
}

/// Gossip, memory and CPU of each node.
pub(super) fn measure(lab: &Lab, tell: &mut impl FnMut(Figure)) -> Result<()> {
    let before = lab.nodes().map(used).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(LOOK);
    let after = lab.nodes().map(used).collect::<Result<Vec<_>>>()?;
    let each = |of: &dyn Fn(&Used, &Used) -> f64, digits: usize| -> String {
        let all = before.iter().zip(&after).map(|(before, after)| of(before, after));
        all.map(|value| format!("{value:.digits$}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let seconds = |before: &Used, after: &Used| (after.at - before.at).as_secs_f64();
    tell(Figure::new(
        "five idle nodes: bytes of gossip sent a second, each",
        each(
            &|before, after| (after.gossip - before.gossip) / seconds(before, after),
            0,
        ),
    ));
    tell(Figure::new(
        "five idle nodes: resident memory, each, MB",
        each(&|_, after| after.memory / 1e6, 1),
    ));
    tell(Figure::new(
        "five idle nodes: CPU, each, % of one",
        each(
            &|before, after| (after.cpu - before.cpu) / seconds(before, after) * 100.0,
            2,
        ),
    ));
    Ok(())
}

fn used(node: LabNode<'_>) -> Result<Used> {
    let metrics = Metrics::parse(&node.get("/metrics")?.body);
    let pid = *node.processes().first().context("it does not run")?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may contain anything: the state is the first field, user and system time 12th and 13th.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    let pages: f64 = fs::read_to_string(format!("/proc/{pid}/statm"))?
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .context("statm")?;
    Ok(Used {
        at: Instant::now(),
        gossip: metrics.sum("constellation_gossip_sent_bytes_total", &[]),
        // USER_HZ is 100, and pages have 4 KiB, on what this runs on.
        cpu: ticks / 100.0,
        memory: pages * 4096.0,
    })
}
