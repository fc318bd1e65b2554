//! Small things that both programs' handles do with their maps.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray};
use aya::programs::ProgramInfo;

use crate::Error;

/// Takes a map out of a loaded object, as the type that it is.
pub(crate) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(Error::Object(name))?;
    M::try_from(map).map_err(|error| Error::kernel(format!("opening the map {name}"), &error))
}

/// The counters of a program, each summed over all CPUs.
pub(crate) fn sums(stats: &PerCpuArray<MapData, u64>, name: &'static str) -> Result<Vec<u64>, Error> {
    let values = stats.iter().map(|values| {
        let values = values.map_err(|error| Error::kernel(format!("reading the map {name}"), &error))?;
        Ok(values.iter().sum())
    });
    values.collect()
}

/// The size of a program. 0 where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Instructions after the verifier has rewritten them.
    pub instructions: u32,
    /// Instructions that the verifier walked through, all paths together; the kernel's limit is a million (5.16).
    pub verified: u32,
}

impl Cost {
    pub(crate) fn of(info: &ProgramInfo) -> Self {
        // An instruction has eight bytes.
        let instructions = info.size_translated().unwrap_or(0) / 8;
        Self {
            instructions,
            verified: info.verified_instruction_count().unwrap_or(0),
        }
    }
}
