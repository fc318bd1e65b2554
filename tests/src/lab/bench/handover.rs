//! The edge is handed over again and again under load: what fails of it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Figure, VIRTUAL};
use crate::client::websocket::WebSocket;
use crate::lab::check::LEASE;
use crate::lab::{HOST, Lab, name, process, until};
use crate::node::route;
use crate::require;

/// Idle WebSockets.
const SOCKETS: usize = 1000;
/// Downloads that last as long as all of it.
const DOWNLOADS: usize = 20;
/// Bytes of each.
const SIZE: usize = 40_000_000;
/// The host of the back end that has them, and echoes WebSockets.
const BIG: &str = "big.test";
/// Between two hand-overs.
const PAUSE: Duration = Duration::from_millis(1000);

/// wrk with 200 connections, idle WebSockets and downloads, while the edge goes from node to node.
pub(super) fn measure(lab: &Lab, times: usize, tell: &mut impl FnMut(Figure)) -> Result<()> {
    let to: SocketAddr = format!("{VIRTUAL}:80").parse()?;
    let programs = std::env::current_exe()?.with_file_name("testkit-backend");
    ensure!(programs.is_file(), "{} is not there", programs.display());
    for node in lab.nodes() {
        let mut command = node.place()?.command(process::BACKEND, &programs, lab.kept);
        let child = command
            .args([&node.name(), "9001"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        lab.adopt(format!("big back end of {}", node.name()), child);
        let mut big = route(BIG, &["http://127.0.0.1:9001".to_owned()]).to_string();
        // Names are of one provider, so they differ from those of the other file.
        big = big.replace("\"main\"", "\"big\"");
        node.write_dynamic("big.json", &serde_json::from_str(&big)?)?;
    }
    let client = lab.client()?;
    until("both are served", || {
        for host in [HOST, BIG] {
            let reply = crate::lab::api::ask(&client, to, "GET", host, "/", "")?;
            ensure!(reply.status == 200, "{host}: {reply:?}");
        }
        Ok(())
    })?;
    let seconds = times as u64 * 2 + 8;
    let wrk = require::program("wrk").map_err(anyhow::Error::msg)?;
    let load = client
        .command("load", wrk, false)
        .args([
            "-t2",
            "-c200",
            &format!("-d{seconds}s"),
            "--latency",
            "-H",
            &format!("Host: {HOST}"),
        ])
        .arg(format!("http://{VIRTUAL}/"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let (moves, sockets, downloads) = std::thread::scope(|scope| -> Result<_> {
        let streams = scope.spawn(|| client.within(|| streams(to, times)));
        let moves = move_around(lab, times)?;
        let (sockets, downloads) = streams.join().expect("the streams' thread ends")??;
        Ok((moves, sockets, downloads))
    })?;
    let output = load.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    tell(Figure::of(
        "planned hand-over under load: the call returns",
        moves,
    ));
    tell(Figure::new(
        format!("{times} hand-overs: of {SOCKETS} idle WebSockets, broken"),
        sockets.to_string(),
    ));
    tell(Figure::new(
        format!("{times} hand-overs: of {DOWNLOADS} downloads of {SIZE} bytes, broken"),
        downloads.to_string(),
    ));
    let mut errors: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("errors") || line.contains("Non-2xx"))
        .collect();
    if errors.is_empty() {
        errors.push("none refused, reset, timed out or failed");
    }
    let served = text
        .lines()
        .find(|line| line.contains("requests in"))
        .unwrap_or_default();
    tell(Figure::new(
        format!("{times} hand-overs: wrk, 200 connections"),
        format!("{}; {}", errors.join("; "), served.trim()),
    ));
    Ok(())
}

/// Hands the edge from node to node.
fn move_around(lab: &Lab, times: usize) -> Result<Vec<Duration>> {
    // Load and streams begin before the first.
    std::thread::sleep(Duration::from_secs(3));
    let mut all = Vec::new();
    for _ in 0..times {
        let holder = until("somebody holds the edge", || {
            let mut nodes = lab.nodes();
            let found = nodes.find(|node| node.lease(LEASE).is_ok_and(|lease| lease["mine"] == true));
            found.map(|node| node.number()).context("nobody does")
        })?;
        let to = holder % lab.size() + 1;
        let began = Instant::now();
        let path = format!("/api/v1/leases/{LEASE}/transfer");
        lab.node(holder).post(&path, &json!({ "to": name(to) }))?.json()?;
        all.push(began.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(all)
}

/// Opens all, and says how many of each broke.
fn streams(to: SocketAddr, times: usize) -> Result<(usize, usize)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut downloads = JoinSet::new();
        let lasts = PAUSE * u32::try_from(times).unwrap_or(u32::MAX) + Duration::from_secs(3);
        for _ in 0..DOWNLOADS {
            downloads.spawn(download(to, lasts));
        }
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS {
            let url = format!("ws://{BIG}/ws");
            sockets.push(WebSocket::over(TcpStream::connect(to).await?, &url).await?);
        }
        let broken = downloads
            .join_all()
            .await
            .into_iter()
            .filter(|whole| !whole)
            .count();
        // Not one was used in between.
        let mut echoes = JoinSet::new();
        for mut socket in sockets {
            echoes.spawn(async move {
                tokio::time::timeout(Duration::from_secs(20), socket.echo("still here"))
                    .await
                    .is_ok()
            });
        }
        let mut dead = 0;
        while let Some(echo) = echoes.join_next().await {
            // It panics when the socket has ended.
            dead += usize::from(!echo.unwrap_or(false));
        }
        Ok((dead, broken))
    })
}

/// Reads slowly, so that it lasts; whether all came.
async fn download(to: SocketAddr, lasts: Duration) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let read = async {
        let mut stream = TcpStream::connect(to).await?;
        let head = format!("GET /bytes/{SIZE} HTTP/1.1\r\nHost: {BIG}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let (mut count, mut buffer) = (0, vec![0; SIZE / 200]);
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return std::io::Result::Ok(count);
            }
            count += length;
            // As much of the time as it is of the whole.
            tokio::time::sleep(lasts.mul_f64(length as f64 / SIZE as f64)).await;
        }
    };
    matches!(read.await, Ok(count) if count > SIZE)
}
