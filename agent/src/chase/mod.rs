//! The chase: connections of an address that moves here stay with the node that had it before.
//!
//! [`Chase::engage`] puts `edge_chase` into force at the devices that `edge.chase` names; as long as nothing has moved it
//! looks at no packet. [`Chase::begin`] says that addresses have moved here and who had them, [`Chase::end`] that this is
//! over; otherwise it ends by itself, by the kernel's clock. An operator or a script calls them ([`wish`] resolves what they
//! leave out); whatever else learns of moved addresses calls the same.
//!
//! The previous holder needs nothing of this: it answers what arrives. What is in force stays in force over an upgrade.

mod metrics;
mod report;
mod wish;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use constellation_config::{Chase as ChaseConfig, Config, EntryPoint, Protocol};
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::chase::Previous;
use constellation_ebpf_loader::{Availability, BootTime, Feature};
use ipnet::IpNet;

pub use self::metrics::register;
pub use self::report::{MovedReport, Report};
pub use self::wish::{Refused, Wish};
use crate::kernel::{self, Kernel, Reason, Standing};

const OFF: &str = "edge.chase.devices is empty";
/// What stands in where it is to be used and can't.
const WHAT_STANDS_IN: &str = "connections of addresses that move here are reset";

/// The handle. Clones share one state.
#[derive(Clone)]
pub struct Chase(Arc<Shared>);

struct Shared {
    kernel: Kernel,
    config: ChaseConfig,
    state: Mutex<State>,
}

enum State {
    /// Whoever serves until now still does.
    Waiting,
    Active(Box<Active>),
    /// It is not used.
    Ordinary(Reason),
    /// A successor has it, or the node stops.
    Ended,
}

struct Active {
    chase: loader::Chase,
    /// What does not work, for whoever asks.
    problems: Vec<String>,
}

impl Chase {
    /// Changes nothing yet.
    pub fn new(config: &Config, kernel: &Kernel) -> Self {
        Self(Arc::new(Shared {
            kernel: kernel.clone(),
            config: config.edge.chase.clone(),
            state: Mutex::new(State::Waiting),
        }))
    }

    /// Puts the program into force, or clears away what an earlier process left of it where it is not used. To be called
    /// once nobody else serves. Where it does not work the node serves without it, and says so.
    pub fn engage(&self, config: &Config, bound: &[(Arc<str>, SocketAddr)]) {
        let begun = if self.0.config.devices.is_empty() {
            Err(Reason::Disabled(OFF))
        } else {
            self.load(&ports(&config.entry_points, bound))
        };
        let state = match begun {
            Ok(active) => State::Active(Box::new(active)),
            Err(reason) => {
                if !matches!(reason, Reason::Disabled(_)) {
                    tracing::warn!(%reason, "the chase is not used: {WHAT_STANDS_IN}");
                }
                self.0.kernel.clear(Feature::Chase);
                State::Ordinary(reason)
            }
        };
        *self.state() = state;
    }

    fn load(&self, ports: &[u16]) -> Result<Active, Reason> {
        let lock = self.0.kernel.claim()?;
        match loader::probe_chase(&lock) {
            Availability::Active => {}
            unavailable => return Err(Reason::Unavailable(unavailable)),
        }
        let mut chase = loader::Chase::open(&lock).map_err(Reason::of)?;
        chase.set_ports(ports).map_err(Reason::of)?;
        let mut active = Active {
            chase,
            problems: Vec::new(),
        };
        active.set_devices(&self.0.config.devices).map_err(Reason::of)?;
        tracing::info!(
            devices = %self.0.config.devices.join(" "),
            maps = ?active.chase.origin(),
            moved = active.moved().len(),
            "the chase is in force: connections of addresses that move here can stay with the node before"
        );
        Ok(active)
    }

    /// The entry points have other addresses now.
    pub fn set_ports(&self, entry_points: &[EntryPoint], bound: &[(Arc<str>, SocketAddr)]) {
        if let State::Active(active) = &mut *self.state()
            && let Err(error) = active.chase.set_ports(&ports(entry_points, bound))
        {
            tracing::error!(%error, "the chase goes on with the ports as they were");
        }
    }

    /// Addresses have moved here, or are about to: to lose no connection, before they do.
    ///
    /// # Errors
    /// In words for whoever asked; then nothing has changed.
    pub fn begin(&self, wish: &Wish) -> Result<Report, Refused> {
        let moves = {
            let mut state = self.state();
            // First, since where it is not used it doesn't matter what was asked for.
            let active = active(&mut state)?;
            let moves = wish.moves(&self.0.config)?;
            active
                .set_devices(&self.0.config.devices)
                .map_err(|error| Refused::Failed(error.to_string()))?;
            active.begin(&moves.addresses, BootTime::now() + moves.duration)?;
            moves
        };
        for (net, previous) in &moves.addresses {
            tracing::info!(%net, %previous, duration = ?moves.duration, "connections of an address that moves here stay with the node before");
        }
        Ok(self.report())
    }

    /// It is over: packets of connections that this node does not know are answered here from now on.
    ///
    /// # Errors
    /// In words for whoever asked.
    pub fn end(&self, wish: &Wish) -> Result<Report, Refused> {
        let nets = wish.nets()?;
        {
            let mut state = self.state();
            let active = active(&mut state)?;
            for (net, _) in active.chase.previous()? {
                if nets.is_empty() || nets.contains(&net) {
                    active.chase.set_previous(net, None)?;
                    tracing::info!(%net, "no connections of this address stay with the node before any more");
                }
            }
        }
        Ok(self.report())
    }

    /// Whether the kernel does it.
    pub fn is_active(&self) -> bool {
        matches!(*self.state(), State::Active(_))
    }

    /// A successor has taken over: what is pinned is its own from now on.
    pub fn leave(&self) {
        *self.state() = State::Ended;
    }

    /// Takes the program out of force and removes all that is pinned of it. Does nothing the second time.
    pub fn detach(&self) {
        let ended = std::mem::replace(&mut *self.state(), State::Ended);
        if let State::Active(_) = ended {
            self.0.kernel.clear(Feature::Chase);
        }
    }

    /// The chase as it is now.
    pub fn report(&self) -> Report {
        let mut report = Report::new(&self.0.config);
        match &*self.state() {
            State::Waiting => report.standing = Standing::WAITING,
            State::Active(active) => active.report(&mut report),
            State::Ordinary(reason) => {
                report.standing = Standing::without(reason, Some(WHAT_STANDS_IN));
            }
            State::Ended => {}
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn active(state: &mut State) -> Result<&mut Active, Refused> {
    match state {
        State::Active(active) => Ok(active),
        State::Waiting | State::Ended => Err(Refused::Unavailable(
            "the node is being replaced or stopped".to_owned(),
        )),
        State::Ordinary(reason) => Err(Refused::Unavailable(format!("the chase is not used: {reason}"))),
    }
}

impl Active {
    /// Devices that were not there before may be there now.
    fn set_devices(&mut self, names: &[String]) -> Result<(), loader::Error> {
        let failures = self.chase.set_devices(names)?;
        self.problems = failures
            .iter()
            .map(|(name, error)| format!("not at {name}: {error}"))
            .collect();
        for problem in &self.problems {
            tracing::warn!("the chase is {problem}");
        }
        Ok(())
    }

    /// All of them, or none.
    fn begin(&mut self, moves: &[(IpNet, std::net::IpAddr)], until: BootTime) -> Result<(), Refused> {
        // Room for new ones.
        self.chase.forget_expired(BootTime::now())?;
        let before = self.chase.previous()?;
        for (position, (net, address)) in moves.iter().enumerate() {
            let previous = Previous {
                address: *address,
                until,
            };
            if let Err(error) = self.chase.set_previous(*net, Some(previous)) {
                for (net, _) in &moves[..position] {
                    let earlier = before
                        .iter()
                        .find(|(other, _)| other == net)
                        .map(|(_, earlier)| *earlier);
                    self.chase.set_previous(*net, earlier)?;
                }
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// What has moved and is not over.
    fn moved(&self) -> Vec<(IpNet, Previous)> {
        let now = BootTime::now();
        let mut moved = self.chase.previous().unwrap_or_else(|error| {
            tracing::error!(%error, "the addresses that moved here can't be read");
            Vec::new()
        });
        moved.retain(|(_, previous)| now < previous.until);
        moved.sort_unstable_by_key(|(net, _)| *net);
        moved
    }

    fn report(&self, report: &mut Report) {
        let now = BootTime::now();
        report.standing = Standing::ACTIVE;
        report.problems.clone_from(&self.problems);
        report.devices = self
            .chase
            .attached()
            .map(|(device, _)| device.name.clone())
            .collect();
        report.moved = self
            .moved()
            .into_iter()
            .map(|(net, previous)| MovedReport {
                address: report::short(net),
                previous: previous.address,
                remaining: previous.until.remaining(now).unwrap_or_default(),
            })
            .collect();
        match self.chase.stats() {
            Ok(stats) => report.verdicts = stats,
            Err(error) => tracing::error!(%error, "the counters of the chase can't be read"),
        }
    }
}

/// The TCP ports whose connections end at sockets of this node.
fn ports(entry_points: &[EntryPoint], bound: &[(Arc<str>, SocketAddr)]) -> Vec<u16> {
    let all = kernel::ports(entry_points, bound).into_iter();
    all.filter(|(protocol, _)| *protocol == Protocol::Tcp)
        .map(|(_, port)| port)
        .collect()
}

impl fmt::Debug for Chase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chase").field(&self.report()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_connections() {
        let at = |name: &str, address: &str| EntryPoint::new(name, vec![address.parse().unwrap()]);
        let mut dns = at("dns", "10.0.0.1:53");
        dns.protocol = Protocol::Udp;
        let bound = [
            ("any".into(), "10.0.0.1:4321".parse().unwrap()),
            ("dns".into(), "10.0.0.1:53".parse().unwrap()),
        ];
        let entry_points = [at("web", "0.0.0.0:80"), at("any", "10.0.0.1:0"), dns];
        assert_eq!(ports(&entry_points, &bound), [80, 4321]);
    }
}
