//! What each path answers.

use super::*;

#[tokio::test]
async fn health_says_what_is_so() {
    type Change = fn(&Node);
    let cases: [(Change, u16, &str, &str, &str); 10] = [
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
        (
            |_| {},
            200,
            "healthy",
            "data_plane",
            "2 of 2 workers serve in full",
        ),
        (
            |node| node.state.workers.failed(1, "has ended: it panicked: boom"),
            200,
            "degraded",
            "data_plane",
            "worker 1 has ended: it panicked: boom; 1 of 2 workers serve in full; restart the node",
        ),
        (
            |node| (0..2).for_each(|worker| node.state.workers.failed(worker, "has ended: boom")),
            503,
            "unavailable",
            "data_plane",
            "worker 0 has ended: boom; worker 1 has ended: boom; 0 of 2 workers serve in full; restart the node",
        ),
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
    let health = crate::control::health::Health::ready(&node.state, later);
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
        ("services", json!(4)),
        ("healthy_services", json!(3)),
        ("routers", json!(5)),
        ("raft_leader", Value::Null),
        ("cluster_version", json!("1.2.3")),
        ("node", json!("edge-1")),
        ("domain", json!("example.test")),
        ("region", Value::Null),
        ("priority", json!(7)),
        ("status", json!("healthy")),
        ("ready", json!(true)),
        ("generation", json!(3)),
        ("published", json!("1970-01-01T00:00:00Z")),
        (
            "entry_points",
            json!([
                {"name": "web", "address": "127.0.0.1:8000", "protocol": "tcp"},
                {"name": "websecure", "address": "127.0.0.1:8443", "protocol": "tcp"},
                {"name": "dns", "address": "127.0.0.1:5353", "protocol": "udp"},
            ]),
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
    node.change(|report| {
        report.disabled.push(disabled);
        report.problems = [
            ("router udp/dns@docker", "odd"),
            ("service udp/dns@docker", "else"),
        ]
        .map(|(subject, message)| Problem {
            subject: subject.to_owned(),
            message: message.to_owned(),
        })
        .into();
    });
    let (_, routes) = node.get("/api/v1/routes").await;
    let rule = "Host(`app.test`) && Header(`X-Tenant`, `blue`)";
    assert_eq!(
        routes["routes"][0],
        json!({
            "name": "app@docker", "protocol": "http", "status": "enabled", "rule": rule, "priority": rule.len(),
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
        named("tcp/db@docker"),
        json!({
            "name": "tcp/db@docker", "protocol": "tcp", "status": "enabled", "rule": "HostSNI(`db.test`)", "priority": 18,
            "entry_points": ["websecure"], "tls": true, "passthrough": true, "middlewares": ["tcp/lan@docker"],
            "service": "tcp/db@docker", "endpoints": 1, "ready_endpoints": 1,
        })
    );
    assert_eq!(
        named("udp/dns@docker"),
        json!({
            "name": "udp/dns@docker", "protocol": "udp", "status": "enabled", "rule": "", "priority": null,
            "entry_points": ["dns"], "tls": null, "service": "udp/dns@docker", "endpoints": 1, "ready_endpoints": 1,
            "warnings": ["odd"],
        })
    );
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
        let endpoint = &service["endpoints"][1];
        for (key, expected) in [
            ("name", json!("app-2")),
            ("url", json!("http://10.0.0.2:80")),
            ("weight", json!(1)),
            ("ready", json!(false)),
            ("state", json!("unavailable")),
            ("reason", json!("container exited (137)")),
            ("drained", json!(false)),
            ("in_flight", json!(0)),
            ("latency_seconds", Value::Null),
        ] {
            assert_eq!(endpoint[key], expected, "{endpoint}");
        }
        assert_eq!(endpoint["standing"]["breaker"]["state"], "closed", "{endpoint}");
    }
    for path in ["tcp%2Fdb@docker", "tcp%2Fdb"] {
        let (code, service) = node.get(&format!("/api/v1/services/{path}")).await;
        assert_eq!(
            (code, &service["service_name"]),
            (StatusCode::OK, &json!("tcp/db@docker")),
            "{path}"
        );
        assert_eq!(service["endpoints"][0]["url"], "tcp://10.0.0.2:80");
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
async fn explain_asks_the_decision_about_streams() {
    let node = Node::new();
    for (query, entry_point, tls, server_name, kind) in [
        (
            "url=tcp://127.0.0.1:8443?sni=DB.test.",
            "websecure",
            true,
            "db.test",
            "forward",
        ),
        ("url=tls://db.test:8443", "websecure", true, "db.test", "forward"),
        (
            "url=tls://db.test:1&entrypoint=websecure",
            "websecure",
            true,
            "db.test",
            "forward",
        ),
        (
            "url=tls://db.test:8443&client_ip=192.0.2.1",
            "websecure",
            true,
            "db.test",
            "refused",
        ),
        ("url=tls://db.test:8443?sni=", "websecure", true, "", "http"),
        ("url=tls://127.0.0.1:8443", "websecure", true, "", "http"),
        ("url=tcp://db.test:8443?alpn=h2", "websecure", true, "", "http"),
        ("url=tcp://db.test:8443", "websecure", false, "", "http"),
        ("url=udp://127.0.0.1:5353", "dns", false, "", "forward"),
        ("url=udp://any&entrypoint=dns", "dns", false, "", "forward"),
    ] {
        let (code, explanation) = node.get(&format!("/api/v1/explain?{query}")).await;
        assert_eq!(code, StatusCode::OK, "{query} {explanation}");
        let connection = &explanation["connection"];
        assert_eq!(
            (
                &connection["entryPoint"]["name"],
                &connection["tls"],
                &connection["serverName"],
                &explanation["outcome"]["kind"],
            ),
            (
                &json!(entry_point),
                &json!(tls),
                &json!(server_name),
                &json!(kind)
            ),
            "{query} {explanation:#}"
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
        (&json!(0), &json!(3), &json!(5))
    );
}
