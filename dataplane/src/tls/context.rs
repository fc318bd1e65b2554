//! What TLS keeps for the life of the process, and how the TLS part of a generation is made of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;

use super::certificate::Certificate;
use super::choice::TlsRouter;
use super::index::CertificateIndex;
use super::options::{Options, OptionsError, OptionsSpec};
use super::pem::{FileStamp, PemError, PemPart, PemSource};
use super::self_signed;
use super::tickets::{BoundTickets, TicketKeys};
use super::view::{DEFAULT_OPTIONS, TlsView, UsableOptions};

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateSpec {
    /// The chain, leaf first.
    pub chain: PemSource,
    /// The leaf's private key.
    pub key: PemSource,
}

/// What the TLS part of a generation is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSpec {
    /// Certificates, chosen by the names inside.
    pub certificates: Vec<CertificateSpec>,
    /// For names without one; `None`: the self-signed one.
    pub default_certificate: Option<CertificateSpec>,
    /// Options by qualified name; `default` applies where none is named.
    pub options: BTreeMap<Arc<str>, OptionsSpec>,
    /// The routers behind which TLS ends. Those with the default options matter only where others have some.
    pub routers: Vec<TlsRouter>,
}

/// Something that could not be used; the rest works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProblem {
    /// What it is about: `certificate /etc/x.pem`, `tls options strict@file`.
    pub subject: String,
    /// What is wrong, what was expected, what stands in, and the next step.
    pub message: String,
}

/// Why there is no TLS at all.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The system's random numbers failed.
    #[error("no session ticket keys: the system's source of random numbers failed")]
    Random(#[from] aws_lc_rs::error::Unspecified),
    /// The self-signed certificate could not be made.
    #[error("no self-signed default certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// The self-signed certificate could not be read back.
    #[error("no self-signed default certificate: {0}")]
    Load(#[from] PemError),
}

/// Crypto provider, ticket keys, default certificate, and what unchanged input was made into. One per process.
#[derive(Debug)]
pub struct TlsContext {
    provider: Arc<CryptoProvider>,
    tickets: Arc<TicketKeys>,
    self_signed: Arc<Certificate>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    certificates: HashMap<CertificateSpec, CachedCertificate>,
    options: HashMap<Arc<str>, CachedOptions>,
    index: Option<Arc<CertificateIndex>>,
}

#[derive(Clone, Debug)]
struct CachedCertificate {
    certificate: Arc<Certificate>,
    stamps: [Option<FileStamp>; 2],
}

#[derive(Clone, Debug)]
struct CachedOptions {
    fingerprint: [u8; 32],
    /// Everything but certificates; also holds what sessions resume from.
    base: ServerConfig,
    sni_strict: bool,
    /// Nobody named application protocols.
    alpn_of_http: bool,
    /// The base with the certificates of an index.
    served: Option<Served>,
}

#[derive(Clone, Debug)]
struct Served {
    of: Arc<CertificateIndex>,
    config: Arc<ServerConfig>,
    /// For streams, which do not speak HTTP unless somebody says so.
    stream: Arc<ServerConfig>,
}

impl TlsContext {
    /// Makes ticket keys and the self-signed certificate, for those of `names` that can stand in one.
    pub fn new(names: &[String]) -> Result<Self, ContextError> {
        let provider = super::provider();
        let self_signed = Arc::new(self_signed::make(&provider, names)?);
        let tickets = Arc::new(TicketKeys::generate(Instant::now())?);
        Ok(Self {
            provider,
            tickets,
            self_signed,
            cache: Mutex::default(),
        })
    }

    /// Makes the TLS part of a generation. Blocking: reads the files that changed since the last call.
    ///
    /// A certificate or options that can't be used are reported, and what was made of the same ones before stays.
    /// What a spec no longer mentions is forgotten.
    pub fn build(&self, spec: &TlsSpec) -> (TlsView, Vec<TlsProblem>) {
        let mut problems = Vec::new();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index(&mut cache, spec, &mut problems);
        let options = self.options(&mut cache, spec, &index, &mut problems);
        let view = TlsView::new(index, options, &spec.routers, &mut problems);
        (view, problems)
    }

    fn index(
        &self,
        cache: &mut Cache,
        spec: &TlsSpec,
        problems: &mut Vec<TlsProblem>,
    ) -> Arc<CertificateIndex> {
        let mut kept = HashMap::new();
        let mut load = |wanted: &CertificateSpec| {
            let known = kept
                .get(wanted)
                .or_else(|| cache.certificates.get(wanted))
                .cloned();
            let loaded = self.certificate(wanted, known, problems)?;
            kept.insert(wanted.clone(), loaded.clone());
            Some(loaded.certificate)
        };
        let mut listed = HashSet::new();
        let once = spec.certificates.iter().filter(|wanted| listed.insert(*wanted));
        let all: Vec<Arc<Certificate>> = once.filter_map(&mut load).collect();
        let default = spec.default_certificate.as_ref().and_then(&mut load);
        let default = default.unwrap_or_else(|| Arc::clone(&self.self_signed));
        cache.certificates = kept;
        let unchanged = cache.index.take().filter(|index| index.made_of(&all, &default));
        let index = unchanged.unwrap_or_else(|| Arc::new(CertificateIndex::new(all, default)));
        cache.index = Some(Arc::clone(&index));
        index
    }

    /// The certificate from the cache when its files did not change, else anew; the last good one when that fails.
    fn certificate(
        &self,
        wanted: &CertificateSpec,
        known: Option<CachedCertificate>,
        problems: &mut Vec<TlsProblem>,
    ) -> Option<CachedCertificate> {
        let stamps = [wanted.chain.stamp(), wanted.key.stamp()];
        let inline = [&wanted.chain, &wanted.key].map(|source| source.path().is_none());
        let seen = stamps
            .iter()
            .zip(inline)
            .all(|(stamp, inline)| inline || stamp.is_some());
        if let Some(known) = known.as_ref().filter(|known| seen && known.stamps == stamps) {
            return Some(known.clone());
        }
        match self.load(wanted) {
            Ok(certificate) => Some(CachedCertificate {
                certificate: Arc::new(certificate),
                stamps,
            }),
            Err(error) => {
                let stands_in = if known.is_some() {
                    "; the last good one stays"
                } else {
                    ""
                };
                problems.push(TlsProblem {
                    subject: format!("certificate {}", wanted.chain),
                    message: format!("{error}{stands_in}"),
                });
                known
            }
        }
    }

    fn load(&self, wanted: &CertificateSpec) -> Result<Certificate, PemError> {
        let chain = wanted.chain.read(PemPart::Certificate)?;
        let key = wanted.key.read(PemPart::Key)?;
        let (chain_origin, key_origin) = (wanted.chain.to_string(), wanted.key.to_string());
        Certificate::load(&self.provider, (&chain_origin, &chain), (&key_origin, &key))
    }

    fn options(
        &self,
        cache: &mut Cache,
        spec: &TlsSpec,
        index: &Arc<CertificateIndex>,
        problems: &mut Vec<TlsProblem>,
    ) -> HashMap<Arc<str>, Option<UsableOptions>> {
        let fallback = (Arc::from(DEFAULT_OPTIONS), OptionsSpec::default());
        let default = (!spec.options.contains_key(DEFAULT_OPTIONS)).then_some((&fallback.0, &fallback.1));
        let mut kept = HashMap::new();
        let mut usable = HashMap::new();
        for (name, wanted) in spec.options.iter().chain(default) {
            let known = cache.options.remove(name);
            let Some(mut options) = self.resolve(name, wanted, known, problems) else {
                usable.insert(Arc::clone(name), None);
                continue;
            };
            let served = options
                .served
                .take()
                .filter(|served| Arc::ptr_eq(&served.of, index));
            let served = served.unwrap_or_else(|| Served::new(&options, index));
            let served = options.served.insert(served);
            let entry = UsableOptions {
                config: Arc::clone(&served.config),
                stream: Arc::clone(&served.stream),
                sni_strict: options.sni_strict,
            };
            usable.insert(Arc::clone(name), Some(entry));
            kept.insert(Arc::clone(name), options);
        }
        cache.options = kept;
        usable
    }

    /// The options from the cache when they say the same, else anew; the last good ones when that fails.
    fn resolve(
        &self,
        name: &Arc<str>,
        wanted: &OptionsSpec,
        known: Option<CachedOptions>,
        problems: &mut Vec<TlsProblem>,
    ) -> Option<CachedOptions> {
        let mut problem = |message| {
            problems.push(TlsProblem {
                subject: format!("tls options {name}"),
                message,
            })
        };
        let resolved = Options::resolve(name, wanted, &self.provider).and_then(|(options, remarks)| {
            remarks.into_iter().for_each(&mut problem);
            match &known {
                Some(known) if known.fingerprint == options.fingerprint => Ok(known.clone()),
                _ => self.make(&options),
            }
        });
        match resolved {
            Ok(options) => Some(options),
            Err(error) if known.is_some() => {
                problem(format!("{error}; the last good ones stay"));
                known
            }
            Err(error) => {
                problem(format!("{error}; the routers that need them are not served"));
                None
            }
        }
    }

    fn make(&self, options: &Options) -> Result<CachedOptions, OptionsError> {
        let mut base = ServerConfig::builder_with_provider(Arc::clone(&options.provider))
            .with_protocol_versions(&options.versions)?
            .with_client_cert_verifier(options.client_auth.verifier())
            .with_cert_resolver(Arc::new(NoCertificate));
        base.alpn_protocols.clone_from(&options.alpn);
        base.session_storage = Arc::new(NoServerSessionStorage {});
        if options.tickets {
            base.ticketer = Arc::new(BoundTickets::new(Arc::clone(&self.tickets), options.fingerprint));
        } else {
            base.send_tls13_tickets = 0;
        }
        Ok(CachedOptions {
            fingerprint: options.fingerprint,
            base,
            sni_strict: options.sni_strict,
            alpn_of_http: options.alpn_of_http,
            served: None,
        })
    }
}

impl Served {
    fn new(options: &CachedOptions, index: &Arc<CertificateIndex>) -> Self {
        let mut config = options.base.clone();
        config.cert_resolver = Arc::clone(index) as _;
        let mut stream = config.clone();
        if options.alpn_of_http {
            stream.alpn_protocols.clear();
        }
        Self {
            of: Arc::clone(index),
            config: Arc::new(config),
            stream: Arc::new(stream),
        }
    }
}

impl TlsSpec {
    /// The files it is made from, for a watcher: certificates are often renewed in place.
    pub fn files(&self) -> Vec<PathBuf> {
        let pairs = self.certificates.iter().chain(&self.default_certificate);
        let authorities = self
            .options
            .values()
            .flat_map(|options| &options.client_auth.authorities);
        let sources = pairs.flat_map(|pair| [&pair.chain, &pair.key]).chain(authorities);
        let mut files: Vec<PathBuf> = sources
            .filter_map(|source| Some(source.path()?.to_owned()))
            .collect();
        files.sort();
        files.dedup();
        files
    }
}

/// Stands in the cached base until the certificates of a generation take its place.
#[derive(Debug)]
struct NoCertificate;

impl rustls::server::ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}
