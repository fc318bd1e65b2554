//! A node in memory, and calls to its control API.

mod answers;
mod changes;
mod refusals;
mod serving;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use constellation_config::{Config, Protocol, Secret, SteeringMode};
use constellation_dataplane::metrics::{self, Metrics};
use constellation_dataplane::tls::{TlsContext, TlsSpec};
use constellation_dataplane::{Generation, Published, Workers};
use constellation_table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, IpAllowList, Redirect, Router, RouterSpec, Rule,
    Scheme, Service, ServiceSpec, Slot, Snapshot, TcpMiddleware, TcpRouter, TcpRouterSpec, TcpRule, TcpTls,
    Transport, UdpRouter, UdpRouterSpec,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{ControlServer, ControlState, EntryPointFacts, Upgrades, api};
use crate::chase::Chase;
use crate::cluster::Cluster;
use crate::drains::Drains;
use crate::edge::Edge;
use crate::http_server::Caller;
use crate::http_server::Ending;
use crate::kernel::Kernel;
use crate::report::{DisabledRouter, NodeFacts, Report};
use crate::sources::{Problem, SourceStatus};
use crate::{guard, steering};

/// A node that serves generation 3, and what a test changes about it.
struct Node {
    state: ControlState,
    report: watch::Sender<Arc<Report>>,
}

impl Node {
    fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(
            &mut registry,
            &["web".into(), "websecure".into()],
        ));
        let (tls, _) = TlsContext::new(&["edge-1".to_owned()])
            .unwrap()
            .build(&TlsSpec::default());
        let published = Published::new(Generation {
            table: table(),
            tls,
            published: UNIX_EPOCH,
        });
        metrics::register_generation(&mut registry, published.clone());
        let (report, receiver) = watch::channel(Arc::new(report()));
        let mut config = Config::default();
        config.edge.steering = SteeringMode::Off;
        let kernel = Kernel::new(None);
        let steering = steering::prepare(&config, &kernel, steering::Authority::Local).unwrap();
        let chase = Chase::new(&config, &kernel);
        let edge = Edge::prepare(&config, steering.clone(), chase.clone()).unwrap();
        let state = ControlState {
            upgrades: Upgrades::new().0,
            cluster: Cluster::prepare(std::path::Path::new("/nonexistent")).unwrap(),
            facts: Arc::new(NodeFacts {
                name: "edge-1".to_owned(),
                domain: Some("example.test".to_owned()),
                region: None,
                priority: 7,
                version: "1.2.3",
                started: UNIX_EPOCH,
                config_file: Some("/etc/constellation.yaml".to_owned()),
                entry_points: vec![
                    ("web".into(), address(8000)),
                    ("websecure".into(), address(8443)),
                    ("dns".into(), address(5353)),
                ],
            }),
            entry_points: [("web", 8000), ("websecure", 8443), ("dns", 5353)]
                .map(|(name, port)| EntryPointFacts {
                    name: name.into(),
                    protocol: if name == "dns" {
                        Protocol::Udp
                    } else {
                        Protocol::Tcp
                    },
                    addresses: vec![address(port)],
                })
                .into(),
            published,
            registry: Arc::new(registry),
            metrics,
            report: receiver,
            draining: CancellationToken::new(),
            host_names: vec!["edge-1".to_owned()],
            workers: Workers::new(2),
            token: None,
            change_token: Some(Secret::new("made")),
            drains: Drains::default(),
            steering,
            guard: guard::prepare(&config, &kernel).unwrap(),
            chase,
            edge: Arc::new(edge),
            mode: constellation_config::EdgeMode::Direct,
            provider: crate::provider::Provider::default(),
        };
        Self { state, report }
    }

    fn change(&self, change: impl FnOnce(&mut Report)) {
        self.report.send_modify(|report| change(Arc::make_mut(report)));
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        TowerToHyperService::new(api::router(self.state.clone()))
            .call(request)
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self
            .call(
                Request::get(path)
                    .header(HOST, "localhost")
                    .body(Body::empty())
                    .unwrap(),
            )
            .await;
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn report() -> Report {
    let connected = SourceStatus {
        connected: true,
        error: None,
        last_read: Some(UNIX_EPOCH),
    };
    Report {
        generation: 3,
        published: Some(UNIX_EPOCH),
        ready: true,
        sources: vec![("docker", connected)],
        ..Report::default()
    }
}

fn table() -> Snapshot {
    let endpoint_of = |scheme, name: &str, condition| {
        Arc::new(Endpoint::new(EndpointSpec {
            name: name.into(),
            scheme,
            host: "10.0.0.2".into(),
            port: 80,
            base_path: "".into(),
            weight: 1,
            condition,
            url_as_written: "".into(),
            locality: Default::default(),
            peer: None,
        }))
    };
    let endpoint = |name: &str, condition| endpoint_of(Scheme::Http, name, condition);
    let service = |name: &str, endpoints| {
        let transport = Arc::new(Transport {
            name: "default@internal".into(),
            ..Transport::default()
        });
        let spec = ServiceSpec {
            name: name.into(),
            endpoints,
            pass_host_header: true,
            transport,
            retry_after: 1,
            policy: Arc::default(),
        };
        Arc::new(Service::new(spec, None))
    };
    let stopped = Condition::Unavailable("container exited (137)".into());
    let app = service(
        "app@docker",
        vec![
            endpoint("app-1", Condition::Ready),
            endpoint("app-2", stopped.clone()),
        ],
    );
    let down = service("down@docker", vec![endpoint("down-1", stopped)]);
    let router = |name: &str, entry_point, tls, rule: &str, action| {
        let spec = RouterSpec {
            name: name.into(),
            entry_points: vec![EntryPointId(entry_point)],
            tls,
            rule: Arc::new(Rule::parse_http(rule).unwrap()),
            priority: i64::try_from(rule.len()).unwrap(),
            action,
            middlewares: None,
        };
        Arc::new(Router {
            spec,
            slot: Slot::default(),
        })
    };
    let to_https = Redirect {
        scheme: "https".into(),
        port: Some(8443),
        permanent: true,
    };
    let routers = vec![
        router(
            "app@docker",
            1,
            true,
            "Host(`app.test`) && Header(`X-Tenant`, `blue`)",
            Action::Forward(app.clone().into()),
        ),
        router(
            "down@docker",
            1,
            true,
            "Host(`down.test`)",
            Action::Forward(down.clone().into()),
        ),
        router(
            "web-to-websecure@internal",
            0,
            false,
            "PathPrefix(`/`)",
            Action::Redirect(to_https),
        ),
    ];
    let of_streams = |name: &str, scheme| service(name, vec![endpoint_of(scheme, "one", Condition::Ready)]);
    let db = of_streams("tcp/db@docker", Scheme::Tcp);
    let dns = of_streams("udp/dns@docker", Scheme::Udp);
    let lan = IpAllowList {
        name: "tcp/lan@docker".into(),
        source_range: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let tcp = Arc::new(TcpRouter::new(TcpRouterSpec {
        name: "tcp/db@docker".into(),
        entry_points: vec![EntryPointId(1)],
        tls: Some(TcpTls::Passthrough),
        rule: Arc::new(TcpRule::parse("HostSNI(`db.test`)").unwrap()),
        priority: 18,
        target: db.clone().into(),
        middlewares: vec![TcpMiddleware::IpAllowList(Arc::new(lan))],
    }));
    let udp = Arc::new(UdpRouter::new(UdpRouterSpec {
        name: "udp/dns@docker".into(),
        entry_points: vec![EntryPointId(2)],
        target: dns.clone().into(),
    }));
    Snapshot::build(3, 3, routers, vec![app, down, db, dns]).with_streams(vec![tcp], vec![udp])
}

fn condition<'v>(health: &'v Value, name: &str) -> &'v Value {
    health["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["name"] == name)
        .unwrap()
}
