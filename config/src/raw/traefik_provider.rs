//! `traefikProvider` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::resolved::TraefikProvider;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawTraefikProvider {
    /// IP address and port where a Traefik polls the document of all routes (`/api/dynamic`); port 0 picks a free one.
    pub(crate) address: String,
    /// Certificate resolver that TLS routers get which name none; empty: none.
    pub(crate) cert_resolver: String,
    /// Whether certificates of dynamic files are part of the document, keys included. Needs a loopback address, a token or
    /// client certificates.
    pub(crate) certificates: bool,
    /// Entry points of Traefik that HTTP routers get which name none; empty: Traefik's default ones.
    pub(crate) entry_points: Vec<String>,
    /// Where Traefik reaches services that run on other nodes only.
    pub(crate) failover: RawFailover,
    /// File that the document is written to as well, for Traefik's file provider; its folder must exist.
    pub(crate) file: Option<String>,
    /// TLS for whoever polls; null: HTTP in the clear.
    pub(crate) tls: Option<RawProviderTls>,
    /// Token that whoever polls must send as `Authorization: Bearer TOKEN` (Traefik: `providers.http.headers`); null: none.
    pub(crate) token: Option<Secret>,
    /// File that holds the token instead; blanks at its ends are dropped.
    pub(crate) token_file: Option<String>,
    /// Whether the document has no routes, whatever there is: Traefik forgets those that it had from here, before this node
    /// goes. A Traefik that gets no answer keeps them.
    pub(crate) withdraw: bool,
}

impl Default for RawTraefikProvider {
    fn default() -> Self {
        let defaults = TraefikProvider::default();
        Self {
            address: defaults.address.to_string(),
            cert_resolver: String::new(),
            certificates: false,
            entry_points: Vec::new(),
            failover: RawFailover::default(),
            file: None,
            tls: None,
            token: None,
            token_file: None,
            withdraw: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawFailover {
    /// IP address and port where this node takes requests of Traefik for one service each; port 0 picks a free one. Never one
    /// that clients can reach: middlewares are Traefik's, and behind it there are none.
    pub(crate) address: String,
    /// How Traefik reaches that address, such as `host.docker.internal:8082`; empty: as it is.
    pub(crate) advertise: String,
}

impl Default for RawFailover {
    fn default() -> Self {
        Self {
            address: TraefikProvider::default().failover.address.to_string(),
            advertise: String::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawProviderTls {
    /// PEM file with the certificate and its chain.
    pub(crate) cert_file: String,
    /// PEM file with its key.
    pub(crate) key_file: String,
    /// Client certificates.
    pub(crate) client_auth: RawProviderClientAuth,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawProviderClientAuth {
    /// PEM files of the authorities one of which must have signed the certificate of whoever polls; empty: none is asked
    /// for.
    pub(crate) ca_files: Vec<String>,
}
