//! Which back end a session talks to: chosen when it begins, kept as long as that back end serves, and changed when it
//! refuses datagrams, leaves, or is out and silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_table::{
    AttemptOutcome, Candidate, Choice, Condition, Endpoint, Live, Peer, Service, Turn, UdpDecision,
    UdpRouter, decide_udp,
};

use super::names::Address;
use super::poller::Ready;
use super::pump::Pump;
use super::session::{Place, Upstream};
use super::socket;
use super::table::{Id, Standing};
use crate::Generation;
use crate::departure::{self, Running};
use crate::mesh;
use crate::metrics::{DatagramDrop, EndpointFailure, EndpointMetrics, Metrics, SessionEnd};

/// Back ends that are tried for one datagram, and moves of a session without a reply in between.
const TRIES: u8 = 3;
/// Between two looks at the endpoint of a session; one that is out and silent for so long is left.
const LOOK: Duration = Duration::from_secs(1);
/// An endpoint on probation that has not refused a datagram for so long is back: many protocols never reply.
pub(super) const PROBATION: Duration = Duration::from_secs(1);

/// The counters of an endpoint, which hang on it.
fn metrics_of<'e>(
    endpoint: &'e Endpoint,
    service: &Service,
    metrics: &Metrics,
) -> Option<&'e EndpointMetrics> {
    endpoint
        .slot
        .get_or_init(|| metrics.endpoint(&service.name, &endpoint.name))
}

impl Pump {
    /// A back end for a client that has none yet.
    pub(super) fn first_place(
        &mut self,
        client: SocketAddr,
        now: Instant,
    ) -> Result<(Arc<UdpRouter>, Place), DatagramDrop> {
        let edge = self.edge.clone();
        let generation = edge.published.load();
        self.place(&generation, client, None, now)
    }

    /// Decides, and takes the first candidate that there is a way to; `but` not that endpoint.
    fn place(
        &mut self,
        generation: &Generation,
        client: SocketAddr,
        but: Option<&Arc<Live>>,
        now: Instant,
    ) -> Result<(Arc<UdpRouter>, Place), DatagramDrop> {
        let entry_point = self.entrance.settings.id;
        let whole = client;
        let client = client.ip().to_canonical();
        let decision = decide_udp(&generation.table, entry_point, client, now, Turn::Take);
        let UdpDecision::Forward { router, choice } = decision else {
            return Err(DatagramDrop::NoRoute);
        };
        let Choice {
            service,
            candidates,
            via,
        } = choice;
        let further = via.into_iter().flat_map(|via| via.further);
        let further = further.map(|leg| (leg.service, leg.candidates.order));
        let mut tries = 0;
        for (service, order) in std::iter::once((service, candidates.order)).chain(further) {
            for candidate in order {
                let live = &candidate.endpoint.live;
                let may = candidate.probe.is_some() || tries == 0 || service.may_try(candidate.endpoint, now);
                if live.departed() || but.is_some_and(|but| Arc::ptr_eq(but, live)) || !may {
                    continue;
                }
                if tries == TRIES {
                    return Err(DatagramDrop::Unavailable);
                }
                tries += 1;
                if let Some(place) = self.try_place(service, candidate, whole, now)? {
                    return Ok((router.clone(), place));
                }
            }
        }
        Err(DatagramDrop::Unavailable)
    }

    /// `None`: there is no way to this endpoint.
    fn try_place(
        &mut self,
        service: &Arc<Service>,
        candidate: Candidate<'_>,
        client: SocketAddr,
        now: Instant,
    ) -> Result<Option<Place>, DatagramDrop> {
        let endpoint = candidate.endpoint;
        let upstream = match self.way(endpoint, client, now) {
            Way::Open(upstream) => upstream,
            Way::Shortage => return Err(DatagramDrop::Shortage),
            Way::None => {
                self.failed(service, endpoint, now);
                return Ok(None);
            }
        };
        let metrics = metrics_of(endpoint, service, &self.edge.metrics);
        Ok(Some(Place {
            service: service.clone(),
            endpoint: endpoint.clone(),
            upstream,
            since: now,
            replied: None,
            probe: candidate.probe,
            _running: endpoint.live.begin(),
            _attempt: metrics.map(EndpointMetrics::attempt),
        }))
    }

    /// The way to an endpoint, as far as it goes now.
    fn way(&mut self, endpoint: &Endpoint, client: SocketAddr, now: Instant) -> Way {
        if let Some(peer) = &endpoint.peer {
            return self.way_to_node(peer, client);
        }
        self.turn = self.turn.wrapping_add(1);
        let ip = match self.names.address(&endpoint.host, self.turn, now) {
            Address::Known(ip) => ip,
            Address::Asked => return Way::Open(Upstream::Waiting),
            Address::None => return Way::None,
        };
        let address = SocketAddr::new(ip, endpoint.port);
        let mut opened = socket::connect(address);
        if opened.as_ref().is_err_and(socket::is_shortage)
            && let Some(given_up) = self.table.give_up_unanswered()
        {
            // What a flood has taken is taken back first.
            self.ended(given_up, SessionEnd::EvictedUnanswered, now);
            opened = socket::connect(address);
        }
        match opened {
            Ok(socket) => Way::Open(Upstream::Socket(socket)),
            Err(error) if socket::is_shortage(&error) => Way::Shortage,
            Err(error) => {
                tracing::debug!(%error, %address, "there is no way to a back end");
                Way::None
            }
        }
    }

    /// The way to another node that has the endpoint: a socket of this process stands for it.
    fn way_to_node(&self, peer: &Arc<Peer>, client: SocketAddr) -> Way {
        let local = self.bound.first().copied().unwrap_or(client);
        // The session is over by then, as it has counted the same silence.
        let idle = self.entrance.settings.udp.timeout + LOOK;
        let opened =
            mesh::bridge_datagrams(&self.links, peer, [client, local], idle).and_then(|(to, begin)| {
                let socket = socket::connect(to)?;
                begin(socket.local_addr()?)?;
                Ok(socket)
            });
        match opened {
            Ok(socket) => Way::Open(Upstream::Socket(socket)),
            Err(error) if socket::is_shortage(&error) => Way::Shortage,
            Err(error) => {
                tracing::debug!(%error, node = %peer.node, "there is no way to another node");
                Way::None
            }
        }
    }

    /// Begins to hear from the back end of a session. `false`: the kernel does not watch another socket.
    pub(super) fn listen(&mut self, id: Id) -> bool {
        let Some((_, _, session)) = self.table.get(id) else {
            return false;
        };
        match &session.place.upstream {
            Upstream::Waiting => {
                self.waiting.push(id);
                true
            }
            Upstream::Socket(socket) => self.poller.watch(socket, Ready::BackEnd(id)).is_ok(),
        }
    }

    /// The client has sent something: leaves an endpoint that has left, or is out and silent, for another one.
    pub(super) fn look_at_place(&mut self, id: Id, now: Instant) {
        let Some((_, _, session)) = self.table.get(id) else {
            return;
        };
        let place = &session.place;
        let stays = if place.endpoint.live.departed() {
            let generation = self.edge.published.load();
            let number = generation.table.generation();
            if now < session.look && session.stayed == Some(number) {
                return;
            }
            session.stayed = Some(number);
            may_stay(&generation, place)
        } else {
            if now < session.look {
                return;
            }
            let quiet = |since: Instant| now.saturating_duration_since(since) >= LOOK;
            !quiet(place.replied.unwrap_or(place.since))
                || place.probe.is_some()
                || place.service.may_try(&place.endpoint, now)
        };
        session.look = now + LOOK;
        if !stays {
            self.move_on(id, now);
        }
    }

    /// Gives the session another back end; `false`: there is none, and all stays as it was.
    fn move_on(&mut self, id: Id, now: Instant) -> bool {
        let Some((key, _, session)) = self.table.get(id) else {
            return false;
        };
        let old = session.place.endpoint.live.clone();
        let edge = self.edge.clone();
        let generation = edge.published.load();
        let Ok((_, place)) = self.place(&generation, key.client, Some(&old), now) else {
            return false;
        };
        if place.probe.is_some() {
            self.probes.push((now + PROBATION, id));
        }
        // It may have been given up for want of descriptors.
        let Some((_, _, session)) = self.table.get(id) else {
            return false;
        };
        session.place = place;
        session.look = now + LOOK;
        session.stayed = None;
        session.moved = now;
        session.joins = false;
        session.retries += 1;
        session.route.moved();
        self.listen(id)
    }

    /// The back end has said that it does not take the session's datagrams: the session goes on at another one, which
    /// gets what was sent in vain, as long as none has ever replied.
    pub(super) fn refused(&mut self, id: Id, now: Instant) {
        loop {
            let Some((_, _, session)) = self.table.get(id) else {
                return;
            };
            let (service, endpoint) = (session.place.service.clone(), session.place.endpoint.clone());
            if now.saturating_duration_since(session.moved) >= LOOK {
                session.refusals = 0;
            }
            session.refusals = session.refusals.saturating_add(1);
            let again = session.refusals <= TRIES;
            self.failed(&service, &endpoint, now);
            if let Some((_, _, session)) = self.table.get(id) {
                session.place.probe = None;
            }
            if !again || !self.move_on(id, now) {
                return self.lose_kept(id);
            }
            if self.send_kept(id) {
                return;
            }
        }
    }

    /// Sends what was sent in vain to the back end that the session has now; `false`: it refuses as well.
    fn send_kept(&mut self, id: Id) -> bool {
        let Some((_, _, session)) = self.table.get(id) else {
            return true;
        };
        let Upstream::Socket(socket) = &session.place.upstream else {
            return true;
        };
        let mut unsent = 0;
        for datagram in session.kept.datagrams() {
            match socket.send(datagram) {
                Ok(_) => {}
                Err(error) if socket::is_refusal(&error) => return false,
                Err(_) => unsent += 1,
            }
        }
        if unsent > 0 {
            self.entrance.drops.dropped(DatagramDrop::Unsent, unsent);
        }
        true
    }

    fn lose_kept(&mut self, id: Id) {
        if let Some((_, standing, session)) = self.table.get(id) {
            let lost = match standing {
                // Of these at least the last one was refused, and it was not kept.
                Standing::Answered | Standing::Settled => 1,
                Standing::Unanswered => session.kept.len() as u64,
            };
            session.kept.clear();
            self.entrance.drops.dropped(DatagramDrop::Refused, lost);
        }
    }

    /// A look-up has ended: sessions that waited for it get on.
    pub(super) fn names_answered(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.waiting) {
            let Some((key, _, session)) = self.table.get(id) else {
                continue;
            };
            let client = key.client;
            if !matches!(session.place.upstream, Upstream::Waiting) {
                continue;
            }
            let (service, endpoint) = (session.place.service.clone(), session.place.endpoint.clone());
            let arrived = match self.way(&endpoint, client, now) {
                Way::Open(Upstream::Waiting) => {
                    self.waiting.push(id);
                    continue;
                }
                Way::Open(upstream) => {
                    if let Some((_, _, session)) = self.table.get(id) {
                        session.place.upstream = upstream;
                        session.place.since = now;
                    }
                    self.listen(id)
                }
                Way::Shortage => false,
                Way::None => {
                    self.failed(&service, &endpoint, now);
                    self.move_on(id, now)
                }
            };
            if !arrived {
                self.lose_kept(id);
                if let Some(removed) = self.table.remove(id) {
                    self.ended(removed, SessionEnd::Unreachable, now);
                }
            } else if !self.send_kept(id) {
                self.refused(id, now);
            }
        }
    }

    /// Ends probations that nothing has spoken against.
    pub(super) fn end_probations(&mut self, now: Instant) {
        while let Some(at) = self.probes.iter().position(|(due, _)| *due <= now) {
            let (_, id) = self.probes.swap_remove(at);
            let Some((_, _, session)) = self.table.get(id) else {
                continue;
            };
            let place = &session.place;
            let due = match place.upstream {
                Upstream::Waiting => now + PROBATION,
                Upstream::Socket(_) => place.since + PROBATION,
            };
            if place.probe.is_none() {
                continue;
            } else if due > now {
                self.probes.push((due, id));
            } else {
                self.good(id, now);
            }
        }
    }

    /// The back end of a session serves.
    pub(super) fn good(&mut self, id: Id, now: Instant) {
        let Some((_, _, session)) = self.table.get(id) else {
            return;
        };
        let place = &mut session.place;
        let latency = now.saturating_duration_since(place.since);
        let outcome = AttemptOutcome::Connected { latency };
        let transitions = place.service.record(&place.endpoint, outcome, now);
        place.probe = None;
        self.edge.note(&place.service, &transitions);
    }

    fn failed(&self, service: &Arc<Service>, endpoint: &Arc<Endpoint>, now: Instant) {
        if let Some(metrics) = metrics_of(endpoint, service, &self.edge.metrics) {
            metrics.failed(EndpointFailure::Connect);
        }
        let transitions = service.record(endpoint, AttemptOutcome::ConnectFailed, now);
        self.edge.note(service, &transitions);
    }
}

enum Way {
    Open(Upstream),
    Shortage,
    None,
}

/// Whether what runs at an endpoint that has left may stay there: one that drains has time; one that is stopped or gone
/// has none.
fn may_stay(generation: &Generation, place: &Place) -> bool {
    let live = &place.endpoint.live;
    let service = generation.table.service(&place.service.name);
    let endpoint = service.and_then(|s| s.endpoints.iter().find(|e| Arc::ptr_eq(&e.live, live)));
    match endpoint.map(|endpoint| &endpoint.condition) {
        Some(Condition::Ready) => true,
        Some(Condition::Draining(_)) => !departure::is_over(live, Running::Upgraded),
        Some(Condition::Unavailable(_)) | None => false,
    }
}
