//! Connections that a proxy in front of this node hands over, each with the name of its service as the server's name in TLS.
//!
//! Who may connect was decided there, and the service's instances are this node's own or another node's, which serves the
//! connection itself or refuses it: nothing ever goes back to the proxy in front.

use std::net::SocketAddr;
use std::time::Instant;

use constellation_table::{TcpTls, decide_stream};

use super::{Decided, Line, Scene, Verdict, router_to};

/// Where connections to the service go, and that their TLS ends here. `None`: there is no such service, or nobody who could
/// serve it now.
pub(super) fn decide(scene: &Scene<'_>, service: &str, client: SocketAddr) -> Option<Decided> {
    let generation = scene.edge.published.load();
    let name = format!("tcp/{service}");
    let (service, candidates) = decide_stream(&generation.table, &name, client.ip(), Instant::now())?;
    if candidates.order.is_empty() {
        return None;
    }
    let entry_point = &scene.entry_point.settings;
    let router = router_to(
        service,
        entry_point.name.clone(),
        entry_point.id,
        Some(TcpTls::Terminate),
    )?;
    let verdict = Verdict::Forward {
        service: service.clone(),
        line: Line::new([(service, candidates)].into_iter()),
    };
    Some((router, verdict))
}
