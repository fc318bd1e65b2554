//! A back end that says its name first and echoes what it hears.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// It, running; with all of its connections gone when it is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Echo {
    /// Sends `NAME\n` on every connection, then echoes.
    pub async fn plain(name: &str) -> Self {
        Self::start(name, None).await
    }

    /// The same after a handshake of its own.
    pub async fn tls(name: &str, config: Arc<rustls::ServerConfig>) -> Self {
        Self::start(name, Some(TlsAcceptor::from(config))).await
    }

    async fn start(name: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, banner) = (Arc::clone(&accepted), format!("{name}\n"));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (tls, banner) = (tls.clone(), banner.clone());
                connections.spawn(async move {
                    match tls {
                        None => echo(stream, &banner).await,
                        Some(tls) => echo(tls.accept(stream).await?, &banner).await,
                    }
                });
                // What has ended need not be kept.
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            accepted,
            serving,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it took.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, banner: &str) -> std::io::Result<()> {
    stream.write_all(banner.as_bytes()).await?;
    stream.flush().await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}
