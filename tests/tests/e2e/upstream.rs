//! How the node speaks to back ends: versions, verified TLS, pools, time limits.

use std::sync::Arc;

use constellation_tests::backend::Backend;
use constellation_tests::certificates::{Authority, provider};
use constellation_tests::client::Client;
use constellation_tests::node::Node;
use serde_json::{Value, json};

async fn node(urls: &[String], transport: Option<Value>) -> Node {
    let servers: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    let mut document = json!({ "http": {
        "routers": { "r": { "rule": "Host(`app.test`)", "service": "s" } },
        "services": { "s": { "loadBalancer": { "servers": servers } } },
    } });
    if let Some(transport) = transport {
        document["http"]["services"]["s"]["loadBalancer"]["serversTransport"] = json!("t");
        document["http"]["serversTransports"] = json!({ "t": transport });
    }
    Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheme_and_alpn_choose_the_version() {
    let authority = Authority::new("back ends");
    let identity = authority.sign(&["127.0.0.1", "backend.test"]);
    let plain = Backend::start("plain").await;
    let both = Backend::start_tls("both", identity.server_config(&["h2", "http/1.1"])).await;
    let old = Backend::start_tls("old", identity.server_config(&["http/1.1"])).await;
    let none = Backend::start_tls("none", identity.server_config(&[])).await;
    let trusting = json!({ "rootCAs": [authority.pem()] });
    let no_h2 = json!({ "rootCAs": [authority.pem()], "disableHTTP2": true });
    for (name, url, transport, version) in [
        ("http", plain.url(), None, "HTTP/1.1"),
        ("h2c", plain.url_as("h2c"), None, "HTTP/2.0"),
        ("https with h2", both.url(), Some(trusting.clone()), "HTTP/2.0"),
        ("https without h2", old.url(), Some(trusting.clone()), "HTTP/1.1"),
        ("https without ALPN", none.url(), Some(trusting), "HTTP/1.1"),
        ("disableHTTP2", both.url(), Some(no_h2), "HTTP/1.1"),
    ] {
        let node = node(&[url], transport).await;
        for mut client in [
            Client::h1(node.web()).await.unwrap(),
            Client::h2c(node.web()).await.unwrap(),
        ] {
            for _ in 0..3 {
                let echo = client.get("app.test", "/").await.echo();
                assert_eq!(
                    (echo.version(), echo.authority()),
                    (version, "app.test"),
                    "{name}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_verify_is_502() {
    let (authority, other) = (Authority::new("back ends"), Authority::new("other"));
    let fits = authority.sign(&["127.0.0.1"]);
    let named = authority.sign(&["backend.test"]);
    let by_address = Backend::start_tls("by-address", fits.server_config(&["http/1.1"])).await;
    let by_name = Backend::start_tls("by-name", named.server_config(&["http/1.1"])).await;
    for (name, url, transport, status) in [
        (
            "good CA",
            by_address.url(),
            json!({ "rootCAs": [authority.pem()] }),
            200,
        ),
        (
            "wrong CA",
            by_address.url(),
            json!({ "rootCAs": [other.pem()] }),
            502,
        ),
        ("the system's CAs", by_address.url(), json!({}), 502),
        (
            "not verified by choice",
            by_address.url(),
            json!({ "insecureSkipVerify": true }),
            200,
        ),
        (
            "another name",
            by_name.url(),
            json!({ "rootCAs": [authority.pem()] }),
            502,
        ),
        (
            "another name, expected",
            by_name.url(),
            json!({ "rootCAs": [authority.pem()], "serverName": "backend.test" }),
            200,
        ),
        (
            "an unexpected name",
            by_name.url(),
            json!({ "rootCAs": [authority.pem()], "serverName": "elsewhere.test" }),
            502,
        ),
    ] {
        let node = node(&[url], Some(transport)).await;
        let answer = node.get("app.test", "/").await;
        assert_eq!(answer.status, status, "{name}: {}\n{}", answer.text(), node.log());
    }
    for backend in [&by_address, &by_name] {
        assert!(
            backend
                .record()
                .requests()
                .iter()
                .all(|request| request.target == "/")
        );
    }
    assert_eq!((by_address.record().count(), by_name.record().count()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_shows_its_certificate_to_back_ends_that_ask() {
    let (authority, clients) = (Authority::new("back ends"), Authority::new("clients"));
    let server = authority.sign(&["127.0.0.1"]);
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider());
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.der()], server.key_der())
        .unwrap();
    let backend = Backend::start_tls("mutual", Arc::new(config)).await;
    let client = clients.sign(&["node"]);
    let with = json!({
        "rootCAs": [authority.pem()],
        "certificates": [{ "certFile": client.certificate, "keyFile": client.key }],
    });
    for (transport, status) in [(with, 200), (json!({ "rootCAs": [authority.pem()] }), 502)] {
        let node = node(&[backend.url()], Some(transport)).await;
        assert_eq!(node.get("app.test", "/").await.status, status, "{}", node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_that_closes_idle_connections_costs_nothing() {
    let address = {
        let backend = Backend::start("first").await;
        let address = backend.address();
        let node = node(&[backend.url()], None).await;
        assert_eq!(node.get("app.test", "/").await.echo().backend(), "first");
        backend.stop().await;
        // The pooled connection is dead as soon as the one before has let go of it; a request takes a new one then.
        let backend = Backend::listen("second", address, None).await;
        constellation_tests::eventually("the new one answers", async || {
            let answer = node.get("app.test", "/").await;
            assert_eq!(answer.status, 200);
            let echo = answer.echo();
            (echo.backend() == "second")
                .then_some(())
                .ok_or(echo.backend().to_owned())
        })
        .await;
        backend.address()
    };
    assert_ne!(address.port(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_back_end_is_given_up_with_504() {
    let backend = Backend::start("silent").await;
    let transport = json!({ "forwardingTimeouts": { "responseHeaderTimeout": "300ms" } });
    let node = node(&[backend.url()], Some(transport)).await;
    assert_eq!(node.get("app.test", "/gate").await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_may_have_arrived_is_not_repeated() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let transport = json!({ "forwardingTimeouts": { "responseHeaderTimeout": "300ms" } });
    let node = node(&[one.url(), two.url()], Some(transport)).await;
    let mut client = Client::h1(node.web()).await.unwrap();
    let mut post = constellation_tests::client::http::request(http::Method::POST, "app.test", "/gate");
    *post.body_mut() = constellation_tests::client::http::full("order");
    assert_eq!(client.send(post).await.unwrap().status, 504);
    assert_eq!(one.record().count() + two.record().count(), 1);
}
