//! What a connection is for, read from its ClientHello while that stays in the socket for whoever gets the connection.

use std::time::Duration;

use constellation_identity::tls::JOIN_ALPN;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{MESH_ALPN, PEER_ALPN};

/// How long a ClientHello may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that is read. Ours are a few hundred bytes.
const LIMIT: usize = 16 * 1024;
/// How often a ClientHello that came in part is looked at again: the kernel would report the part as news each time.
const AGAIN: Duration = Duration::from_millis(10);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Calls between members.
    Peer,
    /// A request of a node that joins.
    Join,
    /// The data plane's.
    Mesh,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Peer, Self::Join, Self::Mesh];

    fn of(alpn: &[u8]) -> Option<Self> {
        match alpn {
            PEER_ALPN => Some(Self::Peer),
            JOIN_ALPN => Some(Self::Join),
            MESH_ALPN => Some(Self::Mesh),
            _ => None,
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A part of a ClientHello.
    Part,
    /// A whole one, with the first protocol that is spoken here.
    For(Purpose),
    /// A whole one that offers nothing of that.
    Other,
    /// None.
    Not,
}

/// Looks at the first bytes of a connection. Pure.
#[must_use]
pub fn look(bytes: &[u8]) -> Hello {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Hello::Not,
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let purpose = hello.alpn().and_then(|mut offered| offered.find_map(Purpose::of));
                return purpose.map_or(Hello::Other, Hello::For);
            }
            Err(_) => return Hello::Not,
        }
    }
    Hello::Part
}

/// Waits for the ClientHello of a connection and leaves it there. [`Hello::Not`] if none comes in time.
pub(crate) async fn peek(stream: &TcpStream) -> Hello {
    timeout(PATIENCE, peek_whole(stream)).await.unwrap_or(Hello::Not)
}

async fn peek_whole(stream: &TcpStream) -> Hello {
    let mut bytes = vec![0; 2048];
    let mut seen = 0;
    loop {
        let Ok(length) = stream.peek(&mut bytes).await else {
            return Hello::Not;
        };
        if length == 0 {
            return Hello::Not;
        }
        if length > seen {
            seen = length;
            match look(bytes.get(..length).unwrap_or_default()) {
                Hello::Part => {}
                whole => return whole,
            }
            if length == bytes.len() {
                if length >= LIMIT {
                    return Hello::Not;
                }
                bytes.resize((length * 2).min(LIMIT), 0);
                continue;
            }
        } else if stream
            .ready(Interest::READABLE)
            .await
            .is_ok_and(|ready| ready.is_read_closed())
        {
            return Hello::Not;
        }
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use constellation_identity::{Authority, ClusterId, JoinToken, UnixSeconds};

    use super::{Hello, JOIN_ALPN, LIMIT, MESH_ALPN, PEER_ALPN, Purpose, look};

    fn hello(alpn: &[&[u8]]) -> Vec<u8> {
        let cluster = ClusterId::generate().unwrap();
        let authority = Authority::generate(cluster, UnixSeconds::now()).unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let (token, _) = JoinToken::generate(cluster, authority.pin(), UnixSeconds::now(), hour).unwrap();
        let mut config = constellation_identity::tls::joining(&token).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = constellation_identity::tls::server_name();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_connection_is_for_the_first_protocol_that_is_spoken_here() {
        for (alpn, expected) in [
            (&[PEER_ALPN][..], Hello::For(Purpose::Peer)),
            (&[JOIN_ALPN], Hello::For(Purpose::Join)),
            (&[MESH_ALPN], Hello::For(Purpose::Mesh)),
            (&[b"h2", MESH_ALPN, PEER_ALPN], Hello::For(Purpose::Mesh)),
            (&[b"constellation-peer/2"], Hello::Other),
            (&[], Hello::Other),
        ] {
            let bytes = hello(alpn);
            assert!(bytes.len() < LIMIT);
            assert_eq!(look(&bytes), expected, "{alpn:?}");
            for length in 0..bytes.len() {
                assert_eq!(look(&bytes[..length]), Hello::Part, "{length} bytes");
            }
            // What comes after it is nobody's business here.
            assert_eq!(look(&[&bytes[..], b"more"].concat()), expected);
        }
    }

    #[test]
    fn what_is_no_client_hello_is_told_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0; 64],
            &[0x16, 3, 1, 0, 4, 2, 0, 0, 0],
        ] {
            assert_eq!(look(bytes), Hello::Not, "{bytes:?}");
        }
    }
}
