//! What a connection passes before it is forwarded. Lists of addresses were asked by the decision; what counts is
//! counted here.

use std::net::IpAddr;
use std::sync::Arc;

use constellation_table::{InFlightConn, TcpMiddleware, TcpRouter};
use smallvec::SmallVec;

use crate::sources::{Counted, Sources};

/// The places that a connection has taken, given back when this is dropped.
pub(super) type Places = SmallVec<[Counted; 1]>;

/// A client has as many connections as it may.
#[derive(Debug)]
pub(super) struct Full;

/// Takes a place with every `inFlightConn` of the router. Clients are told apart as by the entry point's own limit: by
/// IPv4 address and by IPv6 /64.
pub(super) fn enter(router: &TcpRouter, client: IpAddr) -> Result<Places, Full> {
    let mut places = Places::new();
    for middleware in &router.spec.middlewares {
        if let TcpMiddleware::InFlightConn(limit) = middleware {
            places.push(take(limit, client).ok_or(Full)?);
        }
    }
    Ok(places)
}

fn take(limit: &InFlightConn, client: IpAddr) -> Option<Counted> {
    if limit.amount == 0 {
        return None;
    }
    let sources = limit.slot.get_or_init(|| Arc::new(Sources::new(limit.amount)))?;
    sources.admit(client)
}

#[cfg(test)]
mod tests {
    use constellation_table::{EntryPointId, Service, ServiceSpec, Slot, TcpRouterSpec, TcpRule, Transport};

    use super::*;

    fn router(middlewares: Vec<TcpMiddleware>) -> TcpRouter {
        let service = Service::new(
            ServiceSpec {
                name: "tcp/db@test".into(),
                endpoints: Vec::new(),
                pass_host_header: true,
                transport: Arc::new(Transport::default()),
                retry_after: 1,
                policy: Arc::default(),
            },
            None,
        );
        TcpRouter::new(TcpRouterSpec {
            name: "tcp/db@test".into(),
            entry_points: vec![EntryPointId(0)],
            tls: None,
            rule: Arc::new(TcpRule::parse("HostSNI(`*`)").unwrap()),
            priority: 1,
            target: Arc::new(service).into(),
            middlewares,
        })
    }

    fn at_most(amount: usize) -> TcpMiddleware {
        TcpMiddleware::InFlightConn(Arc::new(InFlightConn {
            name: "tcp/few@test".into(),
            amount,
            slot: Slot::default(),
        }))
    }

    #[test]
    fn routers_that_name_a_limit_count_together() {
        let limit = at_most(2);
        let (one, other) = (router(vec![limit.clone()]), router(vec![at_most(9), limit]));
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let first = enter(&one, client).unwrap();
        let second = enter(&other, client).unwrap();
        assert!(enter(&one, client).is_err());
        assert!(enter(&other, client).is_err());
        assert!(enter(&other, "192.0.2.2".parse().unwrap()).is_ok());
        drop(first);
        assert!(enter(&one, client).is_ok());
        drop(second);
        assert!(enter(&router(vec![at_most(0)]), client).is_err());
        assert!(enter(&router(Vec::new()), client).unwrap().is_empty());
    }
}
