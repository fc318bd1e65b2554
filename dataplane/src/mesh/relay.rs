//! Carries connections of an entry point to the node that holds the edge, before anything is read of them.
//!
//! Names and addresses that clients know are slow to change, so connections come to nodes that don't serve them any more.
//! The holder treats such a connection as if it had been accepted there from the client's address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::head::Kind;
use super::links::Links;
use super::outlet::{Open, open};
use super::pair::BUFFER;
use super::unanswered::Unanswered;
use super::{Mesh, Role};
use crate::l4::socket::reset_on_close;

/// A holder that can't be reached is about to be replaced: how long it, or the next one, is tried. Longer than it takes to
/// elect who decides, and then to find a new holder.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of the same one.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that came in at an entry point.
pub(crate) struct Arrived {
    pub(crate) socket: TcpStream,
    /// What was read of it already.
    pub(crate) first: Vec<u8>,
    /// Where the client is, and where it has connected to.
    pub(crate) ends: [SocketAddr; 2],
    /// How long it may say nothing between two requests.
    pub(crate) idle: Duration,
    /// Whether this node is about to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Carries a connection to whoever serves it, to its end. Gives it back, with what was read of it, when this node is
/// to serve it after all; `None`: it is over.
///
/// A holder may be lost on the way. What can go on at the next one without the client's notice does.
pub(crate) async fn relay(
    mesh: &Mesh,
    links: &Arc<Links>,
    own: &str,
    entry_point: &str,
    mut arrived: Arrived,
) -> Option<(TcpStream, Vec<u8>)> {
    let mut carried = Carried {
        socket: arrived.socket,
        unanswered: Unanswered::default(),
    };
    let mut pending = arrived.first;
    let mut lost = false;
    loop {
        let Some(to) = holder(mesh, links, own, entry_point, arrived.ends).await else {
            reset_on_close(&carried.socket);
            return None;
        };
        if lost {
            links.metrics.resumed();
        }
        let Some(to) = to else {
            return Some((carried.socket, pending));
        };
        match carried.carry(pending, to).await {
            End::Over => return None,
            End::Broken => {
                reset_on_close(&carried.socket);
                return None;
            }
            End::Lost => {}
        }
        tracing::debug!(entry_point, "the holder of the edge was lost");
        pending = tokio::select! {
            pending = timeout(arrived.idle, carried.again()) => pending.ok()??,
            _ = arrived.stopping.wait_for(|stopping| *stopping) => return None,
        };
        lost = true;
    }
}

/// A tunnel to the holder, `Some(None)` if that is this node, and `None` if there is no holder for a while.
async fn holder(
    mesh: &Mesh,
    links: &Arc<Links>,
    own: &str,
    entry_point: &str,
    ends: [SocketAddr; 2],
) -> Option<Option<Open>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let role = mesh.role();
        let node = match &*role {
            Role::Serve => return Some(None),
            Role::Relay { node } if **node == *own => return Some(None),
            Role::Relay { node } => node,
            Role::Refuse => return None,
            Role::Undecided => {
                timeout_at(until, mesh.role_other_than(&role)).await.ok()?;
                continue;
            }
        };
        let kind = Kind::EntryPoint(entry_point.into());
        let opened = tokio::select! {
            opened = open(links, node, kind, ends[0], ends[1]) => opened,
            // A node that is gone may take long to say nothing.
            () = mesh.role_other_than(&role) => continue,
        };
        match opened {
            Ok(open) => return Some(Some(open)),
            Err(refused) if Instant::now() + PAUSE < until => {
                tracing::debug!(%node, %refused, "the holder of the edge is tried again");
                let _: Result<(), Elapsed> = timeout(PAUSE, mesh.role_other_than(&role)).await;
            }
            Err(refused) => {
                tracing::warn!(
                    %node, %refused, entry_point,
                    "a connection was closed because the holder of the edge can't be reached; `constellation status` \
                     tells who it is"
                );
                return None;
            }
        }
    }
}

/// A client's connection, and what was said on it.
struct Carried {
    socket: TcpStream,
    unanswered: Unanswered,
}

/// How one tunnel of a connection ended.
enum End {
    /// Both sides have ended.
    Over,
    /// The client broke off.
    Broken,
    /// The other node broke off, or is gone.
    Lost,
}

impl Carried {
    /// Carries bytes between the client and a node until both directions have ended, or one of them breaks. `pending` was
    /// read of the client already.
    async fn carry(&mut self, pending: Vec<u8>, tunnel: impl AsyncRead + AsyncWrite) -> End {
        self.unanswered = Unanswered::default();
        self.unanswered.asked(&pending);
        let said = Mutex::new(&mut self.unanswered);
        let note = |note: fn(&mut Unanswered, &[u8]), bytes: &[u8]| {
            note(&mut said.lock().unwrap_or_else(PoisonError::into_inner), bytes);
        };
        let (mut from_client, mut to_client) = self.socket.split();
        let (mut from_node, mut to_node) = tokio::io::split(tunnel);
        // Whatever is read is noted in the same step, so no byte is lost when one of the two is dropped at a pause.
        let up = async {
            let mut buffer = pending;
            loop {
                // A node that takes no more may still answer: that it is gone, the other direction tells.
                if to_node.write_all(&buffer).await.is_err() {
                    return Ok(());
                }
                buffer.resize(BUFFER, 0);
                let count = from_client.read(&mut buffer).await.map_err(|_| End::Broken)?;
                buffer.truncate(count);
                if count == 0 {
                    // That it can't be told is noticed in the other direction as well.
                    let _ = to_node.shutdown().await;
                    return Ok(());
                }
                note(Unanswered::asked, &buffer);
            }
        };
        let down = async {
            let mut buffer = vec![0; BUFFER];
            loop {
                let count = from_node.read(&mut buffer).await.map_err(|_| End::Lost)?;
                let read = buffer.get(..count).unwrap_or_default();
                if read.is_empty() {
                    return to_client.shutdown().await.map_err(|_| End::Broken);
                }
                note(Unanswered::answered, read);
                to_client.write_all(read).await.map_err(|_| End::Broken)?;
            }
        };
        match tokio::try_join!(up, down) {
            Ok(((), ())) => End::Over,
            Err(end) => end,
        }
    }

    /// After the loss of a node: what the next one is to be sent. `None`: the connection is over.
    async fn again(&mut self) -> Option<Vec<u8>> {
        let Some(again) = self.unanswered.again() else {
            reset_on_close(&self.socket);
            return None;
        };
        if !again.is_empty() {
            return Some(again.to_vec());
        }
        // The next node is not to wait for a client that may have nothing more to say.
        let mut next = vec![0; BUFFER];
        let count = self.socket.read(&mut next).await.ok()?;
        next.truncate(count);
        (count > 0).then_some(next)
    }
}
