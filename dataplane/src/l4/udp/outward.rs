//! From back ends to clients.

use std::io::{self, IoSlice};
use std::time::Instant;

use smallvec::SmallVec;

use super::pump::Pump;
use super::session::{Key, Upstream};
use super::socket::{self, BATCH, ROOM, Way};
use super::table::Id;
use super::train::{Message, carried, couple};
use crate::departure::{self, Running};
use crate::metrics::{DatagramDrop, SessionEnd};

/// Messages of one session that are received at once.
const AT_ONCE: usize = 8;
/// After so many replies the kernel is asked to join them: most sessions are over before, and it costs a call.
const MANY: u64 = 16;

/// A message on its way to a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    id: Id,
    key: Key,
    /// Which room of the outbox it is in.
    room: usize,
    message: Message,
}

impl Pump {
    /// Takes what the back end of a session has sent, some messages; how many there were.
    pub(super) fn take_from_back_end(&mut self, id: Id, now: Instant) -> usize {
        let used = |replies: &[Reply]| replies.last().map_or(0, |reply| reply.room + 1);
        if used(&self.replies) + AT_ONCE > BATCH {
            self.flush();
        }
        let used = used(&self.replies);
        let Some((key, _, session)) = self.table.get(id) else {
            return 0;
        };
        let Upstream::Socket(socket) = &session.place.upstream else {
            return 0;
        };
        let rooms = self.outbox.get_mut(used * ROOM..(used + AT_ONCE) * ROOM);
        let metas = self.metas.get_mut(..AT_ONCE).unwrap_or_default();
        let count = match self
            .entrance
            .receiver
            .receive(socket, rooms.unwrap_or_default(), metas)
        {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(error) if socket::is_refusal(&error) => {
                self.refused(id, now);
                return 1;
            }
            Err(error) => {
                tracing::debug!(%error, "the socket of a session has an error");
                return 1;
            }
        };
        for (number, meta) in metas.iter().take(count).enumerate() {
            if meta.len >= ROOM {
                self.entrance.drops.dropped(DatagramDrop::Truncated, 1);
                continue;
            }
            let message = Message {
                len: meta.len,
                each: meta.stride,
            };
            self.replies.push(Reply {
                id,
                key,
                room: used + number,
                message,
            });
        }
        session.kept.release();
        session.refusals = 0;
        if !session.joins && session.sent.datagrams >= MANY {
            session.joins = true;
            socket::join_trains(socket);
        }
        let first = session.place.replied.replace(now).is_none();
        let live = &session.place.endpoint.live;
        let over = live.departed() && departure::is_over(live, Running::Upgraded);
        self.table.back_end_sent(id, now);
        if first {
            self.good(id, now);
        }
        if over {
            self.flush();
            if let Some(removed) = self.table.remove(id) {
                self.ended(removed, SessionEnd::Departed, now);
            }
        }
        count
    }

    /// Sends the replies that were received.
    pub(super) fn flush(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        let outbox = std::mem::take(&mut self.outbox);
        let mut at = 0;
        while let Some(first) = replies.get(at) {
            let rest = replies.get(at..).unwrap_or_default();
            let same = rest.iter().take_while(|reply| reply.id == first.id);
            let longest = self
                .table
                .get(first.id)
                .map_or(0, |(_, _, session)| session.longest[1]);
            let together = couple(same.map(|reply| reply.message), longest);
            let train = rest.get(..together.unwrap_or(1)).unwrap_or_default();
            at += train.len().max(1);
            let pieces: SmallVec<[(&[u8], Message); BATCH]> = train
                .iter()
                .filter_map(|reply| {
                    let start = reply.room * ROOM;
                    let bytes = outbox.get(start..start + reply.message.len)?;
                    Some((bytes, reply.message))
                })
                .collect();
            if together.is_none() || !self.answer(first, &pieces) {
                for (bytes, message) in pieces {
                    for datagram in bytes.chunks(message.each.max(1)) {
                        let len = datagram.len();
                        self.answer(first, &[(datagram, Message { len, each: len })]);
                    }
                }
            }
        }
        (self.replies, self.outbox) = (replies, outbox);
        self.replies.clear();
    }

    /// Sends what can leave together, or one datagram, to the client; `false`: it has to leave one by one.
    fn answer(&mut self, reply: &Reply, train: &[(&[u8], Message)]) -> bool {
        let Some(socket) = self.sockets.get(reply.key.socket) else {
            return true;
        };
        let each = train.first().map_or(0, |(_, message)| message.each);
        let mut carried = carried(train, false);
        let together = carried.datagrams > 1;
        if together {
            carried.together = carried.datagrams;
        }
        let way = Way {
            to: reply.key.client,
            from: reply.key.asked,
        };
        let slices: SmallVec<[IoSlice<'_>; BATCH]> =
            train.iter().map(|(bytes, _)| IoSlice::new(bytes)).collect();
        let cut = u16::try_from(each).ok().filter(|_| together);
        let mut sent = socket::send(socket, Some(way), cut, &slices);
        if !together && way.from.is_some() && sent.as_ref().is_err_and(is_about_the_source) {
            let way = Way { from: None, ..way };
            sent = socket::send(socket, Some(way), None, &slices);
        }
        let session = self.table.get(reply.id).map(|(_, _, session)| session);
        match (sent, session) {
            (Ok(()), Some(session)) => {
                session.sent += carried;
                self.tally.sent(&session.route, carried);
            }
            (Ok(()), None) => {}
            (Err(error), session) if together && socket::is_about_trains(&error) => {
                if let Some(session) = session {
                    session.longest[1] = socket::longest_after(&error, each);
                }
                return false;
            }
            (Err(error), _) => {
                let reason = socket::drop_reason(&error);
                self.entrance.drops.dropped(reason, carried.datagrams);
            }
        }
        true
    }
}

/// Whether nothing can be sent from the address that was asked: it belongs to many (multicast, broadcast), or to this
/// host no more. The kernel chooses another one then.
fn is_about_the_source(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, InvalidInput, NetworkUnreachable};
    matches!(error.kind(), InvalidInput | AddrNotAvailable | NetworkUnreachable)
}
