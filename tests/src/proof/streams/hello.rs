//! The ClientHello in pieces, and the one that never comes whole.

use std::fmt;
use std::io::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Report;
use super::front::descriptors;
use super::pieces::Pieces;
use crate::certificates::{Authority, provider};
use crate::node::Node;
use crate::stream::Echo;
use crate::{PATIENCE, eventually};

/// Handshakes at once.
const AT_ONCE: usize = 32;
/// The largest piece of a ClientHello that is spread over many records, with the record's head.
const FRAGMENT: usize = 37;

/// How PostgreSQL's clients ask for TLS (SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A node with one router of each kind that looks at a ClientHello.
struct Site {
    node: Node,
    authority: Authority,
    _through: Echo,
    _ended: Echo,
}

impl Site {
    /// `patience` is how long a handshake may take.
    async fn start(patience: &str) -> Self {
        let authority = Authority::new("test CA");
        let through = Echo::tls("through", authority.sign(&["through.test"]).server_config(&[])).await;
        let ended = Echo::plain("ended").await;
        let builder = Node::builder();
        let (certificate, key) = authority.sign(&["ended.test"]).write(builder.directory(), "edge");
        let service = |echo: &Echo| json!({ "loadBalancer": { "servers": [{ "address": echo.address().to_string() }] } });
        let document = json!({
            "tcp": {
                "routers": {
                    "through": {
                        "rule": "HostSNI(`through.test`)", "service": "through", "tls": { "passthrough": true },
                    },
                    "ended": { "rule": "HostSNI(`ended.test`)", "service": "ended", "tls": {} },
                },
                "services": { "through": service(&through), "ended": service(&ended) },
            },
            "tls": { "certificates": [{ "certFile": certificate, "keyFile": key }] },
        });
        let node = builder
            .config(json!({
                "proxy": null,
                "entryPoints": { "web": { "limits": { "handshakeTimeout": patience } } },
            }))
            .dynamic("routes.json", &document.to_string())
            .start()
            .await;
        Self {
            node,
            authority,
            _through: through,
            _ended: ended,
        }
    }

    /// `fragment` is the largest record, `None` for the usual one.
    fn config(&self, fragment: Option<usize>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_no_client_auth();
        config.max_fragment_size = fragment;
        Arc::new(config)
    }
}

/// How a handshake is begun.
#[derive(Clone)]
struct Way {
    config: Arc<ClientConfig>,
    /// For `NAME.test`.
    name: &'static str,
    /// Whether TLS is asked for first, as PostgreSQL's clients do.
    asks: bool,
    /// The pieces in which the first bytes leave.
    pieces: Vec<usize>,
}

impl Way {
    fn new(config: &Arc<ClientConfig>, name: &'static str, pieces: Vec<usize>) -> Self {
        Self {
            config: Arc::clone(config),
            name,
            asks: false,
            pieces,
        }
    }

    fn asking(self) -> Self {
        Self { asks: true, ..self }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asks = if self.asks { ", asking first" } else { "" };
        let shown = &self.pieces[..self.pieces.len().min(3)];
        write!(f, "{}{asks}, first pieces {shown:?}", self.name)
    }
}

/// A handshake and an exchange.
async fn handshake(address: SocketAddr, way: Way) -> Result<(), String> {
    let name = way.name;
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let server = ServerName::try_from(format!("{name}.test")).map_err(Error::other)?;
        let mut stream = Pieces::new(stream, way.pieces);
        if way.asks {
            stream.write_all(&SSL_REQUEST).await?;
            let mut answer = [0];
            stream.read_exact(&mut answer).await?;
            if answer != *b"S" {
                return Err(Error::other(format!(
                    "the request for TLS is answered {answer:?}"
                )));
            }
        }
        let mut stream = TlsConnector::from(way.config).connect(server, stream).await?;
        stream.write_all(b"hello").await?;
        let mut answer = vec![0; name.len() + 6];
        stream.read_exact(&mut answer).await?;
        Ok::<_, Error>(answer)
    };
    match timeout(PATIENCE, exchange).await {
        Err(_) => Err("it hangs".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) if answer == format!("{name}\nhello").into_bytes() => Ok(()),
        Ok(Ok(answer)) => Err(format!("another answer: {:?}", String::from_utf8_lossy(&answer))),
    }
}

/// What a client with this configuration sends first.
fn hello(config: &Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let server = ServerName::try_from(format!("{name}.test")).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), server).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// A ClientHello, in one record and in many, cut at every byte and sent byte by byte.
pub async fn cut() -> Report {
    let site = Site::start("60s").await;
    let mut work = Vec::new();
    for fragment in [None, Some(FRAGMENT)] {
        let config = site.config(fragment);
        for name in ["through", "ended"] {
            let length = hello(&config, name).len();
            work.extend((0..length).map(|at| Way::new(&config, name, vec![at])));
            work.push(Way::new(&config, name, vec![1; length]));
        }
    }
    // Behind a request for TLS, which may come in pieces as well.
    let config = site.config(None);
    let request = SSL_REQUEST.len();
    work.extend((1..request).map(|at| Way::new(&config, "ended", vec![at, request - at, 5]).asking()));
    let all = request + hello(&config, "ended").len();
    work.push(Way::new(&config, "ended", vec![1; all]).asking());
    let what = format!("{} handshakes in pieces", work.len());
    let address = site.node.web();
    let (mut running, mut wrong) = (JoinSet::new(), Vec::new());
    for way in work {
        if running.len() >= AT_ONCE {
            wrong.extend(
                running
                    .join_next()
                    .await
                    .and_then(|done: Result<Option<String>, _>| done.unwrap()),
            );
        }
        running.spawn(async move {
            let shown = way.to_string();
            let done = handshake(address, way).await;
            done.err().map(|error| format!("{shown}: {error}"))
        });
    }
    wrong.extend(running.join_all().await.into_iter().flatten());
    Report { what, wrong }
}

/// So many connections that stop within the ClientHello, and normal ones beside them; afterwards all are gone.
pub async fn slow(attackers: usize, clients: usize) -> Report {
    let site = Site::start("5s").await;
    let (address, config) = (site.node.web(), site.config(None));
    let pid = site.node.pid().as_raw().unsigned_abs();
    let mut wrong: Vec<String> = Vec::new();
    for name in ["through", "ended"] {
        wrong.extend(
            handshake(address, Way::new(&config, name, Vec::new()))
                .await
                .err(),
        );
    }
    let bytes = hello(&config, "through");
    let mut stuck = Vec::new();
    for number in 0..attackers {
        // Each from one of some addresses, and cut somewhere else.
        let mut stream = connect(address, u8::try_from(2 + number % 200).unwrap()).await;
        stream
            .write_all(&bytes[..1 + number % (bytes.len() - 1)])
            .await
            .unwrap();
        stuck.push(stream);
    }
    let mut normal = JoinSet::new();
    for number in 0..clients {
        let way = Way::new(&config, ["through", "ended"][number % 2], Vec::new());
        normal.spawn(async move { handshake(address, way).await.err() });
    }
    wrong.extend(normal.join_all().await.into_iter().flatten());
    let held = descriptors(pid);
    for stream in &mut stuck {
        // An alert, the end or a reset: all say that it is over.
        if timeout(PATIENCE, stream.read(&mut [0; 64])).await.is_err() {
            wrong.push("a connection that stopped within its ClientHello is still open".into());
        }
    }
    drop(stuck);
    let left = eventually("descriptors are given back", async || match descriptors(pid) {
        now if now + attackers / 2 < held => Ok(now),
        now => Err(format!("{now} of {held}")),
    })
    .await;
    Report {
        what: format!(
            "{clients} handshakes beside {attackers} that stop within their ClientHello, {held} descriptors then and \
             {left} afterwards"
        ),
        wrong,
    }
}

/// A connection from `127.0.0.HOST`.
async fn connect(address: SocketAddr, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}
