//! A cluster of data planes of one worker, each with an entry point for HTTP, one for TCP and one for UDP.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use constellation_dataplane::access_log::AccessLog;
use constellation_dataplane::gate::Gate;
use constellation_dataplane::mesh::{self, Mesh};
use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::offence::Offences;
use constellation_dataplane::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, Settings, TcpSettings, UdpSettings,
};
use constellation_dataplane::table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, Locality, Mirror, Mirroring, MirroringSpec,
    Peer, Policy, ProxyProtocolVersion, Reach, Router, RouterSpec, Rule, Scheme, Service, ServiceSpec,
    Snapshot, Target, TcpRouter, TcpRouterSpec, TcpRule, Transport, UdpRouter, UdpRouterSpec,
};
use constellation_dataplane::tls::TlsView;
use constellation_dataplane::{DataPlane, Generation, Inherited, Published};
use constellation_identity::tls::{Credentials, peer};
use constellation_identity::{
    Authority, ClusterId, NODE_VALIDITY, NodeKey, NodeName, SigningRequest, Trust, UnixSeconds,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::support::{Client, soon};

/// What a service is made of at one node.
pub(crate) enum At {
    /// An instance of its own.
    Here(SocketAddr),
    /// The instances of that node.
    Node(&'static str),
    /// The same, where clients have cookies made of their addresses.
    Known(&'static str, Vec<SocketAddr>),
}

/// A cluster.
pub(crate) struct Cluster {
    credentials: HashMap<&'static str, Arc<Credentials>>,
    inlets: HashMap<&'static str, SocketAddr>,
    listeners: HashMap<&'static str, std::net::TcpListener>,
    removed: Arc<Mutex<HashSet<String>>>,
}

/// A node of it.
pub(crate) struct Node {
    plane: Option<DataPlane>,
    pub(crate) published: Published,
    pub(crate) mesh: Mesh,
    pub(crate) web: SocketAddr,
    pub(crate) db: SocketAddr,
    pub(crate) dns: SocketAddr,
    registry: Registry,
    accepting: AbortHandle,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

impl Cluster {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let authority = Authority::generate(ClusterId::generate().unwrap(), now()).unwrap();
        let mut cluster = Self {
            credentials: HashMap::new(),
            inlets: HashMap::new(),
            listeners: HashMap::new(),
            removed: Arc::default(),
        };
        for name in names {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            cluster.inlets.insert(name, listener.local_addr().unwrap());
            cluster.listeners.insert(name, listener);
            let node: NodeName = name.parse().unwrap();
            let key = NodeKey::generate().unwrap();
            let request = SigningRequest::parse(&key.signing_request().unwrap()).unwrap();
            let certificate = authority.certify(&node, &request, now(), NODE_VALIDITY).unwrap();
            let trust = Trust::new(authority.cluster(), vec![authority.certificate().clone()]).unwrap();
            let credentials = Credentials::new(certificate, key, trust, now()).unwrap();
            cluster.credentials.insert(name, Arc::new(credentials));
        }
        cluster
    }

    /// Its connections are closed from now on.
    pub(crate) fn remove(&self, name: &str) {
        self.removed.lock().unwrap().insert(name.to_owned());
    }

    /// The others, as a node sees them.
    pub(crate) fn view(&self, own: &str) -> mesh::View {
        let credentials = &self.credentials[own];
        let removed = self.removed.clone();
        let nodes = self.inlets.iter().filter(|(name, _)| **name != own);
        let node = |(name, address): (&&'static str, &SocketAddr)| {
            let client = credentials.client(&name.parse().unwrap(), mesh::ALPN).unwrap();
            let node = mesh::Node {
                client: Arc::new(client),
                addresses: [address.to_string()].into(),
            };
            (Arc::from(*name), node)
        };
        mesh::View {
            server: Arc::new(credentials.server(&[mesh::ALPN]).unwrap()),
            admits: Some(Arc::new(move |session| {
                let node = peer(session).ok()??.node;
                let node = node.as_str();
                (!removed.lock().unwrap().contains(node)).then(|| node.into())
            })),
            nodes: nodes.map(node).collect(),
        }
    }

    /// Starts a node with a service for each entry point, made of these parts.
    pub(crate) fn start(&mut self, name: &'static str, web: &[At], db: &[At], dns: &[At]) -> Node {
        self.start_with(name, Policy::default(), web, db, dns)
    }

    pub(crate) fn start_with(
        &mut self,
        name: &'static str,
        policy: Policy,
        web: &[At],
        db: &[At],
        dns: &[At],
    ) -> Node {
        let mut registry = Registry::default();
        let names: [Arc<str>; 3] = ["web".into(), "db".into(), "dns".into()];
        let metrics = Metrics::register(&mut registry, &names);
        let mesh = Mesh::default();
        mesh.set_view(Some(self.view(name)));
        let settings = Settings {
            entry_points: (0..3)
                .zip(names)
                .map(|(id, name)| entry_point(id, name))
                .collect(),
            node: name.into(),
            workers: NonZeroUsize::MIN,
            cpus: Vec::new(),
            drain: Duration::from_secs(10),
            served_by_for: vec!["127.0.0.1/32".parse().unwrap()],
            gate: Gate::default(),
            offences: Offences::default(),
            mesh: mesh.clone(),
        };
        let published = Published::new(generation(1, &policy, web, db, dns));
        let plane = DataPlane::start(
            settings,
            Inherited::default(),
            published.clone(),
            Arc::new(metrics),
            AccessLog::off(),
        )
        .unwrap();
        let at = |name: &str| plane.bound().iter().find(|(own, _)| **own == *name).unwrap().1;
        let (web, db, dns) = (at("web"), at("db"), at("dns"));
        let listener = tokio::net::TcpListener::from_std(self.listeners.remove(name).unwrap()).unwrap();
        let inlet = mesh.inlet();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if inlet.send(socket.into_std().unwrap()).await.is_err() {
                    return;
                }
            }
        });
        Node {
            plane: Some(plane),
            published,
            mesh,
            web,
            db,
            dns,
            registry,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Node {
    pub(crate) async fn connect(&self) -> Client {
        Client(soon("connecting", TcpStream::connect(self.web)).await.unwrap())
    }

    pub(crate) async fn connect_db(&self) -> Client {
        Client(soon("connecting", TcpStream::connect(self.db)).await.unwrap())
    }

    /// Stops it, and lets what runs finish; how many connections were cut.
    pub(crate) fn drain(&mut self) -> impl Future<Output = usize> + Send + 'static + use<> {
        self.accepting.abort();
        self.plane.take().unwrap().drain()
    }

    /// The sum of all series of a metric whose labels contain all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = constellation_dataplane::metrics::encode(&self.registry).unwrap();
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }

    /// Sends copies of all requests for the service `main` to the service `copies`.
    pub(crate) fn publish_mirrored(&self, main: &[At], copies: &[At]) {
        let web = Arc::new(service("app@test", Scheme::Http, &Policy::default(), main));
        let mirror = Arc::new(service("copies@test", Scheme::Http, &Policy::default(), copies));
        let spec = MirroringSpec {
            name: "mirrored@test".into(),
            main: web.clone().into(),
            mirrors: vec![Mirror {
                name: "copies".into(),
                target: mirror.clone().into(),
                percent: 100,
            }],
            mirror_body: true,
            max_body_bytes: None,
        };
        let router = Router::new(RouterSpec {
            name: "app@test".into(),
            entry_points: vec![EntryPointId(0)],
            tls: false,
            rule: Arc::new(Rule::parse_http("PathPrefix(`/`)").unwrap()),
            priority: 1,
            action: Action::Forward(Target::Mirroring(Arc::new(Mirroring::new(spec, None).unwrap()))),
            middlewares: None,
        });
        self.published.publish(Generation {
            table: Snapshot::build(2, 3, vec![Arc::new(router)], vec![web, mirror]),
            tls: TlsView::default(),
            published: SystemTime::now(),
        });
    }
}

fn entry_point(id: u16, name: Arc<str>) -> EntryPoint {
    EntryPoint {
        id: EntryPointId(id),
        protocol: match &*name {
            "dns" => Protocol::Udp,
            _ => Protocol::Tcp,
        },
        key: format!("entryPoints.{name}.address").into(),
        name,
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        forwarded: ForwardedHeaders::default(),
        proxy_protocol: ProxyProtocolTrust::default(),
        limits: Limits::default(),
        tcp: TcpSettings::default(),
        udp: UdpSettings::default(),
        exempt_sources: Vec::new(),
        tenure: Default::default(),
        by_service: false,
        shared: false,
        default_tls_options: "default".into(),
    }
}

fn generation(number: u64, policy: &Policy, web: &[At], db: &[At], dns: &[At]) -> Generation {
    let web = Arc::new(service("app@test", Scheme::Http, policy, web));
    let db = Arc::new(service("tcp/db@test", Scheme::Tcp, policy, db));
    let dns = Arc::new(service("udp/dns@test", Scheme::Udp, policy, dns));
    let router = Router::new(RouterSpec {
        name: "app@test".into(),
        entry_points: vec![EntryPointId(0)],
        tls: false,
        rule: Arc::new(Rule::parse_http("PathPrefix(`/`)").unwrap()),
        priority: 1,
        action: Action::Forward(web.clone().into()),
        middlewares: None,
    });
    let tcp = TcpRouter::new(TcpRouterSpec {
        name: "tcp/db@test".into(),
        entry_points: vec![EntryPointId(1)],
        tls: None,
        rule: Arc::new(TcpRule::parse("HostSNI(`*`)").unwrap()),
        priority: 1,
        target: db.clone().into(),
        middlewares: Vec::new(),
    });
    let udp = UdpRouter::new(UdpRouterSpec {
        name: "udp/dns@test".into(),
        entry_points: vec![EntryPointId(2)],
        target: dns.clone().into(),
    });
    Generation {
        table: Snapshot::build(number, 3, vec![Arc::new(router)], vec![web, db, dns])
            .with_streams(vec![Arc::new(tcp)], vec![Arc::new(udp)]),
        tls: TlsView::default(),
        published: SystemTime::now(),
    }
}

fn service(name: &str, scheme: Scheme, policy: &Policy, parts: &[At]) -> Service {
    let endpoint = |(number, part): (usize, &At)| {
        let at_node = |node: &str, instances: &[SocketAddr]| {
            let peer = Peer {
                node: node.into(),
                service: name.into(),
                instances: instances.iter().map(|at| format!("http://{at}").into()).collect(),
            };
            (node.to_owned(), 0, Some(Arc::new(peer)))
        };
        let (host, port, peer) = match part {
            At::Here(address) => (address.ip().to_string(), address.port(), None),
            At::Node(node) => at_node(node, &[]),
            At::Known(node, instances) => at_node(node, instances),
        };
        let locality = match peer {
            None => Locality::default(),
            // In the order of the definition.
            Some(_) => Locality {
                reach: Reach::Region,
                priority: u32::try_from(number).unwrap(),
            },
        };
        Arc::new(Endpoint::new(EndpointSpec {
            name: host.as_str().into(),
            scheme,
            host: host.into(),
            port,
            base_path: "".into(),
            weight: 1,
            condition: Condition::Ready,
            url_as_written: "".into(),
            locality,
            peer,
        }))
    };
    let spec = ServiceSpec {
        name: name.into(),
        endpoints: parts.iter().enumerate().map(endpoint).collect(),
        pass_host_header: true,
        transport: Arc::new(Transport::default()),
        retry_after: 7,
        policy: Arc::new(policy.clone()),
    };
    Service::new(spec, None)
}

/// A generation whose web service is this back end.
pub(crate) fn serving(number: u64, address: SocketAddr) -> Generation {
    generation(number, &Policy::default(), &[At::Here(address)], &[], &[])
}

/// A generation whose web service is this back end of HTTP/2.
pub(crate) fn h2c(number: u64, address: SocketAddr) -> Generation {
    let web = service("app@test", Scheme::H2c, &Policy::default(), &[At::Here(address)]);
    Generation {
        table: Snapshot::build(number, 3, Vec::new(), vec![Arc::new(web)]),
        tls: TlsView::default(),
        published: SystemTime::now(),
    }
}

/// A generation whose TCP service is this back end, which is told whose connections it gets.
pub(crate) fn told(number: u64, address: SocketAddr) -> Generation {
    let parts = [At::Here(address)];
    let plain = service("tcp/db@test", Scheme::Tcp, &Policy::default(), &parts);
    let mut transport = Transport::default();
    transport.stream.proxy_protocol = Some(ProxyProtocolVersion::V1);
    let spec = ServiceSpec {
        name: plain.name,
        endpoints: plain.endpoints,
        pass_host_header: true,
        transport: Arc::new(transport),
        retry_after: 7,
        policy: plain.policy,
    };
    Generation {
        table: Snapshot::build(number, 3, Vec::new(), vec![Arc::new(Service::new(spec, None))]),
        tls: TlsView::default(),
        published: SystemTime::now(),
    }
}
