//! Carries connections of an entry point to the node that holds the edge, before anything is read of them.
//!
//! Names and addresses that clients know are slow to change, so connections come to nodes that don't serve them any more.
//! The holder treats such a connection as if it had been accepted there from the client's address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::head::Kind;
use super::links::Links;
use super::outlet::open;
use super::pair::carry;
use super::{Mesh, Role};
use crate::l4::socket::reset_on_close;

/// A holder that can't be reached is about to be replaced: how long it, or the next one, is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at who serves, when that is not known yet.
const GLANCE: Duration = Duration::from_millis(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Carries a connection to whoever serves it, to its end. What was read of it already is in `first`. Gives it back when
/// this node is to serve it after all; `None`: it is over.
pub(crate) async fn relay(
    mesh: &Mesh,
    links: &Arc<Links>,
    own: &str,
    entry_point: &str,
    socket: TcpStream,
    first: Vec<u8>,
    ends: [SocketAddr; 2],
) -> Option<(TcpStream, Vec<u8>)> {
    let until = Instant::now() + PATIENCE;
    loop {
        let node = match &*mesh.role() {
            Role::Serve => return Some((socket, first)),
            Role::Relay { node } if **node == *own => return Some((socket, first)),
            Role::Relay { node } => node.clone(),
            Role::Refuse => break,
            Role::Undecided if Instant::now() < until => {
                sleep(GLANCE).await;
                continue;
            }
            Role::Undecided => break,
        };
        let kind = Kind::EntryPoint(entry_point.into());
        match open(links, &node, kind, ends[0], ends[1]).await {
            Ok(mut open) => {
                if open.write_all(&first).await.is_ok() {
                    carry(socket, open).await;
                    return None;
                }
                break;
            }
            Err(refused) if Instant::now() + PAUSE < until => {
                tracing::debug!(%node, %refused, "the holder of the edge is tried again");
                sleep(PAUSE).await;
            }
            Err(refused) => {
                tracing::warn!(
                    %node, %refused, entry_point,
                    "a connection was closed because the holder of the edge can't be reached; `constellation status` \
                     tells who it is"
                );
                break;
            }
        }
    }
    reset_on_close(&socket);
    None
}
