//! How slow a client may be: time is spent while we wait for it, and earned with every byte it moves.
//!
//! [`Pace`] is pure; [`Waiting`] gives it the time of a connection. Somebody who moves at least the minimum rate never runs out; somebody slower has the grace period, once. Time
//! during which nobody waits for the client (no data to send, a back end that takes no body) is not spent, so silence on
//! an event stream costs nothing.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How often a waiting connection looks at the clock, and the most time that one look can find spent. A reader that was
/// not interested in between has not waited.
pub const TICK: Duration = Duration::from_secs(5);
/// Most that can be earned, in grace periods: bursts of the network and large buffers count for a while.
const MOST: u32 = 4;

/// The least that is asked of a client.
#[derive(Clone, Copy, Debug)]
pub struct Least {
    /// Bytes a second.
    pub rate: NonZeroU32,
    /// How long a client may stay below it.
    pub grace: Duration,
}

/// What is left of a client's time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    left: Duration,
}

impl Pace {
    /// Starts with the grace period.
    pub fn new(least: Least) -> Self {
        Self { left: least.grace }
    }

    /// `bytes` moved.
    pub fn earn(&mut self, bytes: u64, least: Least) {
        let most = least.grace.saturating_mul(MOST);
        let micros = bytes.saturating_mul(1_000_000) / u64::from(least.rate.get());
        self.left = self.left.saturating_add(Duration::from_micros(micros)).min(most);
    }

    /// The client was waited for; `false` when nothing is left.
    pub fn spend(&mut self, waited: Duration) -> bool {
        self.left = self.left.saturating_sub(waited);
        !self.left.is_zero()
    }

    /// When to look again.
    pub fn next_look(&self) -> Duration {
        self.left.min(TICK)
    }
}

/// The clock of one direction of a connection.
#[derive(Debug)]
pub struct Waiting {
    least: Option<Least>,
    pace: Option<Pace>,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    /// Asks for `least`; nothing is asked with `None`.
    pub fn new(least: Option<Least>) -> Self {
        Self {
            least,
            pace: None,
            since: None,
            timer: None,
        }
    }

    /// Nothing can move because of the client. `progress` says how many bytes moved all the same since it was asked last.
    /// Ready when the client is too slow; the task is woken to ask again.
    pub fn poll(&mut self, cx: &mut Context<'_>, mut progress: impl FnMut() -> u64) -> Poll<()> {
        let Some(least) = self.least else {
            return Poll::Pending;
        };
        loop {
            let pace = self.pace.get_or_insert_with(|| Pace::new(least));
            let since = match self.since {
                Some(since) => since,
                None => {
                    // What moved while nobody waited counts.
                    pace.earn(progress(), least);
                    *self.since.insert(Instant::now())
                }
            };
            let look = since + pace.next_look();
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(look)));
            if timer.deadline() != look {
                timer.as_mut().reset(look);
            }
            ready!(timer.as_mut().poll(cx));
            self.since = None;
            pace.earn(progress(), least);
            if !pace.spend(since.elapsed().min(TICK)) {
                return Poll::Ready(());
            }
        }
    }

    /// Something moved. `progress` as in [`Self::poll`].
    pub fn moved(&mut self, progress: impl FnOnce() -> u64) {
        let (Some(least), Some(pace)) = (self.least, &mut self.pace) else {
            return;
        };
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        pace.spend(waited.min(TICK));
        pace.earn(progress(), least);
    }

    /// Whether it was asked whether something moves, and nothing did since.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Starts anew with the whole grace period.
    pub fn reset(&mut self) {
        self.pace = None;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least() -> Least {
        Least {
            rate: NonZeroU32::new(240).unwrap(),
            grace: Duration::from_secs(30),
        }
    }

    /// How many seconds a client lasts that moves `bytes` every `every` seconds, up to two hours.
    fn lasts(bytes: u64, every: u64) -> u64 {
        let mut pace = Pace::new(least());
        for second in 1..=7200 {
            if (second - 1) % every == 0 {
                pace.earn(bytes, least());
            }
            if !pace.spend(Duration::from_secs(1)) {
                return second;
            }
        }
        u64::MAX
    }

    #[test]
    fn who_keeps_the_rate_lasts() {
        for (bytes, every) in [(240, 1), (10_000, 20), (1000, 4), (65_536, 115)] {
            assert_eq!(lasts(bytes, every), u64::MAX, "{bytes} bytes every {every} s");
        }
    }

    #[test]
    fn who_does_not_keep_it_has_the_grace_period() {
        assert_eq!(lasts(0, 1), 30);
        for (bytes, every) in [(1, 1), (12, 10), (240, 60)] {
            assert!(
                (30..=32).contains(&lasts(bytes, every)),
                "{bytes} bytes every {every} s"
            );
        }
        assert!((50..70).contains(&lasts(120, 1)), "half the rate: twice the time");
    }

    #[test]
    fn no_burst_earns_more_than_four_grace_periods() {
        let mut pace = Pace::new(least());
        pace.earn(u64::MAX, least());
        assert!(pace.spend(Duration::from_secs(119)));
        assert!(!pace.spend(Duration::from_secs(1)));
    }
}
