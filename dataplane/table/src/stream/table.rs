//! TCP and UDP routers of one generation, filed by entry point and server name.
//!
//! Filing is that of HTTP: an index from names to ranks, the rules evaluated in full. What HTTPS routers claim is filed
//! as well, where there are TCP routers for TLS that could be asked first.

use std::sync::Arc;

use super::{ConnectionMeta, TcpRouter, UdpRouter};
use crate::index::{Draft, Table};
use crate::{EntryPointId, Router, Snapshot};

/// The routers of streams, and their indexes.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Best first.
    tcp: Vec<Arc<TcpRouter>>,
    /// By name.
    udp: Vec<Arc<UdpRouter>>,
    /// By number.
    entry_points: Box<[EntryPoint]>,
}

/// What answers on one entry point.
#[derive(Debug, Default)]
struct EntryPoint {
    /// TCP routers without `tls`.
    plain: Table,
    /// TCP routers with `tls`.
    tls: Table,
    /// What HTTPS routers claim. Empty where no TCP router wants TLS: nobody contests it there.
    https: Https,
    /// The first UDP router by name.
    udp: Option<Arc<UdpRouter>>,
}

/// The claims of HTTPS routers, as places among all HTTP routers.
#[derive(Debug, Default)]
struct Https {
    named: Table,
    rest: Option<usize>,
}

/// The HTTPS router because of which a connection is not a TCP router's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HttpsClaim<'s> {
    /// It names the server name.
    Named(&'s Arc<Router>),
    /// It takes what nobody names, and the TCP router that matches is a catch-all.
    Rest(&'s Arc<Router>),
}

/// An entry point under construction.
#[derive(Default)]
struct Drafts {
    plain: Draft,
    tls: Draft,
    https: Draft,
    https_rest: Option<usize>,
    udp: Option<Arc<UdpRouter>>,
}

impl Streams {
    /// Sorts and indexes. `routers` are the HTTP routers of the generation, best first.
    pub(crate) fn build(
        entry_points: usize,
        routers: &[Arc<Router>],
        mut tcp: Vec<Arc<TcpRouter>>,
        mut udp: Vec<Arc<UdpRouter>>,
    ) -> Self {
        tcp.sort_by(|a, b| (a.rank().cmp(&b.rank())).then_with(|| a.spec.name.cmp(&b.spec.name)));
        udp.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let named = tcp
            .iter()
            .flat_map(|router| &router.spec.entry_points)
            .chain(udp.iter().flat_map(|router| &router.spec.entry_points))
            .map(|id| place(*id) + 1)
            .max();
        let entry_points = entry_points.max(named.unwrap_or_default());
        let mut drafts: Vec<Drafts> = (0..entry_points).map(|_| Drafts::default()).collect();
        for (rank, router) in (0u32..).zip(&tcp) {
            for id in &router.spec.entry_points {
                if let Some(drafts) = drafts.get_mut(place(*id)) {
                    let draft = match router.spec.tls {
                        None => &mut drafts.plain,
                        Some(_) => &mut drafts.tls,
                    };
                    draft.add(rank, router.spec.rule.keys());
                }
            }
        }
        for router in &udp {
            for id in &router.spec.entry_points {
                if let Some(drafts) = drafts.get_mut(place(*id)) {
                    drafts.udp.get_or_insert_with(|| router.clone());
                }
            }
        }
        if drafts.iter().any(|drafts| !drafts.tls.is_empty()) {
            claim(&mut drafts, routers);
        }
        Self {
            tcp,
            udp,
            entry_points: drafts.into_iter().map(Drafts::finish).collect(),
        }
    }

    fn entry_point(&self, id: EntryPointId) -> Option<&EntryPoint> {
        self.entry_points.get(place(id))
    }

    fn table(&self, id: EntryPointId, tls: bool) -> Option<&Table> {
        let entry_point = self.entry_point(id)?;
        Some(if tls { &entry_point.tls } else { &entry_point.plain })
    }
}

/// Files what HTTPS routers claim where that is contested.
fn claim(drafts: &mut [Drafts], routers: &[Arc<Router>]) {
    for (number, router) in routers.iter().enumerate() {
        let contested = |id: &&EntryPointId| {
            drafts
                .get(place(**id))
                .is_some_and(|drafts| !drafts.tls.is_empty())
        };
        if !router.spec.tls || !router.spec.entry_points.iter().any(|id| contested(&id)) {
            continue;
        }
        let claims = router.spec.rule.claims();
        for id in &router.spec.entry_points {
            let Some(drafts) = drafts.get_mut(place(*id)).filter(|drafts| !drafts.tls.is_empty()) else {
                continue;
            };
            if let (Some(names), Ok(rank)) = (&claims.names, u32::try_from(number)) {
                drafts.https.add(rank, names);
            }
            if claims.rest {
                drafts.https_rest.get_or_insert(number);
            }
        }
    }
}

impl Drafts {
    fn finish(self) -> EntryPoint {
        EntryPoint {
            plain: self.plain.finish(),
            tls: self.tls.finish(),
            https: Https {
                named: self.https.finish(),
                rest: self.https_rest,
            },
            udp: self.udp,
        }
    }
}

fn place(id: EntryPointId) -> usize {
    usize::from(id.0)
}

impl Snapshot {
    /// All TCP routers, best first.
    pub fn all_tcp_routers(&self) -> &[Arc<TcpRouter>] {
        &self.streams.tcp
    }

    /// All UDP routers, by name.
    pub fn all_udp_routers(&self) -> &[Arc<UdpRouter>] {
        &self.streams.udp
    }

    /// The TCP routers of one table that may match the server name, best first.
    pub(crate) fn tcp_candidates<'s>(
        &'s self,
        entry_point: EntryPointId,
        tls: bool,
        server_name: &str,
    ) -> impl Iterator<Item = &'s Arc<TcpRouter>> + use<'s> {
        let table = self.streams.table(entry_point, tls);
        let ranks = table
            .map(|table| table.candidates(server_name))
            .unwrap_or_default();
        ranks.filter_map(|rank| self.streams.tcp.get(usize::try_from(rank).ok()?))
    }

    /// How many TCP routers a table has.
    pub(crate) fn tcp_len(&self, entry_point: EntryPointId, tls: bool) -> usize {
        self.streams.table(entry_point, tls).map_or(0, Table::len)
    }

    /// Every table of TCP routers there is.
    pub(crate) fn tcp_table_ids(&self) -> impl Iterator<Item = (EntryPointId, bool)> + use<> {
        let entry_points = u16::try_from(self.streams.entry_points.len()).unwrap_or(u16::MAX);
        (0..entry_points).flat_map(|id| [(EntryPointId(id), false), (EntryPointId(id), true)])
    }

    /// The UDP router of an entry point: the first by name.
    pub(crate) fn udp_router(&self, entry_point: EntryPointId) -> Option<&Arc<UdpRouter>> {
        self.streams.entry_point(entry_point)?.udp.as_ref()
    }

    /// The HTTPS router that takes a connection with TLS although `router` matches it. One that names the server name
    /// comes before every TCP router, whatever their priorities; one for any name before catch-alls.
    pub(crate) fn https_first(
        &self,
        connection: &ConnectionMeta<'_>,
        router: &TcpRouter,
    ) -> Option<HttpsClaim<'_>> {
        if let Some(named) = self.https_named(connection.entry_point, connection.server_name) {
            return Some(HttpsClaim::Named(named));
        }
        if !router.spec.rule.is_catch_all() {
            return None;
        }
        self.https_rest(connection.entry_point).map(HttpsClaim::Rest)
    }

    /// The HTTPS router that names this server name, where there are TCP routers for TLS that could be asked first.
    pub(super) fn https_named(&self, entry_point: EntryPointId, name: &str) -> Option<&Arc<Router>> {
        let named = &self.streams.entry_point(entry_point)?.https.named;
        named
            .candidates(name)
            .filter_map(|rank| self.routers().get(usize::try_from(rank).ok()?))
            .find(|router| router.spec.rule.claims_name(name))
    }

    /// The HTTPS router for any name, likewise.
    pub(super) fn https_rest(&self, entry_point: EntryPointId) -> Option<&Arc<Router>> {
        self.routers()
            .get(self.streams.entry_point(entry_point)?.https.rest?)
    }

    /// Whether connections of an entry point may be given to a TCP router before the client has said anything, so that
    /// protocols in which the server speaks first work: there is a router for plain TCP, and none for TLS, neither TCP
    /// nor HTTP. Decide with `tls` false then, and when that gives HTTP, listen after all: no rule matched.
    pub fn server_may_speak_first(&self, entry_point: EntryPointId) -> bool {
        self.table_len(entry_point, true) == 0
            && self.tcp_len(entry_point, true) == 0
            && self.tcp_len(entry_point, false) > 0
    }

    /// Whether an entry point has TCP routers; without any every connection is HTTP.
    pub fn has_tcp(&self, entry_point: EntryPointId) -> bool {
        self.tcp_len(entry_point, false) + self.tcp_len(entry_point, true) > 0
    }
}
