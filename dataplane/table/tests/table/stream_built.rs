//! TCP and UDP routers, connections and snapshots of them, from a few words.
#![expect(
    clippy::expect_used,
    reason = "a malformed row of a test table fails the test"
)]

use std::net::IpAddr;
use std::sync::Arc;

use constellation_table::{
    Condition, ConnectionMeta, Endpoint, EndpointSpec, EntryPointId, IpAllowList, Router, Scheme, Service,
    Snapshot, Target, TcpDecision, TcpMiddleware, TcpRouter, TcpRouterSpec, TcpRule, TcpTls, Turn, UdpRouter,
    UdpRouterSpec, decide_tcp,
};

/// An endpoint `SCHEME://NAME:9000`; `down` is why it can't serve.
pub(crate) fn server(name: &str, scheme: Scheme, down: Option<&str>) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointSpec {
        name: name.into(),
        scheme,
        host: name.into(),
        port: 9000,
        base_path: "".into(),
        weight: 1,
        condition: down.map_or(Condition::Ready, |reason| Condition::Unavailable(reason.into())),
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    }))
}

/// A TCP router as a row of a table.
pub(crate) struct Stream<'r> {
    pub(crate) name: &'r str,
    pub(crate) rule: &'r str,
    /// 0: the rule's own.
    pub(crate) priority: i64,
    pub(crate) entry_points: &'r [u16],
    pub(crate) tls: Option<TcpTls>,
    pub(crate) middlewares: Vec<TcpMiddleware>,
}

impl<'r> Stream<'r> {
    /// Without TLS, on entry point 0, default priority.
    pub(crate) fn plain(name: &'r str, rule: &'r str) -> Self {
        Self {
            name,
            rule,
            priority: 0,
            entry_points: &[0],
            tls: None,
            middlewares: Vec::new(),
        }
    }

    /// The same for TLS, which is passed through.
    pub(crate) fn tls(name: &'r str, rule: &'r str) -> Self {
        Self {
            tls: Some(TcpTls::Passthrough),
            ..Self::plain(name, rule)
        }
    }

    /// The router, leading to `target`.
    pub(crate) fn to(self, target: impl Into<Target>) -> Arc<TcpRouter> {
        let rule = TcpRule::parse(self.rule).expect("a valid rule");
        let priority = match self.priority {
            0 => rule.default_priority(),
            priority => priority,
        };
        Arc::new(TcpRouter::new(TcpRouterSpec {
            name: self.name.into(),
            entry_points: self.entry_points.iter().copied().map(EntryPointId).collect(),
            tls: self.tls,
            rule: Arc::new(rule),
            priority,
            target: target.into(),
            middlewares: self.middlewares,
        }))
    }
}

/// Traefik's `ipAllowList` of one network.
pub(crate) fn allow_list(name: &str, network: &str) -> TcpMiddleware {
    TcpMiddleware::IpAllowList(Arc::new(IpAllowList {
        name: name.into(),
        source_range: vec![network.parse().expect("a network")],
    }))
}

/// A UDP router.
pub(crate) fn datagrams(name: &str, entry_points: &[u16], service: &Arc<Service>) -> Arc<UdpRouter> {
    Arc::new(UdpRouter::new(UdpRouterSpec {
        name: name.into(),
        entry_points: entry_points.iter().copied().map(EntryPointId).collect(),
        target: service.clone().into(),
    }))
}

/// A snapshot of these routers with two entry points.
pub(crate) fn streams(
    http: Vec<Arc<Router>>,
    tcp: Vec<Arc<TcpRouter>>,
    udp: Vec<Arc<UdpRouter>>,
) -> Snapshot {
    crate::built::snapshot(http).with_streams(tcp, udp)
}

/// `plain`, or `tls NAME` and then the protocols offered; `-` for no name. Then ` @CLIENT` and ` #ENTRYPOINT`.
pub(crate) struct Opened {
    tls: bool,
    server_name: String,
    alpn: Vec<String>,
    client: IpAddr,
    entry_point: EntryPointId,
}

impl Opened {
    pub(crate) fn parse(line: &str) -> Self {
        let mut opened = Self {
            tls: false,
            server_name: String::new(),
            alpn: Vec::new(),
            client: IpAddr::from([127, 0, 0, 1]),
            entry_point: EntryPointId(0),
        };
        let mut words = line.split(' ');
        match words.next() {
            Some("tls") => {
                opened.tls = true;
                let name = words.next().expect("a server name or -");
                opened.server_name = name.trim_start_matches('-').to_owned();
            }
            word => assert_eq!(word, Some("plain"), "{line}"),
        }
        for word in words {
            if let Some(client) = word.strip_prefix('@') {
                opened.client = client.parse().expect("a client address");
            } else if let Some(id) = word.strip_prefix('#') {
                opened.entry_point = EntryPointId(id.parse().expect("a number"));
            } else {
                opened.alpn.push(word.to_owned());
            }
        }
        opened
    }

    /// Shows the connection as the decision sees it; it only looks.
    pub(crate) fn with<T>(&self, see: impl FnOnce(&ConnectionMeta<'_>) -> T) -> T {
        let alpn: Vec<&[u8]> = self.alpn.iter().map(|protocol| protocol.as_bytes()).collect();
        see(&ConnectionMeta {
            entry_point: self.entry_point,
            tls: self.tls,
            server_name: &self.server_name,
            alpn: &alpn,
            client: self.client,
            now: std::time::Instant::now(),
            turn: Turn::Look,
        })
    }
}

/// The TCP router that gets the connection, or `http`.
pub(crate) fn taker(snapshot: &Snapshot, line: &str) -> String {
    Opened::parse(line).with(|connection| match decide_tcp(snapshot, connection) {
        TcpDecision::Http => "http".to_owned(),
        TcpDecision::Forward { router, .. } => router.spec.name.to_string(),
        TcpDecision::Refused { router, by } => format!("{} refused by {}", router.spec.name, by.name),
    })
}
