//! From clients to back ends.

use std::io::IoSlice;
use std::time::Instant;

use quinn_udp::RecvMeta;
use smallvec::SmallVec;

use super::account;
use super::place::PROBATION;
use super::pump::Pump;
use super::session::{Kept, Key, Session, Upstream};
use super::socket::{self, BATCH, ROOM};
use super::table::{Id, Standing};
use super::train::{Message, carried, couple};
use crate::metrics::{Carried, DatagramDrop, SessionEnd};

/// Messages of one session that came one after the other.
type Run<'r> = SmallVec<[(&'r [u8], Message); BATCH]>;

/// What became of a train.
enum Sent {
    /// It is gone, or lost and counted.
    Done,
    /// Its datagrams have to be sent one by one.
    Uncut,
}

impl Pump {
    /// Takes what clients have sent to a socket, one batch; how many messages there were.
    pub(super) fn take_from_clients(&mut self, number: usize, now: Instant) -> usize {
        let Some(socket) = self.sockets.get(number) else {
            return 0;
        };
        let (mut rooms, mut metas) = (std::mem::take(&mut self.inbox), std::mem::take(&mut self.metas));
        let received = self.entrance.receiver.receive(socket, &mut rooms, &mut metas);
        let count = received.unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::WouldBlock {
                tracing::debug!(%error, "a socket of an entry point has an error");
            }
            0
        });
        let messages = metas.get(..count).unwrap_or_default();
        let mut at = 0;
        while let Some(first) = messages.get(at) {
            let key = self.key(number, first);
            let alike = |meta: &&RecvMeta| meta.addr == first.addr && meta.dst_ip == first.dst_ip;
            let same = messages.iter().skip(at).take_while(alike).count().max(1);
            let mut run = Run::new();
            for (meta, room) in messages.iter().zip(rooms.chunks_exact(ROOM)).skip(at).take(same) {
                let message = Message {
                    len: meta.len,
                    each: meta.stride,
                };
                match room.get(..meta.len) {
                    Some(bytes) if meta.len < ROOM => run.push((bytes, message)),
                    _ => self.entrance.drops.dropped(DatagramDrop::Truncated, 1),
                }
            }
            self.take(key, &run, now);
            at += same;
        }
        (self.inbox, self.metas) = (rooms, metas);
        count
    }

    fn key(&self, socket: usize, meta: &RecvMeta) -> Key {
        let wild = self
            .bound
            .get(socket)
            .is_some_and(|own| own.ip().is_unspecified());
        Key {
            client: meta.addr,
            asked: meta.dst_ip.filter(|_| wild),
            socket,
        }
    }

    fn take(&mut self, key: Key, run: &Run<'_>, now: Instant) {
        let id = match self.table.find(&key) {
            Some(id) => {
                self.table.client_sent(id, now);
                self.look_at_place(id, now);
                id
            }
            None => match self.begin(key, now) {
                Ok(id) => id,
                Err(reason) => {
                    let datagrams = run.iter().map(|(_, message)| message.datagrams() as u64).sum();
                    return self.entrance.drops.dropped(reason, datagrams);
                }
            },
        };
        let mut at = 0;
        while at < run.len() {
            let rest = run.get(at..).unwrap_or_default();
            let longest = self.table.get(id).map_or(0, |(_, _, session)| session.longest[0]);
            let together = couple(rest.iter().map(|(_, message)| *message), longest);
            let train = rest.get(..together.unwrap_or(1)).unwrap_or_default();
            at += train.len().max(1);
            let uncut = together.is_none() || matches!(self.forward(id, train, now), Sent::Uncut);
            if uncut {
                for (bytes, message) in train {
                    for datagram in bytes.chunks(message.each.max(1)) {
                        let len = datagram.len();
                        self.forward(id, &[(datagram, Message { len, each: len })], now);
                    }
                }
            }
        }
    }

    /// Whether the datagram says that it comes from where such come in, or from nowhere: what answers it would come in
    /// again, for ever.
    fn is_own(&self, key: &Key) -> bool {
        let (ip, port) = (key.client.ip(), key.client.port());
        let same = self.bound.get(key.socket).is_some_and(|own| own.port() == port);
        // Some protocols have their clients at the same port, so that alone says nothing.
        port == 0 || (same && socket::is_local(ip))
    }

    /// Begins a session.
    fn begin(&mut self, key: Key, now: Instant) -> Result<Id, DatagramDrop> {
        if self.draining {
            return Err(DatagramDrop::Draining);
        }
        if self.is_own(&key) {
            return Err(DatagramDrop::Forged);
        }
        if self.entrance.settings.tenure.is_over() {
            return Err(DatagramDrop::NoLease);
        }
        if self.edge.settings.gate.refuses(key.client.ip()) {
            return Err(DatagramDrop::Denied);
        }
        let source = self.entrance.admit(key.client.ip().to_canonical())?;
        if !self.rate.take(now) {
            return Err(DatagramDrop::Rate);
        }
        let (router, place) = self.first_place(key.client, now)?;
        let metrics = router.slot.get_or_init(|| self.edge.metrics.udp_router(&router));
        let route = metrics.and_then(|metrics| metrics.on(self.entrance.settings.id));
        let route = route.ok_or(DatagramDrop::NoRoute)?.clone();
        let probes = place.probe.is_some();
        let session = Box::new(Session {
            place,
            _open: route.begin(),
            router: router.clone(),
            route,
            begun: now,
            received: Carried::default(),
            sent: Carried::default(),
            kept: Kept::new(self.kept.clone()),
            longest: [usize::from(u16::MAX); 2],
            retries: 0,
            refusals: 0,
            moved: now,
            look: now,
            stayed: None,
            joins: false,
            _source: source,
        });
        let (id, given_up) = self.table.insert(key, session, now);
        if let Some(given_up) = given_up {
            let end = account::eviction(given_up.standing);
            self.ended(given_up, end, now);
        }
        if !self.listen(id) {
            if let Some(removed) = self.table.remove(id) {
                self.ended(removed, SessionEnd::Unreachable, now);
            }
            return Err(DatagramDrop::Shortage);
        }
        if probes {
            self.probes.push((now + PROBATION, id));
        }
        Ok(id)
    }

    /// Sends what can leave together, or one datagram.
    fn forward(&mut self, id: Id, train: &[(&[u8], Message)], now: Instant) -> Sent {
        let each = train.first().map_or(0, |(_, message)| message.each);
        let datagrams: usize = train.iter().map(|(_, message)| message.datagrams()).sum();
        let together = datagrams > 1;
        // One refusal may be waiting in the socket for the one who sends next.
        for _ in 0..2 {
            let Some((_, standing, session)) = self.table.get(id) else {
                return Sent::Done;
            };
            let Upstream::Socket(socket) = &session.place.upstream else {
                self.wait(id, train);
                return Sent::Done;
            };
            let sent = match train {
                [(bytes, _)] if !together => socket.send(bytes).map(drop),
                _ => {
                    let pieces: SmallVec<[IoSlice<'_>; BATCH]> =
                        train.iter().map(|(bytes, _)| IoSlice::new(bytes)).collect();
                    socket::send(
                        socket,
                        None,
                        u16::try_from(each).ok().filter(|_| together),
                        &pieces,
                    )
                }
            };
            match sent {
                Ok(()) => {
                    if standing == Standing::Unanswered {
                        for (bytes, message) in train {
                            keep(&mut session.kept, bytes, *message, session.place.since, now);
                        }
                    }
                    let carried = carried(train, together);
                    session.received += carried;
                    self.tally.received(&session.route, carried);
                    return Sent::Done;
                }
                Err(error) if socket::is_refusal(&error) => self.refused(id, now),
                Err(error) if together && socket::is_about_trains(&error) => {
                    session.longest[0] = socket::longest_after(&error, each);
                    return Sent::Uncut;
                }
                Err(error) => {
                    let reason = socket::drop_reason(&error);
                    self.entrance.drops.dropped(reason, datagrams as u64);
                    return Sent::Done;
                }
            }
        }
        self.entrance
            .drops
            .dropped(DatagramDrop::Refused, datagrams as u64);
        Sent::Done
    }

    /// Keeps what can't be sent before the back end's address is known.
    fn wait(&mut self, id: Id, train: &[(&[u8], Message)]) {
        let Some((_, _, session)) = self.table.get(id) else {
            return;
        };
        let mut lost = 0;
        for (bytes, message) in train {
            each_datagram(bytes, *message, |datagram| {
                lost += u64::from(!session.kept.push(datagram));
            });
        }
        let carried = carried(train, false);
        session.received += carried;
        self.tally.received(&session.route, carried);
        if lost > 0 {
            self.entrance.drops.dropped(DatagramDrop::Waiting, lost);
        }
    }
}

fn keep(kept: &mut Kept, bytes: &[u8], message: Message, since: Instant, now: Instant) {
    each_datagram(bytes, message, |datagram| kept.sent(datagram, since, now));
}

fn each_datagram(bytes: &[u8], message: Message, mut with: impl FnMut(&[u8])) {
    if bytes.is_empty() {
        with(bytes);
    }
    for datagram in bytes.chunks(message.each.max(1)) {
        with(datagram);
    }
}
