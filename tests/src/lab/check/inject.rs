//! Does what was drawn: each fault begins at its time and is over at its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use nix::sys::stat::{major, minor, stat};

use super::schedule::{Event, Fault};
use super::{Settings, Shared};
use crate::lab::{Lab, Start};

/// How many writes a slow disk takes in a second.
const SLOW: u32 = 20;
/// Where control groups of block devices are, of the first version of control groups.
const BLKIO: &str = "/sys/fs/cgroup/blkio";

/// The end of a fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Start(usize),
    Go(Vec<usize>),
    Heal,
    Fast(usize),
}

/// Starts a node with a clock of its own.
pub(super) fn start(lab: &Lab, node: usize, settings: &Settings) -> Result<()> {
    let mut environment = settings.clock_of(lab, node)?;
    environment.extend(settings.environment.iter().cloned());
    lab.node(node).start_as(&Start { environment })
}

/// Does all of it, and ends all of it.
pub(super) fn run(lab: &Lab, settings: &Settings, events: &[Event], shared: &Shared) -> Result<()> {
    let began = Instant::now();
    let mut ends: BinaryHeap<Reverse<(Duration, End)>> = BinaryHeap::new();
    let mut events = events.iter().peekable();
    loop {
        let next_event = events.peek().map(|event| event.at);
        let next_end = ends.peek().map(|Reverse((at, _))| *at);
        let Some(next) = [next_event, next_end].into_iter().flatten().min() else {
            return Ok(());
        };
        std::thread::sleep(next.saturating_sub(began.elapsed()));
        if next_end == Some(next) {
            if let Some(Reverse((_, end))) = ends.pop() {
                finish(lab, settings, end, shared)?;
            }
        } else if let Some(event) = events.next()
            && let Some((long, end)) = begin(lab, &event.fault, shared, &troubled(&ends))?
        {
            // Not before it has begun: a machine may be slow.
            ends.push(Reverse((event.at.max(began.elapsed()) + long, end)));
        }
    }
}

/// The nodes whose process has trouble that is not over.
fn troubled(ends: &BinaryHeap<Reverse<(Duration, End)>>) -> Vec<usize> {
    let nodes = ends.iter().flat_map(|Reverse((_, end))| match end {
        End::Start(node) | End::Fast(node) => vec![*node],
        End::Go(nodes) => nodes.clone(),
        End::Heal => Vec::new(),
    });
    nodes.collect()
}

/// Begins a fault; says when it is over, and what is to be done then. One to a process that has trouble already is none: where
/// a machine is slow, or the holder was hit in place of another, troubles come later than they were drawn.
fn begin(lab: &Lab, fault: &Fault, shared: &Shared, troubled: &[usize]) -> Result<Option<(Duration, End)>> {
    let victim = |node: usize, holder: bool| {
        let instead = shared.holder.load(Ordering::Relaxed);
        let chosen = if holder && !troubled.contains(&instead) {
            instead
        } else {
            node
        };
        Some(chosen).filter(|chosen| !troubled.contains(chosen))
    };
    let end = match fault {
        Fault::Kill { node, holder, down } => {
            let Some(node) = victim(*node, *holder) else {
                return Ok(None);
            };
            shared.lives[node - 1].fetch_add(1, Ordering::SeqCst);
            lab.node(node).kill()?;
            (*down, End::Start(node))
        }
        Fault::Stop { node, holder, frozen } => {
            let Some(node) = victim(*node, *holder) else {
                return Ok(None);
            };
            lab.node(node).signal(Signal::SIGSTOP)?;
            (*frozen, End::Go(vec![node]))
        }
        Fault::StopAll { .. } if !troubled.is_empty() => return Ok(None),
        Fault::SlowDisk { node, .. } if troubled.contains(node) => return Ok(None),
        Fault::StopAll { frozen } => {
            for node in lab.nodes() {
                node.signal(Signal::SIGSTOP)?;
            }
            (*frozen, End::Go((1..=lab.size()).collect()))
        }
        Fault::Partition { side, cut } => {
            let other: Vec<usize> = (1..=lab.size()).filter(|node| !side.contains(node)).collect();
            lab.partition(&[side, &other])?;
            (*cut, End::Heal)
        }
        Fault::OneWay { from, to, cut } => {
            lab.one_way(*from, *to)?;
            (*cut, End::Heal)
        }
        Fault::Clock { node, off } => {
            let file = lab.node(*node).folder().join("clock");
            let fresh = file.with_extension("new");
            fs::write(&fresh, format!("{off:+}"))?;
            fs::rename(fresh, file)?;
            return Ok(None);
        }
        Fault::SlowDisk { node, slow } => {
            throttle(lab, *node)?;
            (*slow, End::Fast(*node))
        }
    };
    Ok(Some(end))
}

fn finish(lab: &Lab, settings: &Settings, end: End, shared: &Shared) -> Result<()> {
    match end {
        End::Start(node) => {
            // A start waits for the node; the others' faults go on meanwhile.
            shared.lives[node - 1].fetch_add(1, Ordering::SeqCst);
            start(lab, node, settings)
        }
        End::Go(nodes) => nodes
            .into_iter()
            .try_for_each(|node| lab.node(node).signal(Signal::SIGCONT)),
        End::Heal => lab.heal(),
        End::Fast(node) => release(lab, node),
    }
}

/// The control group of a node of this lab.
fn group(lab: &Lab, node: usize) -> PathBuf {
    let lab = lab
        .base()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    PathBuf::from(BLKIO).join(format!("{lab}-n{node}"))
}

/// Has the kernel take few writes of a node's process. Where there are no such control groups nothing is slow: a run is a run
/// without it, too.
fn throttle(lab: &Lab, node: usize) -> Result<()> {
    if !PathBuf::from(BLKIO)
        .join("blkio.throttle.write_iops_device")
        .exists()
    {
        return Ok(());
    }
    let group = group(lab, node);
    fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
    let device = stat(&lab.node(node).data())?.st_dev;
    let rule = format!("{}:{} {SLOW}", major(device), minor(device));
    // A disk that is none, as a tmpfs, has no rules.
    if fs::write(group.join("blkio.throttle.write_iops_device"), rule).is_ok() {
        for process in lab.node(node).processes() {
            fs::write(group.join("cgroup.procs"), process.to_string())?;
        }
    }
    Ok(())
}

fn release(lab: &Lab, node: usize) -> Result<()> {
    let group = group(lab, node);
    if !group.exists() {
        return Ok(());
    }
    for process in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
        fs::write(PathBuf::from(BLKIO).join("cgroup.procs"), process)?;
    }
    fs::remove_dir(&group).with_context(|| format!("cannot remove {}", group.display()))
}
