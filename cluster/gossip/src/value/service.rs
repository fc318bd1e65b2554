//! How the instances of one service fare at a node.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;

use super::{Fields, VERSION, ValueError, number, shown};

/// Which service, by the first eight bytes of the SHA-256 of its name. Names are as long as operators like them; whoever is
/// told of a service has its name from the export of that node, and need not read it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId([u8; 8]);

impl ServiceId {
    /// That of the service of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut id = [0; 8];
        for (to, from) in id.iter_mut().zip(digest(&SHA256, name.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(id)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for ServiceId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ValueError::Field {
                what: "service",
                field: "key",
                seen: shown(text),
                expected: "11 characters of base 64 (URL)",
            })
    }
}

/// How many instances of a service are how. Tell them when they changed: each change goes to every node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// They take requests.
    pub healthy: u32,
    /// They take requests, and no check has said yet that they can.
    pub starting: u32,
    /// They run, and checks or traffic speak against them.
    pub unhealthy: u32,
    /// They do not run, or their container says that they can't serve.
    pub stopped: u32,
    /// They end what they have and get nothing new.
    pub draining: u32,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            healthy,
            starting,
            unhealthy,
            stopped,
            draining,
        } = self;
        write!(
            f,
            "{VERSION}|{healthy}|{starting}|{unhealthy}|{stopped}|{draining}"
        )
    }
}

impl FromStr for Counts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut fields = Fields::of("service", text)?;
        Ok(Self {
            healthy: fields.next("healthy", "a number", number)?,
            starting: fields.next("starting", "a number", number)?,
            unhealthy: fields.next("unhealthy", "a number", number)?,
            stopped: fields.next("stopped", "a number", number)?,
            draining: fields.next("draining", "a number", number)?,
        })
    }
}

/// Which version of a node's export its counts are of, or a later one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted(pub(crate) u64);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}|{}", self.0)
    }
}

impl FromStr for Counted {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Fields::of("counted", text)?
            .next("version", "a number", number)
            .map(Self)
    }
}
