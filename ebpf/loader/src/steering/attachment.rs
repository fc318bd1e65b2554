//! Attaching `edge_steer` to the network namespace, or putting it in the place of what an earlier process attached.

use aya::programs::links::FdLink;
use constellation_ebpf_abi::steer::PROGRAM;

use super::Steering;
use crate::Error;

/// What [`Steering::attach`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Nothing was attached before.
    New,
    /// An earlier process had attached the program; it was replaced in one step.
    Replaced,
}

impl Steering {
    /// Puts the program into force, and pins it. One that an earlier process attached, also with other layouts, is
    /// replaced.
    ///
    /// # Errors
    /// Those of the kernel. What was attached before stays attached then.
    pub fn attach(&mut self) -> Result<Attached, Error> {
        let Some(pins) = &self.pins else {
            return Err(Error::Object("pins: it was loaded for a probe"));
        };
        let pins = pins.clone();
        let namespace = self.lock.namespace().clone();
        if pins.replace_program(&namespace, PROGRAM, self.program()?)? {
            return Ok(Attached::Replaced);
        }
        let own = pins.link(PROGRAM);
        self.create()?
            .pin(&own)
            .map_err(|error| Error::kernel("pinning edge_steer", &error))?;
        Ok(Attached::New)
    }

    /// Attaches the program beside whatever else is attached. It ends with the link.
    pub(crate) fn create(&mut self) -> Result<FdLink, Error> {
        let namespace = self.lock.namespace().clone();
        let program = self.sk_lookup()?;
        let link = program
            .attach(namespace.net())
            .and_then(|link| program.take_link(link));
        link.map(FdLink::from)
            .map_err(|error| Error::kernel("attaching edge_steer to the network namespace", &error))
    }
}
