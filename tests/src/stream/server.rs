//! The server's side of jobs, and what it saw of each.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::job::{self, Job, Order};
use super::reset;
use crate::PATIENCE;

/// Connections that wait to be accepted: a storm must not drown here.
const BACKLOG: u32 = 8192;

/// How a connection ended for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In the order of the job, every byte right.
    Good,
    /// By a reset.
    Reset,
    /// Otherwise.
    Wrong(String),
}

/// What the server saw of a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// How many connections named this job: more than one is a doubled one.
    pub connections: usize,
}

#[derive(Debug, Default)]
struct Seen {
    outcomes: HashMap<u64, Outcome>,
    /// Connections that brought no header.
    strangers: usize,
}

/// It, running; with all of its connections gone when it is dropped.
#[derive(Debug)]
pub struct JobServer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<u64>,
    serving: JoinHandle<()>,
}

impl JobServer {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (change, changed) = watch::channel(0);
        let shared = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, change) = (Arc::clone(&shared), change.clone());
                connections.spawn(async move {
                    serve(stream, &seen).await;
                    change.send_modify(|count| *count += 1);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            seen,
            changed,
            serving,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw of a job that the client has ended: waits for its own end of it.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn outcome(&self, number: u64) -> Result<Outcome, String> {
        let mut changed = self.changed.clone();
        let known = async {
            loop {
                changed.borrow_and_update();
                if let Some(outcome) = self.seen.lock().unwrap().outcomes.get(&number) {
                    return outcome.clone();
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let known = tokio::time::timeout(PATIENCE, known).await;
        known.map_err(|_| format!("job {number} never ended at the back end"))
    }

    /// Connections that brought no whole header: opened and left, or cut in it.
    pub fn strangers(&self) -> usize {
        self.seen.lock().unwrap().strangers
    }
}

impl Drop for JobServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) {
    stream.set_nodelay(true).unwrap_or_default();
    let Ok(job) = Job::read(&mut stream).await else {
        seen.lock().unwrap().strangers += 1;
        return;
    };
    let end = match work(job, stream).await {
        Ok(end) => end,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => End::Wrong(error.to_string()),
    };
    let mut seen = seen.lock().unwrap();
    let known = seen
        .outcomes
        .get(&job.number)
        .map_or(0, |outcome| outcome.connections);
    let connections = known + 1;
    seen.outcomes.insert(job.number, Outcome { end, connections });
}

async fn work(job: Job, mut stream: TcpStream) -> std::io::Result<End> {
    let (up, down) = (job.up_pattern(), job.down_pattern());
    match job.order {
        Order::Both => {
            let (mut reader, mut writer) = stream.split();
            let sent = async {
                job::send(&mut writer, down, job.down).await?;
                writer.shutdown().await
            };
            let received = async {
                job::receive(&mut reader, up, job.up).await?;
                job::ended(&mut reader).await
            };
            tokio::try_join!(sent, received)?;
        }
        Order::ClientFirst => {
            job::receive(&mut stream, up, job.up).await?;
            job::ended(&mut stream).await?;
            job::send(&mut stream, down, job.down).await?;
            stream.shutdown().await?;
        }
        Order::ServerFirst => {
            job::send(&mut stream, down, job.down).await?;
            stream.shutdown().await?;
            job::receive(&mut stream, up, job.up).await?;
            job::ended(&mut stream).await?;
        }
        Order::ServerResets => {
            job::send(&mut stream, down, job.down).await?;
            let mut said = [0];
            stream.read_exact(&mut said).await?;
            reset(stream);
        }
        Order::ClientResets => {
            job::receive(&mut stream, up, job.up).await?;
            Job::arrived(&mut stream).await?;
            let read = stream.read(&mut [0]).await?;
            return Ok(End::Wrong(format!("expected a reset, got {read} bytes")));
        }
    }
    Ok(End::Good)
}
