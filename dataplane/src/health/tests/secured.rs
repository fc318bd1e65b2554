//! TLS as the service's transport wants it.

use constellation_table::policy::{CheckMode, TcpExchange};
use constellation_table::{Pem, ProxyProtocolVersion, StreamTransport};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::metrics::CheckOutcome;

/// A certificate that signs itself, so that it is its own authority.
struct Identity {
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    chain_pem: Pem,
    key_pem: Pem,
}

fn identity(name: &str) -> Identity {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Identity {
        chain: made.cert.der().clone(),
        key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        chain_pem: made.cert.pem().into_bytes().into(),
        key_pem: made.signing_key.serialize_pem().into_bytes().into(),
    }
}

/// What a TLS server tells of each connection: the server name asked for, and the protocol agreed on.
type Hello = (Option<String>, Option<Vec<u8>>);

/// The TLS of a server; with `client` only for who shows that certificate.
fn config(identity: &Identity, client: Option<&Identity>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client {
        Some(client) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client.chain.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::tls::provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(vec![identity.chain.clone()], identity.key.clone_key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A server that answers 200 in HTTP/1 and `SERVING` to gRPC.
async fn server(
    identity: &Identity,
    client: Option<&Identity>,
    alpn: &[&[u8]],
) -> (SocketAddr, mpsc::UnboundedReceiver<Hello>, JoinSet<()>) {
    let acceptor = TlsAcceptor::from(config(identity, client, alpn));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let (_, session) = stream.get_ref();
            let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
            let _ = tell.send((session.server_name().map(str::to_owned), protocol.clone()));
            if protocol.as_deref() == Some(b"h2") {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = http::Response::builder().status(200).body(()).unwrap();
                    let mut body = respond.send_response(head, false).unwrap();
                    body.send_data(bytes::Bytes::from_static(b"\0\0\0\0\x02\x08\x01"), false)
                        .unwrap();
                    let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                    body.send_trailers(trailers.into_iter().collect()).unwrap();
                }
            } else {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0)
                {}
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await
                    .unwrap_or_default();
            }
        }
    });
    (address, told, tasks)
}

async fn reason_with(check: HealthCheck, endpoint: Arc<Endpoint>, transport: Transport) -> String {
    Watched::start(vec![service(check, vec![endpoint], transport)])
        .reason()
        .await
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_fit() {
    let identity = identity("app.test");
    let trusting = || Transport {
        name: "t@test".into(),
        root_cas: vec![identity.chain_pem.clone()],
        ..Transport::default()
    };
    for (transport, reason) in [
        (
            Transport {
                server_name: Some("app.test".into()),
                ..trusting()
            },
            "",
        ),
        (
            Transport {
                insecure_skip_verify: true,
                ..Transport::default()
            },
            "",
        ),
        (
            trusting(),
            "certificate not accepted: certificate not valid for name",
        ),
        (
            Transport {
                server_name: Some("app.test".into()),
                root_cas: vec![self::identity("app.test").chain_pem],
                ..trusting()
            },
            "certificate not accepted: ",
        ),
        (
            Transport {
                root_cas: vec![Pem::from(*b"none")],
                ..trusting()
            },
            "the servers transport \"t@test\" can't be used: a file of certificates holds none",
        ),
    ] {
        let (address, _told, _server) = server(&identity, None, &[]).await;
        let found = reason_with(once(), endpoint(Scheme::Https, address), transport).await;
        assert!(
            found.starts_with(reason) && found.is_empty() == reason.is_empty(),
            "{found:?} for {reason:?}"
        );
    }
}

#[tokio::test]
async fn the_transport_names_the_server_and_the_check_only_the_host() {
    let identity = identity("app.test");
    let (address, mut told, _server) = server(&identity, None, &[b"h2", b"http/1.1"]).await;
    let transport = Transport {
        name: "t@test".into(),
        root_cas: vec![identity.chain_pem.clone()],
        server_name: Some("app.test".into()),
        ..Transport::default()
    };
    let check = HealthCheck {
        hostname: Some("other.test".into()),
        ..once()
    };
    let found = reason_with(check, endpoint(Scheme::Https, address), transport.clone()).await;
    assert_eq!(found, "");
    assert_eq!(
        told.recv().await.unwrap(),
        (Some("app.test".to_owned()), Some(b"h2".to_vec()))
    );

    // The check's own scheme counts, not the endpoint's.
    let check = HealthCheck {
        scheme: Some(Scheme::Https),
        ..once()
    };
    let transport = Transport {
        disable_http2: true,
        ..transport
    };
    assert_eq!(
        reason_with(check, endpoint(Scheme::Http, address), transport).await,
        ""
    );
    assert_eq!(told.recv().await.unwrap().1, Some(b"http/1.1".to_vec()));
}

#[tokio::test]
async fn the_transports_client_certificate_is_shown() {
    let (server_identity, client) = (identity("app.test"), identity("client.test"));
    let transport = |certificate| Transport {
        name: "t@test".into(),
        root_cas: vec![server_identity.chain_pem.clone()],
        server_name: Some("app.test".into()),
        client_certificate: certificate,
        ..Transport::default()
    };
    let (address, _told, _server) = server(&server_identity, Some(&client), &[]).await;
    let shown = transport(Some((client.chain_pem.clone(), client.key_pem.clone())));
    assert_eq!(
        reason_with(once(), endpoint(Scheme::Https, address), shown).await,
        ""
    );
    let (address, _told, _server) = server(&server_identity, Some(&client), &[]).await;
    let found = reason_with(once(), endpoint(Scheme::Https, address), transport(None)).await;
    assert!(!found.is_empty());
}

#[tokio::test]
async fn grpc_over_tls_needs_http2() {
    let identity = identity("app.test");
    let transport = || Transport {
        name: "t@test".into(),
        root_cas: vec![identity.chain_pem.clone()],
        server_name: Some("app.test".into()),
        ..Transport::default()
    };
    let check = HealthCheck {
        mode: CheckMode::Grpc,
        ..once()
    };
    let (address, _told, _server) = server(&identity, None, &[b"h2"]).await;
    assert_eq!(
        reason_with(check.clone(), endpoint(Scheme::Https, address), transport()).await,
        ""
    );
    let (address, _told, _server) = server(&identity, None, &[]).await;
    assert_eq!(
        reason_with(check, endpoint(Scheme::Https, address), transport()).await,
        "it does not offer HTTP/2 by ALPN, which gRPC needs"
    );
}

/// Something that speaks no TLS at the port.
#[tokio::test]
async fn what_speaks_no_tls_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let _plain = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap_or_default();
        }
    }));
    let found = reason_with(once(), endpoint(Scheme::Https, address), Transport::default()).await;
    assert!(found.starts_with("TLS failed: "), "{found}");
}

/// The handshake is a part of the check, with or without words after it.
#[tokio::test]
async fn a_tcp_check_of_an_endpoint_with_tls_speaks_through_it() {
    let us = identity("db.test");
    let (address, _hellos, _server) = server(&us, None, &[]).await;
    let answered = TcpExchange {
        send: (*b"PING\r\n\r\n").into(),
        expect: (*b"HTTP/1.1 200 ").into(),
    };
    let trusted = Transport {
        server_name: Some("db.test".into()),
        root_cas: vec![us.chain_pem.clone()],
        ..Transport::default()
    };
    for exchange in [answered, TcpExchange::default()] {
        let check = HealthCheck {
            mode: CheckMode::Tcp,
            exchange,
            ..once()
        };
        for (transport, expected) in [
            (trusted.clone(), None),
            (Transport::default(), Some(CheckOutcome::Tls)),
        ] {
            let endpoints = vec![endpoint(Scheme::Tls, address)];
            let mut watched = Watched::start(vec![service(check.clone(), endpoints, transport)]);
            let (_, result) = watched.next().await;
            assert_eq!(result.err().map(|failure| failure.outcome), expected);
        }
    }
}

/// What streams say before their client's bytes, a check says as well: the PROXY header before TLS, the client's
/// certificate in it, and no protocols of HTTP.
#[tokio::test]
async fn a_tcp_check_speaks_the_tls_of_its_streams() {
    let (server, client) = (identity("db.test"), identity("client.test"));
    let acceptor = TlsAcceptor::from(config(&server, Some(&client), &[b"special"]));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut header = [0; 15];
            socket.read_exact(&mut header).await.unwrap_or_default();
            if header != *b"PROXY UNKNOWN\r\n" {
                continue;
            }
            if let Ok(mut stream) = acceptor.accept(socket).await {
                stream.read_exact(&mut [0; 6]).await.unwrap_or_default();
                stream.write_all(b"+PONG\r\n").await.unwrap_or_default();
            }
        }
    }));
    let known = Transport {
        server_name: Some("db.test".into()),
        root_cas: vec![server.chain_pem.clone()],
        client_certificate: Some((client.chain_pem.clone(), client.key_pem.clone())),
        stream: StreamTransport {
            proxy_protocol: Some(ProxyProtocolVersion::V1),
            ..StreamTransport::default()
        },
        ..Transport::default()
    };
    let unknown = Transport {
        client_certificate: None,
        ..known.clone()
    };
    let unusable = Transport {
        root_cas: vec![Pem::from(*b"none")],
        ..known.clone()
    };
    let check = HealthCheck {
        mode: CheckMode::Tcp,
        exchange: TcpExchange {
            send: (*b"PING\r\n").into(),
            expect: (*b"+PONG").into(),
        },
        ..once()
    };
    for (transport, healthy) in [(known, true), (unknown, false), (unusable, false)] {
        let reason = reason_with(check.clone(), endpoint(Scheme::Tls, address), transport).await;
        assert_eq!(reason.is_empty(), healthy, "{reason}");
    }
}
