//! A way to a node that carries what comes from it only up to a point, until it is told to go on.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Bytes that each connection may still carry from the node.
    open: Arc<Semaphore>,
    /// Told when one has carried all that it may.
    pub(crate) held: Arc<Notify>,
}

impl Proxy {
    /// To `node`. A connection is held after so many bytes; `trickle` bytes at a time go to the node.
    pub(crate) async fn to(node: SocketAddr, after: usize, trickle: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (open, held) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
        let (opened, told) = (Arc::clone(&open), Arc::clone(&held));
        // Ends with the runtime of its test.
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(node).await.expect("the node");
                far.set_nodelay(true).expect("an option");
                tokio::spawn(carry(
                    near,
                    far,
                    after,
                    trickle,
                    Arc::clone(&opened),
                    Arc::clone(&told),
                ));
            }
        });
        Self { address, open, held }
    }

    pub(crate) fn go_on(&self) {
        self.open.close();
    }
}

async fn carry(
    near: TcpStream,
    far: TcpStream,
    after: usize,
    trickle: usize,
    open: Arc<Semaphore>,
    held: Arc<Notify>,
) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let there = tokio::spawn(async move {
        let mut bytes = vec![0; trickle];
        while let Ok(length @ 1..) = near_read.read(&mut bytes).await {
            if far_write.write_all(&bytes[..length]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
    let (mut bytes, mut carried) = (vec![0; 16 * 1024], 0);
    while let Ok(length @ 1..) = far_read.read(&mut bytes).await {
        if near_write.write_all(&bytes[..length]).await.is_err() {
            break;
        }
        carried += length;
        if carried > after && !open.is_closed() {
            held.notify_one();
            // Nobody ever adds one: this ends when it is closed.
            open.acquire().await.expect_err("closed");
        }
    }
    there.abort();
}
