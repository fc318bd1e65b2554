//! Configuration: raw text to resolved values, with every error at once and each with its place.
//!
//! # Static configuration
//!
//! [`Config::load`] takes four layers, least binding first: defaults, one file (YAML, TOML or JSON by its extension),
//! the environment, and flags. The way of a value:
//!
//! ```text
//! text --document--> nodes with places --layer--> nodes of all layers --schema--> raw --resolve--> Config
//! ```
//!
//! Syntax is judged in `document`; unknown keys, types and ranges in `schema`, against the schema that `raw` declares;
//! meaning (addresses, references, what contradicts what) in `resolve`. All errors come at once, as [`ConfigErrors`].
//! A section `entryPoints` or `providers` in the file replaces the default one (`web` and `websecure`; Docker); the
//! environment and flags change single keys of what the file or the default has.
//!
//! `CONSTELLATION__A__B=v` sets any key, an item of a list by its position. Beside it these variables count, unless
//! they are empty: `CONFIG_FILE`; `TS_HOSTNAME`, then `NODE_NAME` (`node.name`); `DOMAIN` (`node.domain`);
//! `NODE_PRIORITY`; `DATA_DIR` (`node.dataDir`); `TAILSCALE_IP` (`cluster.advertise`), `RAFT_PORT` and `BIND_PORT` (the port of `cluster.raft.address`
//! and `cluster.gossip.address`); `BIND_ADDR` and `API_PORT` (host and port of `control.address`); `TRAEFIK_HTTP_PROVIDER_PORT` (the port of
//! `traefikProvider.address`; switches that section on) and `TRAEFIK_CERT_RESOLVER` (where it is on); `TRAEFIK_WEB_PORT` and
//! `TRAEFIK_WEBSECURE_PORT` (the port of the entry points `web` and `websecure`); `DOCKER_HOST`, and with
//! `DOCKER_TLS_VERIFY` also `DOCKER_CERT_PATH` (`providers.docker`, where that is on); `SMARTPROXY_TIMEOUT`,
//! `SMARTPROXY_IDLE_TIMEOUT` and `SMARTPROXY_MAX_IDLE_CONNS_PER_HOST` (`serversTransport`: time to connect, idle time,
//! idle connections). `RUST_LOG` is read where the log is started.
//!
//! Variables of the earlier system that concern parts which this version doesn't have are not read:
//! `PUBLIC_IP`, `HEADSCALE_URL`,
//! `CLOUDFLARE_ZONE_ID`, `ACME_RESOLVER_EMAIL`, `STACK_NAME`, `CONFIG_PATH`, `SECRETS_PATH`,
//! `MIGRATION_RULES_PATH`, `WEBSOCKET_ALLOWED_ORIGINS`, `REDIS_PASSWORD`, `REDIS_PASSWORD_FILE`, and
//! `SMARTPROXY_MAX_IDLE_CONNS`, because idle connections are limited for each server.
//!
//! # Dynamic configuration
//!
//! [`dynamic`] holds Traefik's documents (routers, services, TLS) and reads them from files and from labels. Beside
//! Traefik's sections stands `constellation`, for the options of services that Traefik has not
//! ([`dynamic::ServiceOptions`]); the static `serviceDefaults` has the same shape for all services.

mod document;
pub mod duration;
pub mod dynamic;
mod error;
mod example;
pub mod import;
mod layer;
mod load;
mod raw;
mod resolve;
mod resolved;
mod schema;
mod secret;
pub mod size;
mod unsupported;

pub use document::{Format, MAX_DOCUMENT_BYTES, read_text};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use example::example;
pub use load::{LoadOptions, Loaded, SEARCH_PATH};
pub use resolved::*;
pub use secret::Secret;

/// The JSON schema of the static configuration, for editors. Documents may be more lenient than it says: keys in any
/// case, numbers and booleans as texts.
pub fn schema() -> serde_json::Value {
    schema::published(schemars::schema_for!(raw::RawConfig).to_value())
}
