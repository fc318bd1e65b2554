//! How long it takes to notice that a node is gone, to have another leader, and to be answered by another holder.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Figure, VIRTUAL};
use crate::lab::check::LEASE;
use crate::lab::{HOST, Lab, LabNode, api, members, until};

/// Between two questions.
const ASK: Duration = Duration::from_millis(4);
/// How long a client waits for an answer before it tries again.
const ANSWER: Duration = Duration::from_millis(200);

/// Kills nodes, and times what follows.
pub(super) fn measure(lab: &Lab, times: usize, tell: &mut impl FnMut(Figure)) -> Result<()> {
    let (mut noticed, mut elected) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let leader = until("there is a leader", || leader(lab))?;
        let (notice, election) = kill(lab, leader)?;
        noticed.extend(notice);
        elected.push(election);
        back(lab, leader)?;
    }
    tell(Figure::of(
        "kill -9 of a node: each other one says that it is gone",
        noticed,
    ));
    tell(Figure::of(
        "kill -9 of the log's leader: another one leads",
        elected,
    ));
    for (leads, what) in [
        (false, "kill -9 of the holder: another one answers at the address"),
        (true, "kill -9 of the holder that leads the log, too: the same"),
    ] {
        let mut answered = Vec::new();
        for _ in 0..times {
            let holder = hold(lab, leads)?;
            answered.push(crash(lab, holder)?);
            back(lab, holder)?;
        }
        tell(Figure::of(what, answered));
    }
    Ok(())
}

/// Has the edge held by the node that leads the log, or by one that does not.
fn hold(lab: &Lab, leads: bool) -> Result<usize> {
    let name = |number: usize| lab.node(number).name();
    until("the edge is where it is wanted", || {
        let (leader, holder) = (leader(lab)?, holder(lab)?);
        if (leader == holder) == leads {
            return Ok(holder);
        }
        let to = match leads {
            true => leader,
            false => (1..=lab.size())
                .find(|node| *node != leader)
                .context("a cluster of one")?,
        };
        lab.node(to).ok(&["lease", "transfer", LEASE, &name(to)])?;
        bail!("{} leads, and {} has the edge", name(leader), name(holder))
    })
}

fn leader(lab: &Lab) -> Result<usize> {
    for node in lab.nodes() {
        let raft = node.get("/api/v1/raft/status")?.json()?;
        if raft["is_leader"] == true && raft["quorum"] == true {
            return Ok(node.number());
        }
    }
    bail!("nobody leads")
}

fn holder(lab: &Lab) -> Result<usize> {
    for node in lab.nodes() {
        if node.lease(LEASE)?["mine"] == true {
            return Ok(node.number());
        }
    }
    bail!("nobody holds the edge")
}

fn back(lab: &Lab, node: usize) -> Result<()> {
    lab.node(node).start()?;
    lab.formed(1..=lab.size())?;
    // It votes again, and others have its address.
    until("all vote", || {
        let raft = lab.node(node).get("/api/v1/raft/status")?.json()?;
        ensure!(raft["voters"] == lab.size(), "{raft}");
        holder(lab).map(drop)
    })
}

/// Kills the leader: how long until each other node has noticed, and until one of them leads.
fn kill(lab: &Lab, leader: usize) -> Result<(Vec<Duration>, Duration)> {
    let name = lab.node(leader).name();
    let began = Instant::now();
    lab.node(leader).kill()?;
    let others: Vec<LabNode<'_>> = lab.nodes().filter(|node| node.number() != leader).collect();
    let gone = |node: LabNode<'_>| -> Result<Duration> {
        until("it is noticed", || {
            let report = node.cluster()?;
            let offline = members(&report).any(|member| member["name"] == name && member["online"] == false);
            ensure!(offline, "online");
            Ok(began.elapsed())
        })
    };
    std::thread::scope(|scope| {
        let notices: Vec<_> = others
            .iter()
            .map(|node| scope.spawn(move || gone(*node)))
            .collect();
        let elected = loop {
            let leads = others.iter().any(|node| {
                let raft = node.get("/api/v1/raft/status").and_then(|reply| reply.json());
                raft.is_ok_and(|raft| raft["is_leader"] == true)
            });
            if leads {
                break began.elapsed();
            }
            ensure!(began.elapsed() < Duration::from_secs(60), "nobody leads");
            std::thread::sleep(ASK);
        };
        let notices = notices
            .into_iter()
            .map(|notice| notice.join().expect("a thread that asks ends"))
            .collect::<Result<Vec<_>>>()?;
        Ok((notices, elected))
    })
}

/// Kills the holder: how long until a client at the address is answered.
fn crash(lab: &Lab, holder: usize) -> Result<Duration> {
    let to: SocketAddr = format!("{VIRTUAL}:80").parse().context("an address")?;
    let client = lab.client()?;
    let ask = || api::ask_within(&client, to, "GET", HOST, "/", "", ANSWER);
    until("the holder answers", || {
        ensure!(ask()?.status == 200, "another status");
        Ok(())
    })?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            // A client that goes on trying, each time anew, from before the crash on.
            loop {
                let crashed = ended.load(Ordering::SeqCst);
                if ask().is_ok_and(|reply| reply.status == 200) && crashed {
                    return Instant::now();
                }
                std::thread::sleep(ASK);
            }
        });
        let began = Instant::now();
        lab.node(holder).kill()?;
        ended.store(true, Ordering::SeqCst);
        let answered = asked.join().expect("the client ends");
        Ok(answered - began)
    })
}
