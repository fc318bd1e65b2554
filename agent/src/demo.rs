//! The demo back end: a small HTTP/1.1 server that names itself, for trying routes with.
//!
//! `run --demo` starts two of them ([`children`]) and prints what to try ([`guide`]).
//!
//! `/` says who answered, `/headers` what arrived, `/sse` counts to five, `/ws` echoes WebSocket messages (`/ws?greet`
//! only greets and closes). It ends on
//! SIGTERM, and when its standard input closes, so that it never outlives the node that started it.

pub mod children;
pub mod guide;
mod server;

use std::net::SocketAddr;

use clap::Args;

use crate::cli::{Exit, Failure, print};

/// `demo-backend`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Where to listen; port 0 picks a free one. The address is the first line of standard output.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What it calls itself.
    #[arg(long, default_value = "demo")]
    name: String,
}

/// Serves until it is told to stop or its standard input closes.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .map_err(|error| {
                Failure::new(
                    Exit::Unavailable,
                    format!("cannot listen on {}: {error}", args.listen),
                )
            })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::new(Exit::System, error.to_string()))?;
        print(&format!("{address}\n"))?;
        server::serve(listener, &args.name).await
    });
    // A thread may still wait for standard input.
    runtime.shutdown_background();
    outcome
}
