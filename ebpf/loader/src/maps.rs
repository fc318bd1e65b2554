//! Maps of a loaded object, as the types that they are.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray};

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
