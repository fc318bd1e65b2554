//! Endpoints that an operator has taken out of service: kept in memory, so a restart of the node forgets them.
//!
//! The API changes the set; the publisher lays it over the readings of the sources before it compiles, so that a drained
//! endpoint is draining in the next generation like one whose container stops.

use std::collections::BTreeSet;
use std::sync::Arc;

use constellation_table::Condition;
use tokio::sync::watch;

use crate::sources::{Contribution, Section, ServerOrigin};

/// An endpoint that is drained.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drained {
    /// The service, `NAME@PROVIDER`.
    pub service: Arc<str>,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
}

/// All drained endpoints.
pub type DrainSet = BTreeSet<Drained>;

/// Most endpoints that can be drained at once; a script that runs wild must not fill the memory.
pub const MAX_DRAINED: usize = 10_000;

/// What is said of a drained endpoint.
pub const REASON: &str = "drained by an operator";

/// The set, shared by the API and the publisher. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Drains(Arc<watch::Sender<Arc<DrainSet>>>);

impl Drains {
    /// Adds an endpoint; false when there are too many already.
    pub fn drain(&self, drained: Drained) -> bool {
        let full = self.0.borrow().len() >= MAX_DRAINED;
        if !full {
            self.edit(|set| set.insert(drained));
        }
        !full
    }

    /// Removes an endpoint. Whether it was drained.
    pub fn undrain(&self, drained: &Drained) -> bool {
        self.edit(|set| set.remove(drained))
    }

    fn edit(&self, edit: impl FnOnce(&mut DrainSet) -> bool) -> bool {
        self.0.send_if_modified(|set| edit(Arc::make_mut(set)))
    }

    /// The set now.
    pub fn now(&self) -> Arc<DrainSet> {
        self.0.borrow().clone()
    }

    /// The set as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<DrainSet>> {
        self.0.subscribe()
    }
}

/// Lays `drains` over readings; remembers what came out, so that what did not change stays the same object.
#[derive(Debug, Default)]
pub struct Overlay {
    drains: Arc<DrainSet>,
    last: Vec<(Arc<Contribution>, Arc<Contribution>)>,
}

impl Overlay {
    /// The readings with every drained endpoint draining.
    pub fn lay(&mut self, drains: &Arc<DrainSet>, readings: &[Arc<Contribution>]) -> Vec<Arc<Contribution>> {
        let same_drains = Arc::ptr_eq(&self.drains, drains);
        let last = std::mem::take(&mut self.last);
        let known = |reading: &Arc<Contribution>| {
            let mut last = last.iter().filter(|_| same_drains);
            let (_, out) = last.find(|(raw, _)| Arc::ptr_eq(raw, reading))?;
            Some(out.clone())
        };
        self.last = readings
            .iter()
            .map(|reading| {
                let out = known(reading).unwrap_or_else(|| over(drains, reading));
                (reading.clone(), out)
            })
            .collect();
        self.drains = drains.clone();
        self.last.iter().map(|(_, out)| out.clone()).collect()
    }
}

fn over(drains: &DrainSet, reading: &Arc<Contribution>) -> Arc<Contribution> {
    let mut out = reading.clone();
    for drained in drains {
        let Some((service, provider)) = drained.service.rsplit_once('@') else {
            continue;
        };
        if provider != reading.provider {
            continue;
        }
        for server in servers(reading, service) {
            let origin = reading.origins.get(service).and_then(|of| of.get(server));
            let name = origin.map_or(server, |origin| &origin.name);
            let ready = origin.is_none_or(|origin| origin.condition == Condition::Ready);
            if name == &*drained.endpoint && ready {
                let origin = ServerOrigin {
                    name: drained.endpoint.clone(),
                    condition: Condition::Draining(REASON.into()),
                };
                let origins = Arc::make_mut(&mut out).origins.entry(service.to_owned());
                origins.or_default().insert(server.to_owned(), origin);
            }
        }
    }
    out
}

/// The servers of a service as written; `service` is its name among those of all sections.
fn servers<'a>(reading: &'a Contribution, service: &str) -> Vec<&'a str> {
    let dynamic = &reading.dynamic;
    let tcp = service.strip_prefix(Section::Tcp.prefix());
    let tcp = tcp.and_then(|name| dynamic.tcp.services.get(name)?.load_balancer.as_ref());
    let udp = service.strip_prefix(Section::Udp.prefix());
    let udp = udp.and_then(|name| dynamic.udp.services.get(name)?.load_balancer.as_ref());
    let http = dynamic.http.services.get(service);
    let http = http.and_then(|definition| definition.load_balancer.as_ref());
    let http = http.into_iter().flat_map(|balancer| &balancer.servers);
    let tcp = tcp.into_iter().flat_map(|balancer| &balancer.servers);
    let udp = udp.into_iter().flat_map(|balancer| &balancer.servers);
    http.map(|server| server.url.as_str())
        .chain(tcp.map(|server| server.address.as_str()))
        .chain(udp.map(|server| server.address.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use constellation_config::dynamic::Dynamic;
    use serde_json::json;

    use super::*;

    fn reading(provider: &'static str) -> Arc<Contribution> {
        let dynamic: Dynamic = serde_json::from_value(json!({"http": {"services": {"s": {"loadBalancer": {
            "servers": [{"url": "http://10.0.0.1"}, {"url": "http://10.0.0.2"}, {"url": "http://10.0.0.3"}],
        }}}}}))
        .unwrap();
        let origin = |name: &str, condition| ServerOrigin {
            name: name.into(),
            condition,
        };
        let stopped = Condition::Unavailable("container b exited".into());
        let origins = [
            ("http://10.0.0.1".to_owned(), origin("a", Condition::Ready)),
            ("http://10.0.0.2".to_owned(), origin("b", stopped)),
        ];
        Arc::new(Contribution {
            provider,
            dynamic,
            origins: [("s".to_owned(), origins.into())].into(),
            ..Contribution::default()
        })
    }

    fn drained(service: &str, endpoint: &str) -> Drained {
        Drained {
            service: service.into(),
            endpoint: endpoint.into(),
        }
    }

    #[test]
    fn a_drained_endpoint_is_draining_and_no_other() {
        let readings = [reading("docker"), reading("file")];
        let drains = Drains::default();
        for (service, endpoint) in [
            ("s@docker", "a"),
            ("s@docker", "b"),
            ("s@docker", "nobody"),
            ("other@docker", "a"),
            ("s@file", "http://10.0.0.3"),
        ] {
            assert!(drains.drain(drained(service, endpoint)));
        }
        let mut overlay = Overlay::default();
        let out = overlay.lay(&drains.now(), &readings);
        let said = |reading: &Contribution| -> Vec<String> {
            let origins = reading.origins["s"].values();
            origins
                .map(|origin| format!("{} {:?}", origin.name, origin.condition))
                .collect()
        };
        let (draining, stopped) = (
            r#"Draining("drained by an operator")"#,
            r#"Unavailable("container b exited")"#,
        );
        assert_eq!(said(&out[0]), [format!("a {draining}"), format!("b {stopped}")]);
        assert_eq!(
            said(&out[1]),
            [
                "a Ready".to_owned(),
                format!("b {stopped}"),
                format!("http://10.0.0.3 {draining}")
            ]
        );
        // What did not change is the same object; what is drained no more is as the source said.
        let again = overlay.lay(&drains.now(), &readings);
        assert!(out.iter().zip(&again).all(|(a, b)| Arc::ptr_eq(a, b)));
        assert!(drains.undrain(&drained("s@file", "http://10.0.0.3")));
        assert!(!drains.undrain(&drained("s@file", "http://10.0.0.3")));
        let after = overlay.lay(&drains.now(), &readings);
        assert!(Arc::ptr_eq(&after[1], &readings[1]));
        assert_eq!(after[0], out[0]);
    }

    #[test]
    fn endpoints_of_streams_are_drained_like_any() {
        let dynamic: Dynamic = serde_json::from_value(json!({
            "http": {"services": {"s": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1"}]}}}},
            "tcp": {"services": {"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:1"}]}}}},
            "udp": {"services": {"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:1"}]}}}},
        }))
        .unwrap();
        let reading = Arc::new(Contribution {
            provider: "file",
            dynamic,
            ..Contribution::default()
        });
        for service in ["tcp/s", "udp/s"] {
            let drains = Drains::default();
            drains.drain(drained(&format!("{service}@file"), "10.0.0.1:1"));
            let out = Overlay::default().lay(&drains.now(), std::slice::from_ref(&reading));
            assert_eq!(out[0].origins.keys().collect::<Vec<_>>(), [service]);
            let origin = &out[0].origins[service]["10.0.0.1:1"];
            assert_eq!(origin.condition, Condition::Draining(REASON.into()));
        }
    }
}
