//! `edge_guard`: which sources are denied, which are always let in, how fast the others may open connections and flows,
//! and at which devices this is asked.
//!
//! [`Guard::open`] changes nothing for the traffic; [`Guard::attach`] puts it into force at a device. All devices share
//! the maps. As with steering, dropping this leaves everything pinned and in force: a restart goes on with the same
//! lists, and so does the traffic in between.

mod alarm;
mod attachment;
mod device;
mod devices;
mod event;
mod limit;
mod list;
mod load;

use std::collections::BTreeMap;
use std::fmt;

use aya::Ebpf;
use aya::maps::{Array, LpmTrie, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, Xdp};
use constellation_ebpf_abi::guard::{self as abi, Config, Deny, Verdict};

pub use alarm::{Alarm, Thresholds};
pub use attachment::{Attachment, Hook, UnderAttack};
pub use device::Device;
pub(crate) use devices::detach_clsact;
pub use devices::{Change, Reattached};
pub use event::{Event, Events};
pub use limit::{Limits, Rate};
pub use list::Ban;

use crate::cost::Cost;
use crate::layout::Shared;
use crate::pins::Pins;
use crate::{Error, Lock, Origin};

/// The handle of `edge_guard` and its maps.
pub struct Guard {
    lock: Lock,
    /// Nothing for a probe.
    pins: Option<Pins>,
    origin: Origin,
    ebpf: Ebpf,
    config: Array<MapData, Shared<Config>>,
    ports: Array<MapData, u64>,
    allow4: LpmTrie<MapData, [u8; 4], u32>,
    allow6: LpmTrie<MapData, [u8; 16], u32>,
    deny4: LpmTrie<MapData, [u8; 4], Shared<Deny>>,
    deny6: LpmTrie<MapData, [u8; 16], Shared<Deny>>,
    stats: PerCpuArray<MapData, u64>,
    /// Where this process attached it, by the device's index.
    attached: BTreeMap<u32, Attachment>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Guard");
        shown
            .field("namespace", self.lock.namespace())
            .field("origin", &self.origin);
        shown.field("attached", &self.attached).finish_non_exhaustive()
    }
}

/// One of the three programs, which judge alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// At TCX or clsact, packets begin with an Ethernet header.
    L2,
    /// At TCX or clsact, packets begin with an IP header.
    L3,
    /// At XDP.
    Xdp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::L2, Self::L3, Self::Xdp];

    /// Its name in the kernel.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2 => abi::PROGRAM_L2,
            Self::L3 => abi::PROGRAM_L3,
            Self::Xdp => abi::PROGRAM_XDP,
        }
    }
}

/// What a program said about a made-up packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the packet goes on.
    pub passed: bool,
    /// Nanoseconds of one run, as the kernel measured them.
    pub nanos: u32,
}

impl Guard {
    /// Loads the programs and opens what is pinned, or pins new maps with no limits and empty lists. Attaches nothing.
    ///
    /// # Errors
    /// When rights are missing, or the kernel is too old.
    pub fn open(lock: &Lock) -> Result<Self, Error> {
        let pins = Pins::new(lock.namespace())?;
        Self::load(lock, Some(pins))
    }

    /// Where the maps came from.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How often the programs said what, since the maps were made, at all devices together.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn stats(&self) -> Result<Vec<(Verdict, u64)>, Error> {
        let sums = crate::maps::sums(&self.stats, abi::STATS)?;
        Ok(Verdict::ALL.iter().copied().zip(sums).collect())
    }

    /// Packets dropped since the maps were made, for whatever reason. For [`Alarm::observe`].
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn dropped(&self) -> Result<u64, Error> {
        Ok(self
            .stats()?
            .iter()
            .filter(|(verdict, _)| !verdict.passes())
            .map(|(_, times)| times)
            .sum())
    }

    /// The size of a program in the kernel. Loads it where it was not loaded yet.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn cost(&mut self, program: Program) -> Result<Cost, Error> {
        let info = match program {
            Program::L2 | Program::L3 => self.classifier(program)?.info(),
            Program::Xdp => self.xdp()?.info(),
        };
        info.map(|info| Cost::of(&info))
            .map_err(|error| Error::kernel("asking for the program", &error))
    }

    /// Runs a program `repeat` times on a made-up packet of at least 14 bytes. Loads it where it was not loaded yet.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn test(&mut self, program: Program, packet: &[u8], repeat: u32) -> Result<Outcome, Error> {
        use aya::TestRun as _;
        // What XDP and TC return for a packet that goes on: XDP_PASS, TC_ACT_UNSPEC.
        let (result, pass) = match program {
            Program::L2 | Program::L3 => (
                self.classifier(program)?.test_run(options(packet, repeat)),
                u32::MAX,
            ),
            Program::Xdp => (self.xdp()?.test_run(options(packet, repeat)), 2),
        };
        let result = result.map_err(|error| Error::kernel(format!("running {}", program.name()), &error))?;
        let nanos = u32::try_from(result.duration.as_nanos()).unwrap_or(u32::MAX);
        Ok(Outcome {
            passed: result.return_value == pass,
            nanos,
        })
    }

    /// A TC program, loaded.
    fn classifier(&mut self, program: Program) -> Result<&mut SchedClassifier, Error> {
        let name = program.name();
        let found = self.ebpf.program_mut(name).ok_or(Error::Object(name))?;
        let classifier: &mut SchedClassifier = found.try_into().map_err(|_| Error::Object(name))?;
        if classifier.fd().is_err() {
            classifier
                .load()
                .map_err(|error| Error::kernel(format!("loading {name}"), &error))?;
        }
        Ok(classifier)
    }

    /// The XDP program, loaded.
    fn xdp(&mut self) -> Result<&mut Xdp, Error> {
        let name = abi::PROGRAM_XDP;
        let found = self.ebpf.program_mut(name).ok_or(Error::Object(name))?;
        let xdp: &mut Xdp = found.try_into().map_err(|_| Error::Object(name))?;
        if xdp.fd().is_err() {
            xdp.load()
                .map_err(|error| Error::kernel(format!("loading {name}"), &error))?;
        }
        Ok(xdp)
    }
}

fn options(packet: &[u8], repeat: u32) -> aya::TestRunOptions<'_> {
    aya::TestRunOptions {
        data_in: Some(packet),
        repeat,
        ..aya::TestRunOptions::new()
    }
}
