//! The provider: one document of all routes of the cluster, for a Traefik that polls it.
//!
//! Readings with other nodes laid over them come from the publisher, as compile gets them. [`document()`] makes the document
//! (pure); [`follow`] keeps the last one, remembers that there were routes ([`store`]) and judges whether a document without
//! any is meant ([`keeper`]); [`server`] answers with it, inside of TLS where that is asked for ([`identity`]).
//!
//! [`Provider`] is the handle that the rest of the agent has, also where there is none.

mod document;
mod follow;
mod identity;
mod keeper;
mod rendered;
mod report;
mod server;
mod split;
mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use constellation_config::{Config, Secret, TraefikProvider};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::follow::{Follower, Latest};
use self::keeper::Keeper;
use self::store::Mark;
use crate::cli::{Exit, Failure};
use crate::http_server::{Ending, HttpServer, Identity};
use crate::publish::Merged;
use crate::settings;

pub use self::document::{Document, RETRY, Terms, document};
pub use self::report::{Report, register};

/// How long a document without routes is waited with after a start, where no container engine says otherwise.
const PATIENCE: Duration = Duration::from_secs(600);

/// The handle. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Provider(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    failover: Option<String>,
    token: Option<Secret>,
    host_names: Vec<String>,
    latest: watch::Receiver<Latest>,
    report: watch::Receiver<Arc<crate::report::Report>>,
    counts: Counts,
}

/// Answers by kind.
#[derive(Debug, Default)]
struct Counts {
    told: AtomicU64,
    unchanged: AtomicU64,
    unavailable: AtomicU64,
    refused: AtomicU64,
}

/// The running server of a provider. Dropping it ends it without waiting.
#[derive(Debug)]
pub struct ProviderServer(HttpServer);

impl ProviderServer {
    /// Stops accepting, lets answers under way finish, and ends the thread.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

/// What a provider is started with.
pub struct Parts<'p> {
    /// The whole configuration.
    pub config: &'p Config,
    /// Where it is polled, bound.
    pub listener: TcpListener,
    /// Entry point name and address of every listener of the data plane.
    pub bound: &'p [(Arc<str>, SocketAddr)],
    /// What the publisher has compiled last.
    pub merged: watch::Receiver<Option<Merged>>,
    /// How the sources fare.
    pub report: watch::Receiver<Arc<crate::report::Report>>,
    /// Names by which the node may be called.
    pub host_names: Vec<String>,
    /// Where the task goes that keeps the document up to date.
    pub tasks: &'p TaskTracker,
    /// Ends that task.
    pub stop: CancellationToken,
}

impl Provider {
    /// Starts a provider, where the configuration has one.
    ///
    /// # Errors
    /// When its certificate can't be used, or there is no thread left.
    pub fn start(provider: &TraefikProvider, parts: Parts<'_>) -> Result<(Self, ProviderServer), Failure> {
        let config = parts.config;
        let identity: Option<Identity> = provider
            .tls
            .as_ref()
            .map(identity::load)
            .transpose()
            .map_err(|error| Failure::new(Exit::Config, error))?;
        let system =
            |error: std::io::Error| Failure::new(Exit::System, format!("cannot start the provider: {error}"));
        let terms = terms(config, provider, parts.bound);
        let (latest, told) = watch::channel(Latest::default());
        let mark = Mark::below(&config.node.data_dir);
        let docker = config.providers.docker.as_ref();
        let patience = docker.map_or(PATIENCE, |docker| docker.removed_grace_period);
        let follower = Follower {
            merged: parts.merged,
            terms: terms.clone(),
            latest,
            keeper: Keeper::new(mark.is_set(), patience),
            mark,
            file: provider.file.clone(),
            withdraw: provider.withdraw,
        };
        parts.tasks.spawn(follower.run(parts.stop));
        let shared = Arc::new(Shared {
            address: parts.listener.local_addr().map_err(system)?,
            failover: terms.failover,
            token: provider.token.clone(),
            host_names: parts.host_names,
            latest: told,
            report: parts.report,
            counts: Counts::default(),
        });
        let router = server::router(shared.clone());
        let server = HttpServer::start(
            "traefik-provider",
            parts.listener,
            router,
            identity,
            Ending::default(),
        )
        .map_err(system)?;
        Ok((Self(Some(shared)), ProviderServer(server)))
    }

    /// How it fares.
    pub fn report(&self) -> Report {
        let Some(shared) = &self.0 else {
            return Report {
                address: None,
                failover: None,
                ready: false,
                reason: None,
                routers: 0,
                services: 0,
                bytes: 0,
                etag: None,
                left_out: Vec::new(),
                answers: [
                    ("document", 0),
                    ("unchanged", 0),
                    ("unavailable", 0),
                    ("refused", 0),
                ],
            };
        };
        let latest = shared.latest.borrow().clone();
        let rendered = latest.rendered.as_deref();
        let document = rendered.map(|rendered| &rendered.document);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &shared.counts;
        Report {
            address: Some(shared.address),
            failover: shared.failover.clone(),
            ready: rendered.is_some(),
            reason: match rendered {
                Some(_) => latest.file_error.clone(),
                None => Some(shared.waits_for(latest.waiting)),
            },
            routers: document.map_or(0, |document| document.routers),
            services: document.map_or(0, |document| document.services),
            bytes: rendered.map_or(0, |rendered| rendered.bytes.len()),
            etag: rendered.map(|rendered| rendered.tag().to_owned()),
            left_out: document
                .map(|document| document.left_out.clone())
                .unwrap_or_default(),
            answers: [
                ("document", count(&counts.told)),
                ("unchanged", count(&counts.unchanged)),
                ("unavailable", count(&counts.unavailable)),
                ("refused", count(&counts.refused)),
            ],
        }
    }
}

impl Shared {
    /// Why there is no document yet.
    fn waits_for(&self, empty: bool) -> String {
        if empty {
            return "no routes were found since the start of this node, and there were some before: that there are none is \
                    told when the grace period is over (providers.docker.removedGracePeriod)"
                .to_owned();
        }
        let report = self.report.borrow().clone();
        let unread = report
            .sources
            .iter()
            .filter(|(_, status)| status.last_read.is_none());
        let unread: Vec<String> = unread
            .map(|(name, status)| match &status.error {
                Some(error) => format!("{name} ({error})"),
                None => (*name).to_owned(),
            })
            .collect();
        match unread.is_empty() {
            true => "the document is being made".to_owned(),
            false => format!(
                "the document waits for the first reading of {}: a part of the routes would make Traefik forget the others",
                unread.join(", ")
            ),
        }
    }
}

/// What shapes the document of this node. Offline, the configured ports count.
pub fn terms(config: &Config, provider: &TraefikProvider, bound: &[(Arc<str>, SocketAddr)]) -> Terms {
    let listening = bound
        .iter()
        .find(|(name, _)| **name == *TraefikProvider::ENTRANCE);
    let address = listening
        .map(|(_, address)| *address)
        .or_else(|| settings::entrance(config));
    Terms {
        failover: address.map(|address| match &provider.failover.advertise {
            Some(advertised) => advertised.clone(),
            None => address.to_string(),
        }),
        entry_points: provider.entry_points.clone(),
        cert_resolver: provider.cert_resolver.clone(),
        certificates: provider.certificates,
    }
}
