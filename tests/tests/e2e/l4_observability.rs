//! What is said of connections: metrics, and a line of the access log when one has ended.

use constellation_tests::client::wire::Wire;
use constellation_tests::eventually;
use constellation_tests::node::Node;
use constellation_tests::stream::{Echo, Job, JobServer, Order};
use serde_json::{Value, json};

fn document(name: &str, address: &str) -> String {
    json!({ "tcp": {
        "routers": { name: { "rule": "HostSNI(`*`)", "service": name, "entryPoints": ["tcp"] } },
        "services": { name: { "loadBalancer": { "servers": [{ "address": address }] } } },
    } })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_tells_the_client_the_way_and_what_was_carried() {
    let echo = Echo::plain("app").await;
    let builder = Node::builder();
    let log = builder.directory().join("access.log");
    let node = builder
        .config(json!({
            "entryPoints": { "tcp": { "address": "127.0.0.1:0" } },
            "accessLog": { "filePath": log, "format": "json" },
        }))
        .dynamic("routes.json", &document("app", &echo.address().to_string()))
        .start()
        .await;
    let stream = tokio::net::TcpStream::connect(node.entry_point("tcp"))
        .await
        .unwrap();
    let client = stream.local_addr().unwrap();
    let mut wire = Wire::over(stream);
    wire.read_until("app\n").await;
    wire.send("twelve bytes").await;
    wire.read_until("twelve bytes").await;
    wire.finish().await;
    let rest = wire.read_to_close(constellation_tests::PATIENCE).await;
    assert!(rest.closed && rest.bytes.is_empty(), "{rest:?}");
    let line = eventually("the connection is in the log", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().next().map(str::to_owned).ok_or("nothing")
    })
    .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    for (key, expected) in [
        ("kind", json!("tcp")),
        ("ClientAddr", json!(client.to_string())),
        ("entryPointName", json!("tcp")),
        ("RouterName", json!("tcp/app@file")),
        ("ServiceName", json!("tcp/app@file")),
        ("ServiceAddr", json!(echo.address().to_string())),
        ("BytesReceived", json!(12)),
        ("BytesSent", json!(16)),
    ] {
        assert_eq!(line[key], expected, "{key} in {line:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_connections_bytes_splices_and_resets() {
    const BYTES: u64 = 32 << 20;
    let server = JobServer::start().await;
    let node = Node::builder()
        .config(json!({ "entryPoints": { "tcp": { "address": "127.0.0.1:0" } } }))
        .dynamic("routes.json", &document("app", &server.address().to_string()))
        .start()
        .await;
    for (number, bytes, order) in [
        (1, BYTES, Order::Both),
        (2, 100, Order::ServerResets),
        (3, 100, Order::ClientResets),
    ] {
        let job = Job {
            number,
            up: bytes,
            down: bytes,
            order,
        };
        job.run(node.entry_point("tcp")).await.unwrap();
        server.outcome(number).await.unwrap();
    }
    let service = [("service", "tcp/app@file")];
    let metrics = eventually("all three have ended", async || {
        let metrics = node.metrics().await;
        match metrics.sum("constellation_tcp_connections_total", &service) {
            ended if ended >= 3.0 && metrics.sum("constellation_tcp_open_connections", &service) == 0.0 => {
                Ok(metrics)
            }
            ended => Err(format!("{ended} ended")),
        }
    })
    .await;
    let sum = |name: &str| metrics.sum(name, &service);
    assert_eq!(sum("constellation_tcp_connections_total"), 3.0);
    // The bytes of the patterns, and the few that say what the job is.
    for name in [
        "constellation_tcp_received_bytes_total",
        "constellation_tcp_sent_bytes_total",
    ] {
        let more = sum(name) - BYTES as f64;
        assert!((0.0..1000.0).contains(&more), "{name}: {more} more than {BYTES}");
    }
    assert_eq!(
        sum("constellation_tcp_resets_total"),
        2.0,
        "{:#?}",
        metrics.samples()
    );
    let spliced = sum("constellation_tcp_spliced_bytes_total");
    assert!(
        spliced > BYTES as f64,
        "{spliced} of {} bytes were spliced",
        2 * BYTES
    );
}
