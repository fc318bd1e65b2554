//! TLS: told apart by name, ended here, begun towards back ends, asked for as PostgreSQL does.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use constellation_dataplane::named;
use constellation_dataplane::table::{ProxyProtocolVersion, Scheme, TcpTls, Transport};
use constellation_dataplane::tls::{CertificateSpec, OptionsSpec, PemSource, TlsContext, TlsSpec, TlsView};
use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::support::{Backend, Plan, Stream, dead, exact, rest, soon, until};

/// A certificate that signs itself, so that it is its own authority.
struct Identity {
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    chain_pem: String,
    key_pem: String,
}

impl Identity {
    fn new(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            chain: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            chain_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        }
    }

    fn view(&self, options: OptionsSpec) -> TlsView {
        let (view, problems) = TlsContext::new(&[]).unwrap().build(&TlsSpec {
            certificates: vec![CertificateSpec {
                chain: PemSource::from_value(&self.chain_pem),
                key: PemSource::from_value(&self.key_pem),
            }],
            options: [("default".into(), options)].into(),
            ..TlsSpec::default()
        });
        assert!(problems.is_empty(), "{problems:?}");
        view
    }

    fn acceptor(&self) -> TlsAcceptor {
        let config = rustls::ServerConfig::builder_with_provider(constellation_dataplane::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], self.key.clone_key())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A back end that ends TLS itself and sends back what it gets, behind its name.
    async fn backend(&self, name: &'static str) -> Backend {
        let acceptor = self.acceptor();
        Backend::start(move |socket| {
            let acceptor = acceptor.clone();
            async move { echo(acceptor.accept(socket).await?, name).await }
        })
        .await
    }

    async fn connect(
        &self,
        socket: TcpStream,
        name: &'static str,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.chain.clone()).unwrap();
        let mut config =
            rustls::ClientConfig::builder_with_provider(constellation_dataplane::tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        soon("the handshake", connector.connect(name, socket)).await
    }
}

async fn echo(mut stream: tokio_rustls::server::TlsStream<TcpStream>, name: &str) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    stream.write_all(name.as_bytes()).await?;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
}

/// Says something, ends its direction, and gives what comes back.
async fn ask(mut stream: TlsStream<TcpStream>, said: &[u8]) -> std::io::Result<String> {
    stream.write_all(said).await?;
    stream.shutdown().await?;
    rest(&mut stream).await.map(|got| String::from_utf8(got).unwrap())
}

#[tokio::test]
async fn names_part_ways_on_one_port() {
    let (own, theirs) = (
        Identity::new(&["ends.test", "web.test"]),
        Identity::new(&["passes.test", "deep.passes.test"]),
    );
    let passes = theirs.backend("passed:").await;
    let (ends, web) = (Backend::echo("ended:").await, Backend::http("web").await);
    let plain = Backend::greets("plain:").await;
    let node = Plan {
        streams: vec![
            Stream::named(
                "HostSNI(`passes.test`) || HostSNI(`*.passes.test`)",
                TcpTls::Passthrough,
                passes.address,
            ),
            Stream::named("HostSNI(`ends.test`)", TcpTls::Terminate, ends.address),
            Stream::to(&[plain.address]),
        ],
        http: vec![("Host(`web.test`)", web.address, true)],
        tls: own.view(OptionsSpec::default()),
        ..Plan::default()
    }
    .start();
    for name in ["passes.test", "deep.passes.test"] {
        let stream = theirs.connect(node.connect().await, name, &[]).await.unwrap();
        assert_eq!(ask(stream, b"hello").await.unwrap(), "passed:hello");
    }
    let stream = own.connect(node.connect().await, "ends.test", &[]).await.unwrap();
    assert_eq!(ask(stream, b"hello").await.unwrap(), "ended:hello");
    let stream = own
        .connect(node.connect().await, "web.test", &[b"http/1.1"])
        .await
        .unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n";
    let answer = ask(stream, get).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nweb"), "{answer}");
    let mut client = node.connect().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(exact(&mut client, 7).await, b"plain:x");
    drop(client);
    let (_, log) = node.stop().await;
    let names: Vec<_> = log
        .iter()
        .filter_map(|line| line["ServerName"].as_str())
        .collect();
    assert_eq!(names, ["passes.test", "deep.passes.test", "ends.test"]);
}

/// The ClientHello byte by byte: it is decided when it is whole, and passed on as it was.
#[tokio::test]
async fn a_hello_in_pieces_is_passed_on_whole() {
    let theirs = Identity::new(&["passes.test"]);
    let passes = theirs.backend("passed:").await;
    let node = Plan::streams(vec![Stream::named(
        "HostSNI(`passes.test`)",
        TcpTls::Passthrough,
        passes.address,
    )])
    .start();
    let (ours, far) = tokio::io::duplex(64 * 1024);
    let mut socket = node.connect().await;
    socket.set_nodelay(true).unwrap();
    let slow = tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(far);
        let (mut back, mut there) = socket.split();
        let upwards = async {
            let mut byte = [0];
            while let Ok(1) = from.read(&mut byte).await {
                there.write_all(&byte).await.unwrap();
            }
        };
        let downwards = async { tokio::io::copy(&mut back, &mut to).await.unwrap_or_default() };
        tokio::join!(upwards, downwards);
    });
    let mut roots = RootCertStore::empty();
    roots.add(theirs.chain.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(constellation_dataplane::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("passes.test").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, ours);
    let mut stream = soon("the handshake", connecting).await.unwrap();
    assert_eq!(exact(&mut stream, 7).await, b"passed:");
    slow.abort();
}

/// Nobody promises HTTP in the name of a back end that may not speak it.
#[tokio::test]
async fn protocols_are_negotiated_only_where_they_are_configured() {
    let own = Identity::new(&["ends.test"]);
    let backend = Backend::echo("").await;
    let offered: &[&[u8]] = &[b"h2", b"http/1.1", b"redis"];
    for (configured, agreed) in [
        (None, None),
        (Some(vec!["redis".to_owned()]), Some(b"redis".as_slice())),
    ] {
        let node = Plan {
            streams: vec![Stream::named(
                "HostSNI(`ends.test`)",
                TcpTls::Terminate,
                backend.address,
            )],
            tls: own.view(OptionsSpec {
                alpn_protocols: configured,
                ..OptionsSpec::default()
            }),
            ..Plan::default()
        }
        .start();
        let stream = own
            .connect(node.connect().await, "ends.test", offered)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        assert_eq!(ask(stream, b"x").await.unwrap(), "x");
    }
}

/// TLS that ends here and TLS that begins here, with the certificate verified.
#[tokio::test]
async fn tls_towards_the_back_end_is_verified() {
    let (own, theirs) = (Identity::new(&["ends.test"]), Identity::new(&["db.internal"]));
    let backend = theirs.backend("secret:").await;
    let start = |transport: Transport, tls: Option<TcpTls>| {
        Plan {
            streams: vec![Stream {
                endpoints: vec![(Scheme::Tls, backend.address)],
                transport,
                rule: if tls.is_some() {
                    "HostSNI(`ends.test`)"
                } else {
                    "HostSNI(`*`)"
                },
                tls,
                ..Stream::to(&[])
            }],
            tls: own.view(OptionsSpec::default()),
            ..Plan::default()
        }
        .start()
    };
    let trusting = Transport {
        server_name: Some("db.internal".into()),
        root_cas: vec![theirs.chain_pem.clone().into_bytes().into()],
        ..Transport::default()
    };
    let node = start(trusting.clone(), None);
    assert_eq!(
        super::support::exchange(node.connect().await, b"x")
            .await
            .unwrap(),
        "secret:x"
    );
    let node = start(trusting.clone(), Some(TcpTls::Terminate));
    let stream = own.connect(node.connect().await, "ends.test", &[]).await.unwrap();
    assert_eq!(ask(stream, b"x").await.unwrap(), "secret:x");
    let blind = Transport {
        insecure_skip_verify: true,
        ..Transport::default()
    };
    let node = start(blind, None);
    assert_eq!(
        super::support::exchange(node.connect().await, b"x")
            .await
            .unwrap(),
        "secret:x"
    );
    let elsewhere = Transport {
        server_name: Some("other.internal".into()),
        ..trusting
    };
    for transport in [elsewhere, Transport::default()] {
        let node = start(transport, None);
        let error = rest(&mut node.connect().await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(node.metrics().contains("reason=\"tls\""), "{}", node.metrics());
    }
}

/// TLS that is cut off is no end: the back end must not take what came for the whole.
#[tokio::test]
async fn tls_that_is_cut_off_is_a_reset() {
    let own = Identity::new(&["ends.test"]);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::start(move |mut socket| {
        let tell = tell.clone();
        async move {
            let mut got = Vec::new();
            let end = socket.read_to_end(&mut got).await;
            tell.send((got, end.map_err(|error| error.kind()).err())).unwrap();
            Ok(())
        }
    })
    .await;
    let node = Plan {
        streams: vec![Stream::named(
            "HostSNI(`ends.test`)",
            TcpTls::Terminate,
            backend.address,
        )],
        tls: own.view(OptionsSpec::default()),
        ..Plan::default()
    }
    .start();
    for (cut_off, end) in [(true, Some(ErrorKind::ConnectionReset)), (false, None)] {
        let mut stream = own.connect(node.connect().await, "ends.test", &[]).await.unwrap();
        stream.write_all(b"the beginning").await.unwrap();
        stream.flush().await.unwrap();
        if cut_off {
            stream.get_mut().0.shutdown().await.unwrap();
        } else {
            stream.shutdown().await.unwrap();
        }
        let (got, seen) = soon("the end", told.recv()).await.unwrap();
        assert_eq!((got.as_slice(), seen), (b"the beginning".as_slice(), end));
    }
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A PostgreSQL client that asks for TLS: passed on with its question, or answered and ended here.
#[tokio::test]
async fn postgresql_asks_before_tls_begins() {
    let (own, theirs) = (Identity::new(&["ends.test"]), Identity::new(&["passes.test"]));
    let acceptor = theirs.acceptor();
    let passes = Backend::start(move |mut socket| {
        let acceptor = acceptor.clone();
        async move {
            let mut request = [0; 8];
            socket.read_exact(&mut request).await?;
            assert_eq!(request, SSL_REQUEST);
            socket.write_all(b"S").await?;
            echo(acceptor.accept(socket).await?, "passed:").await
        }
    })
    .await;
    let ends = Backend::echo("ended:").await;
    let node = Plan {
        streams: vec![
            Stream::named("HostSNI(`passes.test`)", TcpTls::Passthrough, passes.address),
            Stream::named("HostSNI(`ends.test`)", TcpTls::Terminate, ends.address),
        ],
        tls: own.view(OptionsSpec::default()),
        ..Plan::default()
    }
    .start();
    for (identity, name, answer) in [
        (&theirs, "passes.test", "passed:hello"),
        (&own, "ends.test", "ended:hello"),
    ] {
        let mut socket = node.connect().await;
        socket.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(exact(&mut socket, 1).await, b"S");
        let stream = identity.connect(socket, name, &[]).await.unwrap();
        assert_eq!(ask(stream, b"hello").await.unwrap(), answer);
    }
    // Bytes behind the question would be taken for encrypted ones.
    let mut socket = node.connect().await;
    socket
        .write_all(&[&SSL_REQUEST[..], b"\x16"].concat())
        .await
        .unwrap();
    assert!(
        rest(&mut socket)
            .await
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
            || rest(&mut socket).await.unwrap().is_empty()
    );
    // A name that nobody takes is not HTTP's either.
    let mut socket = node.connect().await;
    socket.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(exact(&mut socket, 1).await, b"S");
    assert!(own.connect(socket, "ends.other", &[]).await.is_err());
}

/// The handshake with the client comes first, and says nothing of back ends.
#[tokio::test]
async fn without_a_back_end_a_client_with_tls_learns_of_it() {
    let own = Identity::new(&["ends.test"]);
    let nobody: SocketAddr = dead().await;
    let node = Plan {
        streams: vec![Stream::named("HostSNI(`ends.test`)", TcpTls::Terminate, nobody)],
        tls: own.view(OptionsSpec::default()),
        ..Plan::default()
    }
    .start();
    let mut stream = own.connect(node.connect().await, "ends.test", &[]).await.unwrap();
    let error = rest(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    until("the count", || node.ended("unreachable") == 1.0).await;
}

/// A proxy in front names the service to TLS, whatever the routers say, and tells who the client is.
#[tokio::test]
async fn a_connection_that_names_its_service_goes_there() {
    let (first, second) = (Backend::echo("first:").await, Backend::greets("second:").await);
    let web = Backend::http("web").await;
    let mut told = Stream::to(&[first.address]);
    told.transport.stream.proxy_protocol = Some(ProxyProtocolVersion::V1);
    let node = Plan {
        streams: vec![told, Stream::to(&[second.address]), Stream::to(&[])],
        http: vec![("PathPrefix(`/`)", web.address, false)],
        // What users ask of their clients.
        tls: Identity::new(&["other.test"]).view(OptionsSpec::default()),
        by_service: true,
        ..Plan::default()
    }
    .start();
    let connect = async |service: &str| {
        let mut socket = node.connect().await;
        let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 5432\r\n";
        socket.write_all(header).await.unwrap();
        let config = rustls::ClientConfig::builder_with_provider(constellation_dataplane::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let name = ServerName::try_from(named::host(service).unwrap()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        soon("the handshake", connector.connect(name, socket)).await
    };
    let stream = connect("s0@test").await.unwrap();
    let answer = ask(stream, b"hello").await.unwrap();
    assert_eq!(answer, "first:PROXY TCP4 192.0.2.7 192.0.2.1 4711 5432\r\nhello");
    // The server speaks first.
    let mut stream = connect("s1@test").await.unwrap();
    assert_eq!(exact(&mut stream, 7).await, b"second:");
    // Without a back end, without a service.
    for nobody in ["s2@test", "s3@test"] {
        assert!(connect(nobody).await.is_err(), "{nobody}");
    }
    // What names no service to TLS may name it in its path; none does here.
    let mut client = node.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut client).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 404 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(web.connections(), 0);
}

/// Does not look at certificates, as the proxy in front does not.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        constellation_dataplane::tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
