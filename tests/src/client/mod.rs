//! Clients: bytes on a socket ([`wire`]), HTTP/1.1 and HTTP/2 ([`http`]), TLS ([`tls`]), WebSocket ([`websocket`]),
//! the curl of this machine ([`curl`]), and other programs of it ([`command`]).

pub mod command;
pub mod curl;
pub mod http;
pub mod tls;
pub mod websocket;
pub mod wire;

pub use self::http::{Answer, Client, get};
