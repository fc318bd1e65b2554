//! A Docker engine that has the containers it is told to have: as much of the API as both proxies ask for.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::wire::Reader;

/// The running engine; it ends when dropped.
#[derive(Debug)]
pub(super) struct Engine {
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    /// What `inspect` says of each.
    containers: Mutex<Arc<Vec<Value>>>,
    events: broadcast::Sender<String>,
}

impl Engine {
    /// Listens on a socket.
    pub(super) fn start(socket: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let state = Arc::new(State {
            containers: Mutex::default(),
            events: broadcast::channel(64).0,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, state.clone()));
        Ok(Self { state, _tasks: tasks })
    }

    /// Replaces all containers and tells of the start of the last one.
    pub(super) fn set(&self, containers: Vec<Value>) {
        let last = containers.last().map(|container| container["Id"].clone());
        *self.state.containers.lock().unwrap() = Arc::new(containers);
        let event = json!({
            "Type": "container", "Action": "start", "status": "start", "id": last, "Actor": { "ID": last, "Attributes": {} },
            "time": 1_767_225_600, "timeNano": 1_767_225_600_000_000_000_u64,
        });
        // Nobody may be listening yet, who then reads the list.
        self.state.events.send(format!("{event}\n")).unwrap_or_default();
    }
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let state = state.clone();
                connections.spawn(async move { serve(stream, &state).await.unwrap_or_default() });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: UnixStream, state: &State) -> io::Result<()> {
    let mut reader = Reader::new(stream);
    while let Some(head) = reader.head().await? {
        let mut words = head.first.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = without_version(path);
        if path == "/events" {
            return tell(&mut reader.stream, state.events.subscribe()).await;
        }
        let containers = state.containers.lock().unwrap().clone();
        let (status, body) = match path {
            "/_ping" => (200, "OK".to_owned()),
            "/version" => (200, VERSION.to_owned()),
            "/containers/json" => (200, list(&containers, query).to_string()),
            other => inspect(&containers, other),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Status\r\nApi-Version: 1.47\r\nOstype: linux\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        reader.stream.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            reader.stream.write_all(body.as_bytes()).await?;
        }
    }
    Ok(())
}

const VERSION: &str =
    r#"{"Version":"27.5.0","ApiVersion":"1.47","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}"#;

/// `/v1.47/version` is `/version`.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v1.") else {
        return path;
    };
    rest.find('/').map_or(path, |slash| &rest[slash..])
}

async fn tell(stream: &mut UnixStream, mut events: broadcast::Receiver<String>) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    while let Ok(event) = events.recv().await {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await?;
    }
    Ok(())
}

fn list(containers: &[Value], query: &str) -> Value {
    let all = query.contains("all=1") || query.contains("all=true");
    let running = |container: &&Value| all || container["State"]["Status"] == "running";
    let summary = |container: &Value| {
        json!({
            "Id": container["Id"],
            "Names": [container["Name"]],
            "Image": "backend",
            "Labels": container["Config"]["Labels"],
            "State": container["State"]["Status"],
            "Status": "Up 3 hours",
            "HostConfig": container["HostConfig"],
            "NetworkSettings": { "Networks": container["NetworkSettings"]["Networks"] },
        })
    };
    containers.iter().filter(running).map(summary).collect()
}

fn inspect(containers: &[Value], path: &str) -> (u16, String) {
    let id = path
        .strip_prefix("/containers/")
        .and_then(|rest| rest.strip_suffix("/json"));
    let found = containers.iter().find(|container| {
        let name = container["Name"]
            .as_str()
            .map(|name| name.trim_start_matches('/'));
        id.is_some() && (container["Id"].as_str() == id || name == id)
    });
    match found {
        Some(container) => (200, container.to_string()),
        None => (
            404,
            json!({ "message": format!("no such object: {path}") }).to_string(),
        ),
    }
}
