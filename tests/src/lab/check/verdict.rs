//! Whether what was seen keeps the promises. Pure.
//!
//! 1. A kernel that lets connections in under a token does so alone: while it does no other one does, and once another one has
//!    done so under a greater token, this one never does again.
//! 2. Without a grant that is valid nothing is let in.
//! 3. What a kernel was granted under grows.
//! 4. A token has one holder, whoever is asked, and within a life of a node the tokens that it tells of grow.
//! 5. What was seen, with the transfers that were confirmed, has one order.
//! 6. What was written and read of a member over the API has one, too: each read is of the last write before it.

use std::collections::BTreeMap;
use std::fmt;

use constellation_ebpf_loader::steering::Granted;
use constellation_history::{Object, Operation, Register, Verdict, check};

use super::clients::{Seen, Transfer};
use super::probe::{Probe, Reading};

/// What was written down; by node, from the first on.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Connections.
    pub probes: Vec<Vec<Probe>>,
    /// What the control APIs said.
    pub seen: Vec<Vec<Seen>>,
    /// What was asked of them.
    pub transfers: Vec<Transfer>,
    /// What was written and read of the last member.
    pub register: Vec<Operation<Register>>,
}

/// How much was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were tried.
    pub probes: usize,
    /// Those that were let in.
    pub accepted: usize,
    /// Grants that were seen in force.
    pub tokens: usize,
    /// Transfers that were confirmed.
    pub transfers: usize,
    /// The longest time in which nobody was let in anywhere, in milliseconds.
    pub gap: u64,
    /// Writes of the register that were confirmed.
    pub writes: usize,
    /// Writes of which nobody heard whether they took effect.
    pub unheard: usize,
    /// Reads of it that were answered.
    pub reads: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What was broken.
    pub violations: Vec<String>,
    /// How much was seen.
    pub counts: Counts,
}

impl Judgement {
    /// The run did not come to its end.
    pub(super) fn broken(why: String) -> Self {
        Self {
            violations: vec![why],
            counts: Counts::default(),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections tried, {} let in, {} grants in force, {} transfers confirmed, nobody let in for {} ms at most; \
             register: {} writes confirmed, {} unheard of, {} reads",
            self.probes,
            self.accepted,
            self.tokens,
            self.transfers,
            self.gap,
            self.writes,
            self.unheard,
            self.reads
        )
    }
}

/// A kernel certainly let connections in under a token, from one moment to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Proven {
    node: usize,
    token: u64,
    from: u64,
    to: u64,
}

/// Of a cluster, and for connections of its own.
fn token(grant: Granted) -> Option<u64> {
    (grant.issuer.is_cluster() && !grant.stands_by).then_some(grant.epoch)
}

/// Judges.
#[must_use]
pub fn judge(record: &Record) -> Judgement {
    let mut violations = Vec::new();
    let mut proven = Vec::new();
    for (at, probes) in record.probes.iter().enumerate() {
        let node = at + 1;
        let readings: Vec<Reading> = probes
            .iter()
            .flat_map(|probe| [probe.first, probe.second])
            .collect();
        grows(node, &readings, &mut violations);
        proven.extend(in_force(node, &readings));
        let without = probes.iter().filter(|probe| probe.accepted && refuses(probe));
        violations.extend(without.map(|probe| {
            format!(
                "n{node} lets a connection in between {} and {} while its kernel has {:?}",
                probe.first.after, probe.second.before, probe.first.grant
            )
        }));
    }
    alone(&proven, &mut violations);
    told(&record.seen, &mut violations);
    one_order(&proven, &record.transfers, &mut violations);
    register(&record.register, &mut violations);
    let counts = count(record, &proven);
    if counts.tokens == 0 {
        violations.push(
            "no kernel was seen to let anything in under a lease: nothing was put to the proof".to_owned(),
        );
    }
    Judgement { violations, counts }
}

/// Whether the kernel had nothing valid before, and the same after: then it had nothing valid all the while, since whoever
/// grants and takes back leaves another figure.
fn refuses(probe: &Probe) -> bool {
    let same = probe.first.grant == probe.second.grant;
    let over = |grant: Granted| grant.valid_until.as_nanos() <= probe.first.before;
    same && probe.first.grant.is_some_and(over)
}

/// What is certain from readings: of one that is valid, the moment; of two of the same grant, the time between them, as far as
/// the first one reaches.
fn in_force(node: usize, readings: &[Reading]) -> Vec<Proven> {
    let valid = |reading: &Reading| {
        let grant = reading.grant?;
        let until = grant.valid_until.as_nanos();
        // It may have been read at the end of the time.
        (until > reading.after).then_some((token(grant)?, until))
    };
    let mut all: Vec<Proven> = Vec::new();
    for (at, reading) in readings.iter().enumerate() {
        let Some((token, until)) = valid(reading) else {
            continue;
        };
        let next = readings.get(at + 1).and_then(|next| {
            let grant = next.grant?;
            let same = self::token(grant) == Some(token) && grant.valid_until.as_nanos() >= until;
            same.then_some(next.before.min(until))
        });
        let to = next.unwrap_or(reading.after).max(reading.after);
        match all.last_mut() {
            Some(last) if last.token == token && last.to >= reading.before => last.to = last.to.max(to),
            _ => all.push(Proven {
                node,
                token,
                from: reading.after,
                to,
            }),
        }
    }
    all
}

/// Within one issuer's grants.
fn grows(node: usize, readings: &[Reading], violations: &mut Vec<String>) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for reading in readings {
        let Some(grant) = reading.grant else { continue };
        let before = last.entry(format!("{:?}", grant.issuer)).or_default();
        if grant.epoch < *before {
            violations.push(format!(
                "n{node}: the kernel has token {} at {} after {before}",
                grant.epoch, reading.after
            ));
        }
        *before = grant.epoch.max(*before);
    }
}

/// Tokens belong to one node each, and the times in which they were in force follow one another.
fn alone(proven: &[Proven], violations: &mut Vec<String>) {
    let mut hulls: BTreeMap<u64, Proven> = BTreeMap::new();
    for one in proven {
        let hull = hulls.entry(one.token).or_insert(*one);
        if hull.node != one.node {
            violations.push(format!(
                "n{} and n{} both let connections in under token {}",
                hull.node, one.node, one.token
            ));
        }
        hull.from = hull.from.min(one.from);
        hull.to = hull.to.max(one.to);
    }
    let mut latest: Option<Proven> = None;
    for hull in hulls.values() {
        if let Some(before) = latest.filter(|before| before.to >= hull.from) {
            violations.push(format!(
                "n{} lets connections in under token {} until {} at least, and n{} under token {} from {} on at the \
                 latest: {} us together",
                before.node,
                before.token,
                before.to,
                hull.node,
                hull.token,
                hull.from,
                (before.to - hull.from) / 1000
            ));
        }
        if latest.is_none_or(|before| before.to < hull.to) {
            latest = Some(*hull);
        }
    }
}

fn told(seen: &[Vec<Seen>], violations: &mut Vec<String>) {
    let mut holders: BTreeMap<u64, &str> = BTreeMap::new();
    for (at, all) in seen.iter().enumerate() {
        let mut last: Option<&Seen> = None;
        for one in all {
            let holder = holders.entry(one.token).or_insert(&one.holder);
            if *holder != one.holder {
                violations.push(format!(
                    "n{}: {} has token {}, another node says {holder}",
                    at + 1,
                    one.holder,
                    one.token
                ));
            }
            if let Some(last) = last.filter(|last| last.life == one.life && last.token > one.token) {
                violations.push(format!(
                    "n{} tells of token {} after {}",
                    at + 1,
                    one.token,
                    last.token
                ));
            }
            last = Some(one);
        }
    }
}

/// The lease as whoever looks from outside can know it.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// A kernel let connections in.
    InForce { node: usize, token: u64 },
    /// It was confirmed that the lease is at this node: another one's token is over.
    Moved { to: usize },
}

impl Object for Look {
    /// The last token that was seen, whose it was, and whether it is over.
    type State = (u64, usize, bool);

    fn next(&self, (last, whose, over): &Self::State) -> Option<Self::State> {
        match self {
            Self::InForce { node, token } if token == last => {
                (!over && node == whose).then_some((*last, *whose, false))
            }
            // Grants and expiries happen without being seen from outside.
            Self::InForce { node, token } => (token > last).then_some((*token, *node, false)),
            Self::Moved { to } => Some((*last, *whose, *over || to != whose)),
        }
    }
}

fn one_order(proven: &[Proven], transfers: &[Transfer], violations: &mut Vec<String>) {
    let looks = proven.iter().flat_map(|one| {
        [one.from, one.to].map(|at| Operation {
            called: at,
            returned: Some(at),
            what: Look::InForce {
                node: one.node,
                token: one.token,
            },
        })
    });
    let moves = transfers.iter().filter_map(|transfer| {
        transfer.returned.map(|returned| Operation {
            called: transfer.called,
            returned: Some(returned),
            what: Look::Moved { to: transfer.to },
        })
    });
    let history: Vec<Operation<Look>> = looks.chain(moves).collect();
    match check(&history, 2_000_000) {
        Verdict::Linearizable => {}
        Verdict::Not => {
            violations.push(format!(
                "what was seen has no order in which confirmed transfers end a token: {} operations",
                history.len()
            ));
            // Most often it is as plain as that.
            let over = |transfer: &&Transfer, one: &Proven| {
                let within = transfer.called >= one.from;
                transfer.to != one.node
                    && within
                    && transfer.returned.is_some_and(|returned| returned <= one.to)
            };
            for one in proven {
                let during = transfers.iter().filter(|transfer| over(transfer, one));
                violations.extend(during.map(|transfer| {
                    format!(
                        "n{} lets connections in under token {} from {} to {}, and {transfer:?}",
                        one.node, one.token, one.from, one.to
                    )
                }));
            }
        }
        Verdict::Undecided => violations.push("the search for an order was given up".to_owned()),
    }
}

fn register(history: &[Operation<Register>], violations: &mut Vec<String>) {
    match check(history, 2_000_000) {
        Verdict::Linearizable => {}
        Verdict::Not => {
            violations.push(format!(
                "what was written and read over the API has no order in which each read is of the last write: {} operations",
                history.len()
            ));
            let mut history: Vec<_> = history.iter().collect();
            history.sort_by_key(|one| one.called);
            violations.extend(history.iter().map(|one| format!("{one:?}")));
        }
        Verdict::Undecided => violations.push(
            "the search for an order of what was written and read over the API was given up".to_owned(),
        ),
    }
}

fn count(record: &Record, proven: &[Proven]) -> Counts {
    let probes = record.probes.iter().flatten();
    let mut accepts: Vec<u64> = probes
        .clone()
        .filter(|probe| probe.accepted)
        .map(|probe| probe.second.before)
        .collect();
    accepts.sort_unstable();
    let gap = accepts
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default();
    let writes = |heard: bool| {
        let of = record.register.iter();
        of.filter(|one| matches!(one.what, Register::Write(_)) && one.returned.is_some() == heard)
            .count()
    };
    let mut tokens: Vec<u64> = proven.iter().map(|one| one.token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    Counts {
        probes: probes.count(),
        accepted: accepts.len(),
        tokens: tokens.len(),
        transfers: record
            .transfers
            .iter()
            .filter(|transfer| transfer.returned.is_some())
            .count(),
        gap: gap / 1_000_000,
        writes: writes(true),
        unheard: writes(false),
        reads: record
            .register
            .iter()
            .filter(|one| matches!(one.what, Register::Read(_)))
            .count(),
    }
}

#[cfg(test)]
mod tests;
