//! How many requests a service takes at once: places, and a bounded line in front of them.
//!
//! One [`Admission`] belongs to one service and is shared by all workers. A request [enters](Admission::enter) before its
//! first attempt and keeps its [`Permit`] to its end. Who waits is served in order of arrival. The limit comes with every
//! request, so that a change of the configuration counts from the next one on.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::metrics::QueueRefusal;

/// The places of one service.
#[derive(Default)]
pub struct Admission {
    line: Mutex<Line>,
    /// Length of the line, so that a service without a limit takes no lock.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Line {
    limit: Option<u32>,
    running: u32,
    /// In order of arrival; the numbers rise.
    waiting: VecDeque<Waiter>,
    next: u64,
}

struct Waiter {
    number: u64,
    place: oneshot::Sender<Permit>,
}

/// A place. Dropping it gives the place to the first in line.
#[must_use = "the place is given back when this is dropped"]
pub struct Permit(Option<Arc<Admission>>);

/// Why a request got no place: the answer is 503 with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Every place is taken and the line is full.
    #[error("{running} requests are running and {waiting} are waiting, which is all that the service admits")]
    Full {
        /// Requests that hold a place.
        running: u32,
        /// Requests in line.
        waiting: usize,
    },
    /// No place became free in time.
    #[error("no place became free within {0:?}")]
    Waited(Duration),
}

impl From<&Refused> for QueueRefusal {
    fn from(refused: &Refused) -> Self {
        match refused {
            Refused::Full { .. } => Self::Full,
            Refused::Waited(_) => Self::Timeout,
        }
    }
}

impl Admission {
    /// Takes a place, or waits for one up to `patience` if the line is shorter than `queue`. `limit` is the number of
    /// places from now on; without one there is always a place.
    ///
    /// Cancel safe: a future that is dropped leaves the line, and a place it was just given goes to the next.
    pub async fn enter(
        self: &Arc<Self>,
        limit: Option<u32>,
        queue: u32,
        patience: Duration,
    ) -> Result<Permit, Refused> {
        if limit.is_none() && self.waiting.load(Ordering::Acquire) == 0 {
            return Ok(Permit(None));
        }
        let (mut place, ticket) = {
            let mut line = self.lock();
            line.limit = limit;
            self.admit(&mut line);
            if line.has_place() {
                line.running += 1;
                return Ok(Permit(Some(self.clone())));
            }
            if line.waiting.len() >= usize::try_from(queue).unwrap_or(usize::MAX) || patience.is_zero() {
                return Err(Refused::Full {
                    running: line.running,
                    waiting: line.waiting.len(),
                });
            }
            let (sender, receiver) = oneshot::channel();
            let number = line.next;
            line.next += 1;
            line.waiting.push_back(Waiter {
                number,
                place: sender,
            });
            self.waiting.store(line.waiting.len(), Ordering::Release);
            let ticket = Ticket {
                admission: self,
                number,
            };
            (receiver, ticket)
        };
        if let Ok(Ok(permit)) = tokio::time::timeout(patience, &mut place).await {
            return Ok(permit);
        }
        drop(ticket);
        // Given between the end of our patience and leaving the line.
        place.try_recv().map_err(|_| Refused::Waited(patience))
    }

    /// Changes the limit without a request: who fits now is let in.
    pub fn set_limit(self: &Arc<Self>, limit: Option<u32>) {
        let mut line = self.lock();
        line.limit = limit;
        self.admit(&mut line);
    }

    /// Requests that hold a place. Those that came while there was no limit are not among them.
    pub fn running(&self) -> u32 {
        self.lock().running
    }

    /// Requests in line.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Gives free places to who waits.
    fn admit(self: &Arc<Self>, line: &mut Line) {
        while line.has_place()
            && let Some(first) = line.waiting.pop_front()
        {
            line.running += 1;
            if let Err(mut refused) = first.place.send(Permit(Some(self.clone()))) {
                // The waiter is gone. The permit must not come back here through its drop: the lock is held.
                refused.0 = None;
                line.running -= 1;
            }
        }
        self.waiting.store(line.waiting.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn has_place(&self) -> bool {
        self.limit.is_none_or(|limit| self.running < limit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admission) = self.0.take() {
            let mut line = admission.lock();
            line.running -= 1;
            admission.admit(&mut line);
        }
    }
}

/// A place in line, left when dropped.
struct Ticket<'a> {
    admission: &'a Arc<Admission>,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut line = self.admission.lock();
        if let Ok(position) = line.waiting.binary_search_by_key(&self.number, |w| w.number) {
            line.waiting.remove(position);
            self.admission
                .waiting
                .store(line.waiting.len(), Ordering::Release);
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.lock();
        f.debug_struct("Admission")
            .field("limit", &line.limit)
            .field("running", &line.running)
            .field("waiting", &line.waiting.len())
            .finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::task::JoinSet;

    const LONG: Duration = Duration::from_secs(60);

    async fn until_waiting(admission: &Admission, count: usize) {
        while admission.waiting() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn without_a_limit_everybody_enters() {
        let admission = Arc::new(Admission::default());
        let mut permits = Vec::new();
        for _ in 0..100 {
            permits.push(admission.enter(None, 0, LONG).await.unwrap());
        }
        assert_eq!(admission.running(), 0, "nothing is counted that nothing limits");
    }

    #[tokio::test]
    async fn beyond_places_and_line_a_request_is_refused() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter(Some(1), 1, LONG).await.unwrap();
        let second = tokio::spawn({
            let admission = admission.clone();
            async move { admission.enter(Some(1), 1, LONG).await }
        });
        until_waiting(&admission, 1).await;
        assert_eq!(
            admission.enter(Some(1), 1, LONG).await.unwrap_err(),
            Refused::Full {
                running: 1,
                waiting: 1
            }
        );
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        drop(second);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_too_long_is_refused_and_leaves_the_line() {
        let admission = Arc::new(Admission::default());
        let _first = admission.enter(Some(1), 1, LONG).await.unwrap();
        let patience = Duration::from_secs(5);
        assert_eq!(
            admission.enter(Some(1), 1, patience).await.unwrap_err(),
            Refused::Waited(patience)
        );
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        assert!(matches!(
            admission.enter(Some(1), 1, Duration::ZERO).await,
            Err(Refused::Full { .. })
        ));
    }

    #[tokio::test]
    async fn the_line_is_served_in_order() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter(Some(1), 9, LONG).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = JoinSet::new();
        for number in 0..5 {
            let (admission, order) = (admission.clone(), order.clone());
            let before = admission.waiting();
            waiting.spawn({
                let admission = admission.clone();
                async move {
                    let permit = admission.enter(Some(1), 9, LONG).await.unwrap();
                    order.lock().unwrap().push(number);
                    drop(permit);
                }
            });
            until_waiting(&admission, before + 1).await;
        }
        drop(first);
        while waiting.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_place_given_to_who_just_left_goes_to_the_next() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter(Some(1), 9, LONG).await.unwrap();
        let mut gone = Box::pin(admission.enter(Some(1), 9, LONG));
        let mut stays = Box::pin(admission.enter(Some(1), 9, LONG));
        // Both are in line; neither is asked again before the place is given.
        assert!(poll_once(gone.as_mut()).is_none());
        assert!(poll_once(stays.as_mut()).is_none());
        drop(first);
        drop(gone);
        let permit = stays.await.unwrap();
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        drop(permit);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn a_new_limit_counts_at_once() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter(Some(1), 9, LONG).await.unwrap();
        let mut second = Box::pin(admission.enter(Some(1), 9, LONG));
        assert!(poll_once(second.as_mut()).is_none());
        // Raised: by another request, which enters as well.
        let third = admission.enter(Some(3), 9, LONG).await.unwrap();
        let second = poll_once(second.as_mut()).unwrap().unwrap();
        assert_eq!(admission.running(), 3);
        // Lowered: the running ones finish, and nobody enters until they have.
        admission.set_limit(Some(1));
        let mut fourth = Box::pin(admission.enter(Some(1), 9, LONG));
        assert!(poll_once(fourth.as_mut()).is_none());
        drop(first);
        drop(second);
        assert!(poll_once(fourth.as_mut()).is_none());
        drop(third);
        let fourth = fourth.await.unwrap();
        // Lifted: who waits enters.
        let mut fifth = Box::pin(admission.enter(Some(1), 9, LONG));
        assert!(poll_once(fifth.as_mut()).is_none());
        admission.set_limit(None);
        drop(fifth.await.unwrap());
        drop(fourth);
        assert_eq!(admission.running(), 0);
    }

    #[test]
    fn many_threads_lose_no_wake_up() {
        let admission = Arc::new(Admission::default());
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        let served = runtime.block_on(async {
            let mut requests = JoinSet::new();
            for number in 0..2000_u32 {
                let (admission, most, now) = (admission.clone(), most.clone(), now.clone());
                requests.spawn(async move {
                    // Every seventh gives up while it waits or just as it is served.
                    let entering = admission.enter(Some(3), u32::MAX, LONG);
                    let entered = if number.is_multiple_of(7) {
                        tokio::time::timeout(Duration::from_micros(u64::from(number)), entering).await
                    } else {
                        Ok(entering.await)
                    };
                    let Ok(permit) = entered else { return 0 };
                    let permit = permit.unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                    1
                });
            }
            let mut served = 0;
            while let Some(one) = requests.join_next().await {
                served += one.unwrap();
            }
            served
        });
        assert!(served >= 2000 - 286, "{served}");
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!((admission.running(), admission.waiting()), (0, 0));
    }

    /// Polls once.
    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
