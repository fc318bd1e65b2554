//! An engine behind TLS that asks for client certificates, as `dockerd --tlsverify` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use constellation_config::{DockerProvider, DockerTls};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::provider;
use crate::sources::docker;

/// A certificate authority and what it has signed, as files.
struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let authority = Self {
            directory: TempDir::new().unwrap(),
            issuer: Issuer::new(params, key),
            certificate,
        };
        authority.write("ca.pem", &authority.certificate.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Client options with a certificate of this authority.
    fn client(&self) -> DockerTls {
        let (certificate, key) = self.sign("client.test");
        DockerTls {
            ca: Some(self.directory.path().join("ca.pem")),
            cert: Some(self.write("cert.pem", &certificate.pem())),
            key: Some(self.write("key.pem", &key.serialize_pem())),
            insecure_skip_verify: false,
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.sign("127.0.0.1");
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto.clone())
            .build()
            .unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers one request: an engine without containers whose event stream is silent.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..length]);
    let body = match request.split_whitespace().nth(1).unwrap_or_default() {
        "/version" => "{\"ApiVersion\": \"1.41\"}",
        path if path.starts_with("/events") => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
                .await?;
            return std::future::pending().await;
        }
        _ => "[]",
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}

#[tokio::test]
async fn tls_is_verified_on_both_sides() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = authority.acceptor();
    let stop = CancellationToken::new();
    let server = tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(acceptor.clone(), stream));
        }
    }));
    let good = authority.client();
    let nameless = |tls: &DockerTls| DockerTls {
        cert: None,
        key: None,
        ..tls.clone()
    };
    let other = Authority::new();
    let trusting = DockerTls {
        ca: None,
        insecure_skip_verify: true,
        ..good.clone()
    };
    let keyless = DockerTls {
        key: Some(Path::new("/does/not/exist").to_owned()),
        ..good.clone()
    };
    let half = DockerTls {
        key: None,
        ..good.clone()
    };
    let unreachable = |reason: &str| format!("Docker is not reachable at https://{address}: {reason}");
    let unusable = |reason: &str| format!("TLS towards Docker can't be set up: {reason}");
    let strange = DockerTls {
        ca: other.client().ca,
        ..good.clone()
    };
    for (what, tls, expected) in [
        ("both sides know each other", good.clone(), None),
        ("any certificate will do", trusting, None),
        (
            "the client is unknown",
            nameless(&good),
            Some(unreachable(
                "received fatal alert: CertificateRequired. Check providers.docker.tls",
            )),
        ),
        (
            "the engine is unknown",
            strange,
            Some(unreachable("invalid peer certificate: ")),
        ),
        (
            "the key is missing",
            keyless,
            Some(unusable("/does/not/exist: No such file")),
        ),
        (
            "the key is not named",
            half,
            Some(unusable(
                "providers.docker.tls needs both `cert` and `key`, or neither",
            )),
        ),
    ] {
        let options = DockerProvider {
            endpoint: format!("tcp://{address}"),
            tls: Some(tls),
            ..provider()
        };
        let cancel = CancellationToken::new();
        let mut handle = docker::spawn(options, cancel.clone()).unwrap();
        let known = handle
            .state
            .wait_for(|state| state.status.connected || state.status.error.is_some());
        let state = timeout(Duration::from_secs(30), known)
            .await
            .unwrap()
            .unwrap()
            .clone();
        match expected {
            None => assert_eq!(state.status.error, None, "{what}"),
            Some(start) => {
                let error = state.status.error.unwrap();
                assert!(error.starts_with(&start), "{what}: {error}");
            }
        }
        cancel.cancel();
        handle.task.await.unwrap();
    }
    stop.cancel();
    server.await.unwrap();
}
