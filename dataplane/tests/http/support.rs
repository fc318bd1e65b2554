//! A data plane of one worker, scripted back ends, and raw clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use constellation_dataplane::access_log::AccessLog;
use constellation_dataplane::gate::Gate;
use constellation_dataplane::mesh::Mesh;
use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::offence::Offences;
use constellation_dataplane::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, Settings, TcpSettings, UdpSettings,
};
use constellation_dataplane::table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, Router, RouterSpec, Rule, Scheme, Service,
    ServiceSpec, Snapshot, Steps, Transport,
};
use constellation_dataplane::tls::TlsView;
use constellation_dataplane::{DataPlane, Generation, Inherited, Published, StartError};
use constellation_middleware::{Chain, Kind, Middleware};
use prometheus_client::registry::Registry;
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

/// A running data plane.
pub(crate) struct Node {
    pub(crate) plane: DataPlane,
    pub(crate) published: Published,
    pub(crate) address: SocketAddr,
    registry: Registry,
}

/// What a node is to serve.
pub(crate) struct Plan {
    pub(crate) routes: Vec<(&'static str, Service)>,
    pub(crate) limits: Limits,
    pub(crate) forwarded: ForwardedHeaders,
    pub(crate) proxy_protocol: ProxyProtocolTrust,
    pub(crate) served_by_for: Vec<&'static str>,
    pub(crate) exempt_sources: Vec<&'static str>,
    pub(crate) drain: Duration,
    pub(crate) access_log: AccessLog,
    pub(crate) gate: Gate,
    pub(crate) offences: Offences,
    pub(crate) mesh: Mesh,
    /// What every route runs.
    pub(crate) chain: Vec<Kind>,
    /// Whether requests name their service in their path.
    pub(crate) by_service: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            limits: Limits::default(),
            forwarded: ForwardedHeaders::default(),
            proxy_protocol: ProxyProtocolTrust::default(),
            served_by_for: Vec::new(),
            exempt_sources: Vec::new(),
            drain: Duration::from_secs(10),
            access_log: AccessLog::off(),
            gate: Gate::default(),
            offences: Offences::default(),
            mesh: Mesh::default(),
            chain: Vec::new(),
            by_service: false,
        }
    }
}

impl Plan {
    /// Everything goes to these endpoints.
    pub(crate) fn to(endpoints: &[(Scheme, SocketAddr)]) -> Self {
        Self {
            routes: vec![("PathPrefix(`/`)", service("app", endpoints))],
            ..Self::default()
        }
    }

    pub(crate) fn start(self) -> Node {
        self.start_on(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
            .unwrap()
    }

    pub(crate) fn start_on(self, addresses: Vec<SocketAddr>) -> Result<Node, StartError> {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, &["web".into()]);
        let settings = Settings {
            entry_points: vec![EntryPoint {
                id: EntryPointId(0),
                name: "web".into(),
                protocol: Protocol::Tcp,
                addresses,
                key: "entryPoints.web.address".into(),
                forwarded: self.forwarded,
                proxy_protocol: self.proxy_protocol,
                limits: self.limits,
                tcp: TcpSettings::default(),
                udp: UdpSettings::default(),
                exempt_sources: self
                    .exempt_sources
                    .iter()
                    .map(|net| net.parse().unwrap())
                    .collect(),
                default_tls_options: "default".into(),
                tenure: Default::default(),
                by_service: self.by_service,
                shared: false,
            }],
            node: "node-1".into(),
            workers: NonZeroUsize::MIN,
            cpus: Vec::new(),
            drain: self.drain,
            served_by_for: self
                .served_by_for
                .iter()
                .map(|net| net.parse().unwrap())
                .collect(),
            gate: self.gate,
            offences: self.offences,
            mesh: self.mesh,
        };
        let routes = self.routes.into_iter();
        let routes = routes.map(|(rule, service)| (rule, service, false)).collect();
        let published = Published::new(generation_running(1, routes, TlsView::default(), self.chain));
        let plane = DataPlane::start(
            settings,
            Inherited::default(),
            published.clone(),
            Arc::new(metrics),
            self.access_log,
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

impl Node {
    pub(crate) async fn connect(&self) -> Client {
        Client(
            soon("connecting", TcpStream::connect(self.address))
                .await
                .unwrap(),
        )
    }

    /// A connection from another address of this machine.
    pub(crate) async fn connect_from(&self, source: &str) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        Client(soon("connecting", socket.connect(self.address)).await.unwrap())
    }

    /// The metrics as text.
    pub(crate) fn metrics(&self) -> String {
        constellation_dataplane::metrics::encode(&self.registry).unwrap()
    }
}

/// A generation with these routes on the plain side of the entry point.
pub(crate) fn generation(number: u64, routes: Vec<(&'static str, Service)>) -> Generation {
    let routes = routes
        .into_iter()
        .map(|(rule, service)| (rule, service, false))
        .collect();
    generation_with(number, routes, TlsView::default())
}

/// A generation with these routes; those marked `true` answer TLS only.
pub(crate) fn generation_with(
    number: u64,
    routes: Vec<(&'static str, Service, bool)>,
    tls_view: TlsView,
) -> Generation {
    generation_running(number, routes, tls_view, Vec::new())
}

/// The same, all running these middlewares.
pub(crate) fn generation_running(
    number: u64,
    routes: Vec<(&'static str, Service, bool)>,
    tls_view: TlsView,
    chain: Vec<Kind>,
) -> Generation {
    let named = |(number, kind)| {
        Arc::new(Middleware {
            name: format!("m{number}@test").into(),
            kind,
        })
    };
    let chain: Vec<_> = chain.into_iter().enumerate().map(named).collect();
    let steps: Option<Arc<dyn Steps>> = (!chain.is_empty()).then(|| Arc::new(Chain::new(chain)) as _);
    let mut routers = Vec::new();
    let mut services = Vec::new();
    for (position, (rule, service, tls)) in routes.into_iter().enumerate() {
        let service = Arc::new(service);
        let spec = RouterSpec {
            name: format!("r{position}@test").into(),
            entry_points: vec![EntryPointId(0)],
            tls,
            rule: Arc::new(Rule::parse_http(rule).unwrap()),
            priority: i64::try_from(rule.len()).unwrap(),
            action: Action::Forward(service.clone().into()),
            middlewares: steps.clone(),
        };
        routers.push(Arc::new(Router::new(spec)));
        services.push(service);
    }
    Generation {
        table: Snapshot::build(number, 1, routers, services),
        tls: tls_view,
        published: SystemTime::now(),
    }
}

/// A service of endpoints with equal weight.
pub(crate) fn service(name: &str, endpoints: &[(Scheme, SocketAddr)]) -> Service {
    let endpoints = endpoints
        .iter()
        .map(|(scheme, address)| endpoint(*scheme, &address.ip().to_string(), address.port(), ""))
        .collect();
    Service::new(spec(name, endpoints), None)
}

pub(crate) fn spec(name: &str, endpoints: Vec<Arc<Endpoint>>) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        endpoints,
        pass_host_header: true,
        transport: Arc::new(Transport::default()),
        retry_after: 7,
        policy: Arc::default(),
    }
}

pub(crate) fn endpoint(scheme: Scheme, host: &str, port: u16, base_path: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointSpec {
        name: format!("{host}:{port}").into(),
        scheme,
        host: host.into(),
        port,
        base_path: base_path.into(),
        weight: 1,
        condition: Condition::Ready,
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    }))
}

/// One request as a back end saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body as it came, with chunk framing if there was any.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The values of a header, in order.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// What a scripted back end does with a request.
pub(crate) enum Act {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes after this time and keeps the connection.
    SendLater(Duration, Vec<u8>),
    /// Sends these bytes and closes.
    SendAndClose(Vec<u8>),
    /// Closes without an answer.
    Close,
    /// Sends these bytes, then everything it receives, until the end.
    Echo(Vec<u8>),
    /// Never answers.
    Hang,
}

/// A back end that does as it is told and remembers what it saw.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    bytes: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Backend {
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let bytes: Arc<AtomicUsize> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let script = Arc::new(script);
        let (all, count, opened) = (seen.clone(), bytes.clone(), connections.clone());
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                let (all, count, script) = (all.clone(), count.clone(), script.clone());
                serving.spawn(async move {
                    // A client that goes away in the middle is part of many tests.
                    serve(socket, &all, &count, &*script).await.unwrap_or_default();
                });
            }
        })
        .abort_handle();
        Self {
            address,
            seen,
            bytes,
            connections,
            task,
        }
    }

    /// Answers everything with 200 and this body.
    pub(crate) async fn fixed(body: &'static str) -> Self {
        Self::start(move |_, _| Act::Send(ok(body.as_bytes()))).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Closes the port and every connection.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A 200 with a length.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

async fn serve(
    mut socket: TcpStream,
    all: &Mutex<Vec<Seen>>,
    count: &AtomicUsize,
    script: &(dyn Fn(usize, &Seen) -> Act + Send + Sync),
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            let read = socket.read_buf(&mut buffer).await?;
            count.fetch_add(read, Ordering::SeqCst);
            if read == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let mut rest = buffer.split_off(end);
        let seen = Seen {
            head,
            body: Vec::new(),
        };
        let length: usize = seen
            .header("content-length")
            .first()
            .map_or(0, |l| l.parse().unwrap());
        let chunked = seen.header("transfer-encoding") == ["chunked"];
        if seen.header("expect") == ["100-continue"] {
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while rest.len() < length || (chunked && !rest.ends_with(b"0\r\n\r\n")) {
            let read = socket.read_buf(&mut rest).await?;
            count.fetch_add(read, Ordering::SeqCst);
            if read == 0 {
                return Ok(());
            }
        }
        let split = if chunked { rest.len() } else { length };
        buffer = rest.split_off(split);
        let seen = Seen { body: rest, ..seen };
        let number = {
            let mut all = all.lock().unwrap();
            all.push(seen.clone());
            all.len()
        };
        match script(number, &seen) {
            Act::Send(bytes) => socket.write_all(&bytes).await?,
            Act::SendLater(time, bytes) => {
                tokio::time::sleep(time).await;
                socket.write_all(&bytes).await?;
            }
            Act::SendAndClose(bytes) => return socket.write_all(&bytes).await,
            Act::Close => return Ok(()),
            Act::Hang => std::future::pending().await,
            Act::Echo(bytes) => {
                socket.write_all(&bytes).await?;
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await?;
                return Ok(());
            }
        }
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A client that writes and reads bytes.
pub(crate) struct Client(pub(crate) TcpStream);

/// A response as a client read it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one response with a length, or to the end of the connection. Interim responses are skipped.
    pub(crate) async fn response(&mut self) -> Response {
        soon("the response", self.read_response(true)).await
    }

    /// Reads the head of one response only.
    pub(crate) async fn response_head(&mut self) -> Response {
        soon("the response head", self.read_response(false)).await
    }

    async fn read_response(&mut self, with_body: bool) -> Response {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match self.0.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
                }
            }
            let head = String::from_utf8(head).unwrap();
            let status = head.get(9..12).unwrap().parse().unwrap();
            let mut response = Response {
                status,
                head,
                body: Vec::new(),
            };
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            if !with_body || status == 101 || status == 204 {
                return response;
            }
            match response
                .header("content-length")
                .map(|l| l.parse::<usize>().unwrap())
            {
                Some(length) => {
                    response.body = vec![0; length];
                    self.0.read_exact(&mut response.body).await.unwrap();
                }
                None => {
                    self.0.read_to_end(&mut response.body).await.unwrap();
                }
            }
            return response;
        }
    }

    /// Everything up to the end of the connection; a reset counts as one.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let reading = async { while self.0.read_buf(&mut rest).await.is_ok_and(|count| count > 0) {} };
        soon("the end of the connection", reading).await;
        rest
    }

    pub(crate) async fn exact(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        soon("bytes", self.0.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// A GET on this connection.
    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        self.response().await
    }
}
