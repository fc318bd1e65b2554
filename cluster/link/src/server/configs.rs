//! The TLS configurations of the server, made anew when the credentials are others.

use std::sync::{Arc, Mutex, PoisonError};

use constellation_identity::tls::Credentials;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::PEER_ALPN;

/// Of the latest credentials.
#[derive(Debug)]
pub(super) struct Configs {
    credentials: watch::Receiver<Arc<Credentials>>,
    made: Mutex<Option<Made>>,
}

#[derive(Clone, Debug)]
struct Made {
    of: Arc<Credentials>,
    peer: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
}

impl Configs {
    pub(super) fn new(credentials: watch::Receiver<Arc<Credentials>>) -> Self {
        Self {
            credentials,
            made: Mutex::new(None),
        }
    }

    /// For members.
    pub(super) fn peer(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.made().map(|made| made.peer)
    }

    /// For joiners.
    pub(super) fn join(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.made().map(|made| made.join)
    }

    fn made(&self) -> Result<Made, rustls::Error> {
        let latest = Arc::clone(&self.credentials.borrow());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| Arc::ptr_eq(&made.of, &latest)) {
            return Ok(made.clone());
        }
        let new = Made {
            peer: Arc::new(latest.server(&[PEER_ALPN])?),
            join: Arc::new(latest.join_server()?),
            of: latest,
        };
        *made = Some(new.clone());
        Ok(new)
    }
}
