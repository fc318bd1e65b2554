//! How long it takes until what is defined at one node is served by another one: a route in a file, and a container.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Figure;
use crate::docker::fake::FakeEngine;
use crate::lab::{Lab, Place, address, api, until};
use crate::node::route;

/// A route appears at the first node, and is served by the last one.
pub(super) fn measure(lab: &Lab, times: usize, tell: &mut impl FnMut(Figure)) -> Result<()> {
    let (first, last) = (lab.node(1), lab.node(lab.size()));
    let to = SocketAddr::new(address(last.number()), 80);
    let client = lab.client()?;
    let mut all = Vec::new();
    for number in 0..times {
        let host = format!("new{number}.test");
        let document = route(&host, &["http://127.0.0.1:9000".to_owned()]).to_string();
        let document = document.replace("\"main\"", &format!("\"new{number}\""));
        let began = Instant::now();
        first.write_dynamic(&format!("new{number}.json"), &serde_json::from_str(&document)?)?;
        all.push(served(&client, to, &host, &first.name(), began)?);
        pause(number);
    }
    tell(Figure::of(
        "a file changes at one node: another one of five serves it (every-node)",
        all,
    ));
    containers(lab, times.max(50), tell)
}

/// How long it took from then on until this node's demo back end answers for a host at an address.
fn served(client: &Place, to: SocketAddr, host: &str, by: &str, began: Instant) -> Result<Duration> {
    let asked = || {
        let reply = api::ask(client, to, "GET", host, "/", "")?;
        ensure!(reply.status == 200, "{reply:?}");
        reply.by(by)?;
        Ok(began.elapsed())
    };
    until("the other node serves it", || {
        // More often than `until` asks, as that would be part of the figure.
        for _ in 0..50 {
            if let Ok(took) = asked() {
                return Ok(took);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        asked()
    })
}

/// Each begins at another moment of the rounds of gossip.
fn pause(number: usize) {
    std::thread::sleep(Duration::from_millis(137 + 61 * (number as u64 % 7)));
}

/// A container starts at the first node, says its Docker engine, and is served by the last one. The engine is scripted: what a
/// real one takes to start a container is not part of it.
fn containers(lab: &Lab, times: usize, tell: &mut impl FnMut(Figure)) -> Result<()> {
    let (first, last) = (lab.node(1), lab.node(lab.size()));
    let to = SocketAddr::new(address(last.number()), 80);
    let client = lab.client()?;
    let engine = FakeEngine::new();
    first.reconfigure(json!({ "providers": { "docker": { "endpoint": engine.endpoint() } } }))?;
    let (start, started) = mpsc::channel::<Value>();
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        // Its own runtime, since all else here waits where it stands.
        let serving = scope.spawn(move || serve(engine, &ready, started, stopped));
        let measured = || {
            is_ready.recv().context("the scripted engine listens")?;
            first.restart()?;
            lab.formed(1..=lab.size())?;
            let mut all = Vec::new();
            for number in 0..times {
                let host = format!("container{number}.test");
                let began = Instant::now();
                start.send(container(number, &host))?;
                all.push(served(&client, to, &host, &first.name(), began)?);
                pause(number);
            }
            anyhow::Ok(all)
        };
        let measured = measured();
        drop((start, stop));
        serving.join().expect("the scripted engine ends")?;
        tell(Figure::of(
            "a container starts at one node: another one of five serves it (every-node)",
            measured?,
        ));
        Ok(())
    })
}

/// Runs an engine in which what comes starts.
fn serve(
    mut engine: FakeEngine,
    ready: &mpsc::Sender<()>,
    started: mpsc::Receiver<Value>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        engine.listen();
        ready.send(())?;
        let telling = tokio::task::spawn_blocking(move || {
            while let Ok(inspection) = started.recv() {
                engine.happen("start", &inspection);
            }
        });
        // Ends with whoever measures.
        drop(stopped.await);
        telling.await?;
        Ok(())
    })
}

/// What an engine says of a running container that is the node's demo back end.
fn container(number: usize, host: &str) -> Value {
    let name = format!("container{number}");
    let rule = format!("Host(`{host}`)");
    json!({
        "Id": format!("{number:064x}"),
        "Created": "2026-01-01T00:00:00Z",
        "Name": format!("/{name}"),
        "State": { "Status": "running", "Running": true },
        "Config": {
            "Labels": {
                "traefik.enable": "true",
                format!("traefik.http.routers.{name}.rule"): rule,
                format!("traefik.http.services.{name}.loadbalancer.server.port"): "9000",
            },
            "ExposedPorts": { "9000/tcp": {} },
        },
        "HostConfig": { "NetworkMode": "front" },
        "NetworkSettings": {
            "Ports": { "9000/tcp": null },
            "Networks": { "front": { "IPAddress": "127.0.0.1" } },
        },
    })
}
