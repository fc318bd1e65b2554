//! Which requests are counted together, and a table of what is known of each such group.
//!
//! Names of groups come from clients and may be long and many: a table keeps 16 bytes of a keyed hash instead, and no more
//! groups than it has room for. When it is full it forgets those that were not seen for longest, roughly.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderName;
use http::header::HOST;
use pingora_http::RequestHeader;

use crate::Seen;
use crate::address::ClientAddress;

/// Most groups that one middleware knows at once.
pub const MAX_SOURCES: usize = 65_536;

/// Which requests are counted together.
#[derive(Debug)]
pub enum Source {
    /// Those of one address.
    Address(ClientAddress),
    /// Those with the same value of a header; those without it are a group as well.
    Header(HeaderName),
    /// Those for one host, as it was written.
    Host,
}

impl Source {
    /// From the options of a `sourceCriterion`: at most one of the header and the host, which win over the address.
    pub fn new(
        address: Option<ClientAddress>,
        header: &str,
        host: bool,
        default: impl FnOnce() -> Self,
    ) -> Result<Self, String> {
        match (address, header, host) {
            (Some(_), header, host) if host || !header.is_empty() => {
                Err("sourceCriterion names several criteria: keep one of ipStrategy, requestHeaderName, requestHost".to_owned())
            }
            (None, header, true) if !header.is_empty() => {
                Err("sourceCriterion names several criteria: keep one of requestHeaderName, requestHost".to_owned())
            }
            (_, "", true) => Ok(Self::Host),
            (Some(address), ..) => Ok(Self::Address(address)),
            (None, "", false) => Ok(default()),
            (None, header, _) => {
                let name = header.parse::<HeaderName>().map_err(|_| {
                    format!("sourceCriterion.requestHeaderName is {header:?}: write the name of a header")
                })?;
                Ok(Self::Header(name))
            }
        }
    }

    /// What stands for the group of a request.
    fn with<T>(&self, request: &RequestHeader, seen: &Seen<'_>, then: impl FnOnce(&[u8]) -> T) -> T {
        let header = |name| request.headers.get(name).map(http::HeaderValue::as_bytes);
        match self {
            Self::Address(address) => then(address.text(request, seen).as_bytes()),
            Self::Header(name) => then(header(name).unwrap_or_default()),
            Self::Host => {
                let authority = request
                    .uri
                    .authority()
                    .map(|authority| authority.as_str().as_bytes());
                then(header(&HOST).or(authority).unwrap_or_default())
            }
        }
    }
}

/// A group of requests, by a hash under keys that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(u64, u64);

/// Finds the group of a request.
#[derive(Debug, Default)]
pub(crate) struct Grouping([RandomState; 2]);

impl Grouping {
    /// The group of a request, counted for its router and turn.
    pub(crate) fn of(&self, source: &Source, request: &RequestHeader, seen: &Seen<'_>) -> Group {
        source.with(request, seen, |text| self.group((seen.router, seen.turn, text)))
    }

    /// The group that this stands for.
    pub(crate) fn group(&self, what: impl Hash) -> Group {
        let [first, second] = &self.0;
        Group(first.hash_one(&what), second.hash_one(&what))
    }
}

/// What is known of each group.
#[derive(Debug)]
pub(crate) struct Groups<T>(Mutex<Known<T>>);

#[derive(Debug)]
struct Known<T> {
    /// Seen since the last time that there was no room.
    young: HashMap<Group, T>,
    /// Seen before that.
    old: HashMap<Group, T>,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self(Mutex::new(Known {
            young: HashMap::new(),
            old: HashMap::new(),
        }))
    }
}

impl<T> Groups<T> {
    /// Works on what is known of a group, with other requests kept waiting: briefly.
    pub(crate) fn with<R>(&self, group: Group, new: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let mut known = self.lock();
        let known = &mut *known;
        if known.young.len() >= MAX_SOURCES / 2 && !known.young.contains_key(&group) {
            known.old = std::mem::take(&mut known.young);
        }
        let Known { young, old } = known;
        work(
            young
                .entry(group)
                .or_insert_with(|| old.remove(&group).unwrap_or_else(new)),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Known<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let known = self.lock();
        known.young.len() + known.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::seen_from;

    #[test]
    fn no_more_groups_are_known_than_there_is_room_for() {
        let (grouping, groups) = (Grouping::default(), Groups::<u32>::default());
        let count = |number: usize| {
            groups.with(
                grouping.group(number),
                || 0,
                |count| {
                    *count += 1;
                    *count
                },
            )
        };
        for number in 0..MAX_SOURCES * 3 {
            count(number);
            // One that comes again and again is not forgotten.
            assert_eq!(count(usize::MAX), u32::try_from(number + 1).unwrap());
        }
        assert!(groups.len() <= MAX_SOURCES, "{}", groups.len());
        assert_eq!(count(0), 1, "it was forgotten");
    }

    #[test]
    fn groups_are_told_apart_by_what_counts() {
        let groups = Grouping::default();
        let of = |source: &Source, client: &str, headers: &[(&'static str, &str)]| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for (name, value) in headers {
                request.append_header(*name, *value).unwrap();
            }
            groups.of(source, &request, &seen_from(client))
        };
        let address = Source::Address(ClientAddress::default());
        assert_eq!(
            of(&address, "1.1.1.1:1", &[]),
            of(&address, "1.1.1.1:2", &[("Host", "a")])
        );
        assert_ne!(of(&address, "1.1.1.1:1", &[]), of(&address, "1.1.1.2:1", &[]));
        let header = Source::new(None, "x-a", false, || Source::Host).unwrap();
        assert_eq!(
            of(&header, "1.1.1.1:1", &[("X-A", "1"), ("X-A", "2")]),
            of(&header, "1.1.1.2:1", &[("X-A", "1")]),
        );
        assert_ne!(
            of(&header, "1.1.1.1:1", &[]),
            of(&header, "1.1.1.1:1", &[("X-A", "1")])
        );
        let host = Source::new(None, "", true, || panic!("named")).unwrap();
        assert_ne!(
            of(&host, "1.1.1.1:1", &[("Host", "a")]),
            of(&host, "1.1.1.1:1", &[("Host", "A")])
        );
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        let here = seen_from("1.1.1.1:1");
        let again = Seen { turn: 1, ..here };
        let elsewhere = Seen {
            router: "other@file",
            ..here
        };
        let all = [here, again, elsewhere].map(|seen| groups.of(&address, &request, &seen));
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }

    #[test]
    fn one_criterion_alone() {
        let address = || Some(ClientAddress::default());
        for (address, header, host) in [(address(), "x", false), (address(), "", true), (None, "x", true)] {
            assert!(Source::new(address, header, host, || Source::Host).is_err());
        }
        assert!(
            Source::new(None, "a b", false, || Source::Host)
                .unwrap_err()
                .contains("\"a b\"")
        );
        assert!(matches!(
            Source::new(address(), "", false, || Source::Host),
            Ok(Source::Address(_))
        ));
        assert!(matches!(
            Source::new(None, "", false, || Source::Host),
            Ok(Source::Host)
        ));
    }
}
