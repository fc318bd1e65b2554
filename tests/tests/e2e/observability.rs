//! What the node says of itself: metrics that count exactly, access log lines, health and status under saturation.

use constellation_tests::backend::Backend;
use constellation_tests::certificates::Authority;
use constellation_tests::client::http::{full, request};
use constellation_tests::client::wire::Wire;
use constellation_tests::client::{Client, tls::Tls};
use constellation_tests::eventually;
use constellation_tests::metrics::Metrics;
use constellation_tests::node::{Node, route};
use http::Method;
use serde_json::{Value, json};

/// Scrapes until `holds`, because a request is counted when its last byte has left, just after the client has it.
async fn metrics(node: &Node, holds: impl Fn(&Metrics) -> bool) -> Metrics {
    eventually("the metrics say so", async || {
        let metrics = node.metrics().await;
        if holds(&metrics) {
            Ok(metrics)
        } else {
            Err(format!("{:#?}", metrics.samples()))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_exactly_what_was_sent() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut h1 = Client::h1(node.web()).await.unwrap();
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    for _ in 0..7 {
        assert_eq!(h1.get("app.test", "/bytes/100").await.body.len(), 100);
    }
    for _ in 0..5 {
        let mut post = request(Method::POST, "app.test", "/upload");
        *post.body_mut() = full("0123456789");
        assert_eq!(h2.send(post).await.unwrap().status, 200);
    }
    for _ in 0..3 {
        assert_eq!(h1.get("app.test", "/status/503").await.status, 503);
    }
    for _ in 0..2 {
        assert_eq!(node.get("nobody.test", "/").await.status, 404);
    }
    let requests = "constellation_requests_total";
    let metrics = metrics(&node, |metrics| metrics.sum(requests, &[]) >= 17.0).await;
    assert_eq!(metrics.sum(requests, &[]), 17.0);
    for (labels, count) in [
        (&[("entry_point", "web")][..], 17.0),
        (&[("router", "main@file")], 15.0),
        (&[("service", "main@file")], 15.0),
        (&[("method", "GET"), ("router", "main@file")], 10.0),
        (&[("method", "POST")], 5.0),
        (&[("code", "503")], 3.0),
        (&[("code", "404")], 2.0),
        (&[("code", "200")], 12.0),
    ] {
        assert_eq!(metrics.sum(requests, labels), count, "{labels:?}");
    }
    assert_eq!(
        metrics.sum("constellation_request_duration_seconds_count", &[]),
        17.0
    );
    assert_eq!(
        metrics.sum(
            "constellation_request_body_bytes_total",
            &[("service", "main@file")]
        ),
        50.0
    );
    // 7 times 100 bytes, 5 times "10 525".
    let sent = metrics.sum(
        "constellation_response_body_bytes_total",
        &[("service", "main@file")],
    );
    assert_eq!(sent, 730.0);
    assert_eq!(metrics.sum("constellation_endpoint_requests_total", &[]), 15.0);
    assert_eq!(metrics.sum("constellation_requests_in_flight", &[]), 0.0);
    // A connection counts as open until its task has seen it end.
    eventually("h1 and h2 alone are still open", async || {
        let open = node.metrics().await.sum("constellation_open_connections", &[]);
        if open == 2.0 { Ok(()) } else { Err(open) }
    })
    .await;
    assert_eq!(metrics.sum("constellation_connections_total", &[]), 4.0);
    assert_eq!(metrics.sum("constellation_routers", &[]), 1.0);
    assert_eq!(
        metrics.sum("constellation_configuration_generation", &[]),
        node.generation().await as f64
    );
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_flight_refused_and_handshakes_are_counted() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder().websecure();
    let (certificate, key) = authority.sign(&["app.test"]).write(builder.directory(), "app");
    let mut document = route("app.test", &[backend.url()]);
    document["tls"] = json!({ "certificates": [{ "certFile": certificate, "keyFile": key }] });
    let node = builder
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let web = node.web();
    let slow = tokio::spawn(async move { constellation_tests::client::get(web, "app.test", "/gate").await });
    metrics(&node, |metrics| {
        metrics.sum("constellation_requests_in_flight", &[]) == 1.0
    })
    .await;
    backend.open_gate();
    slow.await.unwrap();
    metrics(&node, |metrics| {
        metrics.sum("constellation_requests_in_flight", &[]) == 0.0
    })
    .await;

    constellation_tests::client::wire::exchange(web, "GET / HTTP/1.1\r\n\r\n").await;
    metrics(&node, |metrics| {
        metrics.sum("constellation_refused_total", &[]) == 1.0
    })
    .await;

    for _ in 0..3 {
        Tls::trusting(&authority)
            .client(node.websecure(), "app.test")
            .await
            .unwrap()
            .get("app.test", "/")
            .await;
    }
    metrics(&node, |metrics| {
        metrics.sum("constellation_tls_handshakes_total", &[]) == 3.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_stay_bounded_whatever_clients_send() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut client = Client::h1(node.web()).await.unwrap();
    client.get("app.test", "/").await;
    client.get("other.test", "/").await;
    client
        .send(request("AAAA".parse().unwrap(), "app.test", "/"))
        .await
        .unwrap();
    let lines = metrics(&node, |metrics| {
        metrics.sum("constellation_requests_total", &[]) >= 3.0
    })
    .await;
    let before = lines.samples().len();
    for number in 0..100 {
        client.get(&format!("host-{number}.test"), "/").await;
        let method = format!("METHOD{number}").parse().unwrap();
        client
            .send(request(method, "app.test", &format!("/path/{number}")))
            .await
            .unwrap();
    }
    let after = metrics(&node, |metrics| {
        metrics.sum("constellation_requests_total", &[]) >= 203.0
    })
    .await;
    assert_eq!(after.samples().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_a_line_for_every_request() {
    let backend = Backend::start("app").await;
    for format in ["json", "common"] {
        let builder = Node::builder();
        let file = builder.directory().join("access.log");
        let headers =
            json!({ "defaultMode": "drop", "names": { "User-Agent": "keep", "Authorization": "redact" } });
        let node = builder
            .config(json!({ "accessLog": {
                "filePath": file, "format": format, "fields": { "headers": headers },
            } }))
            .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
            .start()
            .await;
        let mut client = Client::h1(node.web()).await.unwrap();
        for (path, host) in [
            ("/bytes/100?q=1", "app.test"),
            ("/status/418", "app.test"),
            ("/", "nobody.test"),
        ] {
            let mut get = request(Method::GET, host, path);
            get.headers_mut()
                .insert("user-agent", "test \"agent\"".parse().unwrap());
            get.headers_mut()
                .insert("authorization", "Basic secret".parse().unwrap());
            client.send(get).await.unwrap();
        }
        let lines = eventually("three lines are written", async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() == 3 { Ok(lines) } else { Err(text) }
        })
        .await;
        assert!(lines.iter().all(|line| !line.contains("secret")), "{lines:#?}");
        if format == "json" {
            let lines: Vec<Value> = lines
                .iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let first = &lines[0];
            for (field, value) in [
                ("RequestMethod", json!("GET")),
                ("RequestPath", json!("/bytes/100?q=1")),
                ("RequestHost", json!("app.test")),
                ("RequestProtocol", json!("HTTP/1.1")),
                ("DownstreamStatus", json!(200)),
                ("DownstreamContentSize", json!(100)),
                ("OriginStatus", json!(200)),
                ("RouterName", json!("main@file")),
                ("ServiceName", json!("main@file")),
                ("ClientHost", json!("127.0.0.1")),
                ("entryPointName", json!("web")),
                ("request_User-Agent", json!("test \"agent\"")),
                ("request_Authorization", json!("REDACTED")),
            ] {
                assert_eq!(first[field], value, "{field} in {first:#}");
            }
            assert_eq!(lines[1]["DownstreamStatus"], 418);
            assert_eq!(lines[2]["DownstreamStatus"], 404);
        } else {
            assert!(lines[0].starts_with("127.0.0.1 - - ["), "{}", lines[0]);
            assert!(
                lines[0].contains("\"GET /bytes/100?q=1 HTTP/1.1\" 200 100 "),
                "{}",
                lines[0]
            );
            assert!(lines[0].contains("\"main@file\""), "{}", lines[0]);
            assert!(
                lines[1].contains(" 418 ") && lines[2].contains(" 404 "),
                "{lines:#?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_access_log_is_reopened_on_sighup() {
    let backend = Backend::start("app").await;
    let builder = Node::builder();
    let file = builder.directory().join("access.log");
    let node = builder
        .config(json!({ "accessLog": { "filePath": file, "format": "json" } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let written = async |path: &std::path::Path| {
        eventually("a line is written", async || {
            node.get("app.test", "/").await;
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            if text.is_empty() {
                Err("empty".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
    };
    written(&file).await;
    std::fs::rename(&file, node.directory().join("access.log.1")).unwrap();
    node.signal(nix::sys::signal::Signal::SIGHUP);
    written(&file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_answers_while_the_proxy_is_saturated() {
    let backend = Backend::start("app").await;
    let node = Node::builder()
        .config(json!({
            "proxy": { "workers": 1 },
            "entryPoints": { "web": { "limits": { "maxConnections": 300 } } },
        }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    // As many connections as the entry point takes, each in the middle of its head.
    let mut wires = Vec::new();
    for _ in 0..300 {
        let mut wire = Wire::connect(node.web()).await;
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n").await;
        wires.push(wire);
    }
    metrics(&node, |metrics| {
        metrics.sum("constellation_open_connections", &[]) == 300.0
    })
    .await;
    // One more is closed at once.
    let refused =
        constellation_tests::client::wire::exchange(node.web(), "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .await;
    assert!(refused.closed && refused.bytes.is_empty(), "{}", refused.text());
    for _ in 0..20 {
        assert_eq!(node.ask("/health").await.status, 200);
        assert_eq!(node.status().await["ready"], true);
    }
    // The others get their answers when they go on.
    for wire in &mut wires[..10] {
        wire.send("\r\n").await;
        let (head, _) = wire.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_its_conditions() {
    let node = Node::builder().start().await;
    let health = node.ask("/health").await;
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(health["status"], "healthy", "{health:#}");
    for name in ["listeners", "configuration", "source:file"] {
        let condition = health["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|condition| condition["name"] == name);
        assert_eq!(
            condition.unwrap_or_else(|| panic!("{name}: {health:#}"))["ok"],
            true
        );
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(node.ask(path).await.status, 200, "{path}");
    }
    let lost = node.ask("/api/v1/nothing").await;
    assert_eq!(
        (lost.status.as_u16(), lost.header("content-type")),
        (404, "application/problem+json")
    );
}
