//! Uploads through a back end that fails at each stage of them: replayed whole or failed cleanly.
//!
//! Each case has a service of its own, so that what was learned in one is not known in the next: with two endpoints in
//! turn, one of its uploads meets the fault.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::verdict::Journals;
use crate::client::http::{Body, full, request};
use crate::client::{Answer, Client};
use crate::fault::journal::now;
use crate::fault::{Behaviour, FaultBackend, Seen};
use crate::fleet::{Fleet, Mix};
use crate::node::Node;

/// The largest body that has to be replayed: `retry.replayBytes` as it is by default.
const REPLAYED: usize = 1 << 20;
/// How long a hung upload waits before its back end comes to life.
const HANG: Duration = Duration::from_secs(3);
/// Longer than any upload takes; one that is not over by then never will be.
const STUCK: Duration = Duration::from_secs(60);

/// Where in an upload the back end fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// The port refuses.
    ConnectRefused,
    /// The connection is reset at once.
    ResetOnAccept,
    /// It is reset after the head.
    ResetUnread,
    /// It is reset after half of the body.
    ResetMidBody,
    /// It is reset after the whole body.
    ResetAfterRead,
    /// 503 after the head, the body stays unread.
    EarlyUnavailable,
    /// 503 after the whole body.
    Unavailable,
    /// No answer.
    Hang,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ConnectRefused,
        Self::ResetOnAccept,
        Self::ResetUnread,
        Self::ResetMidBody,
        Self::ResetAfterRead,
        Self::EarlyUnavailable,
        Self::Unavailable,
        Self::Hang,
    ];

    fn behaviour(self) -> Option<Behaviour> {
        match self {
            Self::ConnectRefused => None,
            Self::ResetOnAccept => Some(Behaviour::ResetOnAccept),
            Self::ResetUnread => Some(Behaviour::ResetUnread),
            Self::ResetMidBody => Some(Behaviour::ResetMidBody),
            Self::ResetAfterRead => Some(Behaviour::ResetAfterRead),
            Self::EarlyUnavailable => Some(Behaviour::StatusEarly { status: 503 }),
            Self::Unavailable => Some(Behaviour::Status { status: 503 }),
            Self::Hang => Some(Behaviour::Hang),
        }
    }
}

/// One way to send one size.
#[derive(Clone, Copy, Debug)]
struct Case {
    number: usize,
    size: usize,
    h2: bool,
    length: bool,
}

impl Case {
    fn all(sizes: &[usize]) -> Vec<Self> {
        let ways = [(false, true), (false, false), (true, true), (true, false)];
        let cases = sizes.iter().flat_map(|size| ways.map(|way| (*size, way)));
        let cases = cases.enumerate().map(|(number, (size, (h2, length)))| Self {
            number,
            size,
            h2,
            length,
        });
        cases.collect()
    }

    fn host(self) -> String {
        format!("case-{}.test", self.number)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.h2 { "h2" } else { "h1" };
        let length = if self.length {
            "with length"
        } else {
            "without length"
        };
        write!(f, "{} KiB, {version} {length}", self.size / 1024)
    }
}

/// What the uploads through one stage showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The stage.
    pub stage: Stage,
    /// Uploads answered 200 by a back end that had the whole body.
    pub whole: usize,
    /// Uploads that failed and said so; only those too large to replay may.
    pub failed: usize,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} whole, {} failed cleanly, {} wrong",
            self.stage,
            self.whole,
            self.failed,
            self.wrong.len()
        )?;
        for line in self.wrong.iter().take(20) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// Uploads these sizes in every way through one stage.
pub async fn run(stage: Stage, sizes: &[usize]) -> Report {
    let (mut bad, good) = (
        FaultBackend::start("bad").await,
        FaultBackend::start("good").await,
    );
    let cases = Case::all(sizes);
    let document = document(&cases, &[&bad, &good]).to_string();
    let node = Node::builder()
        .config(json!({ "proxy": null }))
        .dynamic("routes.json", &document)
        .start()
        .await;
    let mut report = Report {
        stage,
        whole: 0,
        failed: 0,
        wrong: Vec::new(),
    };
    if stage == Stage::ConnectRefused {
        bad.kill().await;
    }
    for case in &cases {
        let body = pattern(case.size, stage as usize * 1000 + case.number);
        let uploads = if stage == Stage::Hang {
            hung(&node, *case, &body, &bad).await
        } else {
            if let Some(behaviour) = stage.behaviour() {
                bad.set(behaviour).await;
            }
            let mut uploads = Vec::new();
            for number in 0..2 {
                uploads.push(upload(node.web(), *case, body.clone(), number).await);
            }
            uploads
        };
        report.judge(*case, &body, &uploads, &Journals::of(&[&bad, &good]));
    }
    report
}

struct Upload {
    id: String,
    start: u64,
    answer: Result<Answer, String>,
}

/// Four uploads at once while others are answered at the sibling; later the back end comes to life.
async fn hung(node: &Node, case: Case, body: &Bytes, bad: &FaultBackend) -> Vec<Upload> {
    bad.set(Behaviour::OK).await;
    let mix = Mix {
        get: 6,
        post: 0,
        keyed: 0,
        pause: Duration::from_millis(10),
    };
    let fleet = Fleet::start(node.web(), &case.host(), mix);
    fleet.more(60).await;
    bad.set(Behaviour::Hang).await;
    let mut uploads = JoinSet::new();
    for number in 0..4 {
        uploads.spawn(upload(node.web(), case, body.clone(), number));
    }
    let mut ended = Vec::new();
    let some = tokio::time::timeout(HANG, async {
        while let Some(upload) = uploads.join_next().await {
            ended.push(upload.unwrap());
        }
    });
    // What has not ended by now ends after the heal.
    drop(some.await);
    bad.set(Behaviour::OK).await;
    ended.extend(uploads.join_all().await);
    fleet.stop().await;
    ended
}

async fn upload(web: std::net::SocketAddr, case: Case, body: Bytes, number: usize) -> Upload {
    let id = format!("{}-{number}", case.host());
    let (start, put) = (now(), put(case, &id, body));
    let sent = async {
        let client = if case.h2 {
            Client::h2c(web).await
        } else {
            Client::h1(web).await
        };
        let mut client = client.map_err(|error| error.to_string())?;
        client.send(put).await.map_err(|error| format!("{error:?}"))
    };
    let answer = tokio::time::timeout(STUCK, sent).await;
    Upload {
        id,
        start,
        answer: answer.unwrap_or_else(|_| Err(format!("STUCK for {STUCK:?}"))),
    }
}

fn put(case: Case, id: &str, body: Bytes) -> Request<Body> {
    let mut put = request(Method::PUT, &case.host(), "/upload");
    put.headers_mut()
        .insert("x-request-id", HeaderValue::from_str(id).unwrap());
    *put.body_mut() = if case.length {
        if case.h2 {
            put.headers_mut()
                .insert(http::header::CONTENT_LENGTH, body.len().into());
        }
        full(body)
    } else {
        let frames: Vec<_> = (0..body.len())
            .step_by(64 * 1024)
            .map(|at| Ok(Frame::data(body.slice(at..body.len().min(at + 64 * 1024)))))
            .collect();
        StreamBody::new(futures_util::stream::iter(frames)).boxed()
    };
    put
}

impl Report {
    fn judge(&mut self, case: Case, body: &Bytes, uploads: &[Upload], journals: &Journals) {
        let sum = crate::fault::hex(&Sha256::digest(body));
        let has_to_succeed = case.size <= REPLAYED || self.stage == Stage::ConnectRefused;
        for upload in uploads {
            let story = || journals.story(&upload.id, upload.start);
            match self.outcome(upload, body.len(), &sum) {
                Ok(backend) => {
                    self.whole += 1;
                    if self.stage == Stage::Hang && backend == "bad" && has_to_succeed {
                        self.wrong.push(format!(
                            "{case}: {} waited for the hung one; {}",
                            upload.id,
                            story()
                        ));
                    }
                }
                Err(error) if error.starts_with("WRONG") || error.starts_with("STUCK") || has_to_succeed => {
                    self.wrong
                        .push(format!("{case}: {}: {error}; {}", upload.id, story()));
                }
                Err(_) => self.failed += 1,
            }
            for entry in journals.entries().filter(|entry| entry.id == upload.id) {
                if let Seen::Body {
                    complete: true,
                    length,
                    sha256,
                } = &entry.seen
                    && (*length != body.len() as u64 || *sha256 != sum)
                {
                    self.wrong.push(format!(
                        "{case}: {} ended at a back end as {length} bytes",
                        upload.id
                    ));
                }
            }
        }
        let met = |id: &str| journals.backend("bad").iter().any(|entry| entry.id == id);
        let visible = !matches!(self.stage, Stage::ConnectRefused | Stage::ResetOnAccept);
        if visible && !uploads.iter().any(|upload| met(&upload.id)) {
            self.wrong.push(format!(
                "{case}: no upload met the fault, so that nothing is shown"
            ));
        }
    }

    /// The back end that answered with the right sum, else an error; `WRONG` marks those that are lies.
    fn outcome(&self, upload: &Upload, length: usize, sum: &str) -> Result<String, String> {
        let answer = upload.answer.as_ref().map_err(Clone::clone)?;
        if answer.status != 200 {
            return if answer.status.is_server_error() {
                Err(format!("{}: {}", answer.status, answer.text().trim()))
            } else {
                Err(format!(
                    "WRONG status {}: {}",
                    answer.status,
                    answer.text().trim()
                ))
            };
        }
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if value["id"] == upload.id.as_str() && value["length"] == length && value["sha256"] == sum {
            Ok(value["backend"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(format!("WRONG answer: {}", answer.text()))
        }
    }
}

fn document(cases: &[Case], backends: &[&FaultBackend]) -> Value {
    let servers: Vec<Value> = backends
        .iter()
        .map(|backend| json!({ "url": backend.url() }))
        .collect();
    let mut document = json!({ "http": { "routers": {}, "services": {} } });
    for case in cases {
        let name = format!("case-{}", case.number);
        document["http"]["routers"][&name] =
            json!({ "rule": format!("Host(`{}`)", case.host()), "service": name });
        document["http"]["services"][&name] = json!({ "loadBalancer": { "servers": servers } });
    }
    document
}

/// Bytes that look random and differ from seed to seed.
fn pattern(size: usize, seed: usize) -> Bytes {
    let mut state = seed as u64 * 2 + 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}
