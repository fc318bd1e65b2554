//! No configuration change touches a live connection.

use bytes::Bytes;
use constellation_tests::backend::Backend;
use constellation_tests::certificates::Authority;
use constellation_tests::client::http::request;
use constellation_tests::client::tls::Tls;
use constellation_tests::client::websocket::WebSocket;
use constellation_tests::client::wire::Wire;
use constellation_tests::eventually;
use constellation_tests::load::Load;
use constellation_tests::node::{Node, route};
use http::Method;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use serde_json::{Value, json};

const CHANGES: usize = 50;

/// The routes of change `number`: those under test stay, others come and go, a weight moves.
fn document(number: usize, plain: &Backend, grpc: &Backend, files: &Value) -> String {
    json!({
        "http": {
            "routers": {
                "app": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["web"] },
                "app-secure": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["websecure"] },
                "grpc": { "rule": "Host(`grpc.test`)", "service": "grpc", "entryPoints": ["websecure"] },
                (format!("other-{number}")): { "rule": format!("Host(`other-{number}.test`)"), "service": "app" },
            },
            "services": {
                "app": { "loadBalancer": { "servers": [{ "url": plain.url(), "weight": 1 + number % 3 }] } },
                "grpc": { "loadBalancer": { "servers": [{ "url": grpc.url_as("h2c") }] } },
            },
        },
        "tls": { "certificates": [files] },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_stay_up_across_fifty_changes_and_a_certificate_swap() {
    let (plain, grpc) = (Backend::start("app").await, Backend::start("grpc").await);
    let authority = Authority::new("test CA");
    let builder = Node::builder().websecure();
    let old = authority.sign(&["app.test", "grpc.test"]);
    let (certificate, key) = old.write(builder.directory(), "app");
    let files = json!({ "certFile": certificate, "keyFile": key });
    let node = builder
        .dynamic("routes.json", &document(0, &plain, &grpc, &files))
        .start()
        .await;
    let tls = Tls::trusting(&authority);

    let mut socket = WebSocket::open(node.web(), "app.test").await.unwrap();
    let session = tls.connect(node.websecure(), "app.test").await.unwrap();
    assert_eq!(session.certificate, old.der());
    let mut secure_socket = WebSocket::over(session.stream, "wss://app.test/ws")
        .await
        .unwrap();
    let mut client = tls
        .clone()
        .alpn(&["h2"])
        .client(node.websecure(), "grpc.test")
        .await
        .unwrap();
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let mut call = request(Method::POST, "grpc.test", "/stream");
    *call.body_mut() = BodyExt::boxed(body);
    let mut stream = client.open(call).await.unwrap().into_body();
    let mut events = Wire::connect(node.web()).await;
    events
        .send("GET /events HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await;

    let mut generation = node.generation().await;
    for number in 1..=CHANGES {
        if number == CHANGES / 2 {
            let new = authority.sign(&["app.test", "grpc.test", "new.test"]);
            new.write(node.directory(), "app");
            eventually("a new handshake sees the new certificate", async || {
                let session = tls
                    .connect(node.websecure(), "app.test")
                    .await
                    .map_err(|error| error.to_string())?;
                if session.certificate == new.der() {
                    Ok(())
                } else {
                    Err("still the old one".to_owned())
                }
            })
            .await;
            generation = node.generation().await;
        }
        node.write_dynamic("routes.json", &document(number, &plain, &grpc, &files));
        generation = node.published_after(generation).await;
        socket.echo(&format!("plain {number}")).await;
        secure_socket.echo(&format!("secure {number}")).await;
        let message = Bytes::from(format!("message {number}"));
        sender.send_data(message.clone()).await.unwrap();
        assert_eq!(
            stream.frame().await.unwrap().unwrap().into_data().unwrap(),
            message
        );
        events.read_until(&format!("data: event {number}\n\n")).await;
        plain.open_gate();
    }
    drop(sender);
    let trailers = loop {
        let frame = stream.frame().await.expect("trailers come").unwrap();
        if let Ok(trailers) = frame.into_trailers() {
            break trailers;
        }
    };
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(grpc.record().count(), 1, "one stream from beginning to end");
    socket.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_the_route_that_was_removed_while_it_ran() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let web = node.web();
    let slow = tokio::spawn(async move { constellation_tests::client::get(web, "app.test", "/gate").await });
    eventually("the request is under way", async || {
        match backend.waiting_at_gate() {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    node.write_dynamic("routes.json", "{}");
    node.answers("app.test", "/", 404).await;
    backend.open_gate();
    assert_eq!(slow.await.unwrap().text(), "app passed\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_back_ends_are_exchanged_under_load() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = Node::routing("app.test", &[one.url()]).await;
    let load = Load::start(node.web(), "app.test", "/", 8);
    for round in 0..20 {
        let urls = [vec![one.url()], vec![one.url(), two.url()], vec![two.url()]];
        let before = node.generation().await;
        node.write_dynamic("routes.json", &route("app.test", &urls[round % 3]).to_string());
        if round > 0 {
            node.published_after(before).await;
        }
        load.more(50).await;
    }
    let report = load.stop().await;
    report.assert_clean();
    assert!(
        report.served["one"] > 0 && report.served["two"] > 0,
        "{:?}",
        report.served
    );
}
