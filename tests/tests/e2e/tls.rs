//! TLS towards clients: certificates by name, swapped live; options by name; redirection from plain to secure.

use constellation_tests::backend::Backend;
use constellation_tests::certificates::{Authority, Identity};
use constellation_tests::client::curl::curl;
use constellation_tests::client::tls::Tls;
use constellation_tests::client::wire::exchange;
use constellation_tests::node::{Node, NodeBuilder};
use constellation_tests::{eventually, require};
use serde_json::{Value, json};

/// A node with `websecure`, a router for each host, and this `tls` section.
async fn secure(builder: NodeBuilder, backend: &Backend, hosts: &[&str], tls: Value) -> Node {
    let routers: serde_json::Map<String, Value> = hosts
        .iter()
        .map(|host| {
            let name = host.replace(['.', '*'], "-");
            let router =
                json!({ "rule": format!("Host(`{host}`)"), "service": "app", "entryPoints": ["websecure"] });
            (name, router)
        })
        .collect();
    let document = json!({
        "http": {
            "routers": routers,
            "services": { "app": { "loadBalancer": { "servers": [{ "url": backend.url() }] } } },
        },
        "tls": tls,
    });
    builder
        .websecure()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

fn pair(builder: &NodeBuilder, identity: &Identity, name: &str) -> Value {
    let (certificate, key) = identity.write(builder.directory(), name);
    json!({ "certFile": certificate, "keyFile": key })
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_sees_two_certificates_by_name_and_one_of_them_swapped_live() {
    let curl_program = require!(require::curl());
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let (one, two) = (authority.sign(&["one.test"]), authority.sign(&["two.test"]));
    let tls = json!({ "certificates": [pair(&builder, &one, "one"), pair(&builder, &two, "two")] });
    std::fs::write(builder.directory().join("ca.pem"), authority.pem()).unwrap();
    let node = secure(builder, &backend, &["one.test", "two.test"], tls).await;
    let ca = node.directory().join("ca.pem").display().to_string();
    let port = node.websecure().port();
    let ask = async |host: &str| {
        let resolve = format!("{host}:{port}:127.0.0.1");
        let url = format!("https://{host}:{port}/");
        curl(
            &curl_program,
            &["--verbose", "--cacert", &ca, "--resolve", &resolve, &url],
        )
        .await
    };
    for host in ["one.test", "two.test"] {
        let result = ask(host).await;
        assert_eq!(result.code, 0, "{result:?}");
        assert!(
            result.stderr.contains(&format!("subject: CN={host}")),
            "{}",
            result.stderr
        );
    }
    // A new certificate in the same files; curl verifies it like the old one.
    let renewed = authority.sign(&["one.test", "renewed.test"]);
    renewed.write(node.directory(), "one");
    eventually("new handshakes see the new certificate", async || {
        let session = Tls::trusting(&authority)
            .connect(node.websecure(), "one.test")
            .await;
        match session {
            Ok(session) if session.certificate == renewed.der() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(ask("one.test").await.code, 0);
    assert_eq!(ask("two.test").await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_name_goes_before_a_wildcard_and_others_get_the_default() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let (exact, wildcard) = (authority.sign(&["a.x.test"]), authority.sign(&["*.x.test"]));
    let default = authority.sign(&["default.test"]);
    let tls = json!({
        "certificates": [pair(&builder, &wildcard, "wildcard"), pair(&builder, &exact, "exact")],
        "stores": { "default": { "defaultCertificate": pair(&builder, &default, "default") } },
    });
    let node = secure(builder, &backend, &["a.x.test"], tls).await;
    let client = Tls::trusting(&authority);
    for (name, expected) in [
        ("a.x.test", &exact),
        ("b.x.test", &wildcard),
        ("A.X.TEST", &exact),
        ("default.test", &default),
    ] {
        let session = client.connect(node.websecure(), name).await.unwrap();
        assert_eq!(session.certificate, expected.der(), "{name}");
    }
    // One label only, and no name at all: the default certificate, which does not fit, says the client.
    for client in [client.clone(), client.clone().without_sni()] {
        let error = client.connect(node.websecure(), "c.b.x.test").await.unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_certificate_a_self_signed_one_is_made() {
    let curl_program = require!(require::curl());
    let backend = Backend::start("app").await;
    let node = secure(Node::builder(), &backend, &["app.test"], json!({})).await;
    let resolve = format!("app.test:{}:127.0.0.1", node.websecure().port());
    let url = format!("https://app.test:{}/", node.websecure().port());
    let result = curl(&curl_program, &["--resolve", &resolve, &url]).await;
    assert_eq!(result.code, 60, "not trusted: {result:?}");
    let result = curl(&curl_program, &["--insecure", "--resolve", &resolve, &url]).await;
    assert_eq!(result.code, 0, "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_sni_refuses_names_without_a_certificate() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let tls = json!({
        "certificates": [pair(&builder, &authority.sign(&["app.test"]), "app")],
        "options": { "default": { "sniStrict": true } },
    });
    let node = secure(builder, &backend, &["app.test"], tls).await;
    let client = Tls::trusting(&authority);
    assert_eq!(
        client
            .client(node.websecure(), "app.test")
            .await
            .unwrap()
            .get("app.test", "/")
            .await
            .status,
        200
    );
    for client in [client.clone(), client.clone().without_sni()] {
        let error = client.connect(node.websecure(), "other.test").await.unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_version_is_kept() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let tls = json!({
        "certificates": [pair(&builder, &authority.sign(&["app.test"]), "app")],
        "options": { "default": { "minVersion": "VersionTLS13" } },
    });
    let node = secure(builder, &backend, &["app.test"], tls).await;
    let client = Tls::trusting(&authority);
    client
        .clone()
        .only(&rustls::version::TLS13)
        .connect(node.websecure(), "app.test")
        .await
        .unwrap();
    let error = client
        .only(&rustls::version::TLS12)
        .connect(node.websecure(), "app.test")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_asked_for_and_verified_by_name() {
    let backend = Backend::start("app").await;
    let (authority, clients, strangers) = (
        Authority::new("test CA"),
        Authority::new("clients"),
        Authority::new("strangers"),
    );
    let builder = Node::builder().websecure();
    let ca = builder.directory().join("clients.pem");
    std::fs::write(&ca, clients.pem()).unwrap();
    let document = json!({
        "http": {
            "routers": {
                "open": { "rule": "Host(`open.test`)", "service": "app", "entryPoints": ["websecure"], "tls": {} },
                "closed": {
                    "rule": "Host(`closed.test`)", "service": "app", "entryPoints": ["websecure"],
                    "tls": { "options": "mutual" },
                },
            },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": backend.url() }] } } },
        },
        "tls": {
            "certificates": [pair(&builder, &authority.sign(&["open.test", "closed.test"]), "app")],
            "options": {
                "mutual": { "clientAuth": { "caFiles": [ca], "clientAuthType": "RequireAndVerifyClientCert" } },
            },
        },
    });
    let node = builder
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let known = clients.sign(&["me"]);
    let tls = Tls::trusting(&authority);
    let mut client = tls.client(node.websecure(), "open.test").await.unwrap();
    assert_eq!(client.get("open.test", "/").await.status, 200);
    // The door that asks for nothing does not lead to the one that does.
    assert_eq!(client.get("closed.test", "/").await.status, 421);
    let mut client = tls
        .clone()
        .identity(&known)
        .client(node.websecure(), "closed.test")
        .await
        .unwrap();
    assert_eq!(client.get("closed.test", "/").await.status, 200);
    for refused in [tls.clone(), tls.clone().identity(&strangers.sign(&["me"]))] {
        let tls12 = refused
            .clone()
            .only(&rustls::version::TLS12)
            .connect(node.websecure(), "closed.test")
            .await;
        assert!(tls12.is_err());
        let error = match refused.connect(node.websecure(), "closed.test").await {
            Ok(session) => session.refused().await,
            Err(error) => error,
        };
        assert!(error.to_string().contains("alert"), "{error}");
    }
    assert_eq!(backend.record().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_can_be_narrowed() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let tls = json!({
        "certificates": [pair(&builder, &authority.sign(&["app.test"]), "app")],
        "options": { "default": { "alpnProtocols": ["http/1.1"] } },
    });
    let node = secure(builder, &backend, &["app.test"], tls).await;
    let session = Tls::trusting(&authority)
        .alpn(&["h2", "http/1.1"])
        .connect(node.websecure(), "app.test")
        .await
        .unwrap();
    assert_eq!(session.alpn, "http/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_redirected_to_the_secure_entry_point() {
    let backend = Backend::start("app").await;
    let builder = Node::builder().config(json!({
        "entryPoints": { "web": { "http": { "redirections": { "entryPoint": { "to": "websecure" } } } } }
    }));
    let node = secure(builder, &backend, &["app.test"], json!({})).await;
    let port = node.websecure().port();
    for (method, status) in [("GET", 301), ("HEAD", 308), ("POST", 308), ("PUT", 308)] {
        let request = format!(
            "{method} /a%20b?q=1 HTTP/1.1\r\nHost: app.test:1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(node.web(), request).await;
        assert_eq!(answer.status(), Some(status), "{method}: {}", answer.text());
        let location = format!("location: https://app.test:{port}/a%20b?q=1\r\n");
        assert!(
            answer.text().to_ascii_lowercase().contains(&location),
            "{method}: {}",
            answer.text()
        );
    }
    assert_eq!(backend.record().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_plain_routers_are_apart() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let (certificate, key) = authority
        .sign(&["plain.test", "secure.test"])
        .write(builder.directory(), "app");
    let document = json!({
        "http": {
            "routers": {
                "plain": { "rule": "Host(`plain.test`)", "service": "app" },
                "secure": { "rule": "Host(`secure.test`)", "service": "app", "tls": {} },
            },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": backend.url() }] } } },
        },
        "tls": { "certificates": [{ "certFile": certificate, "keyFile": key }] },
    });
    // One entry point takes both: the first byte says which.
    let node = builder
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    for (host, plain, secure) in [("plain.test", 200, 404), ("secure.test", 404, 200)] {
        assert_eq!(node.get(host, "/").await.status, plain, "{host} in the clear");
        let mut client = Tls::trusting(&authority).client(node.web(), host).await.unwrap();
        assert_eq!(client.get(host, "/").await.status, secure, "{host} over TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_is_named_and_hurts_nobody_else() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder();
    let missing = builder.directory().join("absent.crt");
    let tls = json!({ "certificates": [
        { "certFile": missing, "keyFile": builder.directory().join("absent.key") },
        pair(&builder, &authority.sign(&["app.test"]), "app"),
    ] });
    let node = secure(builder, &backend, &["app.test"], tls).await;
    let mut client = Tls::trusting(&authority)
        .client(node.websecure(), "app.test")
        .await
        .unwrap();
    assert_eq!(client.get("app.test", "/").await.status, 200);
    let problems = node.status().await["problems"].to_string();
    assert!(problems.contains("absent.crt"), "{problems}");
}
