//! A data plane with one UDP entry point, back ends that echo, and clients that wait for what they expect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use constellation_dataplane::access_log::AccessLog;
use constellation_dataplane::gate::Gate;
use constellation_dataplane::mesh::Mesh;
use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::offence::Offences;
use constellation_dataplane::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, Settings, TcpSettings, UdpSettings,
};
use constellation_dataplane::table::{
    Condition, Endpoint, EndpointSpec, EntryPointId, Policy, Scheme, Service, ServiceSpec, Snapshot,
    Transport, UdpRouter, UdpRouterSpec,
};
use constellation_dataplane::tls::TlsView;
use constellation_dataplane::{DataPlane, Generation, Inherited, Published, StartError};
use prometheus_client::registry::Registry;

/// No test waits longer than this for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} took too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a node is to serve.
pub(crate) struct Plan {
    pub(crate) addresses: Vec<&'static str>,
    pub(crate) service: Option<Service>,
    pub(crate) udp: UdpSettings,
    pub(crate) workers: usize,
    pub(crate) drain: Duration,
    pub(crate) log: AccessLog,
}

impl Plan {
    /// Everything goes to these back ends, in their order. Sessions live long unless a test says otherwise.
    pub(crate) fn to(back_ends: &[SocketAddr]) -> Self {
        Self {
            addresses: vec!["127.0.0.1:0"],
            service: Some(service(back_ends, None)),
            udp: UdpSettings {
                timeout: Duration::from_secs(600),
                ..UdpSettings::default()
            },
            workers: 1,
            drain: Duration::from_secs(10),
            log: AccessLog::off(),
        }
    }

    pub(crate) fn start(self) -> Node {
        self.try_start().unwrap()
    }

    pub(crate) fn try_start(self) -> Result<Node, StartError> {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, &["dns".into()]);
        let settings = Settings {
            entry_points: vec![EntryPoint {
                id: EntryPointId(0),
                name: "dns".into(),
                protocol: Protocol::Udp,
                addresses: self.addresses.iter().map(|a| a.parse().unwrap()).collect(),
                key: "entryPoints.dns.address".into(),
                forwarded: ForwardedHeaders::default(),
                proxy_protocol: ProxyProtocolTrust::default(),
                limits: Limits::default(),
                tcp: TcpSettings::default(),
                udp: self.udp,
                exempt_sources: Vec::new(),
                default_tls_options: "default".into(),
                tenure: Default::default(),
                by_service: false,
                shared: false,
            }],
            node: "node-1".into(),
            workers: NonZeroUsize::new(self.workers).unwrap(),
            cpus: Vec::new(),
            drain: self.drain,
            served_by_for: Vec::new(),
            gate: Gate::default(),
            offences: Offences::default(),
            mesh: Mesh::default(),
        };
        let published = Published::new(generation(1, self.service));
        let plane = DataPlane::start(
            settings,
            Inherited::default(),
            published.clone(),
            Arc::new(metrics),
            self.log,
        )?;
        let address = plane.bound()[0].1;
        Ok(Node {
            plane,
            published,
            address,
            registry,
        })
    }
}

/// A running data plane.
pub(crate) struct Node {
    pub(crate) plane: DataPlane,
    pub(crate) published: Published,
    pub(crate) address: SocketAddr,
    registry: Registry,
}

impl Node {
    /// The value of a series: its whole name with labels, or the sum over all label sets of a name.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = constellation_dataplane::metrics::encode(&self.registry).unwrap();
        let of = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(name)?;
            (rest.starts_with(['{', ' '])).then(|| rest.rsplit(' ').next().unwrap().parse().unwrap())
        };
        text.lines().filter_map(of).sum()
    }

    pub(crate) fn ended(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "constellation_udp_ended_sessions_total{{entry_point=\"dns\",router=\"udp/r@test\",service=\"udp/s@test\",\
             reason=\"{reason}\"}}"
        ))
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "constellation_udp_dropped_datagrams_total{{entry_point=\"dns\",reason=\"{reason}\"}}"
        ))
    }

    pub(crate) fn open(&self) -> u64 {
        self.metric("constellation_udp_open_sessions")
    }

    pub(crate) fn publish(&self, number: u64, service: Option<Service>) {
        self.published.publish(generation(number, service));
    }

    /// Ends it at once.
    pub(crate) fn drain(self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(self.plane.drain())
    }
}

pub(crate) fn generation(number: u64, service: Option<Service>) -> Generation {
    let (mut routers, mut services) = (Vec::new(), Vec::new());
    if let Some(service) = service {
        let service = Arc::new(service);
        routers.push(Arc::new(UdpRouter::new(UdpRouterSpec {
            name: "udp/r@test".into(),
            entry_points: vec![EntryPointId(0)],
            target: service.clone().into(),
        })));
        services.push(service);
    }
    Generation {
        table: Snapshot::build(number, 1, Vec::new(), services).with_streams(Vec::new(), routers),
        tls: TlsView::default(),
        published: SystemTime::now(),
    }
}

/// A service of these back ends; each is known by its address.
pub(crate) fn service(back_ends: &[SocketAddr], previous: Option<&Service>) -> Service {
    let ready: Vec<_> = back_ends
        .iter()
        .map(|address| (*address, Condition::Ready))
        .collect();
    service_of(&ready, Policy::default(), previous)
}

pub(crate) fn service_of(
    back_ends: &[(SocketAddr, Condition)],
    policy: Policy,
    previous: Option<&Service>,
) -> Service {
    let endpoints = back_ends
        .iter()
        .map(|(address, condition)| endpoint(&address.ip().to_string(), address.port(), condition.clone()))
        .collect();
    Service::new(
        ServiceSpec {
            name: "udp/s@test".into(),
            endpoints,
            pass_host_header: true,
            transport: Arc::new(Transport::default()),
            retry_after: 7,
            policy: Arc::new(policy),
        },
        previous,
    )
}

pub(crate) fn endpoint(host: &str, port: u16, condition: Condition) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointSpec {
        name: format!("{host}:{port}").into(),
        scheme: Scheme::Udp,
        host: host.into(),
        port,
        base_path: "".into(),
        weight: 1,
        condition,
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    }))
}

/// A back end that sends everything back with its own mark in front, unless it is told to be silent.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) silent: Arc<AtomicBool>,
    /// Who has sent something.
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start(mark: &'static str) -> Self {
        Self::start_at(mark, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub(crate) fn start_at(mark: &'static str, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let large = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        large.unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (silent, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let peers = Arc::<Mutex<Vec<_>>>::default();
        let thread = std::thread::spawn({
            let (silent, stop, peers) = (silent.clone(), stop.clone(), peers.clone());
            move || {
                let mut room = vec![0; 70_000];
                let mut known = std::collections::HashSet::new();
                room[..mark.len()].copy_from_slice(mark.as_bytes());
                while !stop.load(Ordering::SeqCst) {
                    let Ok((len, peer)) = socket.recv_from(&mut room[mark.len()..]) else {
                        continue;
                    };
                    if known.insert(peer) {
                        peers.lock().unwrap().push(peer);
                    }
                    if !silent.load(Ordering::SeqCst) {
                        // A client that is gone is none of its business.
                        socket
                            .send_to(&room[..mark.len() + len], peer)
                            .unwrap_or_default();
                    }
                }
            }
        });
        Self {
            address,
            silent,
            peers,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn peers(&self) -> usize {
        self.peers.lock().unwrap().len()
    }

    /// Closes its port.
    pub(crate) fn kill(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of a port where nobody is.
pub(crate) fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

/// A client that hears the address it asked, and no other.
pub(crate) struct Client(pub(crate) UdpSocket);

impl Client {
    pub(crate) fn of(node: &Node) -> Self {
        Self::from_to("127.0.0.1", node.address)
    }

    pub(crate) fn from_to(source: &str, to: SocketAddr) -> Self {
        let source: IpAddr = source.parse().unwrap();
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes.as_ref()).unwrap();
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut room = vec![0; 70_000];
        let len = self.0.recv(&mut room).unwrap();
        room.truncate(len);
        room
    }

    pub(crate) fn receive_text(&self) -> String {
        String::from_utf8(self.receive()).unwrap()
    }

    /// Sends, and waits for the answer.
    pub(crate) fn ask(&self, text: &str) -> String {
        self.send(text);
        self.receive_text()
    }
}

/// Descriptors of this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
