//! How long what runs at an endpoint that leaves with a new generation may go on. Pure.

use constellation_dataplane::departure::Limits;
use constellation_table::{Condition, Departure, Transition};

/// One that is only unhealthy or paused may still finish what it has begun, so everything there gets the longer limit.
pub(super) fn limits(departure: &Departure) -> Limits {
    let drain = departure.service.policy.drain;
    let requests = match departure.condition {
        Some(Condition::Unavailable(_)) => drain.upgraded.max(drain.requests),
        _ => drain.requests,
    };
    Limits {
        requests,
        upgraded: drain.upgraded,
    }
}

/// The departure as a change of the endpoint's condition; one that is gone has none.
pub(super) fn transition(departure: &Departure) -> Option<Transition> {
    let (to, reason) = match departure.condition.as_ref()? {
        Condition::Draining(reason) => ("draining", reason),
        Condition::Unavailable(reason) => ("unavailable", reason),
        Condition::Ready => return None,
    };
    Some(Transition {
        endpoint: departure.endpoint.name.clone(),
        fact: "condition",
        to,
        reason: (**reason).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use constellation_table::{Endpoint, EndpointSpec, Scheme, Service, ServiceSpec, Snapshot};

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
            peer: None,
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
        let describe = |departure: &Departure| {
            let to = transition(departure).map_or("", |transition| transition.to);
            (departure.endpoint.name.to_string(), limits(departure), to)
        };
        let departures = Snapshot::departures(&before, &now);
        let mut left: Vec<(String, Limits, &str)> = departures.iter().map(describe).collect();
        left.sort_by(|a, b| a.0.cmp(&b.0));
        let (short, long) = (Duration::from_secs(30), Duration::from_secs(600));
        let within = |requests| Limits {
            requests,
            upgraded: long,
        };
        assert_eq!(
            left,
            [
                ("drains".to_owned(), within(short), "draining"),
                ("gone".to_owned(), within(short), ""),
                ("ill".to_owned(), within(long), "unavailable"),
                ("with its service".to_owned(), within(short), ""),
            ]
        );
    }
}
