//! How many sessions all entry points may have together: each takes a descriptor and a port of this host.

use nix::sys::resource::{Resource, getrlimit};

/// What the entry points may have, when they want so many: what they want, or else shares of what there is.
///
/// Half of the descriptors stay for connections, and an eighth of the ports for other programs.
pub(super) fn allot(wanted: &[usize], descriptors: usize, ports: usize) -> Vec<usize> {
    let most = (descriptors / 2).min(ports - ports / 8).max(1);
    let total: usize = wanted.iter().fold(0, |sum, wanted| sum.saturating_add(*wanted));
    if total <= most {
        return wanted.to_vec();
    }
    let share = |wanted: usize| {
        let share = wanted as u128 * most as u128 / total as u128;
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    };
    wanted.iter().map(|wanted| share(*wanted)).collect()
}

/// Descriptors that this process may have.
pub(super) fn descriptors() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE)
        .ok()
        .and_then(|(soft, _)| usize::try_from(soft).ok())
        .unwrap_or(1024)
}

/// Ports that the kernel gives to sockets that ask for none. One that is used by any UDP socket is given to no other.
pub(super) fn ports() -> usize {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| count(&range))
        .unwrap_or(28_232)
}

fn count(range: &str) -> Option<usize> {
    let mut ends = range.split_whitespace().map(str::parse::<usize>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    (last + 1).checked_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_or_shares_of_what_there_is() {
        let cases: [(&[usize], usize, usize, &[usize]); 6] = [
            (&[100, 200], 1_000_000, 28_232, &[100, 200]),
            (&[65_536], 1_000_000, 28_232, &[24_703]),
            (&[65_536], 1024, 28_232, &[512]),
            (&[300, 100], 400, 28_232, &[150, 50]),
            (&[65_536, 1], 1024, 28_232, &[511, 1]),
            (&[], 1024, 28_232, &[]),
        ];
        for (wanted, descriptors, ports, expected) in cases {
            assert_eq!(
                allot(wanted, descriptors, ports),
                expected,
                "{wanted:?} of {descriptors} and {ports}"
            );
        }
    }

    #[test]
    fn a_range_has_both_ends() {
        assert_eq!(count("32768\t60999\n"), Some(28_232));
        assert_eq!(count("1024 1024"), Some(1));
        for odd in ["", "1024", "2 1 x", "x y"] {
            assert_eq!(count(odd).unwrap_or(0), 0, "{odd:?}");
        }
    }
}
