//! TLS towards clients: certificates by server name, options by server name, session tickets.
//!
//! [`TlsContext`] lives as long as the process: crypto provider, ticket keys, the self-signed default certificate, and
//! what unchanged files parsed to. [`TlsContext::build`] makes a [`TlsView`], the immutable TLS part of a generation.
//! A handshake asks the view of the generation current at its ClientHello for a rustls configuration and keeps it.

mod view;

pub use view::{CertificateInfo, TlsRefusal, TlsView};
