//! TLS towards clients: certificates by server name, options by server name, session tickets.
//!
//! [`TlsContext`] lives as long as the process: crypto provider, ticket keys, the self-signed default certificate, and
//! what unchanged files parsed to. [`TlsContext::build`] makes a [`TlsView`], the immutable TLS part of a generation.
//! A handshake ([`accept`]) asks the view of the generation current at its ClientHello for a rustls configuration and
//! keeps it, so that certificates and routes change in one swap and never under a live connection.
//!
//! Key material leaves this module only inside rustls' signing keys; no Debug and no error shows it.

mod accept;
mod certificate;
mod choice;
mod client_auth;
mod context;
mod index;
mod names;
mod options;
mod pem;
mod self_signed;
mod tickets;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub(crate) use accept::accept_stream;
pub use accept::{Accepted, HandshakeError, accept};
pub use certificate::CertificateInfo;
pub use choice::TlsRouter;
pub use client_auth::{ClientAuthError, ClientAuthSpec};
pub use context::{CertificateSpec, ContextError, TlsContext, TlsProblem, TlsSpec};
pub use options::{OptionsError, OptionsSpec};
pub use pem::{PemError, PemPart, PemSource, authorities};
pub use view::{TlsRefusal, TlsView};

/// aws-lc-rs. Always passed on explicitly: ring is in the dependency graph too, and rustls can't choose between them.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
