//! The reference: what tokio's own `copy_bidirectional` does, with its buffers of 8 KiB each way. Nothing else is in it:
//! no routing, no accounting, no failover.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// `bench-tokio-copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Port of the back end.
    #[arg(long)]
    to: u16,
}

/// Relays until the process is stopped.
pub(crate) fn run(args: &CopyArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(serve(args.port, args.to))
}

async fn serve(port: u16, to: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.context("cannot accept")?;
        connections.spawn(relay(client, to));
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(mut client: TcpStream, to: u16) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
