//! The sessions of one worker at one entry point: found by key, bounded in number, and in the order in which they are
//! given up.
//!
//! Whoever can forge a source address can make a session with one datagram, so a full table gives up sessions by what
//! they have shown ([`Standing`]), and among equals the one that was silent for longest. Three shares keep one kind
//! from starving another: settled sessions are safe up to seven eighths of the table; of the rest a quarter is safe for
//! sessions that still wait for their first reply, so that a crowd that gets replies (of a DNS server) does not push
//! out questions that are being answered.
//!
//! Every session has the same time-out, so each queue is in the order of expiry as well. Plain data: time is passed in,
//! and finding, touching, adding and giving up cost the same whatever the number of sessions.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use ahash::RandomState;

/// No node.
const NONE: u32 = u32::MAX;
/// An empty table keeps room for this many sessions.
const SPARE: usize = 1024;

/// What a session has shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The client has sent something.
    Unanswered,
    /// The back end has replied.
    Answered,
    /// The client has gone on after a reply, which it would hardly do had it not got it.
    Settled,
}

/// A session in the table. One that is gone is not mistaken for the next one at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    place: u32,
    /// Never 0.
    serial: u32,
}

impl Id {
    /// As a number; not below 2^32.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.place)
    }

    /// The reverse of [`Self::to_bits`].
    pub(super) fn from_bits(bits: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(NONE);
        Self {
            place: half(bits),
            serial: half(bits >> 32),
        }
    }
}

/// A session that is no longer in the table.
#[derive(Debug)]
pub(super) struct Removed<K, T> {
    pub(super) key: K,
    pub(super) session: T,
    pub(super) standing: Standing,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table<K, T> {
    places: HashMap<K, u32, RandomState>,
    nodes: Vec<Option<Node<K, T>>>,
    free: Vec<u32>,
    queues: [Queue; 3],
    serial: u32,
    most: usize,
    timeout: Duration,
}

#[derive(Debug)]
struct Node<K, T> {
    key: K,
    session: T,
    serial: u32,
    standing: Standing,
    last: Instant,
    newer: u32,
    older: u32,
}

/// The sessions of one standing, by their last datagram.
#[derive(Clone, Copy, Debug)]
struct Queue {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl<K: Copy + Eq + Hash, T> Table<K, T> {
    /// A table of at most `most` sessions, at least one, each of which is over when it was silent for `timeout`.
    pub(super) fn new(most: usize, timeout: Duration) -> Self {
        let queue = Queue {
            newest: NONE,
            oldest: NONE,
            len: 0,
        };
        Self {
            places: HashMap::default(),
            nodes: Vec::new(),
            free: Vec::new(),
            queues: [queue; 3],
            serial: 0,
            most: most.clamp(1, NONE as usize),
            timeout,
        }
    }

    /// Sessions in it.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The session of a key.
    pub(super) fn find(&self, key: &K) -> Option<Id> {
        let place = *self.places.get(key)?;
        let serial = self.node(place)?.serial;
        Some(Id { place, serial })
    }

    /// Its key, and what is known of it.
    pub(super) fn get(&mut self, id: Id) -> Option<(K, Standing, &mut T)> {
        let node = self.nodes.get_mut(id.place as usize)?.as_mut()?;
        (node.serial == id.serial).then_some((node.key, node.standing, &mut node.session))
    }

    /// Adds a session that its client begins now; a full table gives one up for it. The key must be new.
    pub(super) fn insert(&mut self, key: K, session: T, now: Instant) -> (Id, Option<Removed<K, T>>) {
        let given_up = if self.len() >= self.most {
            self.give_up()
        } else {
            None
        };
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let node = Node {
            key,
            session,
            serial: self.serial,
            standing: Standing::Unanswered,
            last: now,
            newer: NONE,
            older: NONE,
        };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.nodes.get_mut(place as usize) {
                    *free = Some(node);
                }
                place
            }
            None => {
                self.nodes.push(Some(node));
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        self.places.insert(key, place);
        self.push(place);
        let serial = self.serial;
        (Id { place, serial }, given_up)
    }

    /// The client has sent something.
    pub(super) fn client_sent(&mut self, id: Id, now: Instant) {
        self.touch(id, now, |standing| match standing {
            Standing::Answered => Standing::Settled,
            same => same,
        });
    }

    /// The back end has sent something.
    pub(super) fn back_end_sent(&mut self, id: Id, now: Instant) {
        self.touch(id, now, |standing| match standing {
            Standing::Unanswered => Standing::Answered,
            same => same,
        });
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, id: Id) -> Option<Removed<K, T>> {
        self.get(id)?;
        self.take(id.place)
    }

    /// Takes out the session that is worth least.
    pub(super) fn give_up(&mut self) -> Option<Removed<K, T>> {
        let [unanswered, answered, settled] = self.queues.map(|queue| queue.len);
        let rest = self.most.saturating_sub(settled);
        let from = if settled > self.most - self.most.div_ceil(8) {
            Standing::Settled
        } else if unanswered > rest / 4 {
            Standing::Unanswered
        } else if answered > 0 {
            Standing::Answered
        } else if unanswered > 0 {
            Standing::Unanswered
        } else {
            Standing::Settled
        };
        self.take(self.queue(from).oldest)
    }

    /// Takes out the session that has waited for its first reply for longest.
    pub(super) fn give_up_unanswered(&mut self) -> Option<Removed<K, T>> {
        self.take(self.queue(Standing::Unanswered).oldest)
    }

    /// Takes out any session.
    pub(super) fn pop(&mut self) -> Option<Removed<K, T>> {
        let oldest = self.queues.map(|queue| queue.oldest);
        oldest.into_iter().find_map(|place| self.take(place))
    }

    /// Takes out a session that is over.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Removed<K, T>> {
        let over = |last: Instant| now.saturating_duration_since(last) >= self.timeout;
        let place = self.queues.iter().map(|queue| queue.oldest);
        let place = place
            .filter(|place| self.node(*place).is_some_and(|node| over(node.last)))
            .min_by_key(|place| self.node(*place).map(|node| node.last))?;
        self.take(place)
    }

    /// When the next session is over unless it is touched; `None` without sessions.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let oldest = self.queues.iter().filter_map(|queue| self.node(queue.oldest));
        let last = oldest.map(|node| node.last).min()?;
        Some(last + self.timeout)
    }

    fn touch(&mut self, id: Id, now: Instant, standing: impl FnOnce(Standing) -> Standing) {
        if self.get(id).is_none() {
            return;
        }
        self.unlink(id.place);
        if let Some(node) = self.node_mut(id.place) {
            node.standing = standing(node.standing);
            node.last = now.max(node.last);
        }
        self.push(id.place);
    }

    fn take(&mut self, place: u32) -> Option<Removed<K, T>> {
        self.node(place)?;
        self.unlink(place);
        let node = self.nodes.get_mut(place as usize)?.take()?;
        self.places.remove(&node.key);
        self.free.push(place);
        if self.places.is_empty() && self.nodes.capacity() > SPARE {
            // A crowd that has left leaves no memory behind.
            self.places = HashMap::default();
            self.nodes = Vec::new();
            self.free = Vec::new();
        }
        Some(Removed {
            key: node.key,
            session: node.session,
            standing: node.standing,
        })
    }

    /// Takes a node out of its queue.
    fn unlink(&mut self, place: u32) {
        let Some(node) = self.node(place) else { return };
        let (newer, older, standing) = (node.newer, node.older, node.standing);
        match self.node_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.queue_mut(standing).newest = older,
        }
        match self.node_mut(older) {
            Some(older) => older.newer = newer,
            None => self.queue_mut(standing).oldest = newer,
        }
        self.queue_mut(standing).len -= 1;
    }

    /// Puts a node at the new end of the queue of its standing.
    fn push(&mut self, place: u32) {
        let Some(standing) = self.node(place).map(|node| node.standing) else {
            return;
        };
        let newest = self.queue(standing).newest;
        if let Some(node) = self.node_mut(place) {
            node.newer = NONE;
            node.older = newest;
        }
        match self.node_mut(newest) {
            Some(node) => node.newer = place,
            None => self.queue_mut(standing).oldest = place,
        }
        let queue = self.queue_mut(standing);
        queue.newest = place;
        queue.len += 1;
    }

    fn node(&self, place: u32) -> Option<&Node<K, T>> {
        self.nodes.get(place as usize)?.as_ref()
    }

    fn node_mut(&mut self, place: u32) -> Option<&mut Node<K, T>> {
        self.nodes.get_mut(place as usize)?.as_mut()
    }

    fn queue(&self, standing: Standing) -> &Queue {
        let [unanswered, answered, settled] = &self.queues;
        match standing {
            Standing::Unanswered => unanswered,
            Standing::Answered => answered,
            Standing::Settled => settled,
        }
    }

    fn queue_mut(&mut self, standing: Standing) -> &mut Queue {
        let [unanswered, answered, settled] = &mut self.queues;
        match standing {
            Standing::Unanswered => unanswered,
            Standing::Answered => answered,
            Standing::Settled => settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    /// One thing that happens to a table.
    #[derive(Clone, Debug)]
    enum Event {
        /// A client with this key sends.
        Client(u16),
        /// Its back end sends.
        BackEnd(u16),
        Remove(u16),
        /// Milliseconds pass.
        Pass(u16),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let key = 0..24u16;
        prop::collection::vec(
            prop_oneof![
                6 => key.clone().prop_map(Event::Client),
                4 => key.clone().prop_map(Event::BackEnd),
                1 => key.prop_map(Event::Remove),
                3 => (0..2000u16).prop_map(Event::Pass),
            ],
            0..400,
        )
    }

    /// The same table as a list, oldest first, in the words of the module's header.
    struct Model {
        most: usize,
        sessions: Vec<(u16, Standing, Instant)>,
    }

    impl Model {
        fn count(&self, standing: Standing) -> usize {
            self.sessions
                .iter()
                .filter(|session| session.1 == standing)
                .count()
        }

        fn oldest(&self, standing: Standing) -> Option<u16> {
            let mut of = self.sessions.iter().filter(|session| session.1 == standing);
            of.next().map(|session| session.0)
        }

        fn victim(&self) -> Option<u16> {
            let settled = self.count(Standing::Settled);
            let safe_settled = self.most - self.most.div_ceil(8);
            let safe_unanswered = (self.most - settled) / 4;
            let order = if settled > safe_settled {
                [Standing::Settled, Standing::Unanswered, Standing::Answered]
            } else if self.count(Standing::Unanswered) > safe_unanswered {
                [Standing::Unanswered, Standing::Answered, Standing::Settled]
            } else {
                [Standing::Answered, Standing::Unanswered, Standing::Settled]
            };
            order.into_iter().find_map(|standing| self.oldest(standing))
        }

        fn touch(&mut self, key: u16, now: Instant, from: Standing, to: Standing) {
            if let Some(at) = self.sessions.iter().position(|session| session.0 == key) {
                let (_, standing, _) = self.sessions.remove(at);
                let standing = if standing == from { to } else { standing };
                self.sessions.push((key, standing, now));
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_what_the_list_does(most in 1..20usize, events in events()) {
            let mut table: Table<u16, u16> = Table::new(most, TIMEOUT);
            let mut model = Model { most, sessions: Vec::new() };
            let mut now = Instant::now();
            for event in events {
                match event {
                    Event::Client(key) => match table.find(&key) {
                        Some(id) => {
                            table.client_sent(id, now);
                            model.touch(key, now, Standing::Answered, Standing::Settled);
                        }
                        None => {
                            let full = model.sessions.len() == most;
                            let victim = full.then(|| model.victim().unwrap());
                            let (id, given_up) = table.insert(key, key, now);
                            prop_assert_eq!(given_up.map(|removed| removed.session), victim);
                            prop_assert_eq!(table.find(&key), Some(id));
                            model.sessions.retain(|session| Some(session.0) != victim);
                            model.sessions.push((key, Standing::Unanswered, now));
                        }
                    },
                    Event::BackEnd(key) => if let Some(id) = table.find(&key) {
                        table.back_end_sent(id, now);
                        model.touch(key, now, Standing::Unanswered, Standing::Answered);
                    },
                    Event::Remove(key) => {
                        let removed = table.find(&key).and_then(|id| table.remove(id));
                        let at = model.sessions.iter().position(|session| session.0 == key);
                        let expected = at.map(|at| model.sessions.remove(at));
                        prop_assert_eq!(
                            removed.map(|r| (r.key, r.standing)),
                            expected.map(|(key, standing, _)| (key, standing))
                        );
                    }
                    Event::Pass(milliseconds) => {
                        now += Duration::from_millis(milliseconds.into());
                        let mut expired = Vec::new();
                        while let Some(removed) = table.expire(now) {
                            expired.push(removed.key);
                        }
                        let over = |session: &(u16, Standing, Instant)| now - session.2 >= TIMEOUT;
                        let mut expected: Vec<u16> =
                            model.sessions.iter().filter(|s| over(s)).map(|s| s.0).collect();
                        model.sessions.retain(|session| !over(session));
                        expired.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(expired, expected);
                    }
                }
                prop_assert_eq!(table.len(), model.sessions.len());
                prop_assert!(table.len() <= most);
                let next = model.sessions.iter().map(|session| session.2 + TIMEOUT).min();
                prop_assert_eq!(table.next_expiry(), next);
                for (key, standing, _) in &model.sessions {
                    let id = table.find(key).unwrap();
                    prop_assert_eq!(Id::from_bits(id.to_bits()), id);
                    prop_assert!(id.to_bits() > u64::from(u32::MAX));
                    let (found, as_found, session) = table.get(id).unwrap();
                    prop_assert_eq!((found, as_found, *session), (*key, *standing, *key));
                }
            }
        }
    }

    /// A table with settled, answered and unanswered sessions, numbered in this order.
    fn table(most: usize, settled: u32, answered: u32, unanswered: u32) -> (Table<u32, ()>, Instant) {
        let (mut table, now) = (Table::new(most, TIMEOUT), Instant::now());
        for number in 0..settled + answered + unanswered {
            let (id, _) = table.insert(number, (), now);
            if number < settled + answered {
                table.back_end_sent(id, now);
            }
            if number < settled {
                table.client_sent(id, now);
            }
        }
        (table, now)
    }

    #[test]
    fn a_silent_flood_pushes_out_only_its_own() {
        let (mut table, now) = table(256, 100, 80, 0);
        for flood in 1000..11_000 {
            table.insert(flood, (), now);
        }
        assert_eq!(table.len(), 256);
        assert!((0..180).all(|number| table.find(&number).is_some()));
    }

    #[test]
    fn a_flood_that_gets_replies_pushes_out_no_settled_session_and_no_open_question() {
        let (mut table, now) = table(256, 100, 80, 10);
        for flood in 1000..11_000 {
            let (id, _) = table.insert(flood, (), now);
            table.back_end_sent(id, now);
        }
        assert_eq!(table.len(), 256);
        assert!((0..100).all(|number| table.find(&number).is_some()));
        assert!((180..190).all(|number| table.find(&number).is_some()));
        assert!((100..180).all(|number| table.find(&number).is_none()));
    }

    #[test]
    fn settled_sessions_leave_room_for_others() {
        let (mut table, now) = table(256, 256, 0, 0);
        for newcomer in 1000..1031 {
            let (_, given_up) = table.insert(newcomer, (), now);
            assert_eq!(
                given_up.unwrap().key,
                newcomer - 1000,
                "who was silent for longest"
            );
        }
        assert!((1000..1031).all(|number| table.find(&number).is_some()));
    }

    #[test]
    fn a_session_that_is_gone_is_not_its_successor() {
        let (mut table, now) = table(1, 0, 0, 1);
        let old = table.find(&0).unwrap();
        table.insert(1, (), now);
        assert!(table.get(old).is_none());
        assert!(table.remove(old).is_none());
        table.client_sent(old, now + TIMEOUT);
        assert_eq!(table.next_expiry(), Some(now + TIMEOUT));
    }

    #[test]
    fn a_crowd_that_has_left_leaves_no_memory_behind() {
        let (mut table, now) = table(100_000, 0, 0, 100_000);
        assert_eq!(table.len(), 100_000);
        while table.expire(now + TIMEOUT).is_some() {}
        assert_eq!(
            (table.len(), table.nodes.capacity(), table.places.capacity()),
            (0, 0, 0)
        );
    }
}
