//! Handshakes between rustls clients and the accept function, over pipes in memory.

mod certificates;
mod options;
mod problems;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use constellation_table::{EntryPointId, Snapshot};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::metrics::HandshakeOutcome;
use crate::{Generation, Published};

const WEB: EntryPointId = EntryPointId(0);
const OTHER: EntryPointId = EntryPointId(1);

/// A certificate and its key, PEM.
#[derive(Clone)]
struct Pair {
    chain: String,
    key: String,
}

impl Pair {
    fn self_signed(names: &[&str]) -> Self {
        Self::with(
            names,
            &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            |_| {},
        )
    }

    fn rsa(names: &[&str]) -> Self {
        Self::with(names, &KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), |_| {})
    }

    fn with(names: &[&str], key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        Self {
            chain: params.self_signed(key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn spec(&self) -> CertificateSpec {
        CertificateSpec {
            chain: PemSource::from_value(&self.chain),
            key: PemSource::from_value(&self.key),
        }
    }

    fn leaf(&self) -> CertificateDer<'static> {
        pem::authorities("test", self.chain.as_bytes()).unwrap().remove(0)
    }
}

/// A CA that issues client certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Pair {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server that publishes what a test builds.
struct Server {
    context: TlsContext,
    published: Published,
}

impl Server {
    fn new(spec: &TlsSpec) -> Self {
        let context = TlsContext::new(&["node.test".to_owned()]).unwrap();
        let published = Published::new(generation(TlsView::default()));
        let server = Self { context, published };
        assert_eq!(server.publish(spec), []);
        server
    }

    fn publish(&self, spec: &TlsSpec) -> Vec<TlsProblem> {
        let (view, problems) = self.context.build(spec);
        self.published.publish(generation(view));
        problems
    }

    fn view(&self) -> TlsView {
        self.published.load().tls.clone()
    }

    /// One handshake, one byte each way. What the server and the client saw.
    async fn meet(&self, client: &Client, name: &str) -> Meeting {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = async {
            let mut accepted = accept(far, WEB, &self.published).await?;
            accepted
                .stream
                .write_all(b"s")
                .await
                .map_err(HandshakeError::Failed)?;
            accepted.stream.flush().await.map_err(HandshakeError::Failed)?;
            let mut byte = [0];
            accepted
                .stream
                .read_exact(&mut byte)
                .await
                .map_err(HandshakeError::Failed)?;
            Ok(accepted)
        };
        let mut config = client.config.clone();
        let connector = {
            config.enable_sni = !name.is_empty();
            TlsConnector::from(Arc::new(config))
        };
        let target = if name.is_empty() { "no.name" } else { name };
        let client = async {
            let mut stream = connector
                .connect(ServerName::try_from(target.to_owned()).unwrap(), near)
                .await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            stream.write_all(b"c").await?;
            stream.flush().await?;
            let connection = stream.get_ref().1;
            std::io::Result::Ok(Seen {
                leaf: connection.peer_certificates().unwrap()[0].clone().into_owned(),
                version: connection.protocol_version().unwrap(),
                alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
                resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            })
        };
        let (server, client) = tokio::join!(server, client);
        Meeting { server, client }
    }
}

struct Meeting {
    server: Result<Accepted<tokio::io::DuplexStream>, HandshakeError>,
    client: std::io::Result<Seen>,
}

impl Meeting {
    fn seen(self) -> Seen {
        self.server.unwrap();
        self.client.unwrap()
    }

    /// How the server counts it, and what the client was told.
    fn refused(self) -> (HandshakeOutcome, String) {
        (
            self.server.unwrap_err().outcome(),
            self.client.unwrap_err().to_string(),
        )
    }
}

#[derive(Debug)]
struct Seen {
    leaf: CertificateDer<'static>,
    version: ProtocolVersion,
    alpn: Option<Vec<u8>>,
    resumed: bool,
}

#[derive(Clone)]
struct Client {
    config: ClientConfig,
}

impl Client {
    /// Trusts everybody, as these tests look at what was served; offers `schemes` to verify with.
    fn new() -> Self {
        Self::build(&[&rustls::version::TLS13, &rustls::version::TLS12], None, None)
    }

    fn version(version: &'static rustls::SupportedProtocolVersion) -> Self {
        Self::build(&[version], None, None)
    }

    fn with_certificate(pair: &Pair) -> Self {
        Self::build(
            &[&rustls::version::TLS13, &rustls::version::TLS12],
            Some(pair),
            None,
        )
    }

    fn verifying(schemes: &[SignatureScheme]) -> Self {
        Self::build(&[&rustls::version::TLS13], None, Some(schemes.to_vec()))
    }

    fn build(
        versions: &[&'static rustls::SupportedProtocolVersion],
        pair: Option<&Pair>,
        schemes: Option<Vec<SignatureScheme>>,
    ) -> Self {
        let schemes =
            schemes.unwrap_or_else(|| provider().signature_verification_algorithms.supported_schemes());
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAll(schemes)));
        let config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key: PrivateKeyDer<'static> = pem::private_key("test", pair.key.as_bytes()).unwrap();
                let chain = pem::authorities("test", pair.chain.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { config }
    }

    fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }
}

#[derive(Debug)]
struct TrustAll(Vec<SignatureScheme>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

fn generation(tls: TlsView) -> Generation {
    Generation {
        table: Snapshot::default(),
        tls,
        published: SystemTime::UNIX_EPOCH,
    }
}

fn certificates(pairs: &[&Pair]) -> TlsSpec {
    TlsSpec {
        certificates: pairs.iter().map(|pair| pair.spec()).collect(),
        ..TlsSpec::default()
    }
}

fn options(named: &[(&str, OptionsSpec)]) -> BTreeMap<Arc<str>, OptionsSpec> {
    named
        .iter()
        .map(|(name, options)| (Arc::from(*name), options.clone()))
        .collect()
}

fn router_of(host: &str, options: &str) -> TlsRouter {
    TlsRouter {
        name: format!("{host}@test").into(),
        entry_points: vec![WEB],
        hosts: vec![host.into()],
        options: Some(options.into()),
        of_requests: true,
    }
}

fn client_auth(kind: &str, authority: Option<&Authority>) -> OptionsSpec {
    let authorities = authority
        .iter()
        .map(|authority| PemSource::from_value(&authority.pem))
        .collect();
    let kind = (!kind.is_empty()).then(|| kind.to_owned());
    OptionsSpec {
        client_auth: ClientAuthSpec { authorities, kind },
        ..OptionsSpec::default()
    }
}
