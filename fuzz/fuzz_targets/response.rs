//! Whatever bytes a back end sends: what reaches the client is a response or a broken connection, never the answer to
//! another request, and the next request is served, on the same connection and on a new one.
//!
//! A whole data plane runs in this process, in front of a back end that sends the input. The first byte says how: which
//! method asks, whether the connection stays open afterwards, HTTP/1 or HTTP/2, and in pieces of which size.
#![no_main]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use constellation_dataplane::access_log::AccessLog;
use constellation_dataplane::gate::Gate;
use constellation_dataplane::mesh::Mesh;
use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::offence::Offences;
use constellation_dataplane::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, Settings, TcpSettings, UdpSettings,
};
use constellation_dataplane::tls::TlsView;
use constellation_dataplane::{DataPlane, Generation, Inherited, Published};
use constellation_table::policy::Retry;
use constellation_table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, Locality, Policy, Router, RouterSpec, Rule,
    Scheme, Service, ServiceSpec, Snapshot, Timeouts, Transport,
};
use libfuzzer_sys::fuzz_target;
use prometheus_client::registry::Registry;

/// How long the back end waits for another request on a connection that it leaves open.
const LINGER: Duration = Duration::from_millis(10);
/// How long the back end waits for the data plane to close a connection that it has ended.
const SILENCE: Duration = Duration::from_millis(200);
/// How long the data plane waits for a head: longer than a loaded machine keeps the back end from answering.
const HEAD: Duration = Duration::from_secs(4);
/// Longer than anything takes: an input that gets here hangs the data plane.
const HANGS: Duration = Duration::from_secs(8);

fuzz_target!(|input: &[u8]| {
    let Some((first, script)) = input.split_first() else {
        return;
    };
    let harness = harness();
    harness.script.set(Script {
        keep: first & 4 != 0,
        piece: match first >> 4 {
            0 => usize::MAX,
            power => 1 << (power - 1),
        },
        bytes: script.to_vec(),
    });
    let host = if first & 8 == 0 { "h1.test" } else { "h2.test" };
    let request = match first & 3 {
        1 => format!("HEAD /fuzz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        2 => format!("POST /fuzz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello"),
        _ => format!("GET /fuzz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    };
    let mut client = Client::connect(harness.address);
    client.write(&request);
    let came = client.response(first & 3 == 1);
    // Bytes behind a response that come once the connection carries another request can't be told from its answer.
    harness.script.wait_until_played();
    if came == Came::Whole {
        harness.good(&mut client, true);
    }
    harness.good(&mut Client::connect(harness.address), false);
});

struct Harness {
    address: SocketAddr,
    script: Arc<Stage>,
    token: AtomicU64,
    _plane: DataPlane,
}

/// What the back end does with a request that is not for `/good`.
#[derive(Clone, Default)]
struct Script {
    keep: bool,
    piece: usize,
    bytes: Vec<u8>,
}

/// What is played, and by how many connections now.
#[derive(Default)]
struct Stage {
    script: Mutex<(Script, usize)>,
    played: Condvar,
}

impl Stage {
    fn set(&self, script: Script) {
        self.script.lock().unwrap().0 = script;
    }

    /// Sends the script. Whether the connection stays open.
    fn play(&self, stream: &mut TcpStream) -> bool {
        let script = {
            let mut stage = self.script.lock().unwrap();
            stage.1 += 1;
            stage.0.clone()
        };
        let sent = script
            .bytes
            .chunks(script.piece)
            .all(|piece| stream.write_all(piece).is_ok());
        let keep = sent && script.keep;
        if !keep {
            stream.shutdown(Shutdown::Write).unwrap_or_default();
        }
        self.script.lock().unwrap().1 -= 1;
        self.played.notify_all();
        keep
    }

    fn wait_until_played(&self) {
        let stage = self.script.lock().unwrap();
        drop(
            self.played
                .wait_while(stage, |(_, playing)| *playing > 0)
                .unwrap(),
        );
    }
}

impl Harness {
    /// A request whose answer is known. On a connection that was used before, the data plane may close instead.
    fn good(&self, client: &mut Client, used: bool) {
        let token = self.token.fetch_add(1, Ordering::Relaxed);
        client.write(&format!("GET /good/{token} HTTP/1.1\r\nHost: h1.test\r\n\r\n"));
        let came = client.response(false);
        if used && came == Came::Nothing {
            return;
        }
        assert_eq!(
            (came, client.status, client.body.as_slice()),
            (Came::Whole, 200, token.to_string().as_bytes()),
            "the answer to another request, or none; the connection {:?}",
            client.ended
        );
    }
}

fn harness() -> &'static Harness {
    static HARNESS: OnceLock<Harness> = OnceLock::new();
    HARNESS.get_or_init(|| {
        let script = Arc::new(Stage::default());
        let (h1, h2) = (listen(&script, h1), listen(&script, h2));
        let plane = data_plane(&[("h1.test", Scheme::Http, h1), ("h2.test", Scheme::H2c, h2)]);
        Harness {
            address: plane.bound()[0].1,
            script,
            token: AtomicU64::new(0),
            _plane: plane,
        }
    })
}

fn data_plane(routes: &[(&str, Scheme, SocketAddr)]) -> DataPlane {
    let metrics = Metrics::register(&mut Registry::default(), &["web".into()]);
    let settings = Settings {
        node: "fuzz".into(),
        entry_points: vec![EntryPoint {
            id: EntryPointId(0),
            name: "web".into(),
            protocol: Protocol::Tcp,
            addresses: vec![(Ipv4Addr::LOCALHOST, 0).into()],
            key: "".into(),
            forwarded: ForwardedHeaders::default(),
            proxy_protocol: ProxyProtocolTrust::default(),
            limits: Limits::default(),
            tcp: TcpSettings::default(),
            udp: UdpSettings::default(),
            exempt_sources: Vec::new(),
            default_tls_options: "default".into(),
            tenure: Default::default(),
            by_service: false,
            shared: false,
        }],
        workers: NonZeroUsize::MIN,
        cpus: Vec::new(),
        drain: Duration::from_secs(1),
        served_by_for: Vec::new(),
        gate: Gate::default(),
        offences: Offences::default(),
        mesh: Mesh::default(),
    };
    let (mut routers, mut services) = (Vec::new(), Vec::new());
    for (host, scheme, address) in routes {
        let service = Arc::new(service(host, *scheme, *address));
        routers.push(Arc::new(Router::new(RouterSpec {
            name: (*host).into(),
            entry_points: vec![EntryPointId(0)],
            tls: false,
            rule: Arc::new(Rule::parse_http(&format!("Host(`{host}`)")).unwrap()),
            priority: 1,
            action: Action::Forward(service.clone().into()),
            middlewares: None,
        })));
        services.push(service);
    }
    let published = Published::new(Generation {
        table: Snapshot::build(1, 1, routers, services),
        tls: TlsView::default(),
        published: SystemTime::now(),
    });
    DataPlane::start(
        settings,
        Inherited::default(),
        published,
        Arc::new(metrics),
        AccessLog::off(),
    )
    .unwrap()
}

fn service(name: &str, scheme: Scheme, address: SocketAddr) -> Service {
    let endpoint = Endpoint::new(EndpointSpec {
        name: address.to_string().into(),
        url_as_written: format!("{scheme:?}://{address}").into(),
        scheme,
        host: address.ip().to_string().into(),
        port: address.port(),
        base_path: "".into(),
        weight: 1,
        condition: Condition::Ready,
        locality: Locality::default(),
        peer: None,
    });
    let timeouts = Timeouts {
        response_header: Some(HEAD),
        ..Timeouts::default()
    };
    // Pauses would be all that most of the time goes to.
    let retry = Retry {
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
        ..Retry::default()
    };
    let spec = ServiceSpec {
        name: name.into(),
        endpoints: vec![Arc::new(endpoint)],
        pass_host_header: true,
        transport: Arc::new(Transport {
            timeouts,
            ..Transport::default()
        }),
        retry_after: 1,
        policy: Arc::new(Policy {
            retry,
            ..Policy::default()
        }),
    };
    Service::new(spec, None)
}

/// A listener that serves each connection on a thread of its own.
fn listen(script: &Arc<Stage>, serve: fn(TcpStream, &Stage)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let script = script.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap_or_default();
                serve(stream, &script);
            });
        }
    });
    address
}

/// HTTP/1: `/good/TOKEN` gets its token, everything else the script.
fn h1(mut stream: TcpStream, script: &Stage) {
    let mut input = Vec::new();
    // Idle connections are the data plane's to close, but for one that was told something strange.
    stream.set_read_timeout(Some(HANGS)).unwrap_or_default();
    loop {
        let Some(end) = end_of_head(&input) else {
            let mut buffer = [0; 2048];
            match read(&mut stream, &mut buffer) {
                Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
                _ => return finish(&stream),
            }
            continue;
        };
        let head = String::from_utf8_lossy(&input[..end]).into_owned();
        if let Some(rest) = head.strip_prefix("GET /good/") {
            let token = rest.split(' ').next().unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}",
                token.len()
            );
            input.drain(..end);
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            continue;
        }
        input.drain(..end);
        let input_left = if head.starts_with("POST") { 5 } else { 0 };
        while input.len() < input_left {
            let mut buffer = [0; 64];
            match read(&mut stream, &mut buffer) {
                Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
                _ => return finish(&stream),
            }
        }
        input.drain(..input_left);
        if !script.play(&mut stream) {
            return finish(&stream);
        }
        stream.set_read_timeout(Some(LINGER)).unwrap_or_default();
    }
}

/// HTTP/2: the script as soon as anything comes.
fn h2(mut stream: TcpStream, script: &Stage) {
    let mut buffer = [0; 4096];
    stream.set_read_timeout(Some(HANGS)).unwrap_or_default();
    if !matches!(read(&mut stream, &mut buffer), Ok(1..)) {
        return finish(&stream);
    }
    if script.play(&mut stream) {
        stream.set_read_timeout(Some(LINGER)).unwrap_or_default();
        while matches!(read(&mut stream, &mut buffer), Ok(1..)) {}
    }
    finish(&stream);
}

/// Ends the connection: in good order first, then for good, without leaving a port behind.
fn finish(mut stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap_or_default();
    stream.set_read_timeout(Some(SILENCE)).unwrap_or_default();
    let mut buffer = [0; 4096];
    while matches!(read(&mut stream, &mut buffer), Ok(1..)) {}
    abort(stream);
}

/// Reads what is there. The fuzzer's own clock interrupts calls.
fn read(mut stream: impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn abort(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap_or_default();
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(at + 4)
}

/// How much of a response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Nothing,
    Part,
    Whole,
}

/// A client that insists on HTTP.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    status: u16,
    body: Vec<u8>,
    /// How the connection ended, once it has.
    ended: Option<std::io::Result<()>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        abort(&self.stream);
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        Self {
            stream,
            input: Vec::new(),
            status: 0,
            body: Vec::new(),
            ended: None,
        }
    }

    fn write(&mut self, text: &str) {
        // The data plane may have closed already; the read will tell.
        self.stream.write_all(text.as_bytes()).unwrap_or_default();
    }

    /// Reads a final response with its body.
    fn response(&mut self, head_only: bool) -> Came {
        loop {
            let Some(end) = self.until(end_of_head) else {
                return if self.input.is_empty() {
                    Came::Nothing
                } else {
                    Came::Part
                };
            };
            let mut headers = [httparse::EMPTY_HEADER; 512];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.input);
            assert_eq!(
                parsed,
                Ok(httparse::Status::Complete(end)),
                "a head that is none: {:?}",
                String::from_utf8_lossy(&self.input[..end])
            );
            self.status = response.code.unwrap();
            assert_ne!(self.status, 101, "an upgrade that nobody asked for");
            let header = |name: &str| {
                let mut values = response
                    .headers
                    .iter()
                    .filter(|header| header.name.eq_ignore_ascii_case(name));
                let value = values.next()?;
                assert!(values.next().is_none(), "{name} twice");
                Some(String::from_utf8_lossy(value.value).trim().to_ascii_lowercase())
            };
            let (length, coding) = (header("content-length"), header("transfer-encoding"));
            assert!(length.is_none() || coding.is_none(), "two framings");
            self.input.drain(..end);
            if self.status < 200 {
                continue;
            }
            self.body.clear();
            if head_only || matches!(self.status, 204 | 304) {
                return Came::Whole;
            }
            let whole = match (length, coding) {
                (Some(length), _) => {
                    let length = length.parse().expect("a length is a number");
                    self.take(length)
                }
                (None, Some(coding)) => {
                    assert_eq!(coding, "chunked");
                    self.chunks()
                }
                (None, None) => {
                    while self.read() {}
                    None
                }
            };
            return if whole.is_some() { Came::Whole } else { Came::Part };
        }
    }

    fn chunks(&mut self) -> Option<()> {
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.expect("the size of a chunk is a number");
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(());
            }
            self.take(size)?;
            assert_eq!(self.line()?, "", "a chunk ends where it says");
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.until(|bytes| Some(bytes.windows(2).position(|window| window == b"\r\n")? + 2))?;
        let line: Vec<u8> = self.input.drain(..end).collect();
        Some(String::from_utf8_lossy(&line[..end - 2]).into_owned())
    }

    fn take(&mut self, count: usize) -> Option<()> {
        while self.input.len() < count {
            if !self.read() {
                return None;
            }
        }
        self.body.extend(self.input.drain(..count));
        Some(())
    }

    fn until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        loop {
            if let Some(end) = found(&self.input) {
                return Some(end);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Reads more; `false` at the end of the connection.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match read(&mut self.stream, &mut buffer) {
            Ok(0) => {
                self.ended = Some(Ok(()));
                false
            }
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("no answer for {HANGS:?}")
            }
            Err(error) => {
                self.ended = Some(Err(error));
                false
            }
        }
    }
}
