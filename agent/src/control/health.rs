//! Whether the node serves, and which conditions say so.

use std::sync::Arc;
use std::time::SystemTime;

use constellation_config::EdgeMode;
use constellation_dataplane::{Generation, Workers};
use serde::Serialize;

use super::{ControlState, rfc3339};
use crate::cluster::Cluster;
use crate::report::Report;
use crate::{chase, guard, provider, steering, vip};

/// The answer of `/health`.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    pub(super) status: Overall,
    pub(super) timestamp: String,
    pub(super) conditions: Vec<Condition>,
}

/// The worst of the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Overall {
    /// Every condition holds.
    Healthy,
    /// It serves, and something needs attention.
    Degraded,
    /// It must not get traffic now.
    Unavailable,
}

/// One named condition.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Condition {
    pub(super) name: String,
    /// Whether it holds.
    pub(super) ok: bool,
    /// Whether the node is not ready without it.
    pub(super) required: bool,
    /// What is so, and what to do where it should not be.
    pub(super) reason: String,
}

impl Health {
    /// Alive: this answer was written. The conditions that could make it unready do not count.
    pub(super) fn live(now: SystemTime) -> Self {
        let alive = required("process", true, "the control server answers".to_owned());
        Self::of(vec![alive], now)
    }

    /// All conditions.
    pub(super) fn ready(state: &ControlState, now: SystemTime) -> Self {
        let report = Arc::clone(&state.report.borrow());
        let generation = state.published.load_full();
        let listeners = state.facts.entry_points.len();
        let mut conditions = vec![
            required(
                "listeners",
                listeners > 0 || state.mode == EdgeMode::ProviderOnly,
                format!("{listeners} listening sockets, edge.mode {}", state.mode.as_str()),
            ),
            data_plane(&state.workers),
            steering(&state.steering.report()),
            guard(&state.guard.report()),
            chase(&state.chase.report()),
            cluster(&state.cluster),
            virtual_ips(&state.edge.virtual_ips().report()),
            configuration(&report),
            draining(state.draining.is_cancelled()),
            reload(&report),
        ];
        conditions.extend(report.sources.iter().map(|(name, status)| {
            let reason = match (&status.error, status.connected) {
                (Some(error), _) => error.clone(),
                (None, true) => "connected".to_owned(),
                (None, false) => "not connected yet".to_owned(),
            };
            attention(
                &format!("source:{name}"),
                status.connected && status.error.is_none(),
                reason,
            )
        }));
        conditions.extend(traefik_provider(&state.provider.report()));
        conditions.push(problems(&report));
        conditions.push(certificates(&generation, now));
        Self::of(conditions, now)
    }

    fn of(conditions: Vec<Condition>, now: SystemTime) -> Self {
        let status = if conditions.iter().any(|c| c.required && !c.ok) {
            Overall::Unavailable
        } else if conditions.iter().any(|c| !c.ok) {
            Overall::Degraded
        } else {
            Overall::Healthy
        };
        Self {
            status,
            timestamp: rfc3339(now),
            conditions,
        }
    }
}

fn required(name: &str, ok: bool, reason: String) -> Condition {
    Condition {
        name: name.to_owned(),
        ok,
        required: true,
        reason,
    }
}

fn attention(name: &str, ok: bool, reason: String) -> Condition {
    Condition {
        name: name.to_owned(),
        ok,
        required: false,
        reason,
    }
}

/// Without some workers the others serve; without all of them nobody does.
fn data_plane(workers: &Workers) -> Condition {
    let failures = workers.failures();
    let left = workers.total().saturating_sub(failures.len());
    let serve = format!("{left} of {} workers serve in full", workers.total());
    if failures.is_empty() {
        return required("data_plane", true, serve);
    }
    let ended = failures
        .iter()
        .map(|(worker, reason)| format!("worker {worker} {reason}"));
    let ended: Vec<String> = ended.collect();
    let reason = format!("{}; {serve}; restart the node", ended.join("; "));
    if left == 0 {
        required("data_plane", false, reason)
    } else {
        attention("data_plane", false, reason)
    }
}

/// Without the lease the kernel refuses every new connection. Where steering is not used there is nothing to lose.
fn steering(report: &steering::Report) -> Condition {
    let reason = match (&report.lease, &report.standing.reason) {
        (Some(lease), _) if lease.remaining.is_zero() => format!(
            "the lease (epoch {}) has ended: the kernel refuses new connections until it is renewed",
            lease.epoch
        ),
        (Some(lease), _) => format!(
            "the kernel gives new connections to this node (epoch {})",
            lease.epoch
        ),
        (None, Some(reason)) => format!("not used: {reason}"),
        (None, None) => report.standing.state.to_owned(),
    };
    if report.authority == "lease" {
        // Who is not the holder lacks nothing.
        let reason = match &report.lease {
            Some(lease) if lease.stands_by => "stands by for the holder",
            Some(lease) if lease.remaining.is_zero() => "not the holder: new connections are refused",
            _ => &reason,
        };
        return required("steering", true, reason.to_owned());
    }
    let held = report
        .lease
        .as_ref()
        .is_none_or(|lease| !lease.remaining.is_zero());
    required("steering", held, reason)
}

/// Whether there is a document for a Traefik, where one may ask for it. Until then that one keeps what it has.
fn traefik_provider(report: &provider::Report) -> Option<Condition> {
    let address = report.address?;
    let reason = match &report.reason {
        Some(reason) => reason.clone(),
        None => format!("{} routers are told to whoever polls {address}", report.routers),
    };
    let ok = report.ready && report.reason.is_none();
    Some(attention("traefik_provider", ok, reason))
}

/// Without it the node serves; but whoever has asked for it wants to know.
fn guard(report: &guard::Report) -> Condition {
    let reason = match (report.standing.state, &report.standing.reason) {
        ("active", _) if report.problems.is_empty() => format!(
            "the kernel drops packets from {} prefixes at {} devices",
            report.denied,
            report.devices.len()
        ),
        _ if !report.problems.is_empty() => report.problems.join("; "),
        (_, Some(reason)) => format!("not used: {reason}"),
        (state, None) => state.to_owned(),
    };
    attention("guard", report.problems.is_empty(), reason)
}

/// Without it connections are reset when their address moves here; whoever has asked for it wants to know.
fn chase(report: &chase::Report) -> Condition {
    let ok = report.problems.is_empty()
        && (!report.is_wanted || matches!(report.standing.state, "active" | "waiting" | "ended"));
    let reason = match (report.standing.state, &report.standing.reason) {
        _ if !report.problems.is_empty() => report.problems.join("; "),
        ("active", _) => format!(
            "{} addresses have moved here whose connections stay with the node before",
            report.moved.len()
        ),
        (_, Some(reason)) => format!("not used: {reason}"),
        (state, None) => state.to_owned(),
    };
    attention("chase", ok, reason)
}

/// Whoever has asked for them wants to know that they can't be had.
fn virtual_ips(report: &vip::Report) -> Condition {
    let reason = match (report.standing.state, &report.standing.reason) {
        ("active", _) if report.remaining.is_zero() => {
            "not here: another node holds them, or nobody".to_owned()
        }
        ("active", _) => format!("here: {}", report.addresses.join(", ")),
        (_, Some(reason)) => format!("not used: {reason}"),
        (state, None) => state.to_owned(),
    };
    attention(
        "virtual_ips",
        matches!(report.standing.state, "active" | "disabled"),
        reason,
    )
}

/// Without a majority the node serves on; whoever looks wants to know.
fn cluster(cluster: &Cluster) -> Condition {
    let (ok, reason) = match (cluster.node(), cluster.identity()) {
        (None, None) => (true, "in no cluster".to_owned()),
        (None, Some(identity)) => (
            false,
            format!("node {} of its cluster does not run yet", identity.node),
        ),
        (Some(node), _) => {
            let report = node.report();
            let online = report.nodes.iter().filter(|node| node.online).count();
            let members = report.nodes.len();
            match (report.removed, &report.raft.stopped, report.quorum) {
                (true, ..) => (
                    false,
                    "this node was removed from the cluster: it is told nothing any more".to_owned(),
                ),
                (_, Some(stopped), _) => (false, format!("the replicated log has stopped: {stopped}")),
                (_, _, true) => (true, format!("{online} of {members} nodes are heard of")),
                (_, _, false) => (
                    false,
                    format!(
                        "no majority of the voters answers ({online} of {members} nodes are heard of): it serves on with what it \
                         knows, and nothing is changed"
                    ),
                ),
            }
        }
    };
    attention("cluster", ok, reason)
}

fn configuration(report: &Report) -> Condition {
    let reason = if report.ready {
        format!("generation {} serves", report.generation)
    } else {
        "waiting for the first complete reading of every source".to_owned()
    };
    required("configuration", report.ready, reason)
}

fn draining(draining: bool) -> Condition {
    let reason = if draining {
        "the node is stopping: requests under way finish, new ones go elsewhere"
    } else {
        "accepting"
    };
    required("accepting", !draining, reason.to_owned())
}

fn reload(report: &Report) -> Condition {
    let reason = report.last_failure.as_ref().map_or_else(
        || "the last change was published".to_owned(),
        |failure| {
            format!(
                "the last change was refused and generation {} stays: {failure}",
                report.generation
            )
        },
    );
    attention("reload", report.last_failure.is_none(), reason)
}

fn problems(report: &Report) -> Condition {
    let reason = match report.problems.len() {
        0 => "every object of the configuration is in use".to_owned(),
        1 => "1 object of the configuration can't be used, see /api/v1/status".to_owned(),
        count => format!("{count} objects of the configuration can't be used, see /api/v1/status"),
    };
    attention("problems", report.problems.is_empty(), reason)
}

fn certificates(generation: &Generation, now: SystemTime) -> Condition {
    let expired: Vec<&str> = generation
        .tls
        .certificates()
        .filter(|certificate| certificate.not_after < now)
        .map(|certificate| &*certificate.subject)
        .collect();
    let reason = if expired.is_empty() {
        "none is expired".to_owned()
    } else {
        format!(
            "expired: {}; renew them, they are read again when their files change",
            expired.join("; ")
        )
    };
    attention("certificates", expired.is_empty(), reason)
}
