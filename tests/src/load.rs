//! Continuous load: requests without pause, every one accounted for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use tokio::task::JoinSet;

use crate::client::http::request;
use crate::client::{Answer, Client};
use crate::eventually;

/// `GET`s that run until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    workers: JoinSet<Report>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers with status 200, by the `x-backend` that gave them.
    pub served: BTreeMap<String, usize>,
    /// Everything else, in the order it happened: a status with its body, or an error.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `clients` connections that each send `GET path` of `host` again and again.
    pub fn start(address: SocketAddr, host: &str, path: &str, clients: usize) -> Self {
        Self::begin(address, host, path, clients, true)
    }

    /// The same, with a connection for each request: what a new client would get.
    pub fn connecting(address: SocketAddr, host: &str, path: &str, clients: usize) -> Self {
        Self::begin(address, host, path, clients, false)
    }

    fn begin(address: SocketAddr, host: &str, path: &str, clients: usize, keep: bool) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let (host, path) = (host.to_owned(), path.to_owned());
            workers.spawn(async move {
                let mut report = Report::default();
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    let outcome = once(&mut client, address, &host, &path).await;
                    client.take_if(|_| !keep);
                    report.count(outcome);
                    done.fetch_add(1, Ordering::Relaxed);
                    // Load, not a measurement: leave the machine to the others now and then.
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                report
            });
        }
        Self { stop, done, workers }
    }

    /// Waits until `count` more requests have been answered.
    pub async fn more(&self, count: usize) {
        let target = self.done.load(Ordering::Relaxed) + count;
        eventually("the load goes on", async || {
            let done = self.done.load(Ordering::Relaxed);
            if done >= target {
                Ok(())
            } else {
                Err(format!("{done} of {target} requests"))
            }
        })
        .await;
    }

    /// Stops after the requests under way.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for report in self.workers.join_all().await {
            total.failures.extend(report.failures);
            for (backend, count) in report.served {
                *total.served.entry(backend).or_default() += count;
            }
        }
        total
    }
}

impl Report {
    fn count(&mut self, outcome: Result<Answer, String>) {
        match outcome {
            Ok(answer) if answer.status == StatusCode::OK => {
                *self
                    .served
                    .entry(answer.header("x-backend").to_owned())
                    .or_default() += 1;
            }
            Ok(answer) => self
                .failures
                .push(format!("{}: {}", answer.status, answer.text())),
            Err(error) => self.failures.push(error),
        }
    }

    /// How many were served in all.
    pub fn total(&self) -> usize {
        self.served.values().sum()
    }

    /// # Panics
    /// When anything but 200 came back, or nothing at all.
    pub fn assert_clean(&self) {
        assert!(
            self.failures.is_empty(),
            "{} failures: {:#?}",
            self.failures.len(),
            self.failures
        );
        assert!(self.total() > 0, "nothing was sent");
    }
}

async fn once(
    slot: &mut Option<Client>,
    address: SocketAddr,
    host: &str,
    path: &str,
) -> Result<Answer, String> {
    let mut client = match slot.take() {
        Some(client) if !client.is_closed() => client,
        _ => Client::h1(address)
            .await
            .map_err(|error| format!("connect: {error}"))?,
    };
    let answer = client.send(request(http::Method::GET, host, path)).await;
    let answer = answer.map_err(|error| format!("request: {error:?}"))?;
    *slot = Some(client);
    Ok(answer)
}
