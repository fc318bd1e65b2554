//! A back end that fails on command: `testkit-fault NAME PORT JOURNAL`.
//!
//! Prints `{"address": ..., "control": ...}` once it listens. SIGTERM lets requests under way finish.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "part of the testkit"
)]

use std::path::PathBuf;

use constellation_tests::fault::server::Server;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the back end's name");
    let port = arguments
        .next()
        .expect("the port")
        .parse()
        .expect("a port number");
    let journal = PathBuf::from(arguments.next().expect("the journal's path"));
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let server = Server::bind(&name, port, &journal)
        .await
        .expect("the port is free");
    let (address, control) = server.addresses().unwrap();
    println!(
        "{}",
        serde_json::json!({ "address": address, "control": control })
    );
    server
        .serve(async {
            terminate.recv().await;
        })
        .await;
}
