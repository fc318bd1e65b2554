//! Where the engine is and how to talk to it: socket or TCP, with or without TLS.
//!
//! The configured endpoint wins; while that is the default, `DOCKER_HOST` is asked (with `DOCKER_TLS_VERIFY` and
//! `DOCKER_CERT_PATH`, as Docker's own client does), and a rootless engine's socket stands in for a missing default.
//! Resolved anew for every connection, because a rootless engine may start later than this node.

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
    /// Resolves; `env` reads an environment variable and `exists` asks for a file.
    pub(super) fn resolve(
        provider: &DockerProvider,
        env: impl Fn(&str) -> Option<String>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Self, ConnectError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let default = provider.endpoint.is_empty() || provider.endpoint == DockerProvider::DEFAULT_ENDPOINT;
        let Some(host) = env("DOCKER_HOST").filter(|_| default) else {
            let endpoint = if default {
                DockerProvider::DEFAULT_ENDPOINT
            } else {
                &provider.endpoint
            };
            let endpoint = Self::parse(endpoint, provider.tls.clone())?;
            return Ok(endpoint.or_rootless(default, env("XDG_RUNTIME_DIR"), exists));
        };
        let tls = match (provider.tls.clone(), env("DOCKER_TLS_VERIFY")) {
            (Some(tls), _) => Some(tls),
            (None, None) => None,
            (None, Some(_)) => {
                let home = || Some(Path::new(&env("HOME")?).join(".docker"));
                let directory = env("DOCKER_CERT_PATH")
                    .map(PathBuf::from)
                    .or_else(home)
                    .unwrap_or_default();
                Some(DockerTls {
                    ca: Some(directory.join("ca.pem")),
                    cert: Some(directory.join("cert.pem")),
                    key: Some(directory.join("key.pem")),
                    insecure_skip_verify: false,
                })
            }
        };
        Self::parse(&host, tls)
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
            ("tcp", Some(tls)) => authority(TLS_PORT).map(|authority| Self::Tls(authority, tls)),
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

    /// Endpoint, TLS, environment, files that exist, and what comes of it.
    type Case<'a> = (
        &'a str,
        Option<DockerTls>,
        Vec<(&'a str, &'a str)>,
        Vec<&'a str>,
        &'a str,
    );

    fn resolve(endpoint: &str, tls: Option<DockerTls>, env: &[(&str, &str)], files: &[&str]) -> String {
        let provider = DockerProvider {
            endpoint: endpoint.to_owned(),
            tls,
            ..DockerProvider::default()
        };
        let env = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let exists = |path: &Path| files.iter().any(|file| Path::new(file) == path);
        match Endpoint::resolve(&provider, env, exists) {
            Ok(Endpoint::Tls(authority, tls)) => {
                format!("https://{authority} {:?}", tls.ca.unwrap_or_default())
            }
            Ok(endpoint) => endpoint.to_string(),
            Err(error) => error.to_string().chars().take(24).collect(),
        }
    }

    #[test]
    fn resolves_like_dockers_client() {
        let default = DockerProvider::DEFAULT_ENDPOINT;
        let host = |value: &'static str| vec![("DOCKER_HOST", value)];
        let verified = vec![
            ("DOCKER_HOST", "tcp://h:1"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", "/certs"),
        ];
        let runtime = vec![("XDG_RUNTIME_DIR", "/run/user/7")];
        let rootless = "/run/user/7/docker.sock";
        let tls = Some(DockerTls::default());
        let cases: Vec<Case<'_>> = vec![
            (default, None, vec![], vec![], default),
            ("", None, vec![], vec![], default),
            ("/x.sock", None, vec![], vec![], "unix:///x.sock"),
            ("tcp://h", None, vec![], vec![], "tcp://h:2375"),
            ("http://h:99/", None, vec![], vec![], "tcp://h:99"),
            ("tcp://[::1]:99", None, vec![], vec![], "tcp://[::1]:99"),
            ("https://h", None, vec![], vec![], "https://h:2376 \"\""),
            ("tcp://h:1", tls.clone(), vec![], vec![], "https://h:1 \"\""),
            ("http://h:1", tls, vec![], vec![], "`http://h:1` is not an e"),
            ("ssh://h", None, vec![], vec![], "`ssh://h` is not an endp"),
            ("unix://x", None, vec![], vec![], "`unix://x` is not an end"),
            ("h:1", None, vec![], vec![], "`h:1` is not an endpoint"),
            (default, None, host("tcp://h:1"), vec![], "tcp://h:1"),
            (default, None, host(""), vec![], default),
            (default, None, host("ssh://h"), vec![], "`ssh://h` is not an endp"),
            ("unix:///x", None, host("tcp://h:1"), vec![], "unix:///x"),
            (default, None, verified, vec![], "https://h:1 \"/certs/ca.pem\""),
            (
                default,
                None,
                runtime.clone(),
                vec![rootless],
                "unix:///run/user/7/docker.sock",
            ),
            (
                default,
                None,
                runtime.clone(),
                vec![rootless, "/var/run/docker.sock"],
                default,
            ),
            (default, None, runtime.clone(), vec![], default),
            ("unix:///x", None, runtime, vec![rootless], "unix:///x"),
        ];
        for (endpoint, tls, env, files, expected) in cases {
            let said = format!("{endpoint} {tls:?} {env:?} {files:?}");
            assert_eq!(resolve(endpoint, tls, &env, &files), expected, "{said}");
        }
    }
}
