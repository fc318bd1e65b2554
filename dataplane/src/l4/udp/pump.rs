//! The task that carries the datagrams of one worker at one entry point.
//!
//! It works in rounds: who is ready is asked once for many, each of them has a small turn, then the replies leave. After
//! some rounds the other tasks of the worker have theirs, so neither one client nor UDP as a whole keeps the rest waiting.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollEvent;
use quinn_udp::RecvMeta;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::Entrance;
use super::account::Tally;
use super::names::Names;
use super::outward::Reply;
use super::poller::{self, EVENTS, Poller, Ready};
use super::rate::Rate;
use super::session::{Key, Session};
use super::socket::{BATCH, ROOM};
use super::table::{Id, Table};
use crate::http::Edge;
use crate::mesh::Links;
use crate::metrics::SessionEnd;

/// Messages that are carried before other tasks have a turn: less than a millisecond.
const TURN: usize = 256;
/// Sessions that one worker begins in a second at one entry point. Each costs some ten microseconds, and most of those
/// that a flood begins are for nothing.
const SESSIONS_A_SECOND: u32 = 20_000;
/// When there is nothing to wait for.
const FAR: Duration = Duration::from_secs(3600);

/// What carries the datagrams.
pub(super) struct Pump {
    pub(super) edge: Arc<Edge>,
    /// Connections to other nodes.
    pub(super) links: Arc<Links>,
    pub(super) entrance: Arc<Entrance>,
    pub(super) sockets: Vec<UdpSocket>,
    /// What they are bound to.
    pub(super) bound: Vec<SocketAddr>,
    pub(super) poller: Arc<Poller>,
    pub(super) table: Table<Key, Box<Session>>,
    pub(super) rate: Rate,
    pub(super) names: Names,
    /// Sessions that wait for the address of their back end.
    pub(super) waiting: Vec<Id>,
    /// Sessions that probe an endpoint, and until when.
    pub(super) probes: Vec<(Instant, Id)>,
    /// Bytes that sessions keep.
    pub(super) kept: Arc<AtomicUsize>,
    pub(super) tally: Tally,
    /// Rooms for what clients send.
    pub(super) inbox: Vec<u8>,
    /// Rooms for what back ends send, and what is in them.
    pub(super) outbox: Vec<u8>,
    pub(super) replies: Vec<Reply>,
    pub(super) metas: Vec<RecvMeta>,
    /// Chooses among the addresses of a name.
    pub(super) turn: usize,
    pub(super) draining: bool,
}

/// Serves the sockets of one worker at one entry point until told to `close`; then goes on with the sessions that there
/// are until they are over, or until told to `cut`. Returns how many were cut.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    links: Arc<Links>,
    entrance: Arc<Entrance>,
    sockets: Vec<UdpSocket>,
    close: CancellationToken,
    cut: CancellationToken,
) -> io::Result<usize> {
    let poller = Arc::new(Poller::new()?);
    let mut bound = Vec::with_capacity(sockets.len());
    for (number, socket) in sockets.iter().enumerate() {
        bound.push(socket.local_addr()?);
        poller.watch(socket, Ready::Clients(number))?;
    }
    let watched = poller::watched(poller.clone())?;
    let pump = Pump {
        table: Table::new(entrance.share, entrance.settings.udp.timeout),
        edge,
        links,
        entrance,
        sockets,
        bound,
        poller,
        rate: Rate::new(SESSIONS_A_SECOND),
        names: Names::default(),
        waiting: Vec::new(),
        probes: Vec::new(),
        kept: Arc::default(),
        tally: Tally::default(),
        // Zeroed by the kernel when they are first used, so unused rooms take no memory.
        inbox: vec![0; BATCH * ROOM],
        outbox: vec![0; BATCH * ROOM],
        replies: Vec::with_capacity(BATCH),
        metas: vec![RecvMeta::default(); BATCH],
        turn: 0,
        draining: false,
    };
    pump.run(watched, close, cut).await
}

impl Pump {
    async fn run(
        mut self,
        watched: AsyncFd<Arc<Poller>>,
        close: CancellationToken,
        cut: CancellationToken,
    ) -> io::Result<usize> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut timer = pin!(tokio::time::sleep(FAR));
        let (mut closing, mut cutting) = (pin!(close.cancelled()), pin!(cut.cancelled()));
        loop {
            let mut busy = false;
            tokio::select! {
                ready = watched.readable() => {
                    let mut ready = ready?;
                    busy = self.work(&mut events)?;
                    if !busy {
                        ready.clear_ready();
                    }
                }
                () = &mut timer => {}
                () = self.names.answered() => self.names_answered(Instant::now()),
                () = &mut closing, if !self.draining => self.draining = true,
                () = &mut cutting => break,
            }
            let now = Instant::now();
            self.tidy(now);
            if self.draining && self.table.len() == 0 {
                break;
            }
            let next = self.next_deadline().unwrap_or(now + FAR);
            // Deadlines mostly move away: the timer is set anew only when it has fired, or would fire too late.
            if timer.is_elapsed() || next < timer.deadline().into_std() {
                timer.as_mut().reset(next.into());
            }
            if busy {
                tokio::task::yield_now().await;
            }
        }
        let left = self.table.len();
        let now = Instant::now();
        while let Some(removed) = self.table.pop() {
            self.ended(removed, SessionEnd::Cut, now);
        }
        Ok(left)
    }

    /// Carries what there is to carry; `true`: there may be more.
    fn work(&mut self, events: &mut [EpollEvent; EVENTS]) -> io::Result<bool> {
        let mut carried = 0;
        while carried < TURN {
            let count = match self.poller.ready(events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                ready => ready?,
            };
            if count == 0 {
                return Ok(false);
            }
            let now = Instant::now();
            for event in events.iter().take(count) {
                let messages = match Ready::of(event) {
                    Ready::Clients(number) => self.take_from_clients(number, now),
                    Ready::BackEnd(id) => self.take_from_back_end(id, now),
                };
                carried += messages.max(1);
            }
            self.flush();
        }
        Ok(true)
    }

    /// What time brings about.
    fn tidy(&mut self, now: Instant) {
        self.tally.settle();
        if !self.probes.is_empty() {
            self.end_probations(now);
        }
        while let Some(removed) = self.table.expire(now) {
            self.ended(removed, SessionEnd::Idle, now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let probes = self.probes.iter().map(|(due, _)| *due).min();
        self.table.next_expiry().into_iter().chain(probes).min()
    }
}
