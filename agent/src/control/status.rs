//! `/api/v1/status`: the node at a glance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use constellation_dataplane::tls::CertificateInfo;
use serde::Serialize;

use super::cluster::NodeView;
use super::health::{Health, Overall};
use super::services::is_healthy;
use super::{ControlState, cluster, rfc3339};
use crate::report::{DisabledRouter, Report};
use crate::sources::{Problem, SourceStatus};
use crate::{chase, guard, provider, steering, vip};

/// The answer. The first block is what clients of a whole cluster know; a node on its own is a cluster of one.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    service: &'static str,
    nodes: usize,
    healthy_nodes: usize,
    services: usize,
    healthy_services: usize,
    raft_leader: Option<String>,
    cluster_version: &'static str,
    timestamp: String,

    node: String,
    domain: Option<String>,
    region: Option<String>,
    priority: u16,
    version: &'static str,
    status: Overall,
    ready: bool,
    draining: bool,
    started: String,
    uptime_seconds: u64,
    config_file: Option<String>,
    generation: u64,
    published: Option<String>,
    compile_seconds: Option<f64>,
    routers: usize,
    entry_points: Vec<EntryPoint>,
    sources: Vec<Source>,
    problems: Vec<Problem>,
    disabled_routers: Vec<DisabledRouter>,
    certificates: Vec<Certificate>,
    reload_failures: u64,
    last_reload_error: Option<String>,
    steering: steering::Report,
    guard: guard::Report,
    chase: chase::Report,
    virtual_ips: vip::Report,
    /// Who takes clients: `direct`, `behind-traefik` or `provider-only`.
    mode: &'static str,
    traefik_provider: provider::Report,
    /// Whether a majority of the cluster answers; nothing for a node in no cluster.
    quorum: Option<bool>,
    cluster_nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
struct EntryPoint {
    name: Arc<str>,
    address: SocketAddr,
    /// `tcp` or `udp`.
    protocol: String,
}

#[derive(Debug, Serialize)]
struct Source {
    name: &'static str,
    connected: bool,
    error: Option<String>,
    last_read: Option<String>,
}

#[derive(Debug, Serialize)]
struct Certificate {
    subject: Arc<str>,
    names: Vec<Arc<str>>,
    not_before: String,
    not_after: String,
    /// Negative when it has expired.
    expires_in_seconds: i64,
    fingerprint: Arc<str>,
    origin: Arc<str>,
}

impl Status {
    pub(super) fn read(state: &ControlState, now: SystemTime) -> Self {
        let report: Arc<Report> = Arc::clone(&state.report.borrow());
        let generation = state.published.load_full();
        let overall = Health::ready(state, now).status;
        let services = generation.table.services();
        let facts = &state.facts;
        let nodes = cluster::nodes_of(state);
        let quorum = state.cluster.node().map(|node| *node.quorum().borrow());
        let protocol = |name: &Arc<str>| {
            let mut entry_points = state.entry_points.iter();
            let found = entry_points.find(|entry_point| entry_point.name == *name);
            found.map(|entry_point| entry_point.protocol).unwrap_or_default()
        };
        Self {
            service: "constellation",
            nodes: nodes.len(),
            healthy_nodes: match quorum {
                Some(_) => nodes.iter().filter(|node| node.is_online()).count(),
                None => usize::from(overall != Overall::Unavailable),
            },
            services: services.len(),
            healthy_services: services
                .iter()
                .filter(|service| is_healthy(service, Instant::now()))
                .count(),
            raft_leader: nodes.iter().find_map(NodeView::leading).map(str::to_owned),
            cluster_version: facts.version,
            timestamp: rfc3339(now),
            node: facts.name.clone(),
            domain: facts.domain.clone(),
            region: facts.region.clone(),
            priority: facts.priority,
            version: facts.version,
            status: overall,
            ready: overall != Overall::Unavailable,
            draining: state.draining.is_cancelled(),
            started: rfc3339(facts.started),
            uptime_seconds: now.duration_since(facts.started).unwrap_or_default().as_secs(),
            config_file: facts.config_file.clone(),
            generation: generation.table.generation(),
            published: report.published.map(rfc3339),
            compile_seconds: report.compile_duration.map(|duration| duration.as_secs_f64()),
            routers: super::routes::count(&generation.table),
            entry_points: facts
                .entry_points
                .iter()
                .map(|(name, address)| EntryPoint {
                    name: Arc::clone(name),
                    address: *address,
                    protocol: protocol(name).to_string(),
                })
                .collect(),
            sources: report
                .sources
                .iter()
                .map(|(name, status)| Source::of(name, status))
                .collect(),
            problems: report.problems.clone(),
            disabled_routers: report.disabled.clone(),
            certificates: generation
                .tls
                .certificates()
                .map(|info| Certificate::of(info, now))
                .collect(),
            reload_failures: report.failures,
            last_reload_error: report.last_failure.clone(),
            steering: state.steering.report(),
            guard: state.guard.report(),
            chase: state.chase.report(),
            virtual_ips: state.edge.virtual_ips().report(),
            mode: state.mode.as_str(),
            traefik_provider: state.provider.report(),
            quorum,
            cluster_nodes: nodes,
        }
    }
}

impl Source {
    fn of(name: &'static str, status: &SourceStatus) -> Self {
        Self {
            name,
            connected: status.connected,
            error: status.error.clone(),
            last_read: status.last_read.map(rfc3339),
        }
    }
}

impl Certificate {
    fn of(info: &CertificateInfo, now: SystemTime) -> Self {
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self {
            subject: Arc::clone(&info.subject),
            names: info.names.clone(),
            not_before: rfc3339(info.not_before),
            not_after: rfc3339(info.not_after),
            expires_in_seconds: match info.not_after.duration_since(now) {
                Ok(left) => seconds(left),
                Err(past) => -seconds(past.duration()),
            },
            fingerprint: Arc::clone(&info.fingerprint),
            origin: Arc::clone(&info.origin),
        }
    }
}
