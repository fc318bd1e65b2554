//! PEM from files or from the configuration itself, and what is wrong with it.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Largest PEM file that is read, bytes. A system's whole bundle of roots is about 200 KiB.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where PEM comes from. Debug never shows inline text: it may be a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PemSource {
    /// A file.
    File(PathBuf),
    /// The text itself.
    Inline(Arc<[u8]>),
}

impl PemSource {
    /// Reads a configuration value as Traefik does: text that holds a PEM header is the PEM, else it is a path.
    pub fn from_value(value: &str) -> Self {
        if value.contains("-----BEGIN") {
            Self::Inline(value.as_bytes().into())
        } else {
            Self::File(PathBuf::from(value))
        }
    }

    /// The file, if it is one: what a watcher has to watch.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) => None,
        }
    }

    /// The bytes. Refuses files of more than 4 MiB.
    pub(super) fn read(&self, part: PemPart) -> Result<Arc<[u8]>, PemError> {
        let path = match self {
            Self::Inline(bytes) => return Ok(Arc::clone(bytes)),
            Self::File(path) => path,
        };
        let fail = |source| PemError::Read {
            part,
            origin: self.to_string(),
            source,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(PemError::TooLarge {
                part,
                origin: self.to_string(),
            });
        }
        Ok(bytes.into())
    }

    /// Changes whenever the file was written or replaced; `None` for inline text and for files that can't be seen.
    pub(super) fn stamp(&self) -> Option<FileStamp> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(self.path()?).ok()?;
        Some(FileStamp {
            modified: metadata.modified().ok()?,
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            length: metadata.len(),
        })
    }
}

/// What tells two versions of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    modified: SystemTime,
    changed: (i64, i64),
    inode: u64,
    length: u64,
}

impl fmt::Display for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Inline(_) => f.write_str("(inline)"),
        }
    }
}

impl fmt::Debug for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PemSource({self})")
    }
}

/// What the PEM is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemPart {
    /// A certificate chain.
    Certificate,
    /// A private key.
    Key,
    /// Trust anchors.
    Authorities,
}

impl fmt::Display for PemPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "key",
            Self::Authorities => "CA",
        })
    }
}

/// Why PEM can't be used. Every text names the file, what is wrong, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file can't be read.
    #[error("{part} file {origin}: cannot be read: {source}; correct the path or the file's permissions")]
    Read {
        /// What it is for.
        part: PemPart,
        /// The path.
        origin: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any PEM file.
    #[error("{part} file {origin}: is larger than 4 MiB; expected PEM text, is this the right file?")]
    TooLarge {
        /// What it is for.
        part: PemPart,
        /// The path.
        origin: String,
    },
    /// Not PEM, or damaged.
    #[error("{part} {origin}: is not valid PEM: {problem}; copy the file again")]
    Syntax {
        /// What it is for.
        part: PemPart,
        /// The path, or `(inline)`.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// No certificate where one is expected.
    #[error(
        "{part} {origin}: holds no certificate{found}; expected PEM text with at least one \
         -----BEGIN CERTIFICATE----- block"
    )]
    NoCertificate {
        /// What it is for.
        part: PemPart,
        /// The path, or `(inline)`.
        origin: String,
        /// What is there instead, as an addition to the sentence.
        found: &'static str,
    },
    /// A certificate that is not X.509.
    #[error("{part} {origin}: certificate {position} of the file is not an X.509 certificate: {problem}")]
    NotX509 {
        /// What it is for.
        part: PemPart,
        /// The path, or `(inline)`.
        origin: String,
        /// From 1.
        position: usize,
        /// What is wrong.
        problem: String,
    },
    /// No private key where one is expected.
    #[error(
        "key {origin}: holds no private key{found}; expected PEM text with a -----BEGIN PRIVATE KEY-----, \
         RSA PRIVATE KEY or EC PRIVATE KEY block"
    )]
    NoKey {
        /// The path, or `(inline)`.
        origin: String,
        /// What is there instead, as an addition to the sentence.
        found: &'static str,
    },
    /// The key is protected by a passphrase.
    #[error(
        "key {origin}: is encrypted; store it without a passphrase (openssl pkey -in KEY -out KEY.plain)"
    )]
    EncryptedKey {
        /// The path, or `(inline)`.
        origin: String,
    },
    /// The key's algorithm or size is not supported.
    #[error(
        "key {origin}: can't be used: {problem}; expected RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, or Ed25519"
    )]
    UnsupportedKey {
        /// The path, or `(inline)`.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// Key and certificate are not a pair.
    #[error(
        "key {key}: does not belong to the certificate {certificate}; put the key that the certificate was issued for there"
    )]
    Mismatch {
        /// The certificate's path, or `(inline)`.
        certificate: String,
        /// The key's path, or `(inline)`.
        key: String,
    },
}

/// The certificates in PEM text, in order, each checked to be X.509. At least one.
pub(super) fn certificates(
    part: PemPart,
    origin: &str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::Syntax {
            part,
            origin: origin.to_owned(),
            problem: describe(&error),
        })?;
    if chain.is_empty() {
        let found = if holds(pem, b"PRIVATE KEY-----") {
            " but a private key (are the two files swapped?)"
        } else {
            ""
        };
        return Err(PemError::NoCertificate {
            part,
            origin: origin.to_owned(),
            found,
        });
    }
    for (index, certificate) in chain.iter().enumerate() {
        x509_parser::parse_x509_certificate(certificate).map_err(|error| PemError::NotX509 {
            part,
            origin: origin.to_owned(),
            position: index + 1,
            problem: error.to_string(),
        })?;
    }
    Ok(chain)
}

/// The first private key in PEM text.
pub(super) fn private_key(origin: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    use rustls_pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        Error::NoItemsFound if holds(pem, b"ENCRYPTED PRIVATE KEY-----") => PemError::EncryptedKey {
            origin: origin.to_owned(),
        },
        Error::NoItemsFound => PemError::NoKey {
            origin: origin.to_owned(),
            found: if holds(pem, b"BEGIN CERTIFICATE-----") {
                " but a certificate (are the two files swapped?)"
            } else {
                ""
            },
        },
        other => PemError::Syntax {
            part: PemPart::Key,
            origin: origin.to_owned(),
            problem: describe(&other),
        },
    })
}

/// Trust anchors for the verification of back ends: the certificates of PEM text. `origin` is named in errors.
pub fn authorities(origin: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates(PemPart::Authorities, origin, pem)
}

/// What is wrong, without the text itself: it may be a key.
fn describe(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "a block has no -----END line".to_owned(),
        Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed".to_owned(),
        Error::Base64Decode(_) => "a block is not base64".to_owned(),
        Error::SectionTooLarge => "a block is too large".to_owned(),
        Error::NoItemsFound => "it holds no block".to_owned(),
        _ => "it can't be decoded".to_owned(),
    }
}

fn holds(pem: &[u8], needle: &[u8]) -> bool {
    pem.windows(needle.len()).any(|window| window == needle)
}
