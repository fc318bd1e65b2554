//! The proofs by jobs: both ends say whether it went as it should.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::{Front, Report};
use crate::eventually;
use crate::stream::{End, Job, JobServer, Order};

/// Jobs of the proofs that are about single connections, at once.
const AT_ONCE: usize = 64;
/// Bytes that make a half-close worth a proof: more than socket buffers hold, so that data is under way at the end.
const HALF: u64 = 300_000;

/// Numbers jobs, so that no two of a process are alike.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// So many bytes each way at once, spread over so many streams.
pub async fn bulk(front: &Front, server: &JobServer, streams: usize, bytes: u64) -> Report {
    let each = bytes / streams as u64;
    let jobs = (0..streams).map(|_| Job {
        number: number(),
        up: each,
        down: each,
        order: Order::Both,
    });
    Report {
        what: format!("{} MiB each way over {streams} streams", bytes >> 20),
        wrong: all(front.address(), server, jobs, streams).await,
    }
}

/// Connections of which one direction ends long before the other, in all three orders.
pub async fn half_closes(front: &Front, server: &JobServer, count: usize) -> Report {
    let orders = [Order::ClientFirst, Order::ServerFirst, Order::Both];
    let jobs = (0..count).map(|at| Job {
        number: number(),
        up: HALF,
        down: HALF,
        order: orders[at % orders.len()],
    });
    Report {
        what: format!("{count} half-closes of {HALF} bytes"),
        wrong: all(front.address(), server, jobs, AT_ONCE).await,
    }
}

/// Connections that either side resets, idle or after a lot of data.
pub async fn resets(front: &Front, server: &JobServer, count: usize) -> Report {
    let orders = [Order::ServerResets, Order::ClientResets];
    let jobs = (0..count).map(|at| {
        let bytes = if at / 2 % 2 == 0 { 100 } else { HALF };
        Job {
            number: number(),
            up: bytes,
            down: bytes,
            order: orders[at % orders.len()],
        }
    });
    Report {
        what: format!("{count} resets"),
        wrong: all(front.address(), server, jobs, AT_ONCE).await,
    }
}

/// Short connections: none is lost, and afterwards no descriptor is left.
pub async fn storm(front: &Front, server: &JobServer, count: usize) -> Report {
    let short = |_| Job {
        number: number(),
        up: 64,
        down: 64,
        order: Order::Both,
    };
    let mut wrong = all(front.address(), server, (0..AT_ONCE).map(short), AT_ONCE).await;
    let strangers = server.strangers();
    let settled = settle(front).await;
    wrong.extend(all(front.address(), server, (0..count).map(short), AT_ONCE).await);
    let left = eventually("descriptors are given back", async || match front.descriptors() {
        now if now <= settled => Ok(now),
        now => Err(format!("{now} descriptors, {settled} before")),
    })
    .await;
    if server.strangers() > strangers {
        wrong.push(format!(
            "{} connections that nobody made",
            server.strangers() - strangers
        ));
    }
    Report {
        what: format!("{count} short connections, {settled} descriptors before and {left} afterwards"),
        wrong,
    }
}

/// The number of descriptors once it no longer falls: connections just ended are not counted.
async fn settle(front: &Front) -> usize {
    let mut last = usize::MAX;
    let mut same = 0;
    eventually("the number of descriptors settles", async || {
        let now = front.descriptors();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same >= 10 { Ok(now) } else { Err(now) }
    })
    .await
}

/// Runs all jobs, so many at once; what went wrong at either end.
async fn all(
    address: SocketAddr,
    server: &JobServer,
    jobs: impl Iterator<Item = Job>,
    at_once: usize,
) -> Vec<String> {
    let jobs: Arc<[Job]> = jobs.collect();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..at_once {
        let (jobs, next) = (Arc::clone(&jobs), Arc::clone(&next));
        clients.spawn(async move {
            let mut wrong = Vec::new();
            loop {
                let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                let Some(job) = jobs.get(at) else { return wrong };
                wrong.extend(
                    job.run(address)
                        .await
                        .err()
                        .map(|error| format!("{:?}: {error}", job.order)),
                );
            }
        });
    }
    let mut wrong: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    if !wrong.is_empty() {
        // The back end may wait for what will never come; the client's word is enough.
        return wrong;
    }
    for job in jobs.iter() {
        let expected = if job.order == Order::ClientResets {
            End::Reset
        } else {
            End::Good
        };
        match server.outcome(job.number).await {
            Err(error) => wrong.push(error),
            Ok(outcome) if outcome.end != expected => {
                wrong.push(format!(
                    "{:?}: job {} at the back end: {:?}",
                    job.order, job.number, outcome.end
                ));
            }
            Ok(outcome) if outcome.connections != 1 => {
                wrong.push(format!(
                    "job {} came on {} connections",
                    job.number, outcome.connections
                ));
            }
            Ok(_) => {}
        }
    }
    wrong
}
