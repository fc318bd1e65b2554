//! The TLS part of a generation: which certificate and which options a server name gets.

use std::sync::Arc;
use std::time::SystemTime;

use constellation_table::EntryPointId;
use rustls::ServerConfig;

/// The TLS part of a generation.
#[derive(Clone, Debug, Default)]
pub struct TlsView {
    certificates: Vec<Arc<CertificateInfo>>,
}

/// What status and metrics say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The names it is valid for, joined by commas.
    pub subject: Arc<str>,
    /// SHA-256 of the leaf certificate, the first 16 hexadecimal digits.
    pub fingerprint: Arc<str>,
    /// The names it is valid for, lower case.
    pub names: Vec<Arc<str>>,
    /// Start of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
    /// File, or `inline`, or `self-signed default`.
    pub origin: Arc<str>,
}

/// Why a handshake is refused before it starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefusal {
    /// Strict SNI, and no certificate has the name (or the client sent none).
    #[error("no certificate for the server name {name:?} and the TLS options {options:?} are strict")]
    UnknownName {
        /// The name asked for, empty when none was.
        name: String,
        /// Name of the options.
        options: Arc<str>,
    },
    /// The options of the name can't be used. Other options in their place could open what they protect.
    #[error("the TLS options {options:?} of the server name can't be used")]
    Options {
        /// Name of the options.
        options: Arc<str>,
    },
}

impl TlsRefusal {
    /// The fatal alert as a TLS record, to be written before the connection is closed (RFC 8446, sections 5.1 and 6).
    pub fn alert_record(&self) -> [u8; 7] {
        const UNRECOGNIZED_NAME: u8 = 112;
        const INTERNAL_ERROR: u8 = 80;
        let description = match self {
            Self::UnknownName { .. } => UNRECOGNIZED_NAME,
            Self::Options { .. } => INTERNAL_ERROR,
        };
        [21, 3, 3, 0, 2, 2, description]
    }
}

impl TlsView {
    /// The rustls configuration for a ClientHello on an entry point.
    pub fn server_config(
        &self,
        _entry_point: EntryPointId,
        server_name: Option<&str>,
    ) -> Result<Arc<ServerConfig>, TlsRefusal> {
        Err(TlsRefusal::UnknownName {
            name: server_name.unwrap_or_default().to_owned(),
            options: "default".into(),
        })
    }

    /// The name of the TLS options that apply to a host on an entry point. A request whose host has other options than
    /// the server name of its connection is answered with 421.
    pub fn options_name_for(&self, _entry_point: EntryPointId, _host: &str) -> &str {
        "default"
    }

    /// Every certificate of this generation, the default one included.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.certificates.iter().map(|c| &**c)
    }
}
