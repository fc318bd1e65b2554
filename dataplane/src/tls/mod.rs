//! TLS towards clients: certificates by server name, options by server name, session tickets.

use std::sync::Arc;

/// The TLS part of a generation.
#[derive(Clone, Debug, Default)]
pub struct TlsView {
    _private: (),
}

impl TlsView {
    /// The rustls configuration for a ClientHello, or `None` when strict SNI refuses the name.
    pub fn server_config(&self, _server_name: Option<&str>) -> Option<Arc<rustls::ServerConfig>> {
        None
    }
}
