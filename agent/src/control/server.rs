//! The control server: the API's router on a server of its own.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{ControlState, api};
use crate::http_server::{Ending, HttpServer};

/// The running server. [`ControlServer::stop`] ends it; dropping it ends it without waiting.
#[derive(Debug)]
pub struct ControlServer(HttpServer);

impl ControlServer {
    /// Starts serving on a bound listener.
    pub fn start(listener: TcpListener, state: ControlState) -> io::Result<Self> {
        Self::start_with(listener, state, Ending::default())
    }

    /// The same with another end.
    pub(super) fn start_with(listener: TcpListener, state: ControlState, ending: Ending) -> io::Result<Self> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && state.token.is_none() {
            tracing::warn!(
                %address,
                "the control server can be reached from other machines and asks for no token; bind control.address to \
                 127.0.0.1 or set control.token"
            );
        }
        HttpServer::start("control-api", listener, api::router(state), None, ending).map(Self)
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Stops accepting, lets answers under way finish within two seconds, and ends the thread.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}
