//! `edge_steer`: which addresses are ours, until when we may answer for them, and which sockets listen.
//!
//! Opening changes nothing for the traffic. In the order of a start: [`Steering::open`], [`Steering::set_binds`],
//! [`Steering::insert_listeners`], [`Steering::grant`], [`Steering::attach`]. A successor does the same while its
//! predecessor still runs: with pins of the same version it writes into the maps that are in use, so its listeners get
//! new connections from the moment they are inserted; with another version it fills maps of its own, and
//! [`Steering::attach`] swaps the program. Either way the predecessor then accepts what is still in its listeners'
//! queues, closes them, and drains.
//!
//! Dropping this leaves everything pinned and in force: that is what a crash does, too. Without [`Steering::grant`]
//! the grant ends by itself.

mod attachment;
mod bind;
mod grant;
mod load;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Array, LpmTrie, MapData, PerCpuArray, SockMap};
use aya::programs::{ProgramFd, SkLookup};
use constellation_ebpf_abi::steer::{self, BindKey, Grant, MAX_DESTS, SLOTS, Verdict};
use nix::sys::socket::{SockType, SockaddrStorage, getpeername, getsockopt, sockopt};

pub use attachment::Attached;
use bind::Bound;
pub use bind::{Bind, Changes, Protocol};
pub use grant::{Granted, Issuer, MAX_EPOCH};

use crate::cost::Cost;
use crate::kernel::{Lookup, LookupOutcome, run_lookup};
use crate::layout::Shared;
use crate::pins::Pins;
use crate::{Error, Lock, Origin};

/// A set of listeners that share binds: one entry point of one protocol. Below 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dest(u32);

impl Dest {
    /// The destination of this number.
    ///
    /// # Errors
    /// [`Error::Destination`] when the map has no place for it.
    pub const fn new(number: u32) -> Result<Self, Error> {
        if number < MAX_DESTS {
            Ok(Self(number))
        } else {
            Err(Error::Destination(number))
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// What happens to new connections when there is no grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// They are refused.
    #[default]
    Refuse,
    /// Whoever else listens there in the ordinary way gets them.
    Pass,
}

/// The handle of `edge_steer` and its maps.
pub struct Steering {
    lock: Lock,
    /// Nothing for a probe.
    pins: Option<Pins>,
    origin: Origin,
    ebpf: Ebpf,
    grant: Array<MapData, Shared<Grant>>,
    binds: LpmTrie<MapData, Shared<BindKey>, Shared<steer::Bind>>,
    sockets: SockMap<MapData>,
    widths: Array<MapData, u32>,
    stats: PerCpuArray<MapData, u64>,
    /// What `binds` holds: reading it from the kernel costs two calls per entry.
    bound: Bound,
    on_loss: OnLoss,
    /// Under whose epochs this handle grants.
    issuer: Issuer,
}

impl fmt::Debug for Steering {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Steering");
        shown
            .field("namespace", self.lock.namespace())
            .field("origin", &self.origin);
        shown.field("binds", &self.bound.len()).finish_non_exhaustive()
    }
}

impl Steering {
    /// Loads the program and opens what is pinned, or pins new maps. Attaches nothing.
    ///
    /// # Errors
    /// When the kernel has no `sk_lookup` (before 5.9), or rights are missing.
    pub fn open(lock: &Lock) -> Result<Self, Error> {
        let pins = Pins::new(lock.namespace())?;
        Self::load(lock, Some(pins))
    }

    /// Where the maps came from.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The loaded program, to run it on made-up lookups.
    ///
    /// # Errors
    /// Only when the object lacks the program.
    pub fn program(&mut self) -> Result<&ProgramFd, Error> {
        let program = self.sk_lookup()?;
        program
            .fd()
            .map_err(|error| Error::kernel("opening the program", &error))
    }

    /// The size of the program in the kernel.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn cost(&mut self) -> Result<Cost, Error> {
        let program = self.sk_lookup()?;
        let info = program
            .info()
            .map_err(|error| Error::kernel("asking for the program", &error))?;
        Ok(Cost::of(&info))
    }

    /// Runs the program on a made-up lookup.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn test(&mut self, lookup: &Lookup, repeat: u32) -> Result<LookupOutcome, Error> {
        let program = self.program()?;
        run_lookup(program, lookup, repeat).map_err(|error| Error::syscall("running edge_steer", &error))
    }

    /// Gives connections for a destination to these sockets: listening ones for TCP, bound and unconnected ones for UDP,
    /// one per worker. They replace what was there, slot by slot, so there always is one. TCP goes to the listener at
    /// the place of the packet's CPU, a UDP client always to the same one; listeners that are one `SO_REUSEPORT` group
    /// are picked by the kernel's own rules instead. A closed socket leaves by itself. Of more than [`SLOTS`] sockets
    /// (64) the first ones are given to the program, and the rest is up to the kernel's rules.
    ///
    /// The addresses that the sockets are bound to don't matter; an IPv6 socket takes IPv4, too, unless it is
    /// `IPV6_V6ONLY`.
    ///
    /// # Errors
    /// [`Error::NoListener`] for no sockets and [`Error::NotListening`] for wrong ones, before anything is changed.
    pub fn insert_listeners(&mut self, dest: Dest, listeners: &[BorrowedFd<'_>]) -> Result<(), Error> {
        if listeners.is_empty() {
            return Err(Error::NoListener(dest.0));
        }
        if !listeners.iter().all(takes_clients) {
            return Err(Error::NotListening(dest.0));
        }
        // The width comes last where it grows, and a slot beyond it is of no account.
        let mut width = 0;
        for (slot, listener) in (0..SLOTS).zip(listeners) {
            width = slot + 1;
            let inserted = self.sockets.set(dest.0 * SLOTS + slot, listener, 0);
            inserted.map_err(|error| {
                Error::kernel(
                    format!("giving connections of destination {} to a socket", dest.0),
                    &error,
                )
            })?;
        }
        self.set_width(dest, width)
    }

    /// Takes all sockets of a destination out, so that its clients are refused.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove_listeners(&mut self, dest: Dest) -> Result<(), Error> {
        self.set_width(dest, 0)?;
        for slot in 0..SLOTS {
            match self.sockets.clear_index(&(dest.0 * SLOTS + slot)) {
                Ok(()) => {}
                Err(error) => {
                    let error =
                        Error::kernel(format!("removing the sockets of destination {}", dest.0), &error);
                    // What was closed is gone already: the kernel says so with EINVAL.
                    if !matches!(
                        error,
                        Error::Kernel {
                            errno: Some(nix::libc::EINVAL | nix::libc::ENOENT),
                            ..
                        }
                    ) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn set_width(&mut self, dest: Dest, width: u32) -> Result<(), Error> {
        let written = self.widths.set(dest.0, width, 0);
        written.map_err(|error| {
            let what = format!("setting how many listeners destination {} has", dest.0);
            Error::kernel(what, &error)
        })
    }

    /// The destinations that steered addresses lead to now, also those that a process before left.
    #[must_use]
    pub fn destinations(&self) -> BTreeSet<Dest> {
        self.bound.values().copied().map(Dest).collect()
    }

    /// How many addresses are steered: entries of the map.
    #[must_use]
    pub fn steered(&self) -> usize {
        self.bound.len()
    }

    /// How often the program said what, since the maps were made.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn stats(&self) -> Result<Vec<(Verdict, u64)>, Error> {
        let sums = crate::maps::sums(&self.stats, steer::STATS)?;
        Ok(Verdict::ALL.iter().copied().zip(sums).collect())
    }

    fn sk_lookup(&mut self) -> Result<&mut SkLookup, Error> {
        let program = self
            .ebpf
            .program_mut(steer::PROGRAM)
            .ok_or(Error::Object(steer::PROGRAM))?;
        program
            .try_into()
            .map_err(|_| Error::Object("edge_steer of the type sk_lookup"))
    }
}

/// Whether a socket can be chosen for new connections or datagrams: the map would take others, too.
fn takes_clients(socket: &BorrowedFd<'_>) -> bool {
    let is_stream = getsockopt(socket, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    if is_stream {
        getsockopt(socket, sockopt::AcceptConn).unwrap_or(false)
    } else {
        getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_err()
    }
}
