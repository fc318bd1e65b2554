//! Where the engine is and how to talk to it: socket or TCP, with or without TLS.
//!
//! `DOCKER_HOST` and the variables beside it have found their way into the configuration already. While the endpoint is
//! the default, a rootless engine's socket stands in where the default is missing. Resolved anew for every connection,
//! because a rootless engine may start later than this node.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use constellation_config::{DockerProvider, DockerTls};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::failure::ConnectError;

const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// A resolved endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A socket file.
    Unix(PathBuf),
    /// Host and port, without TLS.
    Plain(String),
    /// Host and port, with TLS.
    Tls(String, DockerTls),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Plain(authority) => write!(f, "tcp://{authority}"),
            Self::Tls(authority, _) => write!(f, "https://{authority}"),
        }
    }
}

impl Endpoint {
    /// Resolves; `runtime` is `XDG_RUNTIME_DIR` and `exists` asks for a file.
    pub(super) fn resolve(
        provider: &DockerProvider,
        runtime: Option<String>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Self, ConnectError> {
        let endpoint = Self::parse(&provider.endpoint, provider.tls.clone())?;
        let default = provider.endpoint == DockerProvider::DEFAULT_ENDPOINT;
        Ok(endpoint.or_rootless(default, runtime, exists))
    }

    fn parse(text: &str, tls: Option<DockerTls>) -> Result<Self, ConnectError> {
        let unusable = || ConnectError::Endpoint(text.to_owned());
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(unusable)?;
        let authority = |port: u16| {
            let rest = rest.trim_end_matches('/');
            let authority: http::uri::Authority = rest.parse().map_err(|_| unusable())?;
            match authority.port() {
                Some(_) => Ok(authority.to_string()),
                None => Ok(format!("{authority}:{port}")),
            }
        };
        match (scheme, tls) {
            ("unix", _) if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            ("tcp" | "http", None) => authority(PLAIN_PORT).map(Self::Plain),
            ("tcp" | "http", Some(tls)) => authority(TLS_PORT).map(|authority| Self::Tls(authority, tls)),
            ("https", tls) => {
                authority(TLS_PORT).map(|authority| Self::Tls(authority, tls.unwrap_or_default()))
            }
            _ => Err(unusable()),
        }
    }

    fn or_rootless(self, default: bool, runtime: Option<String>, exists: impl Fn(&Path) -> bool) -> Self {
        match (&self, runtime) {
            (Self::Unix(path), Some(runtime)) if default && !exists(path) => {
                let rootless = Path::new(&runtime).join("docker.sock");
                if exists(&rootless) {
                    Self::Unix(rootless)
                } else {
                    self
                }
            }
            _ => self,
        }
    }

    /// A client with the API version that both sides speak. `limit` bounds every request up to its response headers.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Docker, ConnectError> {
        let seconds = limit.as_secs().max(1);
        let docker = match self {
            // The client looks at the file itself, and tells less about why it can't be used.
            Self::Unix(path) => match tokio::net::UnixStream::connect(path).await {
                Ok(_) => Docker::connect_with_unix(&path.to_string_lossy(), seconds, API_DEFAULT_VERSION),
                Err(error) => return Err(ConnectError::unreachable(self, &error)),
            },
            Self::Plain(authority) => Docker::connect_with_http(authority, seconds, API_DEFAULT_VERSION),
            Self::Tls(authority, tls) => tls_client(authority, tls, seconds).await?,
        };
        let docker = docker.map_err(|error| ConnectError::from_client(self, &error))?;
        let negotiated = tokio::time::timeout(limit, docker.negotiate_version()).await;
        match negotiated {
            Ok(Ok(docker)) => Ok(docker),
            Ok(Err(error)) => Err(ConnectError::from_client(self, &error)),
            Err(_) => Err(ConnectError::Silent {
                endpoint: self.to_string(),
                limit,
            }),
        }
    }
}

async fn tls_client(
    authority: &str,
    tls: &DockerTls,
    seconds: u64,
) -> Result<Result<Docker, bollard::errors::Error>, ConnectError> {
    let config = tls_config(tls).await?;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let https = hyper_rustls::HttpsConnector::from((http, config));
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(https);
    let send = move |request: BollardRequest| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        let response = client.request(request);
        Box::pin(async move { response.await.map_err(bollard::errors::Error::from) })
    };
    Ok(Docker::connect_with_custom_transport(
        send,
        Some(format!("https://{authority}")),
        seconds,
        API_DEFAULT_VERSION,
    ))
}

async fn tls_config(tls: &DockerTls) -> Result<rustls::ClientConfig, ConnectError> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?;
    let builder = if tls.insecure_skip_verify {
        let verifier = std::sync::Arc::new(super::unverified::Unverified::new());
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots(tls.ca.as_deref()).await?)
    };
    match (&tls.cert, &tls.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert).await?;
            let pem = read(key).await?;
            let private =
                PrivateKeyDer::from_pem_slice(&pem).map_err(|error| ConnectError::file(key, &error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| ConnectError::file(cert, &error))
        }
        _ => Err(ConnectError::Tls(
            "providers.docker.tls needs both `cert` and `key`, or neither".to_owned(),
        )),
    }
}

async fn roots(ca: Option<&Path>) -> Result<rustls::RootCertStore, ConnectError> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = match ca {
        Some(path) => certificates(path).await?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(ConnectError::Tls(match ca {
            Some(path) => format!("{} holds no certificate", path.display()),
            None => "the system has no trust anchors; set providers.docker.tls.ca".to_owned(),
        }));
    }
    Ok(roots)
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let pem = read(path).await?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| ConnectError::file(path, &error))
}

async fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path)
        .await
        .map_err(|error| ConnectError::file(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(endpoint: &str, tls: bool, runtime: &str, files: &[&str]) -> String {
        let provider = DockerProvider {
            endpoint: endpoint.to_owned(),
            tls: tls.then(|| DockerTls {
                ca: Some(PathBuf::from("/ca")),
                ..DockerTls::default()
            }),
            ..DockerProvider::default()
        };
        let runtime = Some(runtime.to_owned()).filter(|runtime| !runtime.is_empty());
        match Endpoint::resolve(&provider, runtime, |path| {
            files.iter().any(|file| Path::new(file) == path)
        }) {
            Ok(Endpoint::Tls(authority, tls)) => {
                format!("https://{authority} {:?}", tls.ca.unwrap_or_default())
            }
            Ok(endpoint) => endpoint.to_string(),
            Err(error) => error.to_string().chars().take(20).collect(),
        }
    }

    #[test]
    fn resolves_sockets_and_addresses() {
        let default = DockerProvider::DEFAULT_ENDPOINT;
        for (endpoint, tls, expected) in [
            (default, false, default),
            (default, true, default),
            ("/x.sock", false, "unix:///x.sock"),
            ("tcp://h", false, "tcp://h:2375"),
            ("http://h:99/", false, "tcp://h:99"),
            ("tcp://[::1]:99", false, "tcp://[::1]:99"),
            ("https://h", false, "https://h:2376 \"\""),
            ("https://h", true, "https://h:2376 \"/ca\""),
            ("tcp://h:1", true, "https://h:1 \"/ca\""),
            ("http://h:1", true, "https://h:1 \"/ca\""),
            ("ssh://user@h", false, "`ssh://user@h` is no"),
            ("unix://x", false, "`unix://x` is not an"),
            ("h:1", false, "`h:1` is not an endp"),
            ("", false, "`` is not an endpoin"),
            ("tcp://a b", false, "`tcp://a b` is not a"),
        ] {
            assert_eq!(resolve(endpoint, tls, "", &[]), expected, "{endpoint} {tls}");
        }
    }

    #[test]
    fn a_rootless_engine_stands_in_for_a_missing_default() {
        let default = DockerProvider::DEFAULT_ENDPOINT;
        let rootless = "/run/user/7/docker.sock";
        for (endpoint, files, expected) in [
            (default, vec![rootless], "unix:///run/user/7/docker.sock"),
            (default, vec![rootless, "/var/run/docker.sock"], default),
            (default, vec![], default),
            ("unix:///x", vec![rootless], "unix:///x"),
        ] {
            assert_eq!(
                resolve(endpoint, false, "/run/user/7", &files),
                expected,
                "{endpoint} {files:?}"
            );
        }
    }
}
