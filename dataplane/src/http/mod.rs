//! HTTP: framing checks on the wire, decisions, the exchange with back ends, forwarding headers, own answers.
//!
//! The life of a connection: [`serve`] asks whose it is ([`ends`]), looks at its first bytes (TLS, HTTP/2, HTTP/1), makes
//! its [`io`] and hands it to pingora, which parses requests. The life of a request: [`io`] checks its bytes by [`framing`] ([`head`], [`chunked`]);
//! [`routing`] takes one generation and asks the routing core; [`chain`] lets the route's middlewares look at the request and at the response,
//! with [`page`] for errors; [`buffering`] takes bodies whole; [`admission`] lets it in; [`race`] gets a response by as many
//! attempts ([`attempt`], over connections of [`pool`]) as [`retry`] and [`budget`] allow, sending the [`body`] again where
//! it was kept; [`relay`] hands the response on; [`mirror`] sends copies, as a page is asked for [`beside`] the request; [`meshed`] is what other nodes send and get, [`handed`] what a proxy in front sends; [`accounting`] counts and logs. [`proxy`] holds
//! them together.

mod accounting;
pub mod admission;
mod answer;
mod attempt;
mod authorize;
mod backlog;
mod beside;
mod body;
mod budget;
mod buffering;
mod chain;
pub mod chunked;
mod connection;
mod dial;
mod downstream;
mod ends;
mod exchange;
mod forwarded;
mod frame_watch;
pub mod frames;
pub mod framing;
mod handed;
pub mod head;
mod io;
mod meshed;
mod mirror;
mod outgoing;
pub mod pace;
mod page;
mod pool;
mod proxy;
mod race;
pub mod refusal;
mod relay;
mod response;
mod retry;
mod routing;
mod runtime;
mod serve;
mod upstream;
mod verifying;
#[cfg(test)]
mod wire_tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use tokio_util::sync::CancellationToken;

use constellation_table::{Service, Transitions};

use crate::Published;
use crate::access_log::AccessLog;
use crate::health::log::Log;
use crate::mesh::Links;
use crate::metrics::{Metrics, Refusal};
use crate::settings::{EntryPoint, Limits, Settings};
use crate::sources::{Counted, Sources};

use connection::Connection;

pub(crate) use retry::{MAX_ATTEMPTS, is_idempotent, pause};
pub(crate) use runtime::ServiceRuntime;
pub(crate) use serve::{Closing, last_call, serve_connection, serve_relayed, serve_tunnelled};
pub(crate) use upstream::{Addresses, IMPATIENT, Names, Trust, template};

/// Between two looks at the idle connections to back ends.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(1);
/// What a client may send on one HTTP/2 stream before we take it: 1 MiB fills 100 Mbit/s at 80 ms.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Response bytes of one HTTP/2 stream that wait for the client; with 250 streams 8 MiB on a connection.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that were reset before a task took them: a browser may give up a page in one packet. `frames` counts all
/// resets.
const PENDING_RESETS: usize = 100;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) settings: Settings,
    pub(crate) entry_points: Vec<Arc<EntryPointState>>,
    pub(crate) published: Published,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    /// Where other nodes come in.
    pub(crate) mesh: Arc<EntryPointState>,
    /// What became of endpoints, for whoever reads the log.
    log: Arc<Log>,
    /// Request bodies kept to be sent again.
    kept: Arc<body::Kept>,
    /// Those kept to be copied. Apart: what a mirror doesn't take is no reason to repeat fewer requests.
    copied: Arc<body::Kept>,
    /// Checks of passwords.
    verifying: verifying::Verifying,
}

/// An entry point and what changes about it.
#[derive(Debug)]
pub(crate) struct EntryPointState {
    pub(crate) settings: Arc<EntryPoint>,
    /// Connections open now, over all workers.
    pub(crate) open: AtomicUsize,
    /// The same by source, where there is a limit.
    sources: Option<Arc<Sources>>,
}

impl EntryPointState {
    fn new(settings: &EntryPoint) -> Self {
        Self {
            settings: Arc::new(settings.clone()),
            open: AtomicUsize::new(0),
            sources: settings
                .limits
                .max_connections_per_source
                .map(|most| Arc::new(Sources::new(most))),
        }
    }

    /// Counts a connection of its source; an error when the source has as many as it may.
    pub(crate) fn admit(&self, client: IpAddr) -> Result<Option<Counted>, TooMany> {
        let Some(sources) = &self.sources else {
            return Ok(None);
        };
        let client = client.to_canonical();
        let settings = &self.settings;
        let mut exempt = settings
            .forwarded
            .trusted_ips
            .iter()
            .chain(&settings.proxy_protocol.trusted_ips)
            .chain(&settings.exempt_sources);
        if exempt.any(|net| net.contains(&client)) {
            return Ok(None);
        }
        sources.admit(client).map(Some).ok_or(TooMany)
    }
}

/// A source has as many connections as it may.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Edge {
    pub(crate) fn new(
        settings: Settings,
        published: Published,
        metrics: Arc<Metrics>,
        access_log: AccessLog,
        log: Arc<Log>,
    ) -> Self {
        let entry_points = settings
            .entry_points
            .iter()
            .map(|e| Arc::new(EntryPointState::new(e)))
            .collect();
        Self {
            settings,
            entry_points,
            mesh: Arc::new(EntryPointState::new(&crate::mesh::entry_point())),
            published,
            metrics,
            access_log,
            log,
            kept: Arc::default(),
            copied: Arc::default(),
            verifying: verifying::Verifying::default(),
        }
    }

    /// Counts a refusal, and tells of it where it is an offence of the TCP connection's peer.
    pub(crate) fn refused(&self, entry_point: &EntryPoint, peer: IpAddr, refusal: Refusal) {
        if let Some(metrics) = self.metrics.entry_point(entry_point.id) {
            metrics.refused(refusal);
        }
        self.settings.offences.tell(entry_point, peer, refusal);
    }

    /// Counts and tells what changed about endpoints of a service.
    pub(crate) fn note(&self, service: &Service, transitions: &Transitions) {
        self.log.tell(&self.metrics, service, transitions);
    }
}

/// What is kept of a service over all generations and workers.
pub(crate) fn runtime_of(edge: &Edge, service: &Service) -> Option<Arc<ServiceRuntime>> {
    let make = || Arc::new(ServiceRuntime::new(service, &edge.metrics));
    service.live.slot.get_or_init(make).cloned()
}

/// Attempts that requests to a service may waste now.
pub(crate) fn retry_tokens(service: &Service) -> i64 {
    let runtime = service.live.slot.get::<Arc<runtime::ServiceRuntime>>();
    runtime.map_or(i64::from(service.policy.retry.budget_min), |runtime| {
        runtime.budget.left()
    })
}

/// The proxy as one worker uses it: one pool of connections to back ends, and the entry points' own limits in front.
pub(crate) struct Proxy {
    pub(crate) edge: Arc<Edge>,
    app: Arc<proxy::App>,
    entry_points: Vec<Arc<EntryPointApp>>,
}

impl Proxy {
    /// `None` when the system's certificate authorities can't be loaded.
    pub(crate) fn new(edge: Arc<Edge>) -> Option<Self> {
        // pingora panics on an unusable SSL_CERT_FILE; nothing of ours is in a broken state then.
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| proxy::App::new(edge.clone())));
        let app = Arc::new(made.ok()?);
        let entry_points = edge
            .entry_points
            .iter()
            .map(|e| Arc::new(EntryPointApp::new(app.clone(), &e.settings.limits)))
            .collect();
        Some(Self {
            edge,
            app,
            entry_points,
        })
    }

    /// Addresses of names, as this worker knows them.
    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.app.names
    }

    /// Connections to other nodes, of this worker.
    pub(crate) fn links(&self) -> &Arc<Links> {
        &self.app.links
    }

    /// What the requests of a connection with another node know of it.
    pub(crate) fn mesh_handle(
        &self,
        node: Arc<str>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Option<Arc<ProxyDigest>> {
        let entry_point = self.edge.mesh.settings.clone();
        let mut connection = Connection::new(
            entry_point,
            peer.ip(),
            peer,
            local,
            false,
            self.app.draining.child_token(),
        );
        connection.node = Some(node);
        let unused = ResponseHeader::build(200, Some(0)).ok()?;
        let handle: Box<dyn std::any::Any + Send + Sync> = Box::new(Arc::new(connection));
        Some(Arc::new(ProxyDigest::new(Box::new(unused), Some(handle))))
    }

    /// Serves a request that another node has sent.
    pub(crate) async fn serve_request(&self, session: ServerSession) -> Option<ReusedHttpStream> {
        self.app.serve(session, false).await
    }

    /// What serves the connections of an entry point.
    fn on(&self, entry_point: &EntryPoint) -> Option<&Arc<EntryPointApp>> {
        self.entry_points.get(usize::from(entry_point.id.0))
    }

    /// Whether connections of an entry point may be those of a protocol in which the server begins.
    fn server_may_speak_first(&self, entry_point: &EntryPointState) -> bool {
        let generation = self.edge.published.load();
        generation.table.server_may_speak_first(entry_point.settings.id)
    }

    /// Ends connections after their current or next request, and those on which none comes soon.
    pub(crate) fn drain(&self) {
        self.app.draining.cancel();
    }

    /// Closes idle connections to back ends that are over. Runs until dropped.
    pub(crate) async fn keep_house(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.app.pool.sweep();
            self.app.links.sweep();
        }
    }
}

/// How the connections end that come over one with another node ([`Proxy::mesh_handle`]).
pub(crate) fn closing_of(handle: &ProxyDigest) -> Option<CancellationToken> {
    let connection = handle.user_data.as_ref()?.downcast_ref::<Arc<Connection>>()?;
    Some(connection.closing.clone())
}

/// The application with the HTTP/2 settings of one entry point.
struct EntryPointApp {
    app: Arc<proxy::App>,
    options: HttpServerOptions,
    h2: h2::server::Builder,
}

impl EntryPointApp {
    fn new(app: Arc<proxy::App>, limits: &Limits) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.idle_timeout);
        let mut h2 = h2::server::Builder::new();
        h2.max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_send_buffer_size(SEND_BUFFER);
        Self { app, options, h2 }
    }
}

#[async_trait]
impl HttpServerApp for EntryPointApp {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let stopping = *shutdown.borrow();
        self.app.serve(session, stopping).await
    }

    fn h2_options(&self) -> Option<h2::server::Builder> {
        Some(self.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
