use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use constellation_config::Secret;
use constellation_dataplane::metrics::{self, Metrics};
use constellation_dataplane::tls::{TlsContext, TlsSpec};
use constellation_dataplane::{Generation, Published};
use constellation_table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, Redirect, Router, RouterSpec, Rule, Scheme,
    Service, ServiceSpec, Slot, Snapshot, Transport,
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

use super::guard::Caller;
use super::{ControlServer, ControlState, EntryPointFacts, api};
use crate::report::{DisabledRouter, NodeFacts, Report};
use crate::sources::{Problem, SourceStatus};

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
        let state = ControlState {
            facts: Arc::new(NodeFacts {
                name: "edge-1".to_owned(),
                version: "1.2.3",
                started: UNIX_EPOCH,
                config_file: Some("/etc/constellation.yaml".to_owned()),
                entry_points: vec![("web".into(), address(8000)), ("websecure".into(), address(8443))],
            }),
            entry_points: [("web", 8000), ("websecure", 8443)]
                .map(|(name, port)| EntryPointFacts {
                    name: name.into(),
                    addresses: vec![address(port)],
                })
                .into(),
            published,
            registry: Arc::new(registry),
            metrics,
            report: receiver,
            draining: CancellationToken::new(),
            host_names: vec!["edge-1".to_owned()],
            token: None,
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
    let endpoint = |name: &str, condition| {
        Arc::new(Endpoint::new(EndpointSpec {
            name: name.into(),
            scheme: Scheme::Http,
            host: "10.0.0.2".into(),
            port: 80,
            base_path: "".into(),
            weight: 1,
            condition,
        }))
    };
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
            Action::Forward(app.clone()),
        ),
        router(
            "down@docker",
            1,
            true,
            "Host(`down.test`)",
            Action::Forward(down.clone()),
        ),
        router(
            "web-to-websecure@internal",
            0,
            false,
            "PathPrefix(`/`)",
            Action::Redirect(to_https),
        ),
    ];
    Snapshot::build(3, 2, routers, vec![app, down])
}

fn condition<'v>(health: &'v Value, name: &str) -> &'v Value {
    health["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["name"] == name)
        .unwrap()
}

#[tokio::test]
async fn health_says_what_is_so() {
    type Change = fn(&Node);
    let cases: [(Change, u16, &str, &str, &str); 7] = [
        (|_| {}, 200, "healthy", "configuration", "generation 3 serves"),
        (
            |node| node.change(|report| report.ready = false),
            503,
            "unavailable",
            "configuration",
            "waiting for the first complete reading of every source",
        ),
        (
            |node| node.state.draining.cancel(),
            503,
            "unavailable",
            "accepting",
            "the node is stopping: requests under way finish, new ones go elsewhere",
        ),
        (
            |node| node.change(|report| report.sources[0].1.error = Some("no socket".to_owned())),
            200,
            "degraded",
            "source:docker",
            "no socket",
        ),
        (
            |node| node.change(|report| report.last_failure = Some("no entry point".to_owned())),
            200,
            "degraded",
            "reload",
            "the last change was refused and generation 3 stays: no entry point",
        ),
        (
            |node| {
                let problem = Problem {
                    subject: "router x".to_owned(),
                    message: "bad rule".to_owned(),
                };
                node.change(|report| report.problems.push(problem));
            },
            200,
            "degraded",
            "problems",
            "1 object of the configuration can't be used, see /api/v1/status",
        ),
        (|_| {}, 200, "healthy", "certificates", "none is expired"),
    ];
    for (change, status, overall, name, reason) in cases {
        let node = Node::new();
        change(&node);
        for path in ["/health", "/health/ready", "/api/v1/health"] {
            let (code, health) = node.get(path).await;
            assert_eq!(
                (code.as_u16(), &health["status"]),
                (status, &json!(overall)),
                "{path} {name}"
            );
            let condition = condition(&health, name);
            assert_eq!(condition["reason"], reason);
            assert_eq!(condition["ok"], overall == "healthy", "{name}");
        }
        assert_eq!(
            node.get("/health/live").await.0,
            StatusCode::OK,
            "alive whatever {name} says"
        );
    }
}

#[tokio::test]
async fn an_expired_certificate_is_named() {
    let node = Node::new();
    let later = SystemTime::now() + Duration::from_secs(3 * 365 * 86_400);
    let health = super::health::Health::ready(&node.state, later);
    let health = serde_json::to_value(health).unwrap();
    let expected = "expired: edge-1; renew them, they are read again when their files change";
    assert_eq!(condition(&health, "certificates")["reason"], expected);
    assert_eq!(health["status"], "degraded");
}

#[tokio::test]
async fn status_has_what_clients_of_a_cluster_know_and_more() {
    let node = Node::new();
    let disabled = DisabledRouter {
        name: "bad@docker".to_owned(),
        rule: "Host(".to_owned(),
        reason: "no rule".to_owned(),
    };
    node.change(|report| report.disabled.push(disabled));
    let (code, status) = node.get("/api/v1/status").await;
    assert_eq!(code, StatusCode::OK);
    for (key, expected) in [
        ("service", json!("constellation")),
        ("nodes", json!(1)),
        ("healthy_nodes", json!(1)),
        ("services", json!(2)),
        ("healthy_services", json!(1)),
        ("raft_leader", Value::Null),
        ("cluster_version", json!("1.2.3")),
        ("node", json!("edge-1")),
        ("status", json!("healthy")),
        ("ready", json!(true)),
        ("generation", json!(3)),
        ("published", json!("1970-01-01T00:00:00Z")),
        (
            "entry_points",
            json!([{"name": "web", "address": "127.0.0.1:8000"}, {"name": "websecure", "address": "127.0.0.1:8443"}]),
        ),
        (
            "sources",
            json!([{"name": "docker", "connected": true, "error": null, "last_read": "1970-01-01T00:00:00Z"}]),
        ),
        (
            "disabled_routers",
            json!([{"name": "bad@docker", "rule": "Host(", "reason": "no rule"}]),
        ),
        ("problems", json!([])),
    ] {
        assert_eq!(status[key], expected, "{key}");
    }
    let certificate = &status["certificates"][0];
    assert_eq!(
        (&certificate["subject"], &certificate["origin"]),
        (&json!("edge-1"), &json!("self-signed default"))
    );
    assert!(certificate["expires_in_seconds"].as_i64().unwrap() > 0);
}

#[tokio::test]
async fn routes_are_listed_with_their_state() {
    let node = Node::new();
    let disabled = DisabledRouter {
        name: "bad@docker".to_owned(),
        rule: "Host(".to_owned(),
        reason: "no rule".to_owned(),
    };
    node.change(|report| report.disabled.push(disabled));
    let (_, routes) = node.get("/api/v1/routes").await;
    let rule = "Host(`app.test`) && Header(`X-Tenant`, `blue`)";
    assert_eq!(
        routes["routes"][0],
        json!({
            "name": "app@docker", "status": "enabled", "rule": rule, "priority": rule.len(),
            "entry_points": ["websecure"], "tls": true, "service": "app@docker", "endpoints": 2, "ready_endpoints": 1,
        })
    );
    let named = |name: &str| {
        routes["routes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|route| route["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(named("web-to-websecure@internal")["redirect_to"], "https:8443");
    assert_eq!(
        (&named("bad@docker")["status"], &named("bad@docker")["reason"]),
        (&json!("disabled"), &json!("no rule"))
    );
}

#[tokio::test]
async fn services_are_found_by_either_name() {
    let node = Node::new();
    let (_, all) = node.get("/api/v1/services").await;
    for path in [
        "/api/v1/services/app@docker",
        "/api/v1/services/app",
        "/api/v1/services/app%40docker",
    ] {
        let (code, service) = node.get(path).await;
        assert_eq!((code, &service), (StatusCode::OK, &all[0]), "{path}");
        for (key, expected) in [
            ("service_name", json!("app@docker")),
            ("instances", json!(2)),
            ("healthy_count", json!(1)),
            ("current_lease", Value::Null),
        ] {
            assert_eq!(service[key], expected);
        }
        assert_eq!(service["nodes"][0]["node_name"], "edge-1");
        let endpoint = json!({"name": "app-2", "url": "http://10.0.0.2:80", "weight": 1, "ready": false, "reason": "container exited (137)"});
        assert_eq!(service["endpoints"][1], endpoint);
    }
    let (code, problem) = node.get("/api/v1/services/none").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert_eq!(
        problem["detail"],
        "there is no service \"none\"; /api/v1/services lists all of them"
    );
}

#[tokio::test]
async fn explain_asks_the_decision() {
    let node = Node::new();
    for (query, kind, entry_point) in [
        (
            "url=https://app.test/&header=X-Tenant:%20blue",
            "forward",
            "websecure",
        ),
        ("url=https://app.test/", "noRoute", "websecure"),
        (
            "url=https://x.test/&header=Host:app.test&header=x-tenant:blue",
            "forward",
            "websecure",
        ),
        (
            "url=https://app.test:8443/&header=X-Tenant:blue",
            "forward",
            "websecure",
        ),
        ("url=http://app.test/x", "redirect", "web"),
        ("url=http://app.test:8000/", "redirect", "web"),
        (
            "url=https://down.test/&method=POST&client_ip=192.0.2.1",
            "unavailable",
            "websecure",
        ),
        ("url=https://down.test/&entrypoint=web", "noRoute", "web"),
    ] {
        let (code, explanation) = node.get(&format!("/api/v1/explain?{query}")).await;
        assert_eq!(code, StatusCode::OK, "{query} {explanation}");
        let seen = (
            &explanation["outcome"]["kind"],
            &explanation["request"]["entryPoint"]["name"],
        );
        assert_eq!(
            seen,
            (&json!(kind), &json!(entry_point)),
            "{query} {explanation:#}"
        );
    }
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_explained() {
    let node = Node::new();
    for (query, detail) in [
        (
            "",
            "the parameter url is missing; expected for example url=http://app.example.test/path",
        ),
        (
            "url=app.test",
            "\"app.test\" is not an absolute http or https URL; expected for example http://app.example.test/path",
        ),
        (
            "url=ftp://app.test/",
            "\"ftp://app.test/\" is not an absolute http or https URL; expected for example http://app.example.test/path",
        ),
        (
            "url=http://a/&method=G%20T",
            "\"G T\" is not a method; expected for example GET",
        ),
        (
            "url=http://a/&header=x",
            "\"x\" is not a header; expected NAME: VALUE",
        ),
        (
            "url=http://a/&client_ip=me",
            "\"me\" is not an IP address; expected for example 192.0.2.1",
        ),
        (
            "url=http://a/&entrypoint=x",
            "there is no entry point \"x\"; there are: web, websecure",
        ),
        (
            "url=http://a/&hst=x",
            "the parameter \"hst\" is not known; expected url, method, header, entrypoint or client_ip",
        ),
    ] {
        let (code, problem) = node.get(&format!("/api/v1/explain?{query}")).await;
        assert_eq!(
            (code, &problem["detail"]),
            (StatusCode::BAD_REQUEST, &json!(detail))
        );
    }
}

#[tokio::test]
async fn metrics_come_as_openmetrics_and_as_a_summary() {
    let node = Node::new();
    let response = node
        .call(
            Request::get("/metrics")
                .header(HOST, "127.0.0.1:8080")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(
        text.contains("\nconstellation_configuration_generation 3\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
    let (_, summary) = node.get("/api/v1/metrics").await;
    assert_eq!(
        (&summary["requests"], &summary["generation"], &summary["routers"]),
        (&json!(0), &json!(3), &json!(3))
    );
}

#[tokio::test]
async fn errors_are_problem_json() {
    let node = Node::new();
    let cases = [
        (Method::GET, "/nothing", 404, "Not Found"),
        (Method::GET, "/api/v1/services/none", 404, "Not Found"),
        (Method::POST, "/api/v1/status", 405, "Method Not Allowed"),
        (Method::DELETE, "/health", 405, "Method Not Allowed"),
        (Method::OPTIONS, "/api/v1/routes", 405, "Method Not Allowed"),
    ];
    for (method, path, status, title) in cases {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Origin", "http://evil.example");
        let response = node.call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        assert_eq!(response.headers().contains_key("allow"), status == 405);
        assert_eq!(response.status().as_u16(), status);
        let body: Value =
            serde_json::from_slice(&to_bytes(response.into_body(), 9999).await.unwrap()).unwrap();
        assert_eq!((&body["title"], &body["status"]), (&json!(title), &json!(status)));
        assert!(body["detail"].as_str().unwrap().len() > 20, "{body}");
    }
    let head = node
        .call(Request::head("/api/v1/status").body(Body::empty()).unwrap())
        .await;
    assert_eq!(head.status(), StatusCode::OK);
}

#[tokio::test]
async fn foreign_names_are_not_answered() {
    let node = Node::new();
    for (host, status) in [
        ("rebound.example:8080", 421),
        ("localhost:8080", 200),
        ("edge-1:8080", 200),
    ] {
        let response = node
            .call(
                Request::get("/api/v1/status")
                    .header(HOST, host)
                    .body(Body::empty())
                    .unwrap(),
            )
            .await;
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn callers_from_other_machines_need_the_token() {
    let mut node = Node::new();
    node.state.token = Some(Secret::new("let-me-in"));
    let there = SocketAddr::from(([192, 0, 2, 9], 40_000));
    for (caller, token, status) in [
        (Some(address(40_000)), None, 200),
        (Some(there), None, 401),
        (None, None, 401),
        (Some(there), Some("Bearer wrong"), 401),
        (Some(there), Some("Basic let-me-in"), 401),
        (Some(there), Some("Bearer let-me-in"), 200),
    ] {
        let mut request = Request::get("/metrics").body(Body::empty()).unwrap();
        if let Some(caller) = caller {
            request.extensions_mut().insert(Caller(caller));
        }
        if let Some(token) = token {
            request
                .headers_mut()
                .insert(AUTHORIZATION, token.parse().unwrap());
        }
        assert_eq!(
            node.call(request).await.status().as_u16(),
            status,
            "{caller:?} {token:?}"
        );
    }
}

#[tokio::test]
async fn the_server_answers_on_its_own_thread_and_stops() {
    let node = Node::new();
    let listener = TcpListener::bind(address(0)).await.unwrap();
    let server = ControlServer::start(listener, node.state.clone()).unwrap();
    let address = server.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The test's runtime has one thread, and it is kept busy: the answer does not need it.
    let answer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
    .join()
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // A second connection that never says anything does not hold up the end.
    stream.write_all(b"GET").await.unwrap();
    server.stop().await;
    let mut rest = Vec::new();
    assert!(matches!(stream.read_to_end(&mut rest).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let node = Node::new();
    let server =
        ControlServer::start(TcpListener::bind(address(0)).await.unwrap(), node.state.clone()).unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        .await
        .unwrap();
    let filler = vec![b'a'; 128 * 1024];
    // The server may close while this is being written.
    let written = stream.write_all(&filler).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 431 ") || written.is_err() || read.is_err(),
        "{answer}"
    );
    server.stop().await;
}
