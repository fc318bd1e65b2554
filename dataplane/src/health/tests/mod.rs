//! The checker against scripted back ends over loopback.

mod calls;
mod generations;
mod hostile;
mod many;
mod requests;
mod secured;
mod talk;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use constellation_table::policy::HealthCheck;
use constellation_table::{
    Condition, Endpoint, EndpointSpec, Policy, Scheme, Service, ServiceSpec, Snapshot, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::failure::Failure;
use super::{HealthChecker, Subject};
use crate::tls::TlsView;
use crate::{Generation, Published};

/// No test waits longer than this for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

/// Checks that follow each other quickly.
fn quick() -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(20),
        unhealthy_interval: Duration::from_millis(20),
        timeout: PATIENCE,
        ..HealthCheck::default()
    }
}

/// One check within the time of a test.
fn once() -> HealthCheck {
    HealthCheck {
        interval: Duration::from_secs(3600),
        unhealthy_interval: Duration::from_secs(3600),
        ..quick()
    }
}

fn endpoint(scheme: Scheme, address: SocketAddr) -> Arc<Endpoint> {
    named(
        &address.to_string(),
        scheme,
        &address.ip().to_string(),
        address.port(),
        Condition::Ready,
    )
}

fn named(name: &str, scheme: Scheme, host: &str, port: u16, condition: Condition) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointSpec {
        name: name.into(),
        scheme,
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

fn service(check: HealthCheck, endpoints: Vec<Arc<Endpoint>>, transport: Transport) -> Arc<Service> {
    Arc::new(Service::new(
        ServiceSpec {
            name: "app@test".into(),
            endpoints,
            pass_host_header: true,
            transport: Arc::new(transport),
            retry_after: 1,
            policy: Arc::new(Policy {
                health_check: Some(check),
                ..Policy::default()
            }),
        },
        None,
    ))
}

fn generation(number: u64, services: Vec<Arc<Service>>) -> Generation {
    Generation {
        table: Snapshot::build(number, 1, Vec::new(), services),
        tls: TlsView::default(),
        published: SystemTime::now(),
    }
}

type Told = (Subject, Result<(), Failure>);

/// A running checker and what it found, in order.
struct Watched {
    checker: HealthChecker,
    published: Published,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Watched {
    fn start(services: Vec<Arc<Service>>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let published = Published::new(generation(1, services));
        let (tell, told) = mpsc::unbounded_channel();
        let sink = Arc::new(move |subject: &Subject, result: &Result<(), Failure>| {
            // After the end of a test nobody listens.
            let _ = tell.send((subject.clone(), result.clone()));
            result.is_ok()
        });
        let checker = HealthChecker::start_with(published.clone(), sink).unwrap();
        Self {
            checker,
            published,
            told,
        }
    }

    /// A checker of one endpoint.
    fn one(check: HealthCheck, endpoint: Arc<Endpoint>) -> Self {
        Self::start(vec![service(check, vec![endpoint], Transport::default())])
    }

    async fn next(&mut self) -> Told {
        soon("a check", self.told.recv()).await.unwrap()
    }

    /// The reason of the next failure; empty when the check was good.
    async fn reason(&mut self) -> String {
        let (_, result) = self.next().await;
        result
            .err()
            .map(|failure| failure.to_string())
            .unwrap_or_default()
    }

    /// The results that are there already.
    fn waiting(&mut self) -> usize {
        std::iter::from_fn(|| self.told.try_recv().ok()).count()
    }
}

/// What a single check of a single endpoint gives.
async fn reason_of(check: HealthCheck, address: SocketAddr) -> String {
    Watched::one(check, endpoint(Scheme::Http, address))
        .reason()
        .await
}

/// What a scripted back end does with a request.
enum Act {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Sends these bytes again and again.
    Flood(Vec<u8>),
    /// Sends these bytes again and again, with a pause after each.
    Drip(Vec<u8>),
    /// Never answers.
    Hang,
}

fn status(code: u16) -> Act {
    Act::Send(format!("HTTP/1.1 {code} Told\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

fn redirect(code: u16, location: &str) -> Act {
    Act::Send(
        format!("HTTP/1.1 {code} Told\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n").into_bytes(),
    )
}

/// A back end that does as it is told and remembers the heads that it saw.
struct Backend {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    most_open: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    async fn start(script: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let open: Arc<AtomicUsize> = Arc::default();
        let most_open: Arc<AtomicUsize> = Arc::default();
        let script = Arc::new(script);
        let (seen, opened, now, most) = (
            heads.clone(),
            connections.clone(),
            open.clone(),
            most_open.clone(),
        );
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let (seen, script, now) = (seen.clone(), script.clone(), now.clone());
                serving.spawn(async move {
                    // The checker may leave at any time.
                    serve(socket, &seen, &*script).await.unwrap_or_default();
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            heads,
            connections,
            open,
            most_open,
            task: task.abort_handle(),
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The values of a header of the request at this place.
    fn header(&self, request: usize, name: &str) -> Vec<String> {
        let heads = self.heads();
        let lines = heads[request].lines().skip(1);
        lines
            .filter_map(|line| line.split_once(": "))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    }

    fn line(&self, request: usize) -> String {
        self.heads()[request].lines().next().unwrap().to_owned()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut socket: TcpStream,
    heads: &Mutex<Vec<String>>,
    script: &(dyn Fn(usize, &str) -> Act + Send + Sync),
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len()
        };
        match script(number, &head) {
            Act::Send(bytes) => socket.write_all(&bytes).await?,
            Act::Close(bytes) => return socket.write_all(&bytes).await,
            Act::Flood(bytes) => loop {
                socket.write_all(&bytes).await?;
            },
            Act::Drip(bytes) => loop {
                socket.write_all(&bytes).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            },
            Act::Hang => {
                // Until the checker closes.
                while socket.read_buf(&mut buffer).await? > 0 {}
                return Ok(());
            }
        }
    }
}

/// An address that nobody listens on.
async fn dead() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}
