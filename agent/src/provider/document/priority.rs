//! Priorities of routers, each written out.
//!
//! Traefik lets chance decide between routers of the same priority that match the same request. So the second of two that
//! may match the same gets one more than the first, in the order that this node has: longer rule, exact host before
//! wildcard or pattern, name. Routers that name different hosts stay as they are: it is only known of those that they
//! never match the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The highest priority that Traefik leaves to routers of others than itself (MaxInt64 - 1000).
pub(super) const HIGHEST: i64 = i64::MAX - 1000;

/// A router as far as its place among the others goes.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) name: String,
    /// As given, or the length of the rule.
    pub(super) priority: i64,
    pub(super) rule_length: usize,
    /// The names under which alone it matches; empty: it may match under any.
    pub(super) hosts: Vec<String>,
}

/// The priority of each router by name.
pub(super) fn settle(mut contenders: Vec<Contender>) -> BTreeMap<String, i64> {
    // The one that has to lose first.
    contenders.sort_by(|a, b| {
        let order = |c: &Contender| (c.priority, c.rule_length, !c.hosts.is_empty());
        order(a)
            .cmp(&order(b))
            .then_with(|| Reverse(&a.name).cmp(&Reverse(&b.name)))
    });
    let mut highest_of: BTreeMap<String, i64> = BTreeMap::new();
    // Of those that may match under any host, and of all.
    let (mut of_any, mut of_all): (Option<i64>, Option<i64>) = (None, None);
    let mut settled = BTreeMap::new();
    for contender in contenders {
        let below = match contender.hosts.is_empty() {
            true => of_all,
            false => contender
                .hosts
                .iter()
                .filter_map(|host| highest_of.get(host).copied())
                .chain(of_any)
                .max(),
        };
        let priority = match below {
            Some(below) if below >= contender.priority => below.saturating_add(1).min(HIGHEST),
            _ => contender.priority,
        };
        // Which would mean that none is given.
        let priority = if priority == 0 { 1 } else { priority };
        of_all = of_all.max(Some(priority));
        if contender.hosts.is_empty() {
            of_any = of_any.max(Some(priority));
        }
        for host in contender.hosts {
            let highest = highest_of.entry(host).or_insert(priority);
            *highest = priority.max(*highest);
        }
        settled.insert(contender.name, priority);
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &str, priority: i64, rule_length: usize, hosts: &[&str]) -> Contender {
        Contender {
            name: name.to_owned(),
            priority,
            rule_length,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        }
    }

    #[test]
    fn only_routers_that_may_meet_are_told_apart() {
        let settled = settle(vec![
            contender("a", 20, 20, &["a.test"]),
            contender("b", 20, 20, &["b.test"]),
            contender("a2", 20, 20, &["a.test"]),
        ]);
        // By name the first wins.
        assert_eq!((settled["a"], settled["b"], settled["a2"]), (21, 20, 20));
    }

    #[test]
    fn a_pattern_loses_to_a_name_and_the_longer_rule_wins() {
        let settled = settle(vec![
            contender("exact", 10, 14, &["a.test"]),
            contender("pattern", 10, 14, &[]),
            contender("long", 10, 30, &[]),
        ]);
        assert_eq!(
            (settled["pattern"], settled["exact"], settled["long"]),
            (10, 11, 12)
        );
    }

    #[test]
    fn none_is_ever_zero() {
        let settled = settle(vec![contender("a", -1, 1, &[]), contender("b", -1, 1, &[])]);
        assert_eq!((settled["b"], settled["a"]), (-1, 1));
    }

    #[test]
    fn what_was_below_stays_below() {
        let settled = settle(vec![
            contender("c", 11, 1, &["a.test"]),
            contender("b", 10, 1, &["a.test"]),
            contender("a", 10, 1, &["a.test"]),
        ]);
        assert_eq!((settled["b"], settled["a"], settled["c"]), (10, 11, 12));
    }
}
