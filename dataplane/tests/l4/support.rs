//! A data plane of one worker, scripted back ends, and raw clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use constellation_dataplane::access_log::{self, AccessLog, AccessLogWriter};
use constellation_dataplane::gate::Gate;
use constellation_dataplane::mesh::Mesh;
use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::offence::Offences;
use constellation_dataplane::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, Settings, TcpSettings, UdpSettings,
};
use constellation_dataplane::table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, Policy, Router, RouterSpec, Rule, Scheme,
    Service, ServiceSpec, Snapshot, TcpMiddleware, TcpRouter, TcpRouterSpec, TcpRule, TcpTls, Transport,
};
use constellation_dataplane::tenure::Tenure;
use constellation_dataplane::tls::TlsView;
use constellation_dataplane::{DataPlane, Generation, Inherited, Published};
use prometheus_client::registry::Registry;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;

/// No test waits longer than this for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A TCP router of a test.
pub(crate) struct Stream {
    pub(crate) rule: &'static str,
    pub(crate) tls: Option<TcpTls>,
    pub(crate) endpoints: Vec<(Scheme, SocketAddr)>,
    pub(crate) transport: Transport,
    pub(crate) policy: Policy,
    pub(crate) middlewares: Vec<TcpMiddleware>,
}

impl Stream {
    /// Everything that is not TLS goes to these.
    pub(crate) fn to(addresses: &[SocketAddr]) -> Self {
        Self {
            rule: "HostSNI(`*`)",
            tls: None,
            endpoints: addresses.iter().map(|address| (Scheme::Tcp, *address)).collect(),
            transport: Transport::default(),
            policy: Policy::default(),
            middlewares: Vec::new(),
        }
    }

    /// What asks for a name by TLS goes there.
    pub(crate) fn named(rule: &'static str, tls: TcpTls, address: SocketAddr) -> Self {
        Self {
            rule,
            tls: Some(tls),
            ..Self::to(&[address])
        }
    }
}

/// What a node is to serve.
pub(crate) struct Plan {
    pub(crate) streams: Vec<Stream>,
    /// Rule, back end, and whether it answers TLS.
    pub(crate) http: Vec<(&'static str, SocketAddr, bool)>,
    pub(crate) limits: Limits,
    pub(crate) tcp: TcpSettings,
    pub(crate) drain: Duration,
    pub(crate) tls: TlsView,
    pub(crate) tenure: Tenure,
    /// Connections name their service.
    pub(crate) by_service: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            http: Vec::new(),
            limits: Limits::default(),
            tcp: TcpSettings::default(),
            drain: Duration::from_secs(10),
            tls: TlsView::default(),
            tenure: Tenure::default(),
            by_service: false,
        }
    }
}

/// A running data plane.
pub(crate) struct Node {
    pub(crate) plane: DataPlane,
    pub(crate) published: Published,
    pub(crate) address: SocketAddr,
    pub(crate) services: Vec<Arc<Service>>,
    registry: Registry,
    folder: tempfile::TempDir,
    log: AccessLog,
    writer: AccessLogWriter,
}

impl Plan {
    pub(crate) fn streams(streams: Vec<Stream>) -> Self {
        Self {
            streams,
            ..Self::default()
        }
    }

    pub(crate) fn start(self) -> Node {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, &["web".into()]);
        let folder = tempfile::tempdir().unwrap();
        let settings = access_log::Settings {
            file: Some(folder.path().join("access.log")),
            format: access_log::Format::Json,
            ..access_log::Settings::default()
        };
        let (log, writer) = AccessLog::start(settings, metrics.access_log_dropped()).unwrap();
        let settings = Settings {
            entry_points: vec![EntryPoint {
                id: EntryPointId(0),
                name: "web".into(),
                protocol: Protocol::Tcp,
                addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
                key: "entryPoints.web.address".into(),
                forwarded: ForwardedHeaders::default(),
                proxy_protocol: ProxyProtocolTrust {
                    insecure: self.by_service,
                    trusted_ips: Vec::new(),
                },
                limits: self.limits,
                tcp: self.tcp,
                udp: UdpSettings::default(),
                exempt_sources: Vec::new(),
                default_tls_options: "default".into(),
                tenure: self.tenure,
                by_service: self.by_service,
                shared: false,
            }],
            node: "node-1".into(),
            workers: NonZeroUsize::MIN,
            cpus: Vec::new(),
            drain: self.drain,
            served_by_for: Vec::new(),
            gate: Gate::default(),
            offences: Offences::default(),
            mesh: Mesh::default(),
        };
        let (generation, services) = generation(1, self.streams, self.http, self.tls);
        let published = Published::new(generation);
        let plane = DataPlane::start(
            settings,
            Inherited::default(),
            published.clone(),
            Arc::new(metrics),
            log.clone(),
        )
        .unwrap();
        let address = plane.bound()[0].1;
        Node {
            plane,
            published,
            address,
            services,
            registry,
            folder,
            log,
            writer,
        }
    }
}

impl Node {
    pub(crate) async fn connect(&self) -> TcpStream {
        soon("connecting", TcpStream::connect(self.address))
            .await
            .unwrap()
    }

    /// A connection from another address of this machine.
    pub(crate) async fn connect_from(&self, source: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        soon("connecting", socket.connect(self.address)).await.unwrap()
    }

    /// The metrics as text.
    pub(crate) fn metrics(&self) -> String {
        constellation_dataplane::metrics::encode(&self.registry).unwrap()
    }

    /// The value of a series whose line begins with this, 0 when there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.starts_with(series));
        line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// Connections that ended so.
    pub(crate) fn ended(&self, end: &str) -> f64 {
        let text = self.metrics();
        let of_end = format!("outcome=\"{end}\"");
        text.lines()
            .filter(|line| line.starts_with("constellation_tcp_connections_total") && line.contains(&of_end))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    }

    /// Stops it; the lines of the access log.
    pub(crate) async fn stop(self) -> (usize, Vec<serde_json::Value>) {
        let cut = soon("the drain", self.plane.drain()).await;
        drop(self.log);
        assert!(self.writer.stop(PATIENCE));
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (cut, lines)
    }
}

/// A generation with these routers, and the services of its streams.
pub(crate) fn generation(
    number: u64,
    streams: Vec<Stream>,
    http: Vec<(&'static str, SocketAddr, bool)>,
    tls: TlsView,
) -> (Generation, Vec<Arc<Service>>) {
    let (mut services, mut tcp, mut routers) = (Vec::new(), Vec::new(), Vec::new());
    for (position, stream) in streams.into_iter().enumerate() {
        let name: Arc<str> = format!("tcp/s{position}@test").into();
        let spec = ServiceSpec {
            name: name.clone(),
            endpoints: stream.endpoints.iter().map(|(s, a)| endpoint(*s, *a)).collect(),
            pass_host_header: true,
            transport: Arc::new(stream.transport),
            retry_after: 1,
            policy: Arc::new(stream.policy),
        };
        let service = Arc::new(Service::new(spec, None));
        let rule = TcpRule::parse(stream.rule).unwrap();
        tcp.push(Arc::new(TcpRouter::new(TcpRouterSpec {
            name,
            entry_points: vec![EntryPointId(0)],
            tls: stream.tls,
            priority: rule.default_priority(),
            rule: Arc::new(rule),
            target: service.clone().into(),
            middlewares: stream.middlewares,
        })));
        services.push(service);
    }
    let mut all = services.clone();
    for (position, (rule, address, tls)) in http.into_iter().enumerate() {
        let name: Arc<str> = format!("h{position}@test").into();
        let spec = ServiceSpec {
            name: name.clone(),
            endpoints: vec![endpoint(Scheme::Http, address)],
            pass_host_header: true,
            transport: Arc::new(Transport::default()),
            retry_after: 1,
            policy: Arc::default(),
        };
        let service = Arc::new(Service::new(spec, None));
        routers.push(Arc::new(Router::new(RouterSpec {
            name,
            entry_points: vec![EntryPointId(0)],
            tls,
            rule: Arc::new(Rule::parse_http(rule).unwrap()),
            priority: i64::try_from(rule.len()).unwrap(),
            action: Action::Forward(service.clone().into()),
            middlewares: None,
        })));
        all.push(service);
    }
    let generation = Generation {
        table: Snapshot::build(number, 1, routers, all).with_streams(tcp, Vec::new()),
        tls,
        published: SystemTime::now(),
    };
    (generation, services)
}

fn endpoint(scheme: Scheme, address: SocketAddr) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointSpec {
        name: address.to_string().into(),
        scheme,
        host: address.ip().to_string().into(),
        port: address.port(),
        base_path: "".into(),
        weight: 1,
        condition: Condition::Ready,
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    }))
}

/// A back end that does the same with every connection.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Backend {
    pub(crate) async fn start<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<AtomicUsize> = Arc::default();
        let opened = connections.clone();
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                opened.fetch_add(1, Ordering::SeqCst);
                let serve = script(socket);
                // A client that goes away in the middle is part of many tests.
                serving.spawn(async move { serve.await.unwrap_or_default() });
            }
        });
        Self {
            address,
            connections,
            task: task.abort_handle(),
        }
    }

    /// Sends back what it gets, behind its name.
    pub(crate) async fn echo(name: &'static str) -> Self {
        Self::start(move |mut socket| async move {
            let (mut from, mut to) = socket.split();
            let mut first = true;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = from.read(&mut buffer).await?;
                if std::mem::take(&mut first) {
                    to.write_all(name.as_bytes()).await?;
                }
                if count == 0 {
                    return to.shutdown().await;
                }
                to.write_all(&buffer[..count]).await?;
            }
        })
        .await
    }

    /// Speaks first, then sends back what it gets.
    pub(crate) async fn greets(greeting: &'static str) -> Self {
        Self::start(move |mut socket| async move {
            socket.write_all(greeting.as_bytes()).await?;
            let (mut from, mut to) = socket.split();
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await
        })
        .await
    }

    /// Resets every connection as soon as it is there.
    pub(crate) async fn resets() -> Self {
        Self::start(|socket| async move {
            reset(socket);
            Ok(())
        })
        .await
    }

    /// An HTTP server that answers one request.
    pub(crate) async fn http(body: &'static str) -> Self {
        Self::start(move |mut socket| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await?);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(answer.as_bytes()).await
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that nobody listens on.
pub(crate) async fn dead() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// Closes with a reset.
pub(crate) fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Everything up to the end of a stream; an error when it was reset.
pub(crate) async fn rest(socket: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut got = Vec::new();
    soon("the end of the connection", async {
        while socket.read_buf(&mut got).await? > 0 {}
        Ok(())
    })
    .await
    .map(|()| got)
}

pub(crate) async fn exact(socket: &mut (impl AsyncReadExt + Unpin), count: usize) -> Vec<u8> {
    let mut got = vec![0; count];
    soon("bytes", socket.read_exact(&mut got)).await.unwrap();
    got
}

/// Sends these bytes, ends the direction, and gives what comes back.
pub(crate) async fn exchange(mut socket: TcpStream, bytes: &[u8]) -> std::io::Result<String> {
    socket.write_all(bytes).await?;
    socket.shutdown().await?;
    rest(&mut socket).await.map(|got| String::from_utf8(got).unwrap())
}
