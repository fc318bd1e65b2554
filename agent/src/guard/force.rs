//! What is in force in the kernel: the copy of the lists there, the devices, and whether the guard is in their drivers.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};

use constellation_config::{Guard as Config, GuardAttack, GuardDevices, GuardRate, Protocol, XdpMode};
use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::guard::{
    self as loader, Alarm, Ban, Change, Events, Hook, Limits, Rate, Thresholds,
};
use constellation_ebpf_loader::{Availability, BootTime, Error, Guard, Origin, steering};
use ipnet::IpNet;

use super::book::Book;
use super::report::{AttackReport, DeviceReport, XdpReport};
use super::routes;

/// What is in force.
pub(super) struct Active {
    guard: Guard,
    events: Events,
    /// The lists as they are in the maps.
    denied: HashMap<IpNet, Ban>,
    allowed: HashSet<IpNet>,
    /// Why the maps are not as they should be.
    unapplied: Option<String>,
    devices: Devices,
    attack: Attack,
    xdp: Availability,
}

/// What was found to work here, not in force yet.
pub(super) struct Loaded {
    pub(super) guard: Guard,
    /// The program for drivers. Whether a driver takes it shows when it is needed.
    pub(super) xdp: Availability,
}

/// Where the guard should be.
struct Devices {
    wanted: GuardDevices,
    /// The names as they were last looked up.
    names: Vec<String>,
    /// Devices that somebody else took the guard off.
    taken_away: Vec<String>,
    /// Why the guard is not at a device.
    problems: HashMap<String, String>,
}

/// Whether it should be in the drivers.
struct Attack {
    config: GuardAttack,
    /// What an operator said instead of the configuration.
    by_hand: Option<XdpMode>,
    alarm: Alarm,
    /// Where it was last sent: whether into the drivers.
    sent: Option<bool>,
    /// Alarms so far.
    alarms: u64,
    /// Devices whose driver can't, and why; told of once.
    obstacles: HashMap<String, String>,
}

impl Active {
    /// Puts limits, lists and ports into the maps, then the guard to its devices, and takes it off elsewhere.
    pub(super) fn begin(
        Loaded { mut guard, xdp }: Loaded,
        config: &Config,
        ports: &[(Protocol, u16)],
        book: &Book,
    ) -> Result<Self, Error> {
        let denied = guard.denied()?.into_iter().collect();
        let allowed = guard.allowed()?.into_iter().collect();
        let events = guard.events()?;
        let mut active = Self {
            events,
            denied,
            allowed,
            unapplied: None,
            devices: Devices {
                wanted: config.devices.clone(),
                names: Vec::new(),
                taken_away: Vec::new(),
                problems: HashMap::new(),
            },
            attack: Attack {
                config: config.attack,
                by_hand: None,
                alarm: Alarm::new(thresholds(&config.attack)),
                sent: None,
                alarms: 0,
                obstacles: HashMap::new(),
            },
            guard,
            xdp,
        };
        // Before it is in force anywhere new, so that nobody on the allow list is limited for a moment.
        active.apply(book);
        active.configure(config, ports)?;
        active.guard.detach_others()?;
        if active.guard.attached().any(|at| at.hook == Hook::Xdp) {
            // An earlier process saw an attack.
            active.attack.alarm = Alarm::raised(thresholds(&config.attack), BootTime::now());
        }
        active.steer_clear(BootTime::now());
        tracing::info!(
            pins = match active.guard.origin() {
                Origin::New => "made",
                Origin::Pinned => "reused",
                Origin::Rebuilt(why) => why,
            },
            devices = ?active.devices.names,
            denied = active.denied.len(),
            allowed = active.allowed.len(),
            "the guard is in force: the kernel drops packets from denied prefixes"
        );
        Ok(active)
    }

    /// Goes by another configuration from now on; the lists are the book's.
    pub(super) fn configure(&mut self, config: &Config, ports: &[(Protocol, u16)]) -> Result<(), Error> {
        let limits = Limits {
            connections: rate(config.connections),
            flows: rate(config.flows),
            flow_idle: config.flow_idle,
            ..Limits::default()
        };
        self.guard.set_limits(&limits)?;
        let ports: Vec<_> = ports
            .iter()
            .map(|(protocol, port)| (of(*protocol), *port))
            .collect();
        self.guard.set_guarded_ports(&ports)?;
        self.attack.config = config.attack;
        self.attack.alarm.set_thresholds(thresholds(&config.attack));
        self.devices.wanted = config.devices.clone();
        // Asked for anew.
        self.devices.taken_away.clear();
        self.attend_devices()
    }

    /// Makes the maps what the book says. Never locks out for a moment who is to be let in.
    pub(super) fn apply(&mut self, book: &Book) {
        let denied: HashMap<IpNet, Ban> = book.denials().collect();
        let allowed: HashSet<IpNet> = book.allowances().collect();
        let outcome = self.write(&denied, &allowed);
        if let Err(error) = &outcome {
            tracing::error!(%error, "the guard's lists in the kernel are not what they should be");
        }
        self.unapplied = outcome.err().map(|error| error.to_string());
    }

    fn write(&mut self, denied: &HashMap<IpNet, Ban>, allowed: &HashSet<IpNet>) -> Result<(), Error> {
        for net in allowed {
            if !self.allowed.contains(net) {
                self.guard.allow(*net)?;
                self.allowed.insert(*net);
            }
        }
        let lifted: Vec<IpNet> = self
            .denied
            .keys()
            .filter(|net| !denied.contains_key(net))
            .copied()
            .collect();
        for net in lifted {
            self.guard.remove_deny(net)?;
            self.denied.remove(&net);
        }
        for (net, ban) in denied {
            if self.denied.get(net) != Some(ban) {
                self.guard.deny(*net, *ban)?;
                self.denied.insert(*net, *ban);
            }
        }
        let taken_back: Vec<IpNet> = self
            .allowed
            .iter()
            .filter(|net| !allowed.contains(net))
            .copied()
            .collect();
        for net in taken_back {
            self.guard.remove_allow(net)?;
            self.allowed.remove(&net);
        }
        Ok(())
    }

    /// Follows devices that come and go.
    pub(super) fn attend_devices(&mut self) -> Result<(), Error> {
        let devices = &mut self.devices;
        devices.names.clone_from(&devices.wanted.names);
        if devices.wanted.of_default_routes {
            let found = routes::default_devices();
            devices.names.extend(
                found
                    .into_iter()
                    .filter(|name| !devices.wanted.names.contains(name)),
            );
        }
        let changes = self.guard.set_devices(&devices.names, &devices.taken_away)?;
        devices.problems.retain(|name, _| devices.names.contains(name));
        for changed in changes {
            let device = changed.device;
            match changed.change {
                Change::Attached(hook) => {
                    tracing::info!(%device, hook = name_of(hook), "the guard is at this device");
                    devices.problems.remove(&device);
                    // It may belong into the driver.
                    self.attack.sent = None;
                }
                Change::Detached => tracing::info!(%device, "the guard is off this device"),
                Change::Gone => {
                    tracing::info!(%device, "this device is gone; the guard waits for it");
                    self.attack.obstacles.remove(&device);
                }
                Change::TakenAway => {
                    tracing::warn!(
                        %device,
                        "somebody took the guard off this device; SIGHUP or a restart puts it back"
                    );
                    let problem = "somebody took the guard off; SIGHUP or a restart puts it back";
                    devices.problems.insert(device.clone(), problem.to_owned());
                    devices.taken_away.push(device);
                }
                Change::Failed(error) => {
                    let text = error.to_string();
                    // Tried again and again; told of once.
                    if devices.problems.get(&device) != Some(&text) {
                        tracing::error!(%device, %error, "the guard can't be attached to this device");
                        devices.problems.insert(device, text);
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks whether there is an attack, and moves into the drivers or back.
    pub(super) fn steer_clear(&mut self, now: BootTime) {
        let dropped = match self.guard.dropped() {
            Ok(dropped) => dropped,
            Err(error) => {
                tracing::debug!(%error, "the guard's counters can't be read");
                return;
            }
        };
        let attack = &mut self.attack;
        let before = attack.alarm.is_raised();
        let raised = attack.alarm.observe(dropped, now);
        if raised != before {
            attack.alarms += u64::from(raised);
            if raised {
                tracing::warn!(
                    threshold = attack.config.raise,
                    "under attack: the guard drops more packets a second than edge.guard.attack.raise"
                );
            } else {
                tracing::info!(
                    "the attack is over: the guard drops little, and has for edge.guard.attack.patience"
                );
            }
        }
        let into_drivers = match attack.by_hand.unwrap_or(attack.config.xdp) {
            XdpMode::On => true,
            XdpMode::Off => false,
            XdpMode::Auto => raised,
        };
        if attack.sent == Some(into_drivers) {
            return;
        }
        attack.sent = Some(into_drivers);
        let before: HashMap<String, Hook> = self
            .guard
            .attached()
            .map(|at| (at.device.name.clone(), at.hook))
            .collect();
        for moved in self.guard.set_under_attack(into_drivers) {
            let loader::Attachment { device, hook } = &moved.attachment;
            match &moved.obstacle {
                Some(error) => {
                    let told = attack.obstacles.insert(device.name.clone(), error.to_string());
                    if told.is_none() {
                        tracing::warn!(
                            device = %device.name, %error,
                            "the guard can't move into the driver of this device, and stays where it is"
                        );
                    }
                }
                None if before.get(&device.name) != Some(hook) => {
                    tracing::info!(device = %device.name, hook = name_of(*hook), "the guard has moved");
                }
                None => {}
            }
        }
    }

    /// By hand, until it is taken back by `Auto` or the node ends.
    pub(super) fn set_xdp(&mut self, mode: XdpMode, now: BootTime) {
        self.attack.by_hand = (mode != XdpMode::Auto).then_some(mode);
        // Also what failed is tried again.
        self.attack.sent = None;
        self.steer_clear(now);
    }

    /// What the programs have told since the last time.
    pub(super) fn take_events(&mut self) -> impl Iterator<Item = loader::Event> + use<'_> {
        self.events.by_ref()
    }

    /// Whether somebody else took the guard off a device, and with it perhaps the pins.
    pub(super) fn is_taken_away(&self) -> bool {
        !self.devices.taken_away.is_empty()
    }

    /// Readable when there are events.
    pub(super) fn events_descriptor(&self) -> std::io::Result<OwnedFd> {
        self.events.as_fd().try_clone_to_owned()
    }

    pub(super) fn verdicts(&self) -> Vec<(Verdict, u64)> {
        self.guard.stats().unwrap_or_else(|error| {
            tracing::debug!(%error, "the guard's counters can't be read");
            Vec::new()
        })
    }

    pub(super) fn unapplied(&self) -> Option<&str> {
        self.unapplied.as_deref()
    }

    pub(super) fn devices(&self) -> Vec<DeviceReport> {
        let hooks: HashMap<&str, Hook> = self
            .guard
            .attached()
            .map(|at| (at.device.name.as_str(), at.hook))
            .collect();
        let report = |name: &String| {
            let hook = hooks.get(name.as_str()).map(|hook| name_of(*hook));
            let problem = self.devices.problems.get(name).cloned();
            let absent = || hook.is_none().then(|| "there is no such device now".to_owned());
            DeviceReport {
                name: name.clone(),
                hook,
                problem: problem.or_else(absent),
                no_xdp: self.attack.obstacles.get(name).cloned(),
            }
        };
        self.devices.names.iter().map(report).collect()
    }

    /// Whether the program for drivers works in this kernel.
    pub(super) fn xdp(&self) -> XdpReport {
        let (state, reason) = match &self.xdp {
            Availability::Active => ("active", None),
            Availability::Unsupported { reason, .. } => ("unsupported", Some(reason.clone())),
            Availability::Denied { missing } => ("denied", Some(format!("this process lacks {missing:?}"))),
            Availability::Disabled => ("disabled", None),
        };
        XdpReport { state, reason }
    }

    pub(super) fn attack(&self) -> AttackReport {
        AttackReport {
            under_attack: self.attack.alarm.is_raised() || self.attack.by_hand == Some(XdpMode::On),
            xdp: self.attack.by_hand.unwrap_or(self.attack.config.xdp).as_str(),
            by_hand: self.attack.by_hand.is_some(),
            alarms: self.attack.alarms,
        }
    }
}

const fn name_of(hook: Hook) -> &'static str {
    match hook {
        Hook::Tcx => "tcx",
        Hook::Clsact => "clsact",
        Hook::Xdp => "xdp",
    }
}

fn thresholds(attack: &GuardAttack) -> Thresholds {
    Thresholds {
        raise: attack.raise.into(),
        calm: attack.calm.into(),
        patience: attack.patience,
    }
}

const fn rate(rate: GuardRate) -> Rate {
    Rate {
        per_second: rate.per_second,
        burst: rate.burst,
    }
}

const fn of(protocol: Protocol) -> steering::Protocol {
    match protocol {
        Protocol::Tcp => steering::Protocol::Tcp,
        Protocol::Udp => steering::Protocol::Udp,
    }
}
