//! Who leaves with a new generation, and how long what runs there may go on. Pure.

use std::sync::Arc;

use constellation_dataplane::departure::Limits;
use constellation_table::policy::Drain;
use constellation_table::{Condition, Endpoint, Service, Snapshot};

/// The endpoints that took requests in `old` and take none in `new`, with the limits for what runs there.
///
/// What did not change costs one comparison of pointers per service.
pub(super) fn leaving(old: &Snapshot, new: &Snapshot) -> Vec<(Arc<Endpoint>, Limits)> {
    let mut left = Vec::new();
    for service in old.services() {
        let successor = new.service(&service.name);
        if successor.is_some_and(|successor| Arc::ptr_eq(successor, service)) {
            continue;
        }
        for endpoint in service
            .endpoints
            .iter()
            .filter(|e| e.condition == Condition::Ready)
        {
            let condition = successor.and_then(|successor| condition(successor, endpoint));
            if condition != Some(&Condition::Ready) {
                left.push((endpoint.clone(), limits(service.policy.drain, condition)));
            }
        }
    }
    left
}

/// What the next generation says of the endpoint; `None` when it has it no more.
fn condition<'s>(successor: &'s Service, endpoint: &Endpoint) -> Option<&'s Condition> {
    let mut endpoints = successor.endpoints.iter();
    let same = endpoints.find(|other| Arc::ptr_eq(&other.live, &endpoint.live));
    same.map(|same| &same.condition)
}

/// One that is only unhealthy or paused may still finish what it has begun, so everything there gets the longer limit.
fn limits(drain: Drain, condition: Option<&Condition>) -> Limits {
    let requests = match condition {
        Some(Condition::Unavailable(_)) => drain.upgraded.max(drain.requests),
        _ => drain.requests,
    };
    Limits {
        requests,
        upgraded: drain.upgraded,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use constellation_table::{EndpointSpec, Scheme, ServiceSpec};

    use super::*;

    fn spec(name: &str, condition: Condition) -> EndpointSpec {
        EndpointSpec {
            name: name.into(),
            scheme: Scheme::Http,
            host: "10.0.0.1".into(),
            port: 80,
            base_path: "".into(),
            weight: 1,
            condition,
            url_as_written: "".into(),
            locality: Default::default(),
        }
    }

    fn service(name: &str, endpoints: Vec<Arc<Endpoint>>, previous: Option<&Service>) -> Arc<Service> {
        let spec = ServiceSpec {
            name: name.into(),
            endpoints,
            pass_host_header: true,
            transport: Arc::default(),
            retry_after: 1,
            policy: Arc::default(),
        };
        Arc::new(Service::new(spec, previous))
    }

    #[test]
    fn whoever_took_requests_and_takes_none_now_leaves() {
        let endpoint = |name: &str, condition| Arc::new(Endpoint::new(spec(name, condition)));
        let ready = |name: &str| endpoint(name, Condition::Ready);
        let stopped = || Condition::Unavailable("container exited".into());
        let stays = ready("stays");
        let old = service(
            "s@file",
            vec![
                stays.clone(),
                ready("gone"),
                ready("drains"),
                ready("ill"),
                endpoint("was out", stopped()),
            ],
            None,
        );
        let other = service("other@file", vec![ready("other")], None);
        let removed = service("removed@file", vec![ready("with its service")], None);
        let after = |name: &str, condition| endpoint(name, condition);
        let new = service(
            "s@file",
            vec![
                stays,
                after(
                    "drains",
                    Condition::Draining("container drains is stopping".into()),
                ),
                after("ill", Condition::Unavailable("health check: unhealthy".into())),
                after("was out", stopped()),
            ],
            Some(&old),
        );
        let before = Snapshot::build(1, 1, Vec::new(), vec![old, other.clone(), removed]);
        let now = Snapshot::build(2, 1, Vec::new(), vec![new, other]);
        let mut left: Vec<(String, Limits)> = leaving(&before, &now)
            .into_iter()
            .map(|(endpoint, limits)| (endpoint.name.to_string(), limits))
            .collect();
        left.sort_by(|a, b| a.0.cmp(&b.0));
        let (short, long) = (Duration::from_secs(30), Duration::from_secs(600));
        let limits = |requests| Limits {
            requests,
            upgraded: long,
        };
        assert_eq!(
            left,
            [
                ("drains".to_owned(), limits(short)),
                ("gone".to_owned(), limits(short)),
                ("ill".to_owned(), limits(long)),
                ("with its service".to_owned(), limits(short)),
            ]
        );
        assert!(leaving(&now, &now).is_empty());
    }
}
