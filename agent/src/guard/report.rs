//! What status, health, metrics and lists tell of the guard.

use std::collections::BTreeMap;

use constellation_ebpf_loader::abi::guard::Verdict;
use serde::Serialize;

use crate::kernel::Standing;

/// The guard at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `edge.guard.mode`: `auto`, `ebpf` or `off`.
    pub mode: &'static str,
    /// Whether it is in force, and why not.
    #[serde(flatten)]
    pub standing: Standing,
    /// Where it should be, and whether it is; empty where it is not active.
    pub devices: Vec<DeviceReport>,
    /// Denied prefixes, those of the configuration included.
    pub denied: usize,
    /// Allowed prefixes, likewise.
    pub allowed: usize,
    /// Whether the program for drivers works in this kernel; nothing where the guard is not active.
    pub xdp: Option<XdpReport>,
    /// Whether there is an attack; nothing where it is not active.
    pub attack: Option<AttackReport>,
    /// What can't be as it should be: lists, devices, the file.
    pub problems: Vec<String>,
    /// The last things that the programs told, newest first.
    pub events: Vec<EventReport>,
    /// Packets by verdict, since the maps were made.
    pub packets: BTreeMap<&'static str, u64>,
    /// The same, in the programs' order.
    #[serde(skip)]
    pub verdicts: Vec<(Verdict, u64)>,
    /// Events by verdict, since this process serves.
    #[serde(skip)]
    pub event_counts: Vec<(Verdict, u64)>,
    /// Bans by who asked for them, since this process serves.
    #[serde(skip)]
    pub ban_counts: Vec<(&'static str, u64)>,
    /// Offences by kind, since this process serves.
    #[serde(skip)]
    pub offence_counts: Vec<(&'static str, u64)>,
    /// Offences that were lost or that there was no room to count.
    #[serde(skip)]
    pub uncounted_offences: u64,
}

/// A device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// `tcx`, `clsact` or `xdp`; nothing where the guard is not attached.
    pub hook: Option<&'static str>,
    /// Why it is not attached.
    pub problem: Option<String>,
    /// Why it can't move into the driver, where it was to.
    pub no_xdp: Option<String>,
}

/// The program for drivers, loaded and run on a packet at the start.
#[derive(Clone, Debug, Serialize)]
pub struct XdpReport {
    /// `active`, `unsupported` or `denied`.
    pub state: &'static str,
    /// Why it does not work.
    pub reason: Option<String>,
}

/// Whether there is an attack.
#[derive(Clone, Debug, Serialize)]
pub struct AttackReport {
    /// By the thresholds, or because somebody says so.
    pub under_attack: bool,
    /// `auto`, `on` or `off`: what counts now.
    pub xdp: &'static str,
    /// Whether somebody said so while the node ran.
    pub by_hand: bool,
    /// Alarms since this process serves.
    pub alarms: u64,
}

/// Something that a program told.
#[derive(Clone, Debug, Serialize)]
pub struct EventReport {
    /// When.
    pub at: String,
    /// What was said about the packet.
    pub verdict: &'static str,
    /// Who sent it.
    pub source: String,
    /// The ban's prefix, where it was added at run time.
    pub prefix: Option<String>,
    /// Why, of a ban.
    pub reason: Option<String>,
    /// The port, where it counted: `443/tcp`.
    pub port: Option<String>,
}

/// A line of the deny list.
#[derive(Clone, Debug, Serialize)]
pub struct DeniedReport {
    /// The prefix.
    pub prefix: String,
    /// `configuration`, `operator` or `proxy`.
    pub origin: &'static str,
    /// Why.
    pub reason: String,
    /// When it was added; nothing for the configuration's.
    pub since: Option<String>,
    /// When it ends; nothing for one without an end.
    pub until: Option<String>,
    /// Seconds to its end.
    pub remaining_seconds: Option<u64>,
}

/// A line of the allow list.
#[derive(Clone, Debug, Serialize)]
pub struct AllowedReport {
    /// The prefix.
    pub prefix: String,
    /// `configuration` or `operator`.
    pub origin: &'static str,
    /// Why.
    pub reason: String,
    /// When it was added; nothing for the configuration's.
    pub since: Option<String>,
}

/// Both lists.
#[derive(Clone, Debug, Serialize)]
pub struct Lists {
    /// Who is dropped, but for who is allowed.
    pub denied: Vec<DeniedReport>,
    /// Who is let in, whatever else is said.
    pub allowed: Vec<AllowedReport>,
}

/// What came of a change.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// Prefixes that are on or off the list now and were not before, or have another ban.
    pub changed: Vec<String>,
    /// Prefixes that there was nothing to do about, with the reason.
    pub unchanged: Vec<String>,
    /// What there is to say about it.
    pub notes: Vec<String>,
    /// `kernel`, or `node` where the node itself refuses connections.
    pub enforced_by: &'static str,
    /// Whether it outlasts the node.
    pub kept: bool,
}
