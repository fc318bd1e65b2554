//! The testkit's back end as a process of its own, for containers: `testkit-backend NAME PORT`.
//!
//! Ends at SIGTERM at once, as most servers that know nothing of draining do; requests under way are cut. With `LINGER`
//! in the environment it goes on as if nothing had been said, and ends with SIGKILL.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "part of the testkit")]

use constellation_tests::backend::Backend;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the back end's name");
    let port: u16 = arguments
        .next()
        .expect("the port")
        .parse()
        .expect("a port number");
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let lingers = std::env::var_os("LINGER").is_some();
    let backend = Backend::listen(&name, ([0, 0, 0, 0], port).into(), None).await;
    let told = async {
        terminate.recv().await;
        if lingers {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = backend.serve() => {}
        () = told => {}
    }
}
