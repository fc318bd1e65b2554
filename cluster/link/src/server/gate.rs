//! How many may be on their way through the handshake. Strangers can get here, so a full gate must not lock members out: who
//! has been on its way for longest makes room, unless that is so short a time that a burst of members explains it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// So many at a time.
const SEATS: usize = 64;
/// How long everybody may stay. A handshake takes three round trips and some milliseconds of a CPU.
const GRACE: Duration = Duration::from_millis(500);

/// What becomes of one more.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Room,
    Evict(u64),
    Wait(Duration),
}

/// Pure. Numbers grow with time, so the first seat is the oldest.
fn decide(seats: &BTreeMap<u64, Taken>, now: Instant) -> Verdict {
    let Some((number, oldest)) = seats.first_key_value().filter(|_| seats.len() >= SEATS) else {
        return Verdict::Room;
    };
    match GRACE.checked_sub(now.saturating_duration_since(oldest.since)) {
        None | Some(Duration::ZERO) => Verdict::Evict(*number),
        Some(left) => Verdict::Wait(left),
    }
}

#[derive(Debug)]
struct Taken {
    since: Instant,
    evicted: CancellationToken,
}

/// The seats. Its copies are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    seats: Mutex<Seats>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Waits until one more could get a seat. Cancel safe.
    pub(super) async fn room(&self) {
        loop {
            let freed = self.0.freed.notified();
            let verdict = decide(&self.0.lock().taken, Instant::now());
            match verdict {
                Verdict::Room | Verdict::Evict(_) => return,
                Verdict::Wait(left) => {
                    // Either way it is looked at again.
                    if timeout(left, freed).await.is_err() {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        }
    }

    /// Gives a seat, somebody else's if none is free.
    pub(super) fn seat(&self, now: Instant) -> Seat {
        let mut seats = self.0.lock();
        if let Verdict::Evict(number) = decide(&seats.taken, now)
            && let Some(taken) = seats.taken.remove(&number)
        {
            taken.evicted.cancel();
        }
        let number = seats.next;
        seats.next += 1;
        let evicted = CancellationToken::new();
        let taken = Taken {
            since: now,
            evicted: evicted.clone(),
        };
        seats.taken.insert(number, taken);
        drop(seats);
        Seat {
            gate: self.clone(),
            number,
            evicted,
        }
    }
}

/// One on its way through the handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Gate,
    number: u64,
    evicted: CancellationToken,
}

impl Seat {
    /// Returns when somebody else has the seat. Cancel safe.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.0.lock().taken.remove(&self.number);
        self.gate.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{GRACE, Gate, SEATS, Verdict, decide};

    #[test]
    fn the_oldest_makes_room_but_a_burst_waits() {
        let (gate, start) = (Gate::default(), Instant::now());
        let mut seats: Vec<_> = (0..SEATS).map(|_| gate.seat(start)).collect();
        let verdict = |at| decide(&gate.0.lock().taken, at);
        let half = GRACE / 2;
        assert_eq!(verdict(start + half), Verdict::Wait(GRACE - half));
        assert_eq!(verdict(start + GRACE), Verdict::Evict(0));
        seats.push(gate.seat(start + GRACE));
        let evicted: Vec<_> = seats.iter().map(|seat| seat.evicted.is_cancelled()).collect();
        assert!(evicted[0] && !evicted[1..].contains(&true), "{evicted:?}");
        // Its own end takes nobody's seat.
        drop(seats.remove(0));
        assert_eq!(gate.0.lock().taken.len(), SEATS);
        drop(seats.pop());
        assert_eq!(verdict(start + Duration::from_nanos(1)), Verdict::Room);
    }
}
