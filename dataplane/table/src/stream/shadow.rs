//! TCP routers that never get a connection, because another router comes first wherever they match.
//!
//! Only what is certain is said: a rule that takes everything, the same rule again, and names that HTTPS routers claim.

use std::collections::HashMap;
use std::sync::Arc;

use super::TcpRouter;
use crate::{EntryPointId, Router, Snapshot};

/// A TCP router, or a name of its rule, that gets nothing on an entry point.
#[derive(Clone, Copy, Debug)]
pub struct Shadowed<'s> {
    /// The router.
    pub router: &'s Arc<TcpRouter>,
    /// Where.
    pub entry_point: EntryPointId,
    /// What comes first.
    pub by: Shadow<'s>,
}

/// What comes before a TCP router.
#[derive(Clone, Copy, Debug)]
pub enum Shadow<'s> {
    /// A better TCP router that takes all connections, or has the same rule.
    Tcp(&'s Arc<TcpRouter>),
    /// An HTTPS router that names the server name, which puts it before TCP routers whatever their priorities.
    Name(&'s Arc<Router>, &'s str),
    /// An HTTPS router for any name, which comes before TCP routers that say only ``HostSNI(`*`)``.
    Rest(&'s Arc<Router>),
}

/// The routers of one entry point with TLS, or without.
type Table = (EntryPointId, bool);

impl Snapshot {
    /// The TCP routers that another one leaves nothing to, best first; each once per entry point and name.
    pub fn shadowed(&self) -> Vec<Shadowed<'_>> {
        let mut everything: HashMap<Table, &Arc<TcpRouter>> = HashMap::new();
        let mut rules: HashMap<(Table, &str), &Arc<TcpRouter>> = HashMap::new();
        let mut found = Vec::new();
        for router in self.all_tcp_routers() {
            let rule = &router.spec.rule;
            for &entry_point in &router.spec.entry_points {
                let table = (entry_point, router.spec.tls.is_some());
                let before = everything
                    .get(&table)
                    .or_else(|| rules.get(&(table, rule.text())));
                if let Some(by) = before {
                    found.push(Shadowed {
                        router,
                        entry_point,
                        by: Shadow::Tcp(by),
                    });
                    continue;
                }
                rules.insert((table, rule.text()), router);
                if rule.is_catch_all() {
                    everything.insert(table, router);
                }
                found.extend(self.claimed(router, entry_point));
            }
        }
        found
    }

    /// What HTTPS routers take of a TCP router.
    fn claimed<'s>(
        &'s self,
        router: &'s Arc<TcpRouter>,
        entry_point: EntryPointId,
    ) -> impl Iterator<Item = Shadowed<'s>> + use<'s> {
        let tls = router.spec.tls.is_some();
        let names = router.spec.rule.hosts().into_iter().filter(move |_| tls);
        let named = names.filter_map(move |name| {
            self.https_named(entry_point, name)
                .map(|by| Shadow::Name(by, name))
        });
        let rest = (tls && router.spec.rule.is_catch_all())
            .then(|| self.https_rest(entry_point))
            .flatten();
        named.chain(rest.map(Shadow::Rest)).map(move |by| Shadowed {
            router,
            entry_point,
            by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TcpRouterSpec, TcpTls};
    use super::*;
    use crate::{Action, RouterSpec, Rule, Service, ServiceSpec, TcpRule, Transport};

    fn service() -> Arc<Service> {
        Arc::new(Service::new(
            ServiceSpec {
                name: "s@test".into(),
                endpoints: Vec::new(),
                pass_host_header: true,
                transport: Arc::new(Transport::default()),
                retry_after: 1,
                policy: Arc::default(),
            },
            None,
        ))
    }

    fn tcp(name: &str, rule: &str, priority: i64, tls: bool, entry_points: &[u16]) -> Arc<TcpRouter> {
        Arc::new(TcpRouter::new(TcpRouterSpec {
            name: name.into(),
            entry_points: entry_points.iter().map(|id| EntryPointId(*id)).collect(),
            tls: tls.then_some(TcpTls::Passthrough),
            rule: Arc::new(TcpRule::parse(rule).unwrap()),
            priority,
            target: service().into(),
            middlewares: Vec::new(),
        }))
    }

    fn https(name: &str, rule: &str) -> Arc<Router> {
        Arc::new(Router {
            spec: RouterSpec {
                name: name.into(),
                entry_points: vec![EntryPointId(0)],
                tls: true,
                rule: Arc::new(Rule::parse_http(rule).unwrap()),
                priority: 1,
                action: Action::Forward(service().into()),
                middlewares: None,
            },
            slot: Default::default(),
        })
    }

    fn shadowed(http: Vec<Arc<Router>>, tcp: Vec<Arc<TcpRouter>>) -> Vec<String> {
        let snapshot = Snapshot::build(1, 2, http, Vec::new()).with_streams(tcp, Vec::new());
        let line = |shadowed: &Shadowed<'_>| {
            let by = match shadowed.by {
                Shadow::Tcp(by) => by.spec.name.to_string(),
                Shadow::Name(by, name) => format!("{} {name}", by.spec.name),
                Shadow::Rest(by) => format!("{} *", by.spec.name),
            };
            format!(
                "{} on {} by {by}",
                shadowed.router.spec.name, shadowed.entry_point.0
            )
        };
        snapshot.shadowed().iter().map(line).collect()
    }

    #[test]
    fn what_takes_everything_leaves_nothing() {
        let found = shadowed(
            vec![],
            vec![
                tcp("all", "HostSNI(`*`)", 100, true, &[0]),
                tcp("named", "HostSNI(`a.test`)", 16, true, &[0, 1]),
                tcp("plain", "ClientIP(`10.0.0.1`)", 16, false, &[0]),
                tcp("first", "HostSNI(`b.test`)", 200, true, &[0]),
            ],
        );
        assert_eq!(found, ["named on 0 by all"]);
    }

    #[test]
    fn the_same_rule_again_gets_nothing() {
        let found = shadowed(
            vec![],
            vec![
                tcp("a", "HostSNI(`*`)", -1, false, &[0]),
                tcp("b", "HostSNI(`*`)", -1, false, &[0, 1]),
                tcp("c", "HostSNI(`*`)", -1, true, &[0]),
                tcp("d", "HostSNI(`d.test`) && ALPN(`x`)", 9, true, &[1]),
                tcp("e", "HostSNI(`d.test`) && ALPN(`x`)", 8, true, &[1]),
            ],
        );
        assert_eq!(found, ["e on 1 by d", "b on 0 by a"]);
    }

    #[test]
    fn https_routers_take_the_names_they_claim() {
        let found = shadowed(
            vec![
                https("app", "Host(`a.test`) && PathPrefix(`/x`)"),
                https("wild", "Host(`*.w.test`)"),
                https("any", "PathPrefix(`/`)"),
            ],
            vec![
                tcp(
                    "two",
                    "HostSNI(`a.test`) || HostSNI(`b.test`)",
                    900,
                    true,
                    &[0, 1],
                ),
                tcp("wild", "HostSNI(`x.w.test`)", 900, true, &[0]),
                tcp("not", "HostSNI(`b.test`) && !HostSNI(`a.test`)", 900, true, &[0]),
                tcp("plain", "HostSNI(`*`)", -1, false, &[0]),
                tcp("rest", "HostSNI(`*`)", -1, true, &[0]),
            ],
        );
        assert_eq!(
            found,
            [
                "two on 0 by app a.test",
                "wild on 0 by wild x.w.test",
                "rest on 0 by any *"
            ]
        );
    }
}
