//! Who is denied and who is allowed: what the configuration says, and what was said while the node runs.
//!
//! Pure: the time is passed in. The kernel holds a copy of [`Book::denials`] and [`Book::allowances`], the file one of what
//! was said at run time. Ends are by the boot clock, which nobody sets; the wall clock's are for people and for the file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use constellation_ebpf_loader::BootTime;
use constellation_ebpf_loader::abi::guard::{MAX_ALLOW, MAX_DENY};
use constellation_ebpf_loader::guard as loader;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The number of every ban that the configuration asks for, in the kernel's map and in its events.
const OF_CONFIGURATION: u32 = 1;
/// What is said of them.
pub(super) const CONFIGURED: &str = "edge.guard.deny";

/// Who asked for a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The configuration.
    Configuration,
    /// Somebody with the token.
    Operator,
    /// The proxy, for what the source did to it.
    Proxy,
}

impl Origin {
    /// In metrics and lists.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Operator => "operator",
            Self::Proxy => "proxy",
        }
    }
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) boot: BootTime,
    pub(super) wall: SystemTime,
}

impl Now {
    /// The present.
    pub(super) fn take() -> Self {
        Self {
            boot: BootTime::now(),
            wall: SystemTime::now(),
        }
    }

    /// In that time from now.
    pub(super) fn after(self, time: Duration) -> Until {
        Until {
            boot: self.boot + time,
            wall: self.wall + time,
        }
    }
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Until {
    pub(super) boot: BootTime,
    pub(super) wall: SystemTime,
}

/// A ban that was asked for at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ban {
    pub(super) origin: Origin,
    pub(super) reason: Arc<str>,
    pub(super) made: SystemTime,
    /// Nothing for one without an end.
    pub(super) until: Option<Until>,
}

/// An allowance that was asked for at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) reason: Arc<str>,
    pub(super) made: SystemTime,
}

/// What is said of a prefix that is on no list any more.
const FORGOTTEN: &str = "not on the list any more";

/// A list would be longer than the kernel's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {list} list holds {max} prefixes of each family at most. Remove some, or join neighbours")]
pub(super) struct Full {
    list: &'static str,
    max: u32,
}

/// Both lists.
#[derive(Debug, Default)]
pub(super) struct Book {
    fixed_denied: BTreeSet<IpNet>,
    fixed_allowed: BTreeSet<IpNet>,
    denied: BTreeMap<IpNet, (u32, Ban)>,
    allowed: BTreeMap<IpNet, Allowance>,
    /// The ban of each number.
    numbers: HashMap<u32, IpNet>,
    last_number: u32,
}

impl Book {
    /// What the configuration says, in place of what it said before.
    pub(super) fn configure(&mut self, denied: &[IpNet], allowed: &[IpNet]) {
        self.fixed_denied = denied.iter().map(IpNet::trunc).collect();
        self.fixed_allowed = allowed.iter().map(IpNet::trunc).collect();
    }

    /// Denies prefixes; one that is denied already gets this ban instead. All or none.
    pub(super) fn deny(&mut self, bans: &[(IpNet, Ban)]) -> Result<(), Full> {
        let known = |net: &IpNet| self.denied.contains_key(net) || self.fixed_denied.contains(net);
        let nets = bans.iter().map(|(net, _)| *net);
        fits("deny", MAX_DENY, self.denials().map(|(net, _)| net), nets, known)?;
        for (net, ban) in bans {
            self.insert(*net, ban.clone());
        }
        Ok(())
    }

    fn insert(&mut self, net: IpNet, ban: Ban) {
        let number = loop {
            self.last_number = self.last_number.wrapping_add(1);
            if self.last_number > OF_CONFIGURATION && !self.numbers.contains_key(&self.last_number) {
                break self.last_number;
            }
        };
        self.numbers.insert(number, net);
        if let Some((old, _)) = self.denied.insert(net, (number, ban)) {
            self.numbers.remove(&old);
        }
    }

    /// Lifts a ban that was asked for at run time. Whether there was one.
    pub(super) fn undeny(&mut self, net: IpNet) -> bool {
        let Some((number, _)) = self.denied.remove(&net) else {
            return false;
        };
        self.numbers.remove(&number);
        true
    }

    /// Allows prefixes. All or none.
    pub(super) fn allow(&mut self, allowances: &[(IpNet, Allowance)]) -> Result<(), Full> {
        let known = |net: &IpNet| self.allowed.contains_key(net) || self.fixed_allowed.contains(net);
        let nets = allowances.iter().map(|(net, _)| *net);
        fits("allow", MAX_ALLOW, self.allowances(), nets, known)?;
        self.allowed.extend(allowances.iter().cloned());
        Ok(())
    }

    /// Takes back an allowance that was asked for at run time. Whether there was one.
    pub(super) fn disallow(&mut self, net: IpNet) -> bool {
        self.allowed.remove(&net).is_some()
    }

    /// Removes bans that are over. A ban that is over and still in the kernel's map would hide a wider one that is not, as
    /// the longest prefix counts.
    pub(super) fn expire(&mut self, now: BootTime) -> usize {
        let over: Vec<IpNet> = self
            .denied
            .iter()
            .filter(|(_, (_, ban))| ban.until.is_some_and(|until| until.boot <= now))
            .map(|(net, _)| *net)
            .collect();
        for net in &over {
            self.undeny(*net);
        }
        over.len()
    }

    /// When the next ban is over.
    pub(super) fn next_end(&self) -> Option<BootTime> {
        let ends = self.denied.values().filter_map(|(_, ban)| ban.until);
        ends.map(|until| until.boot).min()
    }

    /// Every denied prefix, once, as the kernel is told. What the configuration denies has no end.
    pub(super) fn denials(&self) -> impl Iterator<Item = (IpNet, loader::Ban)> {
        let fixed = self.fixed_denied.iter().map(|net| {
            let ban = loader::Ban {
                reason: OF_CONFIGURATION,
                until: None,
            };
            (*net, ban)
        });
        let asked = self
            .denied
            .iter()
            .filter(|(net, _)| !self.fixed_denied.contains(net));
        fixed.chain(asked.map(|(net, (number, ban))| {
            let ban = loader::Ban {
                reason: *number,
                until: ban.until.map(|until| until.boot),
            };
            (*net, ban)
        }))
    }

    /// Every allowed prefix, once.
    pub(super) fn allowances(&self) -> impl Iterator<Item = IpNet> {
        let asked = self
            .allowed
            .keys()
            .filter(|net| !self.fixed_allowed.contains(net));
        self.fixed_allowed.iter().chain(asked).copied()
    }

    /// Prefixes that only the configuration denies.
    pub(super) fn configured_denials(&self) -> impl Iterator<Item = IpNet> {
        self.fixed_denied.iter().copied()
    }

    /// Prefixes that only the configuration allows.
    pub(super) fn configured_allowances(&self) -> impl Iterator<Item = IpNet> {
        self.fixed_allowed.iter().copied()
    }

    /// Bans that were asked for at run time.
    pub(super) fn bans(&self) -> impl ExactSizeIterator<Item = (IpNet, &Ban)> {
        self.denied.iter().map(|(net, (_, ban))| (*net, ban))
    }

    /// The ban of a prefix that was asked for at run time.
    pub(super) fn ban(&self, net: &IpNet) -> Option<&Ban> {
        self.denied.get(net).map(|(_, ban)| ban)
    }

    /// Whether the configuration denies exactly this prefix.
    pub(super) fn is_configured(&self, net: &IpNet) -> bool {
        self.fixed_denied.contains(net)
    }

    /// Whether the configuration allows exactly this prefix.
    pub(super) fn is_configured_allowance(&self, net: &IpNet) -> bool {
        self.fixed_allowed.contains(net)
    }

    /// Allowances that were asked for at run time.
    pub(super) fn asked_allowances(&self) -> impl ExactSizeIterator<Item = (IpNet, &Allowance)> {
        self.allowed.iter().map(|(net, allowance)| (*net, allowance))
    }

    /// How many prefixes are denied, and how many are allowed.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.denials().count(), self.allowances().count())
    }

    /// Whether an address is let in whatever else is said.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowances().any(|net| net.contains(&address))
    }

    /// Whether a whole prefix is let in whatever else is said.
    pub(super) fn allows_all_of(&self, net: &IpNet) -> bool {
        self.allowances().any(|allowed| allowed.contains(net))
    }

    /// The prefix and the words of a ban, by its number in an event.
    pub(super) fn told(&self, number: u32) -> (Option<IpNet>, Arc<str>) {
        if number == OF_CONFIGURATION {
            return (None, CONFIGURED.into());
        }
        let net = self.numbers.get(&number).copied();
        let ban = net.and_then(|net| self.ban(&net));
        (
            net,
            ban.map_or_else(|| FORGOTTEN.into(), |ban| ban.reason.clone()),
        )
    }
}

/// Whether a list has room for these, beside what is on it.
fn fits(
    list: &'static str,
    max: u32,
    held: impl Iterator<Item = IpNet>,
    nets: impl Iterator<Item = IpNet>,
    known: impl Fn(&IpNet) -> bool,
) -> Result<(), Full> {
    let mut room = [i64::from(max); 2];
    let of = |net: &IpNet| usize::from(matches!(net, IpNet::V6(_)));
    let new: BTreeSet<IpNet> = nets.filter(|net| !known(net)).collect();
    for net in held.chain(new) {
        if let Some(room) = room.get_mut(of(&net)) {
            *room -= 1;
        }
    }
    if room.iter().any(|left| *left < 0) {
        return Err(Full { list, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn now(seconds: u64) -> Now {
        Now {
            boot: BootTime::from_nanos(seconds * 1_000_000_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds),
        }
    }

    fn ban(reason: &str, until: Option<u64>) -> Ban {
        Ban {
            origin: Origin::Operator,
            reason: reason.into(),
            made: now(0).wall,
            until: until.map(|seconds| now(0).after(Duration::from_secs(seconds))),
        }
    }

    #[test]
    fn a_prefix_is_denied_once_and_the_configuration_outlasts_what_was_asked_for() {
        let mut book = Book::default();
        book.configure(&[net("192.0.2.9/24")], &[net("10.0.0.0/8")]);
        let scans = ban("scans", Some(10));
        book.deny(&[
            (net("192.0.2.0/24"), scans.clone()),
            (net("2001:db8::/32"), scans),
        ])
        .unwrap();
        let denials: Vec<_> = book.denials().collect();
        assert_eq!(denials.len(), 2);
        assert_eq!(denials[0].0, net("192.0.2.0/24"));
        assert_eq!(denials[0].1.until, None, "the configuration says so");
        assert_eq!(denials[1].1.until, Some(now(10).boot));
        let (prefix, reason) = book.told(denials[1].1.reason);
        assert_eq!((prefix, &*reason), (Some(net("2001:db8::/32")), "scans"));
        assert_eq!(book.told(denials[0].1.reason), (None, CONFIGURED.into()));

        assert_eq!(book.expire(now(9).boot), 0);
        assert_eq!(book.next_end(), Some(now(10).boot));
        assert_eq!(book.expire(now(10).boot), 2);
        assert_eq!((book.next_end(), book.counts()), (None, (1, 1)));
        book.configure(&[], &[]);
        assert_eq!(book.counts(), (0, 0));
    }

    #[test]
    fn a_ban_is_replaced_and_lifted_and_its_number_forgotten() {
        let mut book = Book::default();
        let one = net("192.0.2.1/32");
        book.deny(&[(one, ban("first", Some(10)))]).unwrap();
        let first = book.denials().next().unwrap().1.reason;
        book.deny(&[(one, ban("second", None))]).unwrap();
        let second = book.denials().next().unwrap().1.reason;
        assert_ne!(first, second, "events of both are told apart");
        assert_eq!(&*book.told(first).1, FORGOTTEN);
        assert_eq!(&*book.told(second).1, "second");
        assert_eq!(book.expire(now(99).boot), 0);
        assert!(book.undeny(one) && !book.undeny(one));
        assert!(book.numbers.is_empty());
    }

    #[test]
    fn lists_hold_what_the_maps_hold_and_take_all_or_nothing() {
        let mut book = Book::default();
        let allowance = Allowance {
            reason: "".into(),
            made: now(0).wall,
        };
        let item = |net: IpNet| (net, allowance.clone());
        let items: Vec<_> = (0..=MAX_ALLOW)
            .map(|n| item(IpAddr::V4(n.into()).into()))
            .collect();
        assert!(book.allow(&items).is_err());
        assert_eq!(book.counts(), (0, 0));
        book.allow(&items[1..]).unwrap();
        book.allow(&items[1..]).unwrap();
        assert!(book.allow(&items[..1]).is_err());
        book.allow(&[item(net("::1/128"))]).unwrap();
        assert!(book.allows("::ffff:0.0.0.7".parse().unwrap()));
        assert!(!book.allows("0.0.0.0".parse().unwrap()));
        assert!(book.disallow(items[1].0));
        book.allow(&items[..1]).unwrap();
    }
}
