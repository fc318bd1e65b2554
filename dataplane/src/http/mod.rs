//! HTTP: framing checks on the wire, the pingora application, forwarding headers, own answers.
//!
//! The life of a connection: [`serve`] looks at its first bytes (TLS, HTTP/2, HTTP/1), makes its [`io`] and hands it to
//! pingora. The life of a request: [`io`] checks its bytes by [`framing`] ([`head`], [`chunked`]); [`proxy`] takes one
//! generation, asks the routing core, and sends it to the first candidate that works ([`upstream`], [`retry`]).

mod answer;
pub mod chunked;
mod connection;
mod forwarded;
pub mod framing;
pub mod head;
mod io;
mod proxy;
pub mod refusal;
mod retry;
mod serve;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;

use crate::Published;
use crate::access_log::AccessLog;
use crate::metrics::Metrics;
use crate::settings::{EntryPoint, Settings};

pub(crate) use serve::serve_connection;

/// Idle connections to back ends kept per worker; below the number of concurrent requests, half of them would connect
/// anew.
const POOL: usize = 1024;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) settings: Settings,
    pub(crate) entry_points: Vec<Arc<EntryPointState>>,
    pub(crate) published: Published,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
}

/// An entry point and what changes about it.
#[derive(Debug)]
pub(crate) struct EntryPointState {
    pub(crate) settings: Arc<EntryPoint>,
    /// Connections open now, over all workers.
    pub(crate) open: AtomicUsize,
}

impl Edge {
    pub(crate) fn new(
        settings: Settings,
        published: Published,
        metrics: Arc<Metrics>,
        access_log: AccessLog,
    ) -> Self {
        let entry_points = settings
            .entry_points
            .iter()
            .map(|e| {
                Arc::new(EntryPointState {
                    settings: Arc::new(e.clone()),
                    open: AtomicUsize::new(0),
                })
            })
            .collect();
        Self {
            settings,
            entry_points,
            published,
            metrics,
            access_log,
        }
    }
}

/// pingora as one worker uses it: one application for each entry point's HTTP/2 settings would be possible, but they
/// differ only in numbers, so one application serves all and the limits are applied per connection.
pub(crate) struct Proxy {
    pub(crate) app: Arc<HttpProxy<proxy::App>>,
    pub(crate) edge: Arc<Edge>,
}

impl Proxy {
    /// `None` when the system's certificate authorities can't be loaded.
    pub(crate) fn new(edge: Arc<Edge>) -> Option<Self> {
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: POOL,
            max_retries: retry::MAX_ATTEMPTS,
            ..ServerConf::default()
        };
        let app = proxy::App::new(edge.clone());
        // pingora panics on an unusable SSL_CERT_FILE; nothing of ours is in a broken state then.
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            HttpProxy::new(app, Arc::new(conf))
        }));
        let mut app = made.ok()?;
        app.handle_init_modules();
        let limits = edge.entry_points.iter().map(|e| e.settings.limits);
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = limits.clone().map(|l| l.idle_timeout).max();
        app.server_options = Some(options);
        let mut h2 = h2::server::Builder::new();
        h2.max_concurrent_streams(
            limits
                .clone()
                .map(|l| l.max_concurrent_streams)
                .max()
                .unwrap_or(250),
        )
        .max_header_list_size(
            limits
                .clone()
                .map(|l| u32::try_from(l.max_header_bytes).unwrap_or(u32::MAX))
                .max()
                .unwrap_or(65_536),
        )
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_send_buffer_size(256 * 1024);
        app.h2_options = Some(h2);
        Some(Self {
            app: Arc::new(app),
            edge,
        })
    }
}
