//! The capabilities that loading and attaching take, and which of them this thread lacks.

use std::fmt;
use std::fs;

/// What the service needs besides an ordinary user's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// To make maps and load programs.
    Bpf,
    /// To attach network programs and keep sockets in maps.
    NetAdmin,
    /// To compare pointers in programs, which the verifier otherwise takes for an attempt to learn addresses.
    Perfmon,
    /// To send frames of one's own, which no program needs.
    NetRaw,
}

impl Capability {
    /// Those that the programs need.
    pub const ALL: [Self; 3] = [Self::Bpf, Self::NetAdmin, Self::Perfmon];

    /// The bit in the kernel's sets (`linux/capability.h`).
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bpf => "CAP_BPF",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::NetRaw => "CAP_NET_RAW",
        })
    }
}

/// What this thread lacks of [`Capability::ALL`]. Everything, when the kernel doesn't say.
#[must_use]
pub fn missing_capabilities() -> Vec<Capability> {
    missing_of(&Capability::ALL)
}

/// What this thread lacks of these.
#[must_use]
pub fn missing_of(wanted: &[Capability]) -> Vec<Capability> {
    const SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = effective(&status).unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing = wanted.iter().copied().filter(|capability| {
        // CAP_SYS_ADMIN stands for the two that were split off from it.
        let of_admin = matches!(capability, Capability::Bpf | Capability::Perfmon);
        !(has(capability.bit()) || of_admin && has(SYS_ADMIN))
    });
    missing.collect()
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::effective;

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t000000c000001000\n";
        assert_eq!(effective(status), Some(1 << 12 | 1 << 38 | 1 << 39));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
