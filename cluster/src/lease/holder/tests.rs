use std::time::Duration;

use super::{Holder, HolderState, Proposal};
use crate::lease::{BootTime, LeaseCommand, LeaseKey, LeaseOutcome, Leases, Timing, Token};
use crate::state::{ClientId, NodeId};

const ME: ClientId = ClientId {
    node: NodeId(1),
    incarnation: 7,
};
const OTHER: ClientId = ClientId {
    node: NodeId(2),
    incarnation: 1,
};

fn at(ms: u64) -> BootTime {
    BootTime::from_nanos(ms * 1_000_000)
}

fn holder() -> Holder {
    let timing = Timing::new(Duration::from_millis(1000), Duration::from_millis(150)).unwrap();
    Holder::new(LeaseKey::LbLeader, ME, timing)
}

/// Leases in which `client` was granted the lease at `index`.
fn granted(index: u64, client: ClientId) -> (Leases, Token) {
    let mut leases = Leases::default();
    let command = LeaseCommand::Acquire {
        key: LeaseKey::LbLeader,
        ttl_ms: 1000,
    };
    let LeaseOutcome::Granted { token } = leases.apply(index, client, &command) else {
        panic!("not granted")
    };
    (leases, token)
}

fn token(index: u64) -> Token {
    granted(index, ME).1
}

fn ask(holder: &mut Holder, ms: u64) -> Proposal {
    holder
        .poll(at(ms))
        .unwrap_or_else(|| panic!("nothing to propose at {ms} in {holder:?}"))
}

/// A holder that was granted token 5 from an attempt at 1000 ms.
fn holding() -> Holder {
    let mut holder = holder();
    holder.want();
    let asked = ask(&mut holder, 1000);
    assert_eq!(
        asked.command,
        LeaseCommand::Acquire {
            key: LeaseKey::LbLeader,
            ttl_ms: 1000
        }
    );
    holder.answered(asked.attempt, &LeaseOutcome::Granted { token: token(5) });
    holder
}

#[test]
fn the_deadline_counts_from_the_sending_and_not_from_the_answer() {
    let mut holder = holding();
    let held = holder.held(at(1849)).unwrap();
    assert_eq!((held.token(), held.deadline()), (token(5), at(1850)));
    assert_eq!(holder.held(at(1850)), None, "the deadline itself is too late");
    // Renewed five times in a lease, from the sending of the one before.
    assert_eq!(holder.poll(at(1199)), None);
    assert_eq!(holder.next_poll(at(1199)), Some(Duration::from_millis(1)));
    let renewal = ask(&mut holder, 1300);
    assert_eq!(
        renewal.command,
        LeaseCommand::Renew {
            key: LeaseKey::LbLeader,
            token: token(5)
        }
    );
    holder.answered(renewal.attempt, &LeaseOutcome::Renewed { token: token(5) });
    assert_eq!(holder.held(at(2149)).unwrap().deadline(), at(2150));
}

#[test]
fn answers_out_of_order_never_shorten_and_each_counts_once() {
    let mut holder = holding();
    let first = ask(&mut holder, 1250);
    let second = ask(&mut holder, 1500);
    let renewed = LeaseOutcome::Renewed { token: token(5) };
    holder.answered(second.attempt, &renewed);
    holder.answered(first.attempt, &renewed);
    assert_eq!(holder.held(at(1500)).unwrap().deadline(), at(2350));
    // The same answer twice, as a network may bring it.
    holder.answered(second.attempt, &LeaseOutcome::NotHeld);
    assert!(holder.held(at(1500)).is_some());
}

#[test]
fn past_the_deadline_it_asks_on_and_acts_again_only_once_renewed() {
    let mut holder = holding();
    let late = ask(&mut holder, 5000);
    assert_eq!(holder.held(at(5000)), None);
    holder.answered(late.attempt, &LeaseOutcome::Renewed { token: token(5) });
    assert_eq!(holder.held(at(5001)).unwrap().deadline(), at(5850));
    let lost = ask(&mut holder, 5250);
    holder.answered(lost.attempt, &LeaseOutcome::NotHeld);
    assert_eq!(
        (holder.state(), holder.held(at(5251))),
        (HolderState::Without, None)
    );
    assert_eq!(holder.poll(at(9000)), None, "placement says whether to ask again");
}

#[test]
fn one_that_leaves_stops_before_it_says_so_whatever_comes_late() {
    let mut holder = holding();
    let renewal = ask(&mut holder, 1250);
    holder.leave();
    assert_eq!(holder.held(at(1260)), None);
    holder.answered(renewal.attempt, &LeaseOutcome::Renewed { token: token(5) });
    assert_eq!(holder.held(at(1260)), None);
    let release = ask(&mut holder, 1260);
    assert_eq!(
        release.command,
        LeaseCommand::Release {
            key: LeaseKey::LbLeader,
            token: token(5)
        }
    );
    assert_eq!(holder.state(), HolderState::Leaving(token(5)));
    // Asked again until an answer comes.
    let again = ask(&mut holder, 1510);
    assert_eq!(again.command, release.command);
    holder.answered(again.attempt, &LeaseOutcome::NotHeld);
    assert_eq!(holder.state(), HolderState::Without);
}

#[test]
fn a_grant_that_was_let_go_of_is_not_taken_up_by_its_late_answer() {
    let mut holder = holder();
    holder.want();
    let first = ask(&mut holder, 1000);
    let second = ask(&mut holder, 1250);
    holder.answered(
        second.attempt,
        &LeaseOutcome::Taken {
            holder: ME,
            token: token(5),
        },
    );
    assert_eq!(holder.state(), HolderState::Holding(token(5)));
    holder.leave();
    let release = ask(&mut holder, 1300);
    holder.answered(release.attempt, &LeaseOutcome::Released);
    holder.want();
    holder.answered(first.attempt, &LeaseOutcome::Granted { token: token(5) });
    assert_eq!(
        (holder.state(), holder.held(at(1400))),
        (HolderState::Without, None)
    );
    // Nor by what this node has applied, which is behind.
    holder.observe(&granted(5, ME).0);
    assert_eq!(holder.state(), HolderState::Without);
    holder.observe(&granted(6, ME).0);
    assert_eq!(holder.state(), HolderState::Holding(token(6)));
}

#[test]
fn a_grant_by_another_gives_no_deadline_before_the_first_renewal() {
    let mut holder = holder();
    holder.observe(&granted(8, OTHER).0);
    assert_eq!(holder.state(), HolderState::Without);
    holder.observe(&granted(9, ME).0);
    assert_eq!(
        (holder.state(), holder.held(at(1))),
        (HolderState::Holding(token(9)), None)
    );
    let renewal = ask(&mut holder, 2);
    holder.answered(renewal.attempt, &LeaseOutcome::Renewed { token: token(9) });
    assert_eq!(holder.held(at(3)).unwrap().deadline(), at(852));
    // One that refuses leases gives it back.
    let mut refusing = self::holder();
    refusing.leave();
    refusing.observe(&granted(9, ME).0);
    assert_eq!(refusing.state(), HolderState::Leaving(token(9)));
}

#[test]
fn an_acquisition_that_is_not_wanted_any_more_is_released() {
    let mut holder = holder();
    holder.want();
    let asked = ask(&mut holder, 1000);
    let again = ask(&mut holder, 1250);
    holder.answered(
        again.attempt,
        &LeaseOutcome::Taken {
            holder: OTHER,
            token: token(4),
        },
    );
    assert_eq!(holder.poll(at(1500)), None, "another has it");
    holder.answered(asked.attempt, &LeaseOutcome::Granted { token: token(5) });
    assert_eq!(
        (holder.state(), holder.held(at(1500))),
        (HolderState::Leaving(token(5)), None)
    );
}

#[test]
fn it_hands_over_by_name_and_never_to_itself() {
    let mut holder = holding();
    holder.hand_over(OTHER);
    let transfer = ask(&mut holder, 1100);
    assert_eq!(
        transfer.command,
        LeaseCommand::Transfer {
            key: LeaseKey::LbLeader,
            token: token(5),
            to: OTHER
        }
    );
    let mut holder = holding();
    holder.hand_over(ME);
    assert!(matches!(
        ask(&mut holder, 1100).command,
        LeaseCommand::Release { .. }
    ));
}
