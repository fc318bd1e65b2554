//! A scripted engine: Docker's API on a Unix socket, as far as the provider uses it. For what no real engine does when it is
//! asked to, and for what would be lost in the time that a real container takes to start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the engine says, and what it was asked.
#[derive(Debug, Default)]
pub struct Script {
    /// The answers to inspections, by id.
    pub containers: BTreeMap<String, Value>,
    /// Ids whose inspection never answers.
    pub stuck: BTreeSet<String>,
    /// Ids whose inspection is not JSON.
    pub garbled: BTreeSet<String>,
    /// The ids that were inspected, in their order.
    pub inspected: Vec<String>,
    /// How often the list was read.
    pub lists: usize,
    /// The queries of all event streams.
    pub subscriptions: Vec<BTreeMap<String, String>>,
    streams: Vec<mpsc::UnboundedSender<Bytes>>,
}

/// A running fake. It stops when dropped.
#[derive(Debug)]
pub struct FakeEngine {
    directory: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    stop: CancellationToken,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// Not listening yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            script: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// The same, for `providers.docker.endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What it says and was asked.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Starts to listen on the runtime of the caller, or does so again after [`Self::crash`].
    pub fn listen(&mut self) {
        self.stop = CancellationToken::new();
        let listener = UnixListener::bind(self.socket()).unwrap();
        let router = Router::new()
            .route(
                "/version",
                get(|| async { json!({"ApiVersion": "1.41"}).to_string() }),
            )
            .route("/containers/json", get(list))
            .route("/containers/{id}/json", get(inspect))
            .route("/events", get(events))
            .with_state(self.script.clone());
        let stop = self.stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move { axum::serve(listener, router).await }));
    }

    /// Stops to listen and ends all event streams.
    pub fn crash(&self) {
        self.stop.cancel();
        std::fs::remove_file(self.socket()).unwrap();
        self.end_events();
    }

    /// Ends all event streams.
    pub fn end_events(&self) {
        self.script().streams.clear();
    }

    /// Puts a container there without a word.
    pub fn put(&self, inspection: &Value) {
        let id = inspection["Id"].as_str().unwrap().to_owned();
        self.script().containers.insert(id, inspection.clone());
    }

    /// Puts a container there and says what happened to it.
    pub fn happen(&self, action: &str, inspection: &Value) {
        self.put(inspection);
        self.say(&json!({
            "Type": "container", "Action": action, "Actor": {"ID": inspection["Id"]}, "time": 1_767_225_600,
        }));
    }

    /// Says something on all event streams.
    pub fn say(&self, event: &Value) {
        let line = Bytes::from(format!("{event}\n"));
        self.script()
            .streams
            .retain(|stream| stream.send(line.clone()).is_ok());
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Shared = State<Arc<Mutex<Script>>>;

async fn list(State(script): Shared) -> String {
    let mut script = script.lock().unwrap();
    script.lists += 1;
    let lines = script.containers.values().map(|inspection| {
        json!({
            "Id": inspection["Id"],
            "Names": [inspection["Name"]],
            "State": inspection["State"]["Status"],
            "Status": "Up 3 hours",
            "NetworkSettings": {"Networks": inspection["NetworkSettings"]["Networks"]},
        })
    });
    Value::Array(lines.collect()).to_string()
}

async fn inspect(State(script): Shared, Path(id): Path<String>) -> Response {
    let answer = {
        let mut script = script.lock().unwrap();
        script.inspected.push(id.clone());
        if script.garbled.contains(&id) {
            return "{\"Id\": 7, \"State\": \"odd\"".into_response();
        }
        if script.stuck.contains(&id) {
            None
        } else {
            Some(script.containers.get(&id).map(Value::to_string))
        }
    };
    match answer {
        None => std::future::pending().await,
        Some(Some(inspection)) => inspection.into_response(),
        Some(None) => {
            let message = json!({"message": format!("No such container: {id}")}).to_string();
            (StatusCode::NOT_FOUND, message).into_response()
        }
    }
}

async fn events(State(script): Shared, Query(query): Query<BTreeMap<String, String>>) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut script = script.lock().unwrap();
    script.subscriptions.push(query);
    script.streams.push(sender);
    Body::from_stream(futures_util::stream::unfold(
        receiver,
        |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(line), receiver))
        },
    ))
}
