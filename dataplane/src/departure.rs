//! Endpoints that leave: who waits for one learns of it at once, and how long it may go on.
//!
//! [`depart`] is called when a generation is published in which an endpoint takes no new requests any more. It marks
//! the endpoint's [`Live`] side, which all generations share, and wakes whoever waits:
//!
//! - a connect that is under way is dropped and the next candidate tried, and an idle connection is closed
//!   ([`departed`]);
//! - a running request or upgraded connection goes on up to its limit ([`limit_of`]).
//!
//! Asking costs one load ([`Live::departed`]); waiting allocates nothing and takes a lock once, so a request begins to
//! wait only when it has nothing better to do. An endpoint that comes back before the limit ends no request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use constellation_table::Live;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long what runs at an endpoint that leaves may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Duration,
    /// Upgraded connections (WebSocket).
    pub upgraded: Duration,
}

/// What runs at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// A request, up to the last byte of its response.
    Request,
    /// A connection that was upgraded.
    Upgraded,
}

/// The signal; hangs on [`Live::slot`].
#[derive(Debug, Default)]
struct Signal {
    /// The ends of the last departure's limits.
    ends: Mutex<Option<Ends>>,
    left: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    request: Instant,
    upgraded: Instant,
}

impl Signal {
    fn of(live: &Live) -> Option<&Self> {
        live.slot.get_or_init(Self::default)
    }

    fn end(&self, running: Running) -> Option<Instant> {
        let ends = *self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.map(|ends| match running {
            Running::Request => ends.request,
            Running::Upgraded => ends.upgraded,
        })
    }
}

/// Says that the endpoint leaves now. Said again, the limits count from then.
pub fn depart(live: &Live, limits: Limits) {
    if let Some(signal) = Signal::of(live) {
        let now = Instant::now();
        let end = |limit: Duration| now.checked_add(limit).unwrap_or(now + FAR);
        let ends = Ends {
            request: end(limits.requests),
            upgraded: end(limits.upgraded),
        };
        *signal.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(ends);
        live.depart();
        signal.left.notify_waiters();
    } else {
        live.depart();
    }
}

/// Stands for an end that no clock can say.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// Waits until the endpoint leaves; returns at once when it has. Cancellation safe.
pub async fn departed(live: &Live) {
    let Some(signal) = Signal::of(live) else {
        return std::future::pending().await;
    };
    loop {
        let mut left = std::pin::pin!(signal.left.notified());
        // From here on no notice is missed.
        left.as_mut().enable();
        if live.departed() {
            return;
        }
        left.await;
    }
}

/// Whether the endpoint has left and the time for what still runs there is over.
pub fn is_over(live: &Live, running: Running) -> bool {
    live.departed()
        && Signal::of(live)
            .and_then(|signal| signal.end(running))
            .is_some_and(|end| end <= Instant::now())
}

/// Waits until the endpoint has left and the time for what still runs there is over. Cancellation safe.
pub async fn limit_of(live: &Live, running: Running) {
    let Some(signal) = Signal::of(live) else {
        return std::future::pending().await;
    };
    loop {
        departed(live).await;
        let mut left_again = std::pin::pin!(signal.left.notified());
        left_again.as_mut().enable();
        let Some(end) = signal.end(running) else {
            left_again.await;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until(end) => {
                // It may have come back, and even left anew, in the meantime.
                if live.departed() && signal.end(running).is_some_and(|end| end <= Instant::now()) {
                    return;
                }
            }
            () = left_again => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use constellation_table::{Condition, Endpoint, EndpointSpec, Scheme};
    use tokio::task::JoinHandle;

    use super::*;

    const LIMITS: Limits = Limits {
        requests: Duration::from_secs(30),
        upgraded: Duration::from_secs(600),
    };

    fn live() -> Arc<Live> {
        Endpoint::new(EndpointSpec {
            name: "a".into(),
            scheme: Scheme::Http,
            host: "127.0.0.1".into(),
            port: 80,
            base_path: "".into(),
            weight: 1,
            condition: Condition::Ready,
            url_as_written: "".into(),
            locality: constellation_table::Locality::default(),
            peer: None,
        })
        .live
        .clone()
    }

    /// Waits in a task of its own, and is waiting when this returns.
    async fn waiting(live: &Arc<Live>, running: Running) -> JoinHandle<Duration> {
        let live = live.clone();
        let began = Instant::now();
        let task = tokio::spawn(async move {
            limit_of(&live, running).await;
            began.elapsed()
        });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_goes_on_up_to_its_own_limit() {
        let live = live();
        let request = waiting(&live, Running::Request).await;
        let upgraded = waiting(&live, Running::Upgraded).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!live.departed() && !request.is_finished());
        depart(&live, LIMITS);
        assert!(live.departed());
        // One that begins to wait later has no more time than the others.
        let late = {
            tokio::time::sleep(Duration::from_secs(10)).await;
            waiting(&live, Running::Request).await
        };
        let seconds = |elapsed: Duration| elapsed.as_secs();
        assert_eq!(seconds(request.await.unwrap()), 130);
        assert_eq!(seconds(late.await.unwrap()), 20);
        assert_eq!(seconds(upgraded.await.unwrap()), 700);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_departure_learns_of_it_at_once() {
        let live = live();
        let connect = tokio::spawn({
            let live = live.clone();
            async move { departed(&live).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!connect.is_finished());
        depart(&live, LIMITS);
        let left = Instant::now();
        connect.await.unwrap();
        departed(&live).await;
        assert_eq!(left.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_departure_counts_from_then() {
        let live = live();
        let request = waiting(&live, Running::Request).await;
        depart(&live, LIMITS);
        tokio::time::sleep(Duration::from_secs(20)).await;
        depart(&live, LIMITS);
        assert_eq!(request.await.unwrap().as_secs(), 50);
    }

    #[tokio::test]
    async fn no_notice_is_lost_between_threads() {
        for _ in 0..200 {
            let live = live();
            let none = Limits {
                requests: Duration::ZERO,
                upgraded: Duration::ZERO,
            };
            let leaver = std::thread::spawn({
                let live = live.clone();
                move || depart(&live, none)
            });
            let wait = limit_of(&live, Running::Request);
            tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
            leaver.join().unwrap();
        }
    }
}
