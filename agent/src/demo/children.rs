//! The demo back ends of `run --demo`: child processes of the node, and the source that routes to them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use constellation_config::dynamic::{Dynamic, LoadBalancer, Router, Server, Service};
use constellation_table::Condition;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::sources::{Contribution, Reload, ServerOrigin, SourceHandle, SourceState, SourceStatus};

/// Name of the provider: `both@demo` and so on.
pub const PROVIDER: &str = "demo";

/// What the back ends call themselves; each has the host `NAME.localhost`.
pub const NAMES: [&str; 2] = ["one", "two"];

/// How long a back end may take to say where it listens.
const START: Duration = Duration::from_secs(10);
/// How long a back end may take to end once its standard input is closed.
const END: Duration = Duration::from_secs(2);

/// A running back end. Killed when dropped.
struct BackEnd {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    /// Held apart from the child, because waiting for the child would close it.
    input: Option<ChildStdin>,
}

/// Starts the back ends and the source that routes to them until `cancel`.
pub async fn spawn(cancel: CancellationToken) -> io::Result<SourceHandle> {
    let [one, two] = NAMES;
    let back_ends = [start(one).await?, start(two).await?];
    let urls = back_ends
        .each_ref()
        .map(|b| (b.name, format!("http://{}", b.address)));
    let (states, state) = watch::channel(state_of(&urls, &BTreeMap::new()));
    let task = tokio::spawn(own(back_ends, urls, states, cancel));
    Ok(SourceHandle {
        state,
        reload: Reload::default(),
        task,
    })
}

/// Watches over the back ends and ends them. One that ends by itself stays in its services as unavailable.
async fn own(
    back_ends: [BackEnd; 2],
    urls: [(&'static str, String); 2],
    states: watch::Sender<SourceState>,
    cancel: CancellationToken,
) {
    let mut ended = BTreeMap::new();
    let [mut one, mut two] = back_ends;
    loop {
        let (name, status) = tokio::select! {
            () = cancel.cancelled() => break,
            status = one.child.wait(), if !ended.contains_key(one.name) => (one.name, status),
            status = two.child.wait(), if !ended.contains_key(two.name) => (two.name, status),
        };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::warn!(back_end = name, %how, "a demo back end has ended");
        ended.insert(name, how);
        states.send_replace(state_of(&urls, &ended));
    }
    for back_end in [&mut one, &mut two] {
        back_end.end().await;
    }
}

async fn start(name: &'static str) -> io::Result<BackEnd> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["demo-backend", "--listen", "127.0.0.1:0", "--name", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("it has no output"))?;
    let mut line = String::new();
    tokio::time::timeout(START, BufReader::new(output).read_line(&mut line)).await??;
    let address = line
        .trim()
        .parse()
        .map_err(|_| io::Error::other(format!("it said {line:?} instead of its address")))?;
    let input = child.stdin.take();
    Ok(BackEnd {
        name,
        address,
        child,
        input,
    })
}

impl BackEnd {
    async fn end(&mut self) {
        // Its end of input tells it to end.
        drop(self.input.take());
        if tokio::time::timeout(END, self.child.wait()).await.is_err()
            && let Err(error) = self.child.kill().await
        {
            tracing::warn!(back_end = self.name, %error, "cannot end a demo back end");
        }
    }
}

fn state_of(urls: &[(&'static str, String)], ended: &BTreeMap<&str, String>) -> SourceState {
    SourceState {
        contribution: Some(Arc::new(contribution(urls, ended))),
        status: SourceStatus {
            connected: true,
            error: None,
            last_read: Some(SystemTime::now()),
        },
        ..SourceState::default()
    }
}

/// A router `NAME.localhost` for each back end, and one below all others that takes what is left to all of them.
fn contribution(urls: &[(&'static str, String)], ended: &BTreeMap<&str, String>) -> Contribution {
    let mut dynamic = Dynamic::default();
    let mut origins: BTreeMap<String, BTreeMap<String, ServerOrigin>> = BTreeMap::new();
    let server = |url: &String| Server {
        url: url.clone(),
        ..Server::default()
    };
    let service = |servers: Vec<Server>| Service {
        load_balancer: Some(LoadBalancer {
            servers,
            ..LoadBalancer::default()
        }),
        ..Service::default()
    };
    let origin = |name: &str| ServerOrigin {
        name: format!("demo-{name}").into(),
        condition: match ended.get(name) {
            Some(how) => Condition::Unavailable(format!("the demo back end has ended: {how}").into()),
            None => Condition::Ready,
        },
    };
    let http = &mut dynamic.http;
    for (name, url) in urls {
        http.services
            .insert((*name).to_owned(), Arc::new(service(vec![server(url)])));
        http.routers.insert(
            (*name).to_owned(),
            Arc::new(Router {
                rule: format!("Host(`{name}.localhost`)"),
                service: (*name).to_owned(),
                ..Router::default()
            }),
        );
        origins.insert((*name).to_owned(), BTreeMap::from([(url.clone(), origin(name))]));
    }
    let both = "both".to_owned();
    http.services.insert(
        both.clone(),
        Arc::new(service(urls.iter().map(|(_, url)| server(url)).collect())),
    );
    http.routers.insert(
        both.clone(),
        Arc::new(Router {
            rule: "PathPrefix(`/`)".to_owned(),
            service: both.clone(),
            priority: 1,
            ..Router::default()
        }),
    );
    origins.insert(
        both,
        urls.iter()
            .map(|(name, url)| (url.clone(), origin(name)))
            .collect(),
    );
    Contribution {
        provider: PROVIDER,
        dynamic,
        origins,
        ..Contribution::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use constellation_config::{Config, FileProvider, FileSource, LoadOptions};

    use super::*;
    use crate::compile::{Compiler, Statics};

    #[test]
    fn every_demo_route_compiles_and_an_ended_back_end_stays_listed() {
        let urls = NAMES.map(|name| (name, format!("http://{name}:1")));
        let statics = Statics::new(&Config::default(), &[]).unwrap();
        let mut compiler = Compiler::new(statics);
        let compiled = compiler.compile(&[Arc::new(contribution(&urls, &BTreeMap::new()))], 1);
        assert_eq!(compiled.problems, []);
        assert_eq!(compiled.snapshot.services().len(), 3);
        let ended = BTreeMap::from([("one", "exit status: 1".to_owned())]);
        let compiled = compiler.compile(&[Arc::new(contribution(&urls, &ended))], 2);
        let one = compiled.snapshot.service("one@demo").unwrap();
        assert!(
            matches!(&one.endpoints[0].condition, Condition::Unavailable(why) if why.contains("exit status: 1"))
        );
        assert_eq!(
            compiled.snapshot.service("two@demo").unwrap().endpoints[0].condition,
            Condition::Ready
        );
    }

    /// What `./dev run` starts: the file's own routes and those of the demo, together and without a problem.
    #[test]
    fn the_quick_start_serves_every_route_it_names() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let options = LoadOptions {
            file: Some(root.join("config/quickstart.yaml")),
            host_name: Some("test".to_owned()),
            ..LoadOptions::default()
        };
        let loaded = Config::load(options).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        let Some(FileProvider {
            source: FileSource::Directory(directory),
            ..
        }) = &loaded.config.providers.file
        else {
            panic!("the quick start reads a directory");
        };
        let files = crate::sources::file::read_once(&FileSource::Directory(root.join(directory)));
        let urls = NAMES.map(|name| (name, format!("http://{name}:1")));
        let readings = [Arc::new(files), Arc::new(contribution(&urls, &BTreeMap::new()))];
        let compiled = Compiler::new(Statics::new(&loaded.config, &[]).unwrap()).compile(&readings, 1);
        assert_eq!(compiled.problems, []);
        let mut names: Vec<&str> = compiled
            .snapshot
            .routers()
            .iter()
            .map(|r| &*r.spec.name)
            .collect();
        names.retain(|name| !name.starts_with("websecure-"));
        names.sort_unstable();
        assert_eq!(names, ["both@demo", "hello@file", "one@demo", "two@demo"]);
    }
}
