//! A provider whose readings the test sends, and what whoever polls gets.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use constellation_config::{Config, EdgeMode, Format, ProviderTls, Secret, TraefikProvider, dynamic};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, ETAG, HOST, IF_NONE_MATCH, RETRY_AFTER,
};
use http::{HeaderName, Request, Response, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Parts, Provider, ProviderServer, server};
use crate::publish::Merged;
use crate::sources::{Contribution, SourceStatus};

const ROUTE: &str = "
http:
  routers: {web: {rule: 'Host(`web.test`)', service: web}}
  services: {web: {loadBalancer: {servers: [{url: 'http://10.0.0.1'}]}}}
";

struct Site {
    provider: Provider,
    server: Option<ProviderServer>,
    readings: watch::Sender<Option<Merged>>,
    report: watch::Sender<Arc<crate::report::Report>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start(change: impl FnOnce(&mut TraefikProvider)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    async fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut TraefikProvider)) -> Self {
        let mut wanted = TraefikProvider::default();
        change(&mut wanted);
        let mut config = Config::default();
        config.edge.mode = EdgeMode::BehindTraefik;
        config.node.data_dir = folder.path().join("data");
        config.traefik_provider = Some(wanted.clone());
        let (readings, merged) = watch::channel(None);
        let (report, reports) = watch::channel(Arc::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let parts = Parts {
            config: &config,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            bound: &[],
            merged,
            report: reports,
            host_names: vec!["edge-1".to_owned()],
            tasks: &tasks,
            stop: stop.clone(),
        };
        let (provider, server) = Provider::start(&wanted, parts).unwrap();
        Self {
            provider,
            server: Some(server),
            readings,
            report,
            tasks,
            stop,
            folder,
        }
    }

    async fn read(&self, text: &str) {
        let reading = Contribution {
            provider: "file",
            dynamic: dynamic::parse(text, Format::Yaml, Path::new("d.yaml")).unwrap(),
            ..Contribution::default()
        };
        self.readings
            .send_replace(Some(Arc::new(vec![Arc::new(reading)])));
    }

    /// Waits until the report is as wanted.
    async fn until(&self, wanted: impl Fn(&super::Report) -> bool) {
        let mut latest = self.provider.0.as_ref().unwrap().latest.clone();
        while !wanted(&self.provider.report()) {
            latest.changed().await.unwrap();
        }
    }

    async fn ask(&self, path: &str, headers: &[(HeaderName, &str)]) -> Response<Body> {
        let mut request = Request::get(path).header(HOST, "127.0.0.1");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let router = server::router(self.provider.0.clone().unwrap());
        TowerToHyperService::new(router)
            .call(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    async fn end(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.folder
    }
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()
}

#[tokio::test]
async fn before_there_is_a_document_nothing_is_told() {
    let site = Site::start(|_| {}).await;
    let waiting = SourceStatus {
        error: Some("no engine".to_owned()),
        ..SourceStatus::default()
    };
    site.report
        .send_modify(|report| Arc::make_mut(report).sources = vec![("docker", waiting)]);
    for path in [
        "/",
        "/api/dynamic",
        "/api/v1/traefik/dynamic",
        "/api/http/routers",
    ] {
        let answer = site.ask(path, &[]).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.headers()[RETRY_AFTER], "5");
        let text = String::from_utf8(bytes(answer).await).unwrap();
        assert!(text.contains("docker (no engine)"), "{text}");
    }
    assert!(!site.provider.report().ready);
    site.read(ROUTE).await;
    site.until(|report| report.ready).await;
    assert_eq!(site.ask("/", &[]).await.status(), StatusCode::OK);
    // What could not be read stays.
    drop(site.readings.clone());
    assert_eq!(site.provider.report().routers, 1);
    site.end().await;
}

#[tokio::test]
async fn who_has_the_document_gets_it_once_and_packed_where_asked_for() {
    let site = Site::start(|_| {}).await;
    site.read(ROUTE).await;
    site.until(|report| report.ready).await;
    let plain = site.ask("/api/dynamic", &[]).await;
    let tag = plain.headers()[ETAG].to_str().unwrap().to_owned();
    assert!(!plain.headers().contains_key(CONTENT_ENCODING));
    let plain = bytes(plain).await;
    let value: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(value["http"]["routers"]["web-with-failover"]["service"], "web");
    let packed = site.ask("/api/dynamic", &[(ACCEPT_ENCODING, "gzip")]).await;
    assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*bytes(packed).await)
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain);
    let again = site.ask("/", &[(IF_NONE_MATCH, &tag)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(bytes(again).await, b"");
    let sections = bytes(site.ask("/api/http/routers", &[]).await).await;
    let sections: Value = serde_json::from_slice(&sections).unwrap();
    assert_eq!(sections[0]["name"], "web-with-failover@http");
    assert_eq!(site.ask("/api/http", &[]).await.status(), StatusCode::NOT_FOUND);
    let told = site.provider.report().answers;
    assert_eq!(
        told,
        [
            ("document", 2),
            ("unchanged", 1),
            ("unavailable", 0),
            ("refused", 0)
        ]
    );
    site.end().await;
}

#[tokio::test]
async fn a_token_is_asked_for_wherever_the_caller_is() {
    let site = Site::start(|wanted| wanted.token = Some(Secret::new("swordfish"))).await;
    site.read(ROUTE).await;
    site.until(|report| report.ready).await;
    for (header, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("Bearer x"), StatusCode::UNAUTHORIZED),
        (Some("Bearer swordfish"), StatusCode::OK),
    ] {
        let headers: Vec<(HeaderName, &str)> =
            header.map(|value| (AUTHORIZATION, value)).into_iter().collect();
        assert_eq!(site.ask("/", &headers).await.status(), status, "{header:?}");
    }
    assert!(!format!("{:?}", site.provider).contains("swordfish"));
    site.end().await;
}

#[tokio::test]
async fn a_folder_that_is_empty_after_a_start_makes_nobody_forget() {
    let file = |site: &Site| site.folder.path().join("document.json");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document.json");
    let site = Site::start_in(folder, |wanted| wanted.file = Some(path.clone())).await;
    site.read(ROUTE).await;
    site.until(|report| report.routers == 1).await;
    let written = std::fs::read_to_string(file(&site)).unwrap();
    assert!(written.contains("web-with-failover"));
    let folder = site.end().await;

    let site = Site::start_in(folder, |wanted| wanted.file = Some(path.clone())).await;
    site.read("{}").await;
    site.until(|report| {
        report
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("no routes were found"))
    })
    .await;
    assert_eq!(site.ask("/", &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(std::fs::read_to_string(file(&site)).unwrap(), written);
    site.read(ROUTE).await;
    site.until(|report| report.routers == 1).await;
    // Now it is meant.
    site.read("{}").await;
    site.until(|report| report.ready && report.routers == 0).await;
    assert!(
        !std::fs::read_to_string(file(&site))
            .unwrap()
            .contains("web-with-failover")
    );
    let folder = site.end().await;

    // And remembered.
    let site = Site::start_in(folder, |_| {}).await;
    site.read("{}").await;
    site.until(|report| report.ready).await;
    site.end().await;
}

#[tokio::test]
async fn routes_are_withdrawn_whatever_there_is() {
    let site = Site::start(|wanted| wanted.withdraw = true).await;
    site.until(|report| report.ready).await;
    site.read(ROUTE).await;
    assert_eq!(site.provider.report().routers, 0);
    assert_eq!(site.ask("/", &[]).await.status(), StatusCode::OK);
    site.end().await;
}

#[tokio::test]
async fn only_clients_with_a_certificate_are_answered_where_that_is_asked_for() {
    // As the node does first of all; another test may have done it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&leaf_key, &issuer)
        .unwrap();
    let ca = write("ca.pem", authority.pem());
    let tls = ProviderTls {
        cert_file: write("cert.pem", leaf.pem()),
        key_file: write("key.pem", leaf_key.serialize_pem()),
        client_cas: vec![ca],
    };
    let site = Site::start(|wanted| wanted.tls = Some(tls)).await;
    site.read(ROUTE).await;
    site.until(|report| report.ready).await;
    let address = site.provider.report().address.unwrap();
    let ask = async |with_certificate: bool| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match with_certificate {
            true => {
                let key = rustls::pki_types::PrivatePkcs8KeyDer::from(leaf_key.serialize_der());
                builder
                    .with_client_auth_cert(vec![leaf.der().clone()], key.into())
                    .unwrap()
            }
            false => builder.with_no_client_auth(),
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut text = String::new();
        // In TLS 1.3 the refusal comes after the handshake.
        drop(stream.write_all(request.as_bytes()).await);
        drop(stream.read_to_string(&mut text).await);
        text
    };
    assert!(ask(true).await.starts_with("HTTP/1.1 200"));
    assert_eq!(ask(false).await, "");
    site.end().await;
}
