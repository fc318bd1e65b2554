//! Which TLS options hosts and routers get from what routers ask for.
//!
//! A connection has one server name and one set of options, but several routers may serve that name. Routers that agree
//! have what they ask for. Routers that don't leave their hosts with the default options, as in Traefik: which of them a
//! connection is for is not known before its request is. Options that can't be used have no say beside others, and let
//! nobody in where they stand alone.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use constellation_table::EntryPointId;

use super::context::TlsProblem;
use super::view::DEFAULT_OPTIONS;

/// A router behind which TLS ends here, and the options that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRouter {
    /// Its qualified name.
    pub name: Arc<str>,
    /// Its entry points.
    pub entry_points: Vec<EntryPointId>,
    /// The hosts of its rule, in lower case; `*.` stands for one label. Without any it has the default options.
    pub hosts: Vec<Arc<str>>,
    /// Qualified name of the options; `None`: the default ones.
    pub options: Option<Arc<str>>,
    /// Whether its requests are answered with 421 on connections that were made under other options. Connections of TCP
    /// are decided by the server name alone.
    pub of_requests: bool,
}

impl TlsRouter {
    fn options(&self) -> &str {
        self.options.as_deref().unwrap_or(DEFAULT_OPTIONS)
    }
}

/// What came of it: names of options.
#[derive(Debug, Default)]
pub(super) struct Choice<'a> {
    /// By entry point and host.
    pub(super) hosts: HashMap<(EntryPointId, Cow<'a, str>), &'a str>,
    /// By entry point and router, where they are not the default ones.
    pub(super) routers: HashMap<(EntryPointId, &'a Arc<str>), &'a Arc<str>>,
}

/// Decides. `is_usable` says of options by their name whether they can serve.
pub(super) fn choose<'a>(
    routers: &'a [TlsRouter],
    is_usable: impl Fn(&str) -> bool,
    problems: &mut Vec<TlsProblem>,
) -> Choice<'a> {
    let mut choice = Choice::default();
    let mut asked: Asked<'a> = HashMap::new();
    for router in routers.iter().filter(|router| router.options.is_some()) {
        for at in places(router) {
            asked.entry(at).or_default().push(router);
        }
    }
    for router in routers.iter().filter(|router| router.options.is_none()) {
        for at in places(router) {
            if let Some(others) = asked.get_mut(&at) {
                others.push(router);
                continue;
            }
            let above = at.1.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            if above.is_some_and(|above| asked.contains_key(&(at.0, above.into()))) {
                // Its own name is nearer than the one that has options.
                choice.hosts.insert(at, DEFAULT_OPTIONS);
            }
        }
    }
    // What can't be used counts only where there is nothing else.
    for routers in asked.values_mut() {
        if routers.iter().any(|router| is_usable(router.options())) {
            routers.retain(|router| is_usable(router.options()));
        }
    }
    let outvoted = outvoted(&asked);
    let mut conflicts = Vec::new();
    for (at, routers) in asked {
        if differ(&routers) {
            conflicts.push(conflict(&at.1, &routers));
        }
        let heard = routers
            .first()
            .filter(|router| !outvoted.contains(&(at.0, &*router.name)));
        choice
            .hosts
            .insert(at, heard.map_or(DEFAULT_OPTIONS, |router| router.options()));
    }
    conflicts.sort_by(|a, b| a.subject.cmp(&b.subject));
    problems.append(&mut conflicts);
    for router in routers.iter().filter(|router| router.of_requests) {
        let Some(options) = &router.options else { continue };
        for entry_point in &router.entry_points {
            let heard = !router.hosts.is_empty() && !outvoted.contains(&(*entry_point, &*router.name));
            // Nothing may come to a router past options that nobody can meet.
            if heard || !is_usable(options) {
                choice.routers.insert((*entry_point, &router.name), options);
            }
        }
    }
    choice
}

type Asked<'a> = HashMap<(EntryPointId, Cow<'a, str>), Vec<&'a TlsRouter>>;

fn places(router: &TlsRouter) -> impl Iterator<Item = (EntryPointId, Cow<'_, str>)> {
    let hosts = router.hosts.iter();
    hosts.flat_map(|host| {
        let entry_points = router.entry_points.iter();
        entry_points.map(move |entry_point| (*entry_point, Cow::Borrowed(&**host)))
    })
}

fn differ(routers: &[&TlsRouter]) -> bool {
    let mut options = routers.iter().map(|router| router.options());
    let first = options.next();
    options.any(|other| first != Some(other))
}

/// Routers that have the default options on an entry point whatever they ask for, as they share a host with a router of
/// other options or with one of these: what holds for one of a router's hosts holds for all.
fn outvoted<'a>(asked: &Asked<'a>) -> HashSet<(EntryPointId, &'a str)> {
    let mut found = HashSet::new();
    loop {
        let before = found.len();
        for ((entry_point, _), routers) in asked {
            let names = || routers.iter().map(|router| (*entry_point, &*router.name));
            if differ(routers) || names().any(|router| found.contains(&router)) {
                found.extend(names());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn conflict(host: &str, routers: &[&TlsRouter]) -> TlsProblem {
    /// Enough to find the culprits; a host may have thousands of routers.
    const SHOWN: usize = 5;
    let told = routers
        .iter()
        .map(|router| format!("{}: {}", router.name, router.options()));
    let mut told: Vec<String> = told.collect();
    told.sort();
    told.dedup();
    let more = told.len().saturating_sub(SHOWN);
    told.truncate(SHOWN);
    if more > 0 {
        told.push(format!("{more} more"));
    }
    TlsProblem {
        subject: format!("host {host}"),
        message: format!(
            "its routers name different TLS options ({}), and the default options are used: give all of them the same \
             tls.options",
            told.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: [EntryPointId; 2] = [EntryPointId(0), EntryPointId(1)];

    fn router(name: &str, hosts: &[&str], options: &str, on: &[EntryPointId]) -> TlsRouter {
        TlsRouter {
            name: name.into(),
            entry_points: on.to_vec(),
            hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
            options: (!options.is_empty()).then(|| options.into()),
            of_requests: true,
        }
    }

    fn chosen(routers: &[TlsRouter]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let mut problems = Vec::new();
        let choice = choose(routers, |name| name != "broken", &mut problems);
        let hosts = choice.hosts.iter();
        let mut hosts: Vec<String> = hosts
            .map(|((on, host), options)| format!("{}/{host} {options}", on.0))
            .collect();
        let mut routers: Vec<String> = choice
            .routers
            .iter()
            .map(|((on, name), options)| format!("{}/{name} {options}", on.0))
            .collect();
        let mut told: Vec<String> = problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.subject, problem.message))
            .collect();
        [&mut hosts, &mut routers, &mut told]
            .into_iter()
            .for_each(|all| all.sort());
        (hosts, routers, told)
    }

    #[test]
    fn routers_that_agree_have_what_they_ask_for() {
        let (hosts, routers, told) = chosen(&[
            router("a", &["a.test", "*.a.test"], "strict", &ON),
            router("b", &["a.test"], "strict", &ON[..1]),
            router("c", &["x.a.test", "y.test"], "", &ON[..1]),
        ]);
        let expected = [
            "0/*.a.test strict",
            "0/a.test strict",
            "0/x.a.test default",
            "1/*.a.test strict",
            "1/a.test strict",
        ];
        assert_eq!(hosts, expected);
        assert_eq!(routers, ["0/a strict", "0/b strict", "1/a strict"]);
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn routers_that_do_not_have_the_default_ones_on_all_their_hosts() {
        let (hosts, routers, told) = chosen(&[
            router("a", &["c.test", "d.test"], "strict", &ON),
            router("b", &["d.test"], "", &ON[..1]),
            // It shares a host with one of these.
            router("e", &["c.test", "e.test"], "strict", &ON[..1]),
        ]);
        let expected = [
            "0/c.test default",
            "0/d.test default",
            "0/e.test default",
            "1/c.test strict",
            "1/d.test strict",
        ];
        assert_eq!(hosts, expected);
        assert_eq!(routers, ["1/a strict"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .starts_with("host d.test: its routers name different TLS options (a: strict, b: default)")
        );
    }

    #[test]
    fn options_that_cannot_be_used_take_nothing_from_others_and_let_nobody_in() {
        let (hosts, routers, told) = chosen(&[
            router("safe", &["a.test"], "strict", &ON[..1]),
            router("bad", &["a.test", "b.test", "c.test"], "broken", &ON[..1]),
            router("plain", &["b.test"], "", &ON[..1]),
            router("nowhere", &[], "broken", &ON[..1]),
            router("anywhere", &[], "strict", &ON[..1]),
        ]);
        assert_eq!(hosts, ["0/a.test strict", "0/b.test default", "0/c.test broken"]);
        assert_eq!(routers, ["0/bad broken", "0/nowhere broken", "0/safe strict"]);
        assert!(told.is_empty(), "{told:?}");
    }
}
