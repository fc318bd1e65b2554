use super::{
    ClientId, Command, DocumentChange, DocumentOutcome, MAX_CLIENTS, NodeId, Outcome, Request, Stale, State,
    WINDOW,
};
use crate::lease::{LeaseCommand, LeaseKey, LeaseOutcome, Token};

const A: ClientId = ClientId {
    node: NodeId(1),
    incarnation: 1,
};
const B: ClientId = ClientId {
    node: NodeId(2),
    incarnation: 1,
};

fn lease(client: ClientId, sequence: u64, command: LeaseCommand) -> Request {
    Request {
        client,
        sequence,
        command: Command::Lease(command),
    }
}

fn acquire(client: ClientId, sequence: u64) -> Request {
    lease(
        client,
        sequence,
        LeaseCommand::Acquire {
            key: LeaseKey::LbLeader,
            ttl_ms: 1000,
        },
    )
}

fn write(client: ClientId, sequence: u64, expected: Option<u64>, content: Option<&str>) -> Request {
    let content = content.map(|text| text.as_bytes().to_vec());
    let change = DocumentChange {
        name: "cordon/edge-1".to_owned(),
        expected,
        content,
    };
    Request {
        client,
        sequence,
        command: Command::Document(change),
    }
}

fn outcome(state: &mut State, index: u64, request: &Request) -> LeaseOutcome {
    match state.apply(index, request).outcome {
        Outcome::Lease(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn granted(state: &mut State, index: u64, request: &Request) -> Token {
    match outcome(state, index, request) {
        LeaseOutcome::Granted { token } => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_has_one_holder_and_the_token_is_the_index() {
    let mut state = State::default();
    let token = granted(&mut state, 10, &acquire(A, 1));
    assert_eq!(token.get(), 10);
    for client in [A, B] {
        let taken = outcome(&mut state, 11, &acquire(client, 2));
        assert_eq!(taken, LeaseOutcome::Taken { holder: A, token });
    }
    let key = LeaseKey::LbLeader;
    let release = |sequence| LeaseCommand::Release {
        key: key.clone(),
        token: granted_at(sequence),
    };
    assert_eq!(
        outcome(&mut state, 12, &lease(B, 3, release(10))),
        LeaseOutcome::NotHeld,
        "not the holder"
    );
    assert_eq!(
        outcome(&mut state, 13, &lease(A, 3, release(9))),
        LeaseOutcome::NotHeld,
        "not the token"
    );
    assert_eq!(
        outcome(&mut state, 14, &lease(A, 4, release(10))),
        LeaseOutcome::Released
    );
    assert_eq!(granted(&mut state, 15, &acquire(B, 4)).get(), 15);
}

fn granted_at(index: u64) -> Token {
    granted(&mut State::default(), index, &acquire(A, 1))
}

#[test]
fn expiry_names_the_renewal_and_is_void_after_another() {
    let mut state = State::default();
    let token = granted(&mut state, 10, &acquire(A, 1));
    let key = LeaseKey::LbLeader;
    let renew = LeaseCommand::Renew {
        key: key.clone(),
        token,
    };
    assert_eq!(
        outcome(&mut state, 11, &lease(A, 2, renew)),
        LeaseOutcome::Renewed { token }
    );
    let expire = |renewal| LeaseCommand::Expire {
        key: key.clone(),
        token,
        renewal,
    };
    assert_eq!(
        outcome(&mut state, 12, &lease(B, 1, expire(10))),
        LeaseOutcome::NotHeld
    );
    assert!(state.leases().get(&key).is_some());
    assert_eq!(
        outcome(&mut state, 13, &lease(B, 2, expire(11))),
        LeaseOutcome::Expired
    );
    assert_eq!(
        outcome(&mut state, 14, &lease(B, 3, expire(11))),
        LeaseOutcome::NotHeld
    );
}

#[test]
fn a_transfer_gives_the_next_one_a_token_of_its_own() {
    let mut state = State::default();
    let token = granted(&mut state, 10, &acquire(A, 1));
    let key = LeaseKey::LbLeader;
    let transfer = LeaseCommand::Transfer {
        key: key.clone(),
        token,
        to: B,
    };
    let applied = state.apply(20, &lease(A, 2, transfer));
    assert_eq!(applied.lease.as_ref(), Some(&key));
    let held = *state.leases().get(&key).unwrap();
    assert_eq!((held.holder, held.token.get(), held.renewal), (B, 20, 20));
    let renew = LeaseCommand::Renew { key, token };
    assert_eq!(
        outcome(&mut state, 21, &lease(A, 3, renew)),
        LeaseOutcome::NotHeld
    );
}

#[test]
fn a_lease_of_no_sane_length_is_refused() {
    let mut state = State::default();
    for (sequence, ttl_ms) in [(1, 0), (2, 99), (3, 3_600_001), (4, u32::MAX)] {
        let command = LeaseCommand::Acquire {
            key: LeaseKey::DnsWriter,
            ttl_ms,
        };
        assert_eq!(
            outcome(&mut state, sequence, &lease(A, sequence, command)),
            LeaseOutcome::InvalidTtl
        );
    }
}

#[test]
fn a_repetition_is_answered_and_not_applied() {
    let mut state = State::default();
    let token = granted(&mut state, 10, &acquire(A, 1));
    let release = lease(
        A,
        2,
        LeaseCommand::Release {
            key: LeaseKey::LbLeader,
            token,
        },
    );
    assert_eq!(outcome(&mut state, 11, &release), LeaseOutcome::Released);
    let applied = state.apply(12, &acquire(A, 1));
    assert_eq!(applied.outcome, Outcome::Lease(LeaseOutcome::Granted { token }));
    assert_eq!(applied.lease, None);
    assert!(state.leases().get(&LeaseKey::LbLeader).is_none());
}

#[test]
fn requests_may_come_out_of_order_within_the_window_only() {
    let mut state = State::default();
    let window = u64::try_from(WINDOW).unwrap();
    for sequence in 2..=window + 1 {
        state.apply(sequence, &write(A, sequence, None, Some("x")));
    }
    let late = state.apply(1000, &write(A, 1, None, Some("late")));
    assert_eq!(
        late.outcome,
        Outcome::Document(DocumentOutcome::Changed { revision: 1000 })
    );
    // That one was the lowest, and made the window move past itself.
    let gone = state.apply(1001, &write(A, 1, None, Some("later")));
    assert_eq!(gone.outcome, Outcome::Stale(Stale::Sequence { lowest: 2 }));
    let seen = state.apply(1002, &write(A, 2, None, Some("again")));
    assert_eq!(
        seen.outcome,
        Outcome::Document(DocumentOutcome::Changed { revision: 2 })
    );
    assert_eq!(state.documents().get("cordon/edge-1").unwrap().content, b"late");
}

#[test]
fn an_earlier_process_of_a_node_is_heard_no_more() {
    let mut state = State::default();
    let next = ClientId { incarnation: 2, ..A };
    let token = granted(&mut state, 10, &acquire(A, 1));
    assert_eq!(
        outcome(&mut state, 11, &acquire(next, 1)),
        LeaseOutcome::Taken { holder: A, token }
    );
    let renew = lease(
        A,
        2,
        LeaseCommand::Renew {
            key: LeaseKey::LbLeader,
            token,
        },
    );
    assert_eq!(
        state.apply(12, &renew).outcome,
        Outcome::Stale(Stale::Incarnation { current: 2 })
    );
}

#[test]
fn sessions_are_bounded_and_the_one_that_asked_longest_ago_goes() {
    let mut state = State::default();
    let clients = u64::try_from(MAX_CLIENTS).unwrap();
    for node in 0..clients {
        state.apply(
            node + 1,
            &write(
                ClientId {
                    node: NodeId(node),
                    incarnation: 1,
                },
                1,
                None,
                Some("x"),
            ),
        );
    }
    let first = ClientId {
        node: NodeId(0),
        incarnation: 1,
    };
    state.apply(clients + 1, &write(first, 1, None, Some("repeated")));
    state.apply(
        clients + 2,
        &write(
            ClientId {
                node: NodeId(clients),
                incarnation: 1,
            },
            1,
            None,
            Some("new"),
        ),
    );
    let kept = state.apply(clients + 3, &write(first, 1, None, Some("y")));
    assert_eq!(
        kept.outcome,
        Outcome::Document(DocumentOutcome::Changed { revision: 1 })
    );
    let second = ClientId {
        node: NodeId(1),
        incarnation: 1,
    };
    let forgotten = state.apply(clients + 4, &write(second, 1, None, Some("z")));
    assert_eq!(
        forgotten.outcome,
        Outcome::Document(DocumentOutcome::Changed {
            revision: clients + 4
        })
    );
}

#[test]
fn a_document_changes_only_from_the_revision_that_was_named() {
    let mut state = State::default();
    let changed = |revision| Outcome::Document(DocumentOutcome::Changed { revision });
    let conflict = |current| Outcome::Document(DocumentOutcome::Conflict { current });
    assert_eq!(
        state.apply(5, &write(A, 1, Some(4), Some("a"))).outcome,
        conflict(0)
    );
    assert_eq!(
        state.apply(6, &write(A, 2, Some(0), Some("a"))).outcome,
        changed(6)
    );
    assert_eq!(
        state.apply(7, &write(B, 1, Some(0), Some("b"))).outcome,
        conflict(6)
    );
    assert_eq!(state.apply(8, &write(B, 2, Some(6), None)).outcome, changed(8));
    assert!(state.documents().get("cordon/edge-1").is_none());
    let large = "x".repeat(super::MAX_DOCUMENT_BYTES + 1);
    let refused = state.apply(9, &write(A, 3, None, Some(&large))).outcome;
    assert_eq!(
        refused,
        Outcome::Document(DocumentOutcome::TooLarge {
            bytes: large.len() as u64
        })
    );
}

#[test]
fn a_document_needs_a_name_of_sane_length() {
    let mut state = State::default();
    for (sequence, bytes) in [(1, 0), (2, 257)] {
        let change = DocumentChange {
            name: "n".repeat(bytes),
            expected: None,
            content: None,
        };
        let outcome = state
            .apply(
                sequence,
                &Request {
                    client: A,
                    sequence,
                    command: Command::Document(change),
                },
            )
            .outcome;
        assert_eq!(
            outcome,
            Outcome::Document(DocumentOutcome::InvalidName { bytes: bytes as u64 })
        );
    }
}

#[test]
fn a_state_survives_its_snapshot_to_the_byte() {
    let mut state = State::default();
    granted(&mut state, 10, &acquire(A, 1));
    state.apply(11, &write(B, 1, None, Some("x")));
    let bytes = postcard::to_stdvec(&state).unwrap();
    let back: State = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(back, state);
    assert_eq!(postcard::to_stdvec(&back).unwrap(), bytes);
}
