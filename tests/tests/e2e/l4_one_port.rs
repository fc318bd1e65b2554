//! Many protocols on one port: the ClientHello decides, and without one the first bytes.

use std::net::SocketAddr;

use constellation_tests::backend::Backend;
use constellation_tests::certificates::Authority;
use constellation_tests::client::tls::Tls;
use constellation_tests::node::Node;
use constellation_tests::stream::Echo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn service(address: SocketAddr) -> Value {
    json!({ "loadBalancer": { "servers": [{ "address": address.to_string() }] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn passthrough_termination_https_and_http_share_a_port() {
    let authority = Authority::new("test CA");
    let http = Backend::start("app").await;
    let through = Echo::tls("through", authority.sign(&["through.test"]).server_config(&[])).await;
    let alpn = Echo::tls(
        "alpn",
        authority.sign(&["special.test"]).server_config(&["special"]),
    )
    .await;
    let ended = Echo::plain("ended").await;
    let builder = Node::builder();
    let edge = authority.sign(&["app.test", "ended.test", "special.test"]);
    let (certificate, key) = edge.write(builder.directory(), "edge");
    let document = json!({
        "http": {
            "routers": {
                "plain": { "rule": "Host(`app.test`)", "service": "app" },
                "secure": { "rule": "Host(`app.test`) || Host(`special.test`)", "service": "app", "tls": {} },
            },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": http.url() }] } } },
        },
        "tcp": {
            "routers": {
                "through": {
                    "rule": "HostSNI(`through.test`)", "service": "through", "tls": { "passthrough": true },
                },
                "alpn": {
                    "rule": "HostSNI(`elsewhere.test`) && ALPN(`special`)", "service": "alpn",
                    "tls": { "passthrough": true },
                },
                "ended": { "rule": "HostSNI(`ended.test`)", "service": "ended", "tls": {} },
            },
            "services": {
                "through": service(through.address()),
                "alpn": service(alpn.address()),
                "ended": service(ended.address()),
            },
        },
        "tls": { "certificates": [{ "certFile": certificate, "keyFile": key }] },
    });
    let node = builder
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let client = Tls::trusting(&authority);
    for _ in 0..2 {
        // In the clear it is HTTP.
        assert_eq!(node.get("app.test", "/").await.status, 200);
        // By name: HTTPS, with what ALPN chooses.
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
            let mut https = client
                .clone()
                .alpn(protocols)
                .client(node.web(), "app.test")
                .await
                .unwrap();
            assert_eq!(https.get("app.test", "/").await.status, 200, "{protocols:?}");
        }
        for (name, expected) in [
            ("through.test", "through"),
            ("THROUGH.test", "through"),
            ("ended.test", "ended"),
        ] {
            let mut session = client.connect(node.web(), name).await.unwrap().stream;
            let banner = format!("{expected}\n");
            let mut seen = vec![0; banner.len()];
            session.read_exact(&mut seen).await.unwrap();
            assert_eq!(String::from_utf8(seen).unwrap(), banner, "{name}");
            session.write_all(b"and back").await.unwrap();
            let mut seen = [0; 8];
            session.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"and back", "{name}");
        }
        // A name that nobody has goes to the HTTPS stack, as in Traefik: its certificate does not fit.
        let error = client.connect(node.web(), "other.test").await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_tell_connections_apart_by_address_protocol_and_pattern() {
    let authority = Authority::new("test CA");
    let names = ["a.wild.test", "b.wild.test", "db-7.test", "x.test"];
    let identity = authority.sign(&names);
    let mut echoes = Vec::new();
    for name in ["wild", "exact", "pattern", "protocol", "address"] {
        echoes.push((
            name,
            Echo::tls(name, identity.server_config(&["one", "two"])).await,
        ));
    }
    let router = |rule: &str, service: &str| json!({ "rule": rule, "service": service, "tls": { "passthrough": true } });
    let services: serde_json::Map<String, Value> = echoes
        .iter()
        .map(|(name, echo)| ((*name).to_owned(), service(echo.address())))
        .collect();
    let document = json!({ "tcp": {
        "routers": {
            "wild": router("HostSNI(`*.wild.test`)", "wild"),
            "exact": router("HostSNI(`a.wild.test`)", "exact"),
            "pattern": router("HostSNIRegexp(`^db-[0-9]+\\.test$`)", "pattern"),
            "protocol": router("HostSNI(`x.test`) && ALPN(`two`)", "protocol"),
            "address": router("HostSNI(`x.test`) && !ALPN(`two`) && ClientIP(`127.0.0.0/8`)", "address"),
        },
        "services": services,
    } });
    let node = Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let client = Tls::trusting(&authority);
    for (name, alpn, expected) in [
        ("a.wild.test", &[][..], "exact"),
        ("b.wild.test", &[], "wild"),
        ("db-7.test", &[], "pattern"),
        ("x.test", &["one", "two"], "protocol"),
        ("x.test", &["one"], "address"),
    ] {
        let mut session = client
            .clone()
            .alpn(alpn)
            .connect(node.web(), name)
            .await
            .unwrap()
            .stream;
        let mut seen = vec![0; expected.len() + 1];
        session.read_exact(&mut seen).await.unwrap();
        assert_eq!(
            String::from_utf8(seen).unwrap(),
            format!("{expected}\n"),
            "{name} {alpn:?}"
        );
    }
}
