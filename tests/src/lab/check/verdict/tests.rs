//! Records that keep the promises, and such as don't.

use constellation_boot_time::BootTime;
use constellation_ebpf_loader::steering::{Granted, Issuer};
use constellation_history::{Operation, Register};

use super::{Judgement, Probe, Reading, Record, Seen, Transfer, judge};

fn grant(token: u64, until: u64) -> Granted {
    Granted {
        issuer: Issuer::of_cluster(b"one"),
        epoch: token,
        valid_until: BootTime::from_nanos(until),
        stands_by: false,
    }
}

fn reading(at: u64, grant: Granted) -> Reading {
    Reading {
        before: at,
        after: at + 1,
        grant: Some(grant),
    }
}

/// Within one grant, let in or not.
fn probe(at: u64, grant: Granted, accepted: bool) -> Probe {
    Probe {
        first: reading(at, grant),
        accepted,
        second: reading(at + 5, grant),
    }
}

fn of(probes: Vec<Vec<Probe>>) -> Record {
    Record {
        probes,
        ..Record::default()
    }
}

fn broken(judgement: &Judgement, word: &str) -> bool {
    judgement
        .violations
        .iter()
        .any(|violation| violation.contains(word))
}

#[test]
fn one_after_the_other_is_fine() {
    let record = Record {
        seen: vec![vec![Seen {
            life: 1,
            token: 5,
            holder: "n1".into(),
        }]],
        transfers: vec![Transfer {
            called: 110,
            returned: Some(150),
            by: 1,
            to: 2,
        }],
        ..of(vec![
            vec![probe(100, grant(5, 900), true), probe(200, grant(5, 100), false)],
            vec![probe(100, grant(3, 50), false), probe(200, grant(7, 1200), true)],
        ])
    };
    let judgement = judge(&record);
    assert!(judgement.violations.is_empty(), "{judgement:?}");
    assert_eq!((judgement.counts.tokens, judgement.counts.accepted), (2, 2));
}

#[test]
fn two_at_a_time_are_not() {
    let record = of(vec![
        vec![probe(100, grant(5, 900), true), probe(200, grant(5, 900), true)],
        vec![probe(150, grant(7, 1200), true)],
    ]);
    assert!(broken(&judge(&record), "us together"), "{:?}", judge(&record));
    let same = of(vec![
        vec![probe(100, grant(5, 900), true)],
        vec![probe(300, grant(5, 900), true)],
    ]);
    assert!(broken(&judge(&same), "both let connections in under token 5"));
}

#[test]
fn a_smaller_token_does_not_come_back() {
    let record = of(vec![
        vec![probe(100, grant(5, 190), true), probe(300, grant(5, 900), true)],
        vec![probe(200, grant(7, 250), true)],
    ]);
    assert!(broken(&judge(&record), "us together"));
    let own = of(vec![vec![
        probe(100, grant(5, 190), true),
        probe(300, grant(4, 900), true),
    ]]);
    assert!(broken(&judge(&own), "token 4"));
}

#[test]
fn nothing_is_let_in_without_a_grant() {
    let record = of(vec![vec![
        probe(100, grant(5, 900), true),
        probe(1000, grant(5, 900), true),
    ]]);
    assert!(broken(&judge(&record), "lets a connection in"));
    // It was granted and taken back in between: nobody knows.
    let mut between = probe(1000, grant(5, 900), true);
    between.second.grant = Some(grant(6, 0));
    let record = of(vec![vec![probe(100, grant(5, 900), true), between]]);
    assert!(judge(&record).violations.is_empty());
}

#[test]
fn what_the_apis_say_is_checked_against_each_other() {
    let seen = |life, token, holder: &str| Seen {
        life,
        token,
        holder: holder.into(),
    };
    let record = |seen: Vec<Vec<Seen>>| Record {
        seen,
        ..of(vec![vec![probe(100, grant(5, 900), true)]])
    };
    let two = record(vec![vec![seen(1, 5, "n1")], vec![seen(1, 5, "n2")]]);
    assert!(broken(&judge(&two), "another node says"));
    let back = record(vec![vec![seen(1, 5, "n1"), seen(1, 4, "n2")]]);
    assert!(broken(&judge(&back), "tells of token 4 after 5"));
    // After a start it may not have applied all yet.
    let restarted = record(vec![vec![seen(1, 5, "n1"), seen(2, 4, "n2")]]);
    assert!(judge(&restarted).violations.is_empty());
}

#[test]
fn a_confirmed_transfer_ends_a_token() {
    let record = Record {
        transfers: vec![Transfer {
            called: 150,
            returned: Some(160),
            by: 1,
            to: 2,
        }],
        ..of(vec![vec![
            probe(100, grant(5, 900), true),
            probe(200, grant(5, 900), true),
        ]])
    };
    assert!(broken(&judge(&record), "no order"), "{:?}", judge(&record));
}

#[test]
fn a_read_of_what_was_overwritten_is_noticed() {
    let of = |called, returned, what| Operation {
        called,
        returned,
        what,
    };
    let record = |register| Record {
        register,
        ..of_one_grant()
    };
    let fine = record(vec![
        of(0, Some(10), Register::Write(1)),
        of(5, Some(6), Register::Read(0)),
        of(20, None, Register::Write(2)),
        of(30, Some(40), Register::Read(1)),
        of(50, Some(60), Register::Read(2)),
    ]);
    let judgement = judge(&fine);
    assert!(judgement.violations.is_empty(), "{judgement:?}");
    let counts = judgement.counts;
    assert_eq!((counts.writes, counts.unheard, counts.reads), (1, 1, 3));
    let stale = record(vec![
        of(0, Some(10), Register::Write(1)),
        of(20, Some(30), Register::Read(0)),
    ]);
    assert!(broken(&judge(&stale), "of the last write"), "{:?}", judge(&stale));
}

fn of_one_grant() -> Record {
    of(vec![vec![probe(100, grant(5, 900), true)]])
}

#[test]
fn a_run_in_which_nothing_was_seen_proves_nothing() {
    assert!(broken(&judge(&Record::default()), "nothing was put to the proof"));
}
