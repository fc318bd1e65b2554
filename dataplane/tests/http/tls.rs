//! TLS on both sides: what clients get, and whom we believe behind us.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use constellation_dataplane::table::{EntryPointId, Scheme, Service, ServiceSpec, Transport};
use constellation_dataplane::tls::{CertificateSpec, OptionsSpec, PemSource, TlsContext, TlsRouter, TlsSpec};
use http::{Request, Response};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::support::{Backend, Node, Plan, endpoint, generation_with, service, soon, spec};

/// A certificate that signs itself, so that it is its own authority.
pub(crate) struct Identity {
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    chain_pem: String,
    key_pem: String,
}

pub(crate) fn identity(names: &[&str]) -> Identity {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        .unwrap();
    Identity {
        chain: made.cert.der().clone(),
        key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        chain_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    }
}

impl Identity {
    pub(crate) fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    constellation_dataplane::tls::provider()
}

/// A node whose TLS routers know `a.test` and, under other options, `b.test`; a plain router knows `plain.test`.
async fn node(backend: &Backend, identity: &Identity) -> Node {
    node_of(Plan::default(), backend, identity)
}

/// The same, with what else a plan says.
pub(crate) fn node_of(plan: Plan, backend: &Backend, identity: &Identity) -> Node {
    let context = TlsContext::new(&[]).unwrap();
    let entry_point = EntryPointId(0);
    let (view, problems) = context.build(&TlsSpec {
        certificates: vec![CertificateSpec {
            chain: PemSource::from_value(&identity.chain_pem),
            key: PemSource::from_value(&identity.key_pem),
        }],
        options: [(
            "strict@file".into(),
            OptionsSpec {
                min_version: Some("VersionTLS13".into()),
                ..OptionsSpec::default()
            },
        )]
        .into(),
        routers: vec![TlsRouter {
            name: "r1@test".into(),
            entry_points: vec![entry_point],
            hosts: vec!["b.test".into()],
            options: Some("strict@file".into()),
            of_requests: true,
        }],
        ..TlsSpec::default()
    });
    assert!(problems.is_empty(), "{problems:?}");
    let to = |name: &str| service(name, &[(Scheme::Http, backend.address)]);
    let routes = vec![
        ("Host(`a.test`)", to("a"), true),
        ("Host(`b.test`)", to("b"), true),
        ("Host(`plain.test`)", to("plain"), false),
    ];
    let node = plan.start();
    node.published.publish(generation_with(2, routes, view));
    node
}

async fn tls_client(
    node: &Node,
    identity: &Identity,
    name: &'static str,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let socket = TcpStream::connect(node.address).await.unwrap();
    tls_over(socket, identity, name, alpn).await
}

pub(crate) async fn tls_over(
    socket: TcpStream,
    identity: &Identity,
    name: &'static str,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = believing(identity).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(name).unwrap();
    soon(
        "the handshake",
        TlsConnector::from(Arc::new(config)).connect(name, socket),
    )
    .await
    .unwrap()
}

/// A client that believes this identity alone.
fn believing(
    identity: &Identity,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.chain.clone()).unwrap();
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// A client that shows who it is.
pub(crate) async fn tls_as(
    node: &Node,
    server: &Identity,
    shown: Option<&Identity>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = match shown {
        Some(shown) => believing(server)
            .with_client_auth_cert(vec![shown.chain.clone()], shown.key.clone_key())
            .unwrap(),
        None => believing(server).with_no_client_auth(),
    };
    let socket = TcpStream::connect(node.address).await.unwrap();
    let connecting =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("a.test").unwrap(), socket);
    soon("the handshake", connecting).await.unwrap()
}

/// The whole answer to one request that ends the connection.
pub(crate) async fn ask(stream: &mut tokio_rustls::client::TlsStream<TcpStream>, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test]
async fn one_entry_point_serves_tls_and_plain_from_separate_tables() {
    let identity = identity(&["a.test", "b.test", "plain.test"]);
    let backend = Backend::fixed("hello").await;
    let node = node(&backend, &identity).await;
    let answer = ask(
        &mut tls_client(&node, &identity, "a.test", b"http/1.1").await,
        "a.test",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"),
        "{answer}"
    );
    let answer = ask(
        &mut tls_client(&node, &identity, "plain.test", b"http/1.1").await,
        "plain.test",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    for (host, status) in [("plain.test", 200), ("a.test", 404)] {
        let mut client = node.connect().await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, status, "{host}");
    }
    let seen = backend.seen();
    assert_eq!(seen[0].header("x-forwarded-proto"), ["https"]);
    assert_eq!(seen[0].header("x-forwarded-port"), ["443"]);
    assert_eq!(seen[1].header("x-forwarded-proto"), ["http"]);
    assert!(node.metrics().contains("constellation_tls_handshakes_total"));
}

#[tokio::test]
async fn http2_is_chosen_by_alpn() {
    let identity = identity(&["a.test"]);
    let backend = Backend::fixed("hello").await;
    let node = node(&backend, &identity).await;
    let stream = tls_client(&node, &identity, "a.test", b"h2").await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    let (response, _) = sender
        .send_request(Request::get("https://a.test/").body(()).unwrap(), true)
        .unwrap();
    assert_eq!(soon("the response", response).await.unwrap().status(), 200);
}

/// A connection that was made under one set of options may not reach a router that asks for another.
#[tokio::test]
async fn a_host_with_other_tls_options_is_misdirected() {
    let identity = identity(&["a.test", "b.test"]);
    let backend = Backend::fixed("hello").await;
    let node = node(&backend, &identity).await;
    for (name, host, status) in [
        ("a.test", "b.test", 421),
        ("b.test", "a.test", 421),
        ("b.test", "b.test", 200),
        // What no router takes asks for nothing.
        ("b.test", "c.test", 404),
    ] {
        let answer = ask(&mut tls_client(&node, &identity, name, b"http/1.1").await, host).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name} then {host}: {answer}"
        );
    }
}

/// Wire checks see what is inside TLS.
#[tokio::test]
async fn hostile_requests_inside_tls_are_refused() {
    let identity = identity(&["a.test"]);
    let backend = Backend::fixed("hello").await;
    let node = node(&backend, &identity).await;
    let mut stream = tls_client(&node, &identity, "a.test", b"http/1.1").await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The connection ends without a TLS close in the worst case; what was read counts.
    soon("the answer", stream.read_to_end(&mut answer))
        .await
        .unwrap_or_default();
    assert!(
        answer.starts_with(b"HTTP/1.1 400 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(backend.bytes(), 0);
}

/// A TLS back end that says in its body which protocol was spoken.
pub(crate) async fn tls_backend(identity: &Identity) -> SocketAddr {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.chain.clone()], identity.key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not believe us is part of the test.
                let Ok(mut stream) = acceptor.accept(socket).await else {
                    return;
                };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let head = Response::builder().header("content-length", 2).body(()).unwrap();
                        let mut body = respond.send_response(head, false).unwrap();
                        body.send_data(Bytes::from_static(b"h2"), true).unwrap();
                    }
                } else {
                    let mut head = [0; 4096];
                    while stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                        stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh1")
                            .await
                            .unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn back_ends_are_verified() {
    let named = identity(&["back.test"]);
    let numbered = identity(&["127.0.0.1"]);
    let other = identity(&["back.test"]);
    let (at_name, at_number) = (tls_backend(&named).await, tls_backend(&numbered).await);
    let believing = |identity: &Identity| Transport {
        root_cas: vec![identity.chain_pem.as_bytes().into()],
        ..Transport::default()
    };
    let as_back = |transport: Transport| Transport {
        server_name: Some("back.test".into()),
        ..transport
    };
    // what, address, transport, status, protocol
    let cases = [
        (
            "system roots do not know it",
            at_number,
            Transport::default(),
            502,
            "",
        ),
        (
            "address in the certificate",
            at_number,
            believing(&numbered),
            200,
            "h2",
        ),
        (
            "address not in the certificate",
            at_name,
            believing(&named),
            502,
            "",
        ),
        (
            "name instead of the address",
            at_name,
            as_back(believing(&named)),
            200,
            "h2",
        ),
        (
            "name that the certificate has not",
            at_number,
            as_back(believing(&numbered)),
            502,
            "",
        ),
        ("another authority", at_name, as_back(believing(&other)), 502, ""),
        (
            "no verification by choice",
            at_name,
            Transport {
                insecure_skip_verify: true,
                ..Transport::default()
            },
            200,
            "h2",
        ),
        (
            "without HTTP/2",
            at_name,
            Transport {
                disable_http2: true,
                ..as_back(believing(&named))
            },
            200,
            "h1",
        ),
        (
            "unreadable authority",
            at_name,
            Transport {
                root_cas: vec![b"nonsense"[..].into()],
                ..Transport::default()
            },
            502,
            "",
        ),
    ];
    let node = Plan::default().start();
    for (number, (what, address, transport, status, protocol)) in (2..).zip(cases) {
        let transport = Arc::new(Transport {
            name: format!("t{number}@file").into(),
            ..transport
        });
        let endpoints = vec![endpoint(Scheme::Https, "127.0.0.1", address.port(), "")];
        let service = Service::new(
            ServiceSpec {
                transport,
                ..spec("app", endpoints)
            },
            None,
        );
        let routes = vec![("PathPrefix(`/`)", service, false)];
        node.published
            .publish(generation_with(number, routes, Default::default()));
        let response = node.connect().await.get("/").await;
        assert_eq!(response.status, status, "{what}: {}", response.text());
        if status == 200 {
            assert_eq!(response.text(), protocol, "{what}");
        }
    }
}
