//! What serves until the first generation: nothing yet, and nothing that would say "no such route".
//!
//! A node that starts listens before it knows its routes. A client that comes now gets 503 with `Retry-After`, because
//! a 404 would be a lie that caches and crawlers remember.

use std::sync::Arc;

use constellation_table::rule::RuleError;
use constellation_table::{
    Action, EntryPointId, Router, RouterSpec, Rule, Service, ServiceSpec, Slot, Snapshot,
};

use super::names;
use super::statics::INTERNAL;

/// Seconds until a client may try again; sources answer within a few.
const RETRY_AFTER: u32 = 1;

/// Generation 0: on every entry point, with and without TLS, one router to a service without endpoints.
pub fn starting(entry_points: usize) -> Result<Snapshot, RuleError> {
    let name = names::qualify("starting", INTERNAL);
    let service = Arc::new(Service::new(
        ServiceSpec {
            name: name.clone(),
            endpoints: Vec::new(),
            pass_host_header: true,
            transport: Arc::default(),
            retry_after: RETRY_AFTER,
            policy: Arc::default(),
        },
        None,
    ));
    let rule = Arc::new(Rule::parse_http("PathPrefix(`/`)")?);
    let ids: Vec<EntryPointId> = (0..entry_points)
        .filter_map(|position| u16::try_from(position).ok().map(EntryPointId))
        .collect();
    let router = |tls| {
        Arc::new(Router {
            spec: RouterSpec {
                name: name.clone(),
                entry_points: ids.clone(),
                tls,
                rule: rule.clone(),
                priority: i64::MIN,
                action: Action::Forward(service.clone().into()),
                middlewares: None,
            },
            slot: Slot::default(),
        })
    };
    let routers = vec![router(false), router(true)];
    Ok(Snapshot::build(0, entry_points, routers, vec![service.clone()]))
}
