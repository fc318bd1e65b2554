//! The authority of a cluster: the key that certifies nodes.
//!
//! Who may be certified is decided elsewhere ([`crate::decide`]); what comes in here is signed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::certificate::{CertificateError, NodeCertificate, parse, pem};
use crate::csr::SigningRequest;
use crate::files::{self, FileError, Secrecy};
use crate::name::{ClusterId, NodeName};
use crate::time::UnixSeconds;
use crate::trust::{AuthorityPin, Trust, TrustError};

/// How long a node's certificate is good for. Renewal is tried from the middle on.
pub const NODE_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an authority is good for; nodes' certificates never outlive it.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far before "now" certificates begin, for nodes whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why an authority can't be made, loaded or used.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The cryptography library refused.
    #[error("the authority can't sign: {0}")]
    Signing(#[from] rcgen::Error),
    /// A date that certificates can't hold.
    #[error("{0} can't be written into a certificate: the clock of this machine is wrong, set it first")]
    Date(UnixSeconds),
    /// Read, or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The two files are not of one authority.
    #[error(
        "{key} is not the key of {certificate}: restore both from the same backup, or rotate the authority from a node \
         that has its key"
    )]
    Mismatch {
        /// Where the key is.
        key: String,
        /// Where the certificate is.
        certificate: String,
    },
    /// Of another cluster, or no authority.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Can't be read back.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// At its end.
    #[error(
        "the authority ends at {ends}, it is {now}: rotate it (add a new authority, renew all nodes, remove this one)"
    )]
    Expired {
        /// Its end.
        ends: UnixSeconds,
        /// The time seen.
        now: UnixSeconds,
    },
}

/// An authority with its key. Never shown, never serialized but into its two files.
pub struct Authority {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    ends: UnixSeconds,
    key: KeyPair,
}

impl Authority {
    /// A new one: `constellation init`, or the first step of a rotation.
    pub fn generate(cluster: ClusterId, now: UnixSeconds) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let ends = now.plus(AUTHORITY_VALIDITY);
        let mut params = dated(now, ends)?;
        // The key's digest in the name: while one replaces the other, two issuers must not be mistaken.
        let of_key = data_encoding::HEXLOWER.encode(&crate::csr::digest_of(key.public_key_raw()).0[..4]);
        params.distinguished_name = named(&format!("Constellation cluster {cluster} authority {of_key}"));
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(cluster.uri())?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            cluster,
            certificate,
            ends,
            key,
        })
    }

    /// Loads `ca.crt` and `ca.key` of a folder. A key that others may read is refused.
    pub fn load(cluster: ClusterId, folder: &Path) -> Result<Self, AuthorityError> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let certificate_text = files::read(&certificate, Secrecy::Public)?;
        let key_text = files::read(&key, Secrecy::Secret)?;
        Self::read(
            cluster,
            (&certificate.display().to_string(), &certificate_text),
            (&key.display().to_string(), &key_text),
        )
    }

    /// From key and certificate in one text, as [`Authority::to_pem`] gives it; `place` is what errors call it.
    pub fn from_pem(cluster: ClusterId, place: &str, text: &str) -> Result<Self, AuthorityError> {
        Self::read(cluster, (place, text), (place, text))
    }

    /// Key and certificate in one text, for who keeps them together.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(self.key.serialize_pem());
        Zeroizing::new(format!("{}{}", *key, pem("CERTIFICATE", &self.certificate)))
    }

    fn read(
        cluster: ClusterId,
        (certificate_place, certificate): (&str, &str),
        (key_place, key): (&str, &str),
    ) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| CertificateError::Unreadable(format!("{certificate_place}: {error}")))?;
        Trust::new(cluster, vec![certificate.clone()])?;
        let mismatch = || AuthorityError::Mismatch {
            key: key_place.to_owned(),
            certificate: certificate_place.to_owned(),
        };
        let key = KeyPair::from_pem(key).map_err(|_| mismatch())?;
        let parsed = parse(&certificate)?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(mismatch());
        }
        let ends = UnixSeconds(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0));
        Ok(Self {
            cluster,
            certificate,
            ends,
            key,
        })
    }

    /// Writes both files: the key first, mode 0600, so that a certificate in place means a key in place.
    pub fn store(&self, folder: &Path) -> Result<(), AuthorityError> {
        let key = Zeroizing::new(self.key.serialize_pem());
        files::write(&folder.join("ca.key"), key.as_bytes(), Secrecy::Secret)?;
        files::write(
            &folder.join("ca.crt"),
            pem("CERTIFICATE", &self.certificate).as_bytes(),
            Secrecy::Public,
        )?;
        Ok(())
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What others trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What join tokens carry.
    pub fn pin(&self) -> AuthorityPin {
        AuthorityPin::of(&self.certificate)
    }

    /// Certifies a node from now (a little before) for `validity`, at most until the authority's own end.
    pub fn certify(
        &self,
        node: &NodeName,
        request: &SigningRequest,
        now: UnixSeconds,
        validity: Duration,
    ) -> Result<NodeCertificate, AuthorityError> {
        if now >= self.ends {
            return Err(AuthorityError::Expired { ends: self.ends, now });
        }
        let mut params = dated(now, now.plus(validity).min(self.ends))?;
        params.distinguished_name = named(node.as_str());
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(self.cluster.node_uri(node))?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        let certificate = params.signed_by(request.key(), &issuer)?;
        Ok(NodeCertificate::from_der(certificate.der().clone())?)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {}, key not shown)", self.cluster, self.pin())
    }
}

fn dated(now: UnixSeconds, ends: UnixSeconds) -> Result<CertificateParams, AuthorityError> {
    let date = |at: UnixSeconds| {
        at.date()
            .filter(|date| date.year() <= 9999)
            .ok_or(AuthorityError::Date(at))
    };
    let mut params = CertificateParams::default();
    params.not_before = date(now.minus(BACKDATED))?;
    params.not_after = date(ends)?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
