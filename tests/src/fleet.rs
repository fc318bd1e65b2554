//! Many clients at once, every request of theirs accounted for by its id.
//!
//! Where [`crate::load`] counts, this remembers: what was asked, when, how long it took, what came back, so that a
//! failed request can be told as a story together with what the back ends saw of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, Request};
use tokio::task::JoinSet;

use crate::client::http::{Body, full, request};
use crate::client::{Answer, Client};
use crate::fault::journal::now;

/// How long requests may take to end once no new ones are sent.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `GET`.
    Get,
    /// `POST` without a key: never to be sent twice.
    Post,
    /// `POST` with `Idempotency-Key`.
    KeyedPost,
}

/// How many clients of each kind, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Clients that `GET`.
    pub get: usize,
    /// Clients that `POST` without a key.
    pub post: usize,
    /// Clients that `POST` with a key.
    pub keyed: usize,
    /// Between an answer and the next request of the same client.
    pub pause: Duration,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its `X-Request-Id`.
    pub id: String,
    /// What it was.
    pub kind: Kind,
    /// When it was sent, nanoseconds of the monotonic clock.
    pub start: u64,
    /// How long it took, nanoseconds.
    pub took: u64,
    /// The back end that answered 200 with what was asked for; or what happened instead.
    pub outcome: Result<String, String>,
}

/// Requests that run until [`Fleet::stop`].
#[derive(Debug)]
pub struct Fleet {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    /// How many requests each client has ended, with what it sends.
    ended: Vec<(Kind, Arc<AtomicUsize>)>,
    clients: JoinSet<Vec<Story>>,
}

#[derive(Debug)]
struct Member {
    number: usize,
    kind: Kind,
    address: SocketAddr,
    host: String,
    pause: Duration,
    done: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Fleet {
    /// Starts the clients; each keeps its connection.
    pub fn start(address: SocketAddr, host: &str, mix: Mix) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (mut clients, mut ended) = (JoinSet::new(), Vec::new());
        let kinds = [
            (Kind::Get, mix.get),
            (Kind::Post, mix.post),
            (Kind::KeyedPost, mix.keyed),
        ];
        let kinds = kinds
            .into_iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
        for (number, kind) in kinds.enumerate() {
            let member = Member {
                number,
                kind,
                address,
                host: host.to_owned(),
                pause: mix.pause,
                done: Arc::clone(&done),
                ended: Arc::default(),
            };
            ended.push((kind, Arc::clone(&member.ended)));
            clients.spawn(member.run(Arc::clone(&stop)));
        }
        Self {
            stop,
            done,
            ended,
            clients,
        }
    }

    /// Waits until every client that sends what may be repeated has ended a request that it sent after this call; says
    /// which have not, once `patience` is over.
    pub async fn all_move(&self, patience: Duration) -> Vec<usize> {
        let count = |(kind, ended): &(Kind, Arc<AtomicUsize>)| match kind {
            // May have to wait: nothing is to be done about it.
            Kind::Post => usize::MAX,
            Kind::Get | Kind::KeyedPost => ended.load(Ordering::Relaxed),
        };
        let before: Vec<usize> = self.ended.iter().map(count).collect();
        let until = tokio::time::Instant::now() + patience;
        loop {
            let now = self.ended.iter().map(count);
            // One was under way already.
            let stuck = now
                .zip(&before)
                .enumerate()
                .filter(|(_, (now, before))| *now < before.saturating_add(2));
            let stuck: Vec<usize> = stuck.map(|(number, _)| number).collect();
            if stuck.is_empty() || tokio::time::Instant::now() > until {
                return stuck;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `count` more requests have ended.
    pub async fn more(&self, count: usize) {
        let target = self.done.load(Ordering::Relaxed) + count;
        crate::eventually("the load goes on", async || {
            let done = self.done.load(Ordering::Relaxed);
            if done >= target {
                Ok(())
            } else {
                Err(format!("{done} of {target} requests"))
            }
        })
        .await;
    }

    /// Sends nothing new, waits for the requests under way, and tells all.
    pub async fn stop(self) -> Vec<Story> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

impl Member {
    async fn run(self, stop: Arc<AtomicBool>) -> Vec<Story> {
        let mut stories = Vec::new();
        let mut slot = None;
        while !stop.load(Ordering::Relaxed) {
            let id = format!("{}-{}", self.number, stories.len());
            let start = now();
            let outcome = tokio::select! {
                outcome = self.once(&mut slot, &id) => outcome,
                () = stopped_for(&stop, LAST_ANSWERS) => Err("no answer".to_owned()),
            };
            let took = now() - start;
            stories.push(Story {
                id,
                kind: self.kind,
                start,
                took,
                outcome,
            });
            self.done.fetch_add(1, Ordering::Relaxed);
            self.ended.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.pause).await;
        }
        stories
    }

    async fn once(&self, slot: &mut Option<Client>, id: &str) -> Result<String, String> {
        let mut client = match slot.take() {
            Some(client) if !client.is_closed() => client,
            _ => Client::h1(self.address)
                .await
                .map_err(|error| format!("connect: {error}"))?,
        };
        let answer = client.send(self.request(id)).await;
        let answer = answer.map_err(|error| format!("request: {error:?}"))?;
        *slot = Some(client);
        judge(&answer, id)
    }

    fn request(&self, id: &str) -> Request<Body> {
        let method = if self.kind == Kind::Get {
            Method::GET
        } else {
            Method::POST
        };
        let mut request = request(method, &self.host, "/");
        let value = HeaderValue::from_str(id).unwrap();
        if self.kind == Kind::KeyedPost {
            request.headers_mut().insert("idempotency-key", value.clone());
        }
        request.headers_mut().insert("x-request-id", value);
        if self.kind != Kind::Get {
            *request.body_mut() = full(format!("order {id}"));
        }
        request
    }
}

/// The back end, if this is the whole and right answer of one to this request.
pub fn judge(answer: &Answer, id: &str) -> Result<String, String> {
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.text().trim()));
    }
    let value: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|error| {
        format!(
            "200 with a body that is not the back end's ({error}): {}",
            answer.text()
        )
    })?;
    if value["id"] == id {
        Ok(value["backend"].as_str().unwrap_or_default().to_owned())
    } else {
        Err(format!("200 with the answer to another request: {value}"))
    }
}

async fn stopped_for(stop: &AtomicBool, patience: Duration) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(patience).await;
}
