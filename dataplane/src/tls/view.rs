//! The TLS part of a generation: which certificate and which options a server name gets.

use std::collections::HashMap;
use std::sync::Arc;

use constellation_table::EntryPointId;
use rustls::ServerConfig;

use super::certificate::CertificateInfo;
use super::choice::{TlsRouter, choose};
use super::context::TlsProblem;
use super::index::CertificateIndex;
use super::names::NameMap;

/// The options of names that no router has options for.
pub(super) const DEFAULT_OPTIONS: &str = "default";

/// The TLS part of a generation. The default one has no certificate and refuses every name.
#[derive(Clone, Debug, Default)]
pub struct TlsView {
    index: Option<Arc<CertificateIndex>>,
    default: Option<Arc<NamedOptions>>,
    /// By entry point.
    hosts: HashMap<EntryPointId, NameMap<Arc<NamedOptions>>>,
    /// Names of options that are not the default ones, by entry point and the router that asks for them.
    routers: HashMap<EntryPointId, HashMap<Arc<str>, Arc<str>>>,
}

/// Why a handshake is refused before it starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefusal {
    /// Strict SNI, and no certificate has the name (or the client sent none).
    #[error("no certificate has the server name {name:?}, and the TLS options {options:?} are strict")]
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

#[derive(Debug)]
struct NamedOptions {
    name: Arc<str>,
    usable: Option<UsableOptions>,
}

/// Options that can serve.
#[derive(Clone, Debug)]
pub(super) struct UsableOptions {
    pub(super) config: Arc<ServerConfig>,
    /// For streams: with application protocols only where somebody named them.
    pub(super) stream: Arc<ServerConfig>,
    pub(super) sni_strict: bool,
}

impl TlsView {
    /// `options` has every name that was defined; `None` stands for one that can't be used.
    pub(super) fn new(
        index: Arc<CertificateIndex>,
        options: HashMap<Arc<str>, Option<UsableOptions>>,
        routers: &[TlsRouter],
        problems: &mut Vec<TlsProblem>,
    ) -> Self {
        let named: HashMap<Arc<str>, Arc<NamedOptions>> = options
            .into_iter()
            .map(|(name, usable)| (Arc::clone(&name), Arc::new(NamedOptions { name, usable })))
            .collect();
        let is_usable = |name: &str| named.get(name).is_some_and(|options| options.usable.is_some());
        let choice = choose(routers, is_usable, problems);
        let mut hosts: HashMap<EntryPointId, NameMap<Arc<NamedOptions>>> = HashMap::new();
        for ((entry_point, host), name) in choice.hosts {
            let options = named.get(name).cloned().unwrap_or_else(|| {
                problems.push(TlsProblem {
                    subject: format!("tls options {name}"),
                    message: format!(
                        "not defined, but a router of {host} needs them; connections to it are refused"
                    ),
                });
                Arc::new(NamedOptions {
                    name: name.into(),
                    usable: None,
                })
            });
            hosts
                .entry(entry_point)
                .or_default()
                .entry(&host)
                .or_insert(options);
        }
        let mut by_router: HashMap<EntryPointId, HashMap<Arc<str>, Arc<str>>> = HashMap::new();
        for ((entry_point, router), options) in choice.routers {
            by_router
                .entry(entry_point)
                .or_default()
                .insert(router.clone(), options.clone());
        }
        Self {
            index: Some(index),
            default: named.get(DEFAULT_OPTIONS).cloned(),
            hosts,
            routers: by_router,
        }
    }

    /// The rustls configuration for a ClientHello on an entry point.
    ///
    /// It has the certificates of this very generation; connections keep it when generations move on.
    pub fn server_config(
        &self,
        entry_point: EntryPointId,
        server_name: Option<&str>,
    ) -> Result<Arc<ServerConfig>, TlsRefusal> {
        let usable = self.usable(entry_point, server_name)?;
        Ok(Arc::clone(&usable.config))
    }

    /// The same for a connection that a TCP router takes. Without `alpnProtocols` it negotiates none: the protocols of
    /// HTTP would be promised in the name of a back end that speaks something else.
    pub fn stream_config(
        &self,
        entry_point: EntryPointId,
        server_name: Option<&str>,
    ) -> Result<Arc<ServerConfig>, TlsRefusal> {
        let usable = self.usable(entry_point, server_name)?;
        Ok(Arc::clone(&usable.stream))
    }

    fn usable(
        &self,
        entry_point: EntryPointId,
        server_name: Option<&str>,
    ) -> Result<&UsableOptions, TlsRefusal> {
        let name = server_name.unwrap_or_default();
        let options = self.options_for(entry_point, name);
        let refused = || TlsRefusal::Options {
            options: options.map_or_else(|| DEFAULT_OPTIONS.into(), |o| o.name.clone()),
        };
        let options = options.ok_or_else(refused)?;
        let usable = options.usable.as_ref().ok_or_else(refused)?;
        let known = || self.index.as_ref().is_some_and(|index| index.has(name));
        if usable.sni_strict && !known() {
            return Err(TlsRefusal::UnknownName {
                name: name.to_owned(),
                options: Arc::clone(&options.name),
            });
        }
        Ok(usable)
    }

    /// The name of the TLS options that a router asks for on an entry point. A request that it takes on a connection that
    /// was made under other ones is answered with 421.
    pub fn options_name_of(&self, entry_point: EntryPointId, router: &str) -> &str {
        let asked = self
            .routers
            .get(&entry_point)
            .and_then(|routers| routers.get(router));
        asked.map_or(DEFAULT_OPTIONS, AsRef::as_ref)
    }

    /// The name of the TLS options that apply to a server name on an entry point.
    pub fn options_name_for(&self, entry_point: EntryPointId, host: &str) -> &str {
        self.options_for(entry_point, host)
            .map_or(DEFAULT_OPTIONS, |options| &options.name)
    }

    /// Every certificate of this generation, the default one included.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.index.iter().flat_map(|index| index.infos())
    }

    fn options_for(&self, entry_point: EntryPointId, host: &str) -> Option<&Arc<NamedOptions>> {
        let by_host = self
            .hosts
            .get(&entry_point)
            .and_then(|hosts| hosts.matches(host).next());
        by_host.or(self.default.as_ref())
    }
}
