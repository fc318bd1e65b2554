//! What a node tells of itself as a whole.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{
    Fields, Label, VERSION, ValueError, by_letter, joined, letter, list, number, optional, shown_optional,
};

/// The most capabilities of a node.
pub const CAPABILITIES_LIMIT: usize = 16;

/// What a node wants from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Connections.
    Serving,
    /// No new ones: an operator said so.
    Cordoned,
    /// No new ones: it will leave when the last one ends.
    Draining,
    /// To be forgotten: it stops now.
    Leaving,
}

impl Standing {
    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Serving, "s"),
        (Self::Cordoned, "c"),
        (Self::Draining, "d"),
        (Self::Leaving, "l"),
    ];
}

/// A node in general: changes rarely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it wants.
    pub standing: Standing,
    /// Lower is preferred.
    pub priority: u32,
    /// For the order of endpoints: same node, same region, priority.
    pub region: Option<Label>,
    /// Its address on the mesh.
    pub mesh: Option<IpAddr>,
    /// Its public addresses.
    pub public: Vec<IpAddr>,
    /// Its release.
    pub release: Label,
    /// What it can do, e.g. `docker`, `ebpf`.
    pub capabilities: Vec<Label>,
}

/// The most public addresses of a node.
const PUBLIC_LIMIT: usize = 4;

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{VERSION}|{}|{}|{}|{}|{}|{}|{}",
            letter(&Standing::ALL, self.standing),
            self.priority,
            shown_optional(self.region.as_ref()),
            shown_optional(self.mesh),
            joined(&self.public),
            self.release,
            joined(&self.capabilities),
        )
    }
}

impl FromStr for Metadata {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut fields = Fields::of("metadata", text)?;
        Ok(Self {
            standing: fields.next("standing", "s, c, d or l", |text| by_letter(&Standing::ALL, text))?,
            priority: fields.next("priority", "a number", number)?,
            region: fields.next("region", "a label or nothing", optional)?,
            mesh: fields.next("mesh address", "an IP address or nothing", optional)?,
            public: fields.next("public addresses", "at most 4 IP addresses", |text| {
                list(text, PUBLIC_LIMIT, number)
            })?,
            release: fields.next("release", "a label", number)?,
            capabilities: fields.next("capabilities", "at most 16 labels", |text| {
                list(text, CAPABILITIES_LIMIT, number)
            })?,
        })
    }
}

/// How much a node has to do. Tell it when it changed by something that matters: each change goes to every node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Of all its processors, 0 to 1000.
    pub cpu_permille: u16,
    /// Of its memory, 0 to 1000.
    pub memory_permille: u16,
    /// Open connections.
    pub connections: u32,
    /// Requests under way.
    pub requests: u32,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu_permille,
            memory_permille,
            connections,
            requests,
        } = self;
        write!(
            f,
            "{VERSION}|{cpu_permille}|{memory_permille}|{connections}|{requests}"
        )
    }
}

impl FromStr for Load {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut fields = Fields::of("load", text)?;
        let permille = |text| number(text).filter(|permille| *permille <= 1000);
        Ok(Self {
            cpu_permille: fields.next("processors", "0 to 1000", permille)?,
            memory_permille: fields.next("memory", "0 to 1000", permille)?,
            connections: fields.next("connections", "a number", number)?,
            requests: fields.next("requests", "a number", number)?,
        })
    }
}
