//! TLS towards a node: what was negotiated is part of the result.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Client;
use crate::certificates::{Authority, Identity, provider};

/// How to shake hands.
#[derive(Clone, Debug)]
pub struct Tls {
    roots: RootCertStore,
    alpn: Vec<Vec<u8>>,
    identity: Option<Identity>,
    versions: Vec<&'static SupportedProtocolVersion>,
    sni: bool,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Session {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// The server's certificate.
    pub certificate: CertificateDer<'static>,
    /// The protocol chosen by ALPN, empty without one.
    pub alpn: String,
}

impl Tls {
    /// Trusts this authority; offers no ALPN; TLS 1.2 and 1.3.
    pub fn trusting(authority: &Authority) -> Self {
        Self {
            roots: authority.roots(),
            alpn: Vec::new(),
            identity: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
            sni: true,
        }
    }

    /// Offers these protocols.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        self
    }

    /// Presents this client certificate.
    #[must_use]
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Offers this version alone.
    #[must_use]
    pub fn only(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Sends no server name.
    #[must_use]
    pub fn without_sni(mut self) -> Self {
        self.sni = false;
        self
    }

    /// Shakes hands for `name`. With TLS 1.3 a server that refuses the client's certificate says so only
    /// afterwards, see [`Session::refused`].
    pub async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<Session> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.versions)
            .map_err(std::io::Error::other)?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.der()], identity.key_der())
                .map_err(std::io::Error::other)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.sni;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (_, connection) = stream.get_ref();
        let certificate = connection.peer_certificates().unwrap()[0].clone().into_owned();
        let alpn = String::from_utf8(connection.alpn_protocol().unwrap_or_default().to_vec()).unwrap();
        Ok(Session {
            stream,
            certificate,
            alpn,
        })
    }

    /// Shakes hands and speaks what ALPN chose.
    pub async fn client(&self, address: SocketAddr, name: &str) -> std::io::Result<Client> {
        self.connect(address, name).await?.client().await
    }
}

impl Session {
    /// Speaks HTTP/2 when ALPN chose it, else HTTP/1.1.
    pub async fn client(self) -> std::io::Result<Client> {
        let h2 = self.alpn == "h2";
        Client::over(self.stream, h2, "https").await
    }

    /// The error with which the server ends the connection after the handshake.
    ///
    /// # Panics
    /// When the server sends data or closes in good order.
    pub async fn refused(mut self) -> std::io::Error {
        let mut byte = [0];
        match self.stream.read(&mut byte).await {
            Ok(read) => panic!("the server went on: {read} bytes"),
            Err(error) => error,
        }
    }
}
