//! One handshake, from the first byte to a stream or a reason.

use std::io;
use std::sync::Arc;

use constellation_table::EntryPointId;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::view::{TlsRefusal, TlsView};
use crate::Published;
use crate::access_log::TlsDetails;
use crate::metrics::{HandshakeOutcome, TlsVersion};

/// Most characters of a client's subject that are kept: it stands in every line of the access log.
const MAX_SUBJECT: usize = 256;

/// A finished handshake.
#[derive(Debug)]
pub struct Accepted<IO> {
    /// The stream.
    pub stream: TlsStream<IO>,
    /// Name of the TLS options it was made under, see [`super::TlsView::options_name_for`].
    pub options: Arc<str>,
    /// For the access log.
    pub details: TlsDetails,
    /// For metrics.
    pub version: TlsVersion,
    /// For metrics: full or resumed.
    pub outcome: HandshakeOutcome,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Refused by our own rules; the alert was sent.
    #[error(transparent)]
    Refused(#[from] TlsRefusal),
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Failed(#[source] io::Error),
}

impl HandshakeError {
    /// The metric label.
    pub fn outcome(&self) -> HandshakeOutcome {
        use rustls::Error;
        let error = match self {
            Self::Refused(TlsRefusal::UnknownName { .. }) => return HandshakeOutcome::UnknownName,
            Self::Refused(TlsRefusal::Options { .. }) => return HandshakeOutcome::Options,
            Self::Failed(error) => error,
        };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => HandshakeOutcome::NoOverlap,
            Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
                HandshakeOutcome::ClientCertificate
            }
            Some(Error::AlertReceived(_)) => HandshakeOutcome::ClientAlert,
            Some(_) => HandshakeOutcome::Malformed,
            None if error.kind() == io::ErrorKind::TimedOut => HandshakeOutcome::Timeout,
            None => HandshakeOutcome::Closed,
        }
    }
}

/// Reads the ClientHello, takes the generation published at that moment, and finishes the handshake with its
/// configuration for the server name. A refusal or failure is answered with the TLS alert for it.
///
/// No time limit of its own. Not cancellation safe: dropping the future closes the connection.
pub async fn accept<IO>(
    io: IO,
    entry_point: EntryPointId,
    published: &Published,
) -> Result<Accepted<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    accept_with(io, entry_point, published, TlsView::server_config).await
}

/// The same for a connection that a TCP router takes.
pub(crate) async fn accept_stream<IO>(
    io: IO,
    entry_point: EntryPointId,
    published: &Published,
) -> Result<Accepted<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    accept_with(io, entry_point, published, TlsView::stream_config).await
}

type Choose = fn(&TlsView, EntryPointId, Option<&str>) -> Result<Arc<ServerConfig>, TlsRefusal>;

async fn accept_with<IO>(
    io: IO,
    entry_point: EntryPointId,
    published: &Published,
    choose: Choose,
) -> Result<Accepted<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io)
        .await
        .map_err(HandshakeError::Failed)?;
    let choice = {
        let generation = published.load();
        let hello = start.client_hello();
        let name = hello.server_name();
        let options: Arc<str> = generation
            .tls
            .options_name_for(entry_point, name.unwrap_or_default())
            .into();
        choose(&generation.tls, entry_point, name).map(|config| (config, options))
    };
    let (config, options) = match choice {
        Ok(choice) => choice,
        Err(refusal) => {
            // The client may be gone already; the refusal stands either way.
            let sent = start.io.write_all(&refusal.alert_record()).await;
            if let Err(error) = sent.and(start.io.shutdown().await) {
                tracing::debug!(%error, "the alert of a refused handshake could not be sent");
            }
            return Err(refusal.into());
        }
    };
    let stream = start.into_stream(config).await.map_err(HandshakeError::Failed)?;
    let connection = stream.get_ref().1;
    let version = version(connection);
    let outcome = match connection.handshake_kind() {
        Some(HandshakeKind::Resumed) => HandshakeOutcome::Resumed,
        _ => HandshakeOutcome::Full,
    };
    let details = details(connection);
    Ok(Accepted {
        stream,
        options,
        details,
        version,
        outcome,
    })
}

fn version(connection: &ServerConnection) -> TlsVersion {
    match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::V13,
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
        _ => TlsVersion::None,
    }
}

fn details(connection: &ServerConnection) -> TlsDetails {
    let suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let subject = leaf.and_then(|leaf| {
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
        let subject = certificate.subject().to_string();
        Some(subject.chars().take(MAX_SUBJECT).collect::<String>().into())
    });
    TlsDetails {
        version: version(connection).as_str(),
        // rustls prefixes TLS 1.3 suites, the registry does not.
        cipher: suite.map_or("", |name| match name {
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            other => other,
        }),
        client_subject: subject,
    }
}
