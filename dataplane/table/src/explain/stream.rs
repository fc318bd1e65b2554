//! Why a connection, or a client's datagrams, go where they go: the counterpart of [`crate::explain`] for streams.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Considered, EntryPointLine, MAX_CONSIDERED, MAX_NEAR_MISSES, NearMiss, Precedence, Reached, RouterLine,
    Transcript, Verdict, refusal_lines, shorten,
};
use crate::decide::choose;
use crate::stream::{HttpsClaim, as_heard, connection_request, refusing, route, walk};
use crate::{ConnectionMeta, EntryPointId, Snapshot, TcpRouter, Turn, UdpRouter};

mod report;
mod text;

pub use report::{
    AskedConnection, HttpsLine, MiddlewareLine, MiddlewareVerdict, StreamExplanation, StreamKind,
    StreamOutcome,
};

/// Explains what [`crate::decide_tcp`] would do. Only looks: the balancing cursor stays as it is.
pub fn explain_tcp(snapshot: &Snapshot, connection: &ConnectionMeta<'_>) -> StreamExplanation {
    let heard = as_heard(snapshot, connection);
    let mut transcript = Transcript::default();
    let found = walk(snapshot, &heard, &mut transcript);
    let routed = route(snapshot, &heard, found);
    let winner = routed.ok();
    let asked = transcript.asked.len();
    let mut explanation = StreamExplanation {
        unheard: snapshot.server_may_speak_first(connection.entry_point),
        considered: considered(&transcript, winner, &heard),
        considered_more: asked.saturating_sub(MAX_CONSIDERED),
        other_names: snapshot
            .tcp_len(heard.entry_point, heard.tls)
            .saturating_sub(asked),
        near_misses: near_misses(snapshot, connection, heard.tls),
        ..StreamExplanation::new(snapshot.generation(), asked_tcp(connection))
    };
    match routed {
        Err(claim) => {
            explanation.outcome = StreamOutcome::Http {
                claim: claim.map(https_line),
            };
        }
        Ok(router) => {
            explanation.router = Some(tcp_line(router));
            explanation.tls = router.spec.tls;
            explanation.middlewares = MiddlewareLine::all(router, connection.client);
            match refusing(router, connection.client) {
                Some(by) => {
                    explanation.outcome = StreamOutcome::Refused {
                        by: by.name.to_string(),
                    };
                }
                None => {
                    let turn = looking(connection.turn);
                    explanation.reach(
                        &router.spec.target,
                        &connection_request(connection.entry_point, connection.client, connection.now, turn),
                    );
                }
            }
        }
    }
    explanation
}

/// Explains what [`crate::decide_udp`] would do. Only looks: the balancing cursor stays as it is.
pub fn explain_udp(
    snapshot: &Snapshot,
    entry_point: EntryPointId,
    client: IpAddr,
    now: Instant,
) -> StreamExplanation {
    let connection = AskedConnection {
        kind: StreamKind::Udp,
        entry_point: EntryPointLine::of(entry_point),
        tls: false,
        server_name: String::new(),
        alpn: Vec::new(),
        client: client.to_string(),
    };
    let mut explanation = StreamExplanation::new(snapshot.generation(), connection);
    let (here, elsewhere): (Vec<_>, Vec<_>) = snapshot
        .all_udp_routers()
        .iter()
        .partition(|router| router.spec.entry_points.contains(&entry_point));
    explanation.considered = here
        .iter()
        .take(MAX_CONSIDERED)
        .enumerate()
        .map(|(place, router)| Considered {
            router: udp_line(router),
            verdict: match place {
                0 => Verdict::Won,
                _ => Verdict::Outranked { by: Precedence::Name },
            },
        })
        .collect();
    explanation.considered_more = here.len().saturating_sub(MAX_CONSIDERED);
    let Some(router) = snapshot.udp_router(entry_point) else {
        explanation.near_misses = elsewhere
            .into_iter()
            .take(MAX_NEAR_MISSES)
            .map(|router| NearMiss {
                router: udp_line(router),
                entry_points: EntryPointLine::all(&router.spec.entry_points),
                tls: false,
                wrong_entry_point: true,
                wrong_tls: false,
            })
            .collect();
        return explanation;
    };
    explanation.router = Some(udp_line(router));
    explanation.reach(
        &router.spec.target,
        &connection_request(entry_point, client, now, Turn::Look),
    );
    explanation
}

fn looking(turn: Turn) -> Turn {
    match turn {
        Turn::Take => Turn::Look,
        turn => turn,
    }
}

impl StreamExplanation {
    /// Adds where the target leads, and the outcome that follows.
    fn reach(&mut self, target: &crate::Target, request: &crate::RequestMeta<'_>) {
        let choice = choose(target, request, usize::MAX);
        let Reached {
            service,
            way,
            balanced,
            further,
            panic,
            candidates,
            excluded,
        } = Reached::of(
            choice.service,
            &choice.candidates,
            choice.via.as_deref(),
            request.now,
        );
        self.outcome = if candidates.is_empty() {
            StreamOutcome::Unavailable
        } else {
            StreamOutcome::Forward
        };
        self.service = service;
        self.way = way;
        self.balanced = balanced;
        self.further = further;
        self.panic = panic;
        self.candidates = candidates;
        self.excluded = excluded;
    }
}

fn considered(
    transcript: &Transcript<'_, TcpRouter>,
    winner: Option<&Arc<TcpRouter>>,
    connection: &ConnectionMeta<'_>,
) -> Vec<Considered> {
    let verdict = |router: &Arc<TcpRouter>, matches: bool| match winner {
        Some(winner) if Arc::ptr_eq(winner, router) => Verdict::Won,
        Some(winner) if matches => Verdict::Outranked {
            by: Precedence::between(winner.rank(), router.rank()),
        },
        // Somebody matches and nobody won: the connection is HTTPS's.
        None if matches => Verdict::Outranked {
            by: Precedence::Https,
        },
        _ => Verdict::Refused {
            because: refusal_lines(router.spec.rule.refusals(connection)),
        },
    };
    transcript
        .listed(winner)
        .into_iter()
        .map(|(router, matches)| Considered {
            router: tcp_line(router),
            verdict: verdict(router, matches),
        })
        .collect()
}

/// TCP routers that match the connection but for its entry point or TLS. `asked_tls` is the table that was asked.
fn near_misses(snapshot: &Snapshot, connection: &ConnectionMeta<'_>, asked_tls: bool) -> Vec<NearMiss> {
    let mut found: Vec<&Arc<TcpRouter>> = Vec::new();
    for (entry_point, tls) in snapshot.tcp_table_ids() {
        if (entry_point, tls) == (connection.entry_point, asked_tls) {
            continue;
        }
        for router in snapshot.tcp_candidates(entry_point, tls, connection.server_name) {
            if found.len() == MAX_NEAR_MISSES {
                break;
            }
            // A router on several entry points is near once, and not at all when it was asked already.
            let here = router.spec.tls.is_some() == asked_tls
                && router.spec.entry_points.contains(&connection.entry_point);
            let seen = found.iter().any(|seen| Arc::ptr_eq(seen, router));
            if !here && !seen && router.spec.rule.matches(connection) {
                found.push(router);
            }
        }
    }
    found
        .into_iter()
        .map(|router| NearMiss {
            router: tcp_line(router),
            entry_points: EntryPointLine::all(&router.spec.entry_points),
            tls: router.spec.tls.is_some(),
            wrong_entry_point: !router.spec.entry_points.contains(&connection.entry_point),
            wrong_tls: router.spec.tls.is_some() != connection.tls,
        })
        .collect()
}

fn asked_tcp(connection: &ConnectionMeta<'_>) -> AskedConnection {
    AskedConnection {
        kind: StreamKind::Tcp,
        entry_point: EntryPointLine::of(connection.entry_point),
        tls: connection.tls,
        server_name: shorten(connection.server_name.to_owned()),
        alpn: crate::rule::protocols(connection.alpn)
            .into_iter()
            .take(super::MAX_REFUSALS)
            .map(shorten)
            .collect(),
        client: connection.client.to_string(),
    }
}

fn https_line(claim: HttpsClaim<'_>) -> HttpsLine {
    let (router, by_name) = match claim {
        HttpsClaim::Named(router) => (router, true),
        HttpsClaim::Rest(router) => (router, false),
    };
    HttpsLine {
        router: RouterLine::of(router),
        by_name,
    }
}

fn tcp_line(router: &Arc<TcpRouter>) -> RouterLine {
    RouterLine {
        name: router.spec.name.to_string(),
        rule: router.spec.rule.text().to_owned(),
        priority: router.spec.priority,
    }
}

fn udp_line(router: &Arc<UdpRouter>) -> RouterLine {
    RouterLine {
        name: router.spec.name.to_string(),
        rule: String::new(),
        priority: 0,
    }
}
