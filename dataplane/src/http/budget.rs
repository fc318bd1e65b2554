//! The retry budget of a service: how many attempts may go wasted.
//!
//! Every request deposits a share of a token. A second attempt (retry or hedge) takes a whole one and gives it back when
//! it succeeds, or when it failed without a byte sent. So one bad endpoint among good ones never exhausts the budget,
//! and when every endpoint fails, the attempts on top of the clients' own stay at the deposited share. While tokens are
//! out, a request in need of one waits for them to come back instead of giving up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use constellation_table::policy::Retry;
use tokio::sync::Notify;

/// One token, in the unit of the balance.
const TOKEN: i64 = 100;
/// How long a request waits for a token that is out.
const PATIENCE: Duration = Duration::from_secs(10);

/// The retry budget of one service, shared by all workers.
#[derive(Debug)]
pub(super) struct Budget {
    balance: AtomicI64,
    /// Requests of the service now; the balance never exceeds the budget's share of them, or its minimum.
    live: AtomicU32,
    /// Tokens taken and not yet given back or used up.
    out: AtomicU32,
    waiting: AtomicU32,
    settled: Notify,
}

/// A request of the service, until it is dropped.
#[derive(Debug)]
pub(super) struct Live(Arc<Budget>);

/// The right to one attempt more.
#[derive(Debug)]
pub(super) struct Token {
    budget: Arc<Budget>,
    refund: bool,
}

impl Budget {
    /// A budget with its minimum to begin with.
    pub(super) fn new(retry: &Retry) -> Self {
        Self {
            balance: AtomicI64::new(i64::from(retry.budget_min) * TOKEN),
            live: AtomicU32::new(0),
            out: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            settled: Notify::new(),
        }
    }

    /// A request begins: it deposits its share.
    pub(super) fn enter(self: &Arc<Self>, retry: &Retry) -> Live {
        let live = self.live.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let balance = self.balance.load(Ordering::Relaxed);
        if balance < Self::cap(retry, live) {
            self.balance
                .fetch_add(i64::from(retry.budget_percent), Ordering::Relaxed);
        }
        Live(self.clone())
    }

    fn cap(retry: &Retry, live: u32) -> i64 {
        let share = i64::from(live) * i64::from(retry.budget_percent);
        share.max(i64::from(retry.budget_min) * TOKEN)
    }

    /// Whole tokens left.
    pub(super) fn left(&self) -> i64 {
        self.balance.load(Ordering::Relaxed) / TOKEN
    }

    /// A token, if one is left.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Token> {
        self.balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
                (balance >= TOKEN).then(|| balance - TOKEN)
            })
            .ok()?;
        self.out.fetch_add(1, Ordering::Relaxed);
        Some(Token {
            budget: self.clone(),
            refund: false,
        })
    }

    /// A token; waits while others are out. `None` when the budget is spent.
    ///
    /// Cancel safe: a token that arrives too late goes back.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Token> {
        if let Some(token) = self.try_take() {
            return Some(token);
        }
        let _waiting = Waiting::new(self);
        tokio::time::timeout(PATIENCE, async {
            loop {
                let settled = self.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if let Some(token) = self.try_take() {
                    return Some(token);
                }
                if self.out.load(Ordering::Relaxed) == 0 {
                    return None;
                }
                settled.await;
            }
        })
        .await
        .ok()
        .flatten()
    }
}

/// Counts a request that waits for a token.
struct Waiting<'b>(&'b Budget);

impl<'b> Waiting<'b> {
    fn new(budget: &'b Budget) -> Self {
        budget.waiting.fetch_add(1, Ordering::Relaxed);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Token {
    /// The attempt was not wasted: the token goes back.
    pub(super) fn refund(mut self) {
        self.refund = true;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.refund {
            self.budget.balance.fetch_add(TOKEN, Ordering::Relaxed);
        }
        self.budget.out.fetch_sub(1, Ordering::Relaxed);
        if self.budget.waiting.load(Ordering::Relaxed) > 0 {
            self.budget.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(percent: u8, min: u32) -> Retry {
        Retry {
            budget_percent: percent,
            budget_min: min,
            ..Retry::default()
        }
    }

    #[test]
    fn wasted_attempts_stay_at_their_share() {
        let retry = retry(10, 3);
        let budget = Arc::new(Budget::new(&retry));
        let mut wasted = 0;
        for _ in 0..1000 {
            let _live = budget.enter(&retry);
            wasted += u32::from(budget.try_take().is_some());
        }
        assert!((100..=103).contains(&wasted), "{wasted}");
    }

    #[test]
    fn attempts_that_succeed_cost_nothing() {
        let retry = retry(10, 1);
        let budget = Arc::new(Budget::new(&retry));
        for _ in 0..100 {
            budget.try_take().expect("it came back each time").refund();
        }
        assert_eq!(budget.left(), 1);
    }

    #[test]
    fn the_balance_is_bounded_by_the_live_requests() {
        let retry = retry(10, 3);
        let budget = Arc::new(Budget::new(&retry));
        for _ in 0..1000 {
            drop(budget.enter(&retry));
        }
        assert_eq!(budget.left(), 3);
        let live: Vec<_> = (0..1000).map(|_| budget.enter(&retry)).collect();
        assert!((90..=100).contains(&budget.left()), "{}", budget.left());
        drop(live);
    }

    #[tokio::test]
    async fn a_request_waits_for_tokens_that_are_out_and_gives_up_when_they_are_spent() {
        let retry = retry(0, 1);
        let budget = Arc::new(Budget::new(&retry));
        let out = budget.try_take().unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take().await }
        });
        tokio::task::yield_now().await;
        out.refund();
        let taken = waiting.await.unwrap().expect("it came back");
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take().await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(taken);
        assert!(!waiting.await.unwrap(), "the only token was wasted");
        assert!(budget.take().await.is_none());
    }
}
