//! Addresses of a tailnet's devices, from Tailscale's local API: where members may be that are not heard of.
//!
//! A device is nobody to us until it answers as a member ([`Node::look_for_members`]); most of a tailnet never does.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use constellation_node::Node;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(30);
/// How long the local API may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes: some thousand devices.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// The most addresses that are tried.
const MAX_ADDRESSES: usize = 256;

/// Looks until it is stopped, while a member is not heard of.
pub(super) async fn run(node: Node, socket: PathBuf, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = look(&node, &socket) => {}
    }
}

async fn look(node: &Node, socket: &Path) {
    let mut failing = false;
    loop {
        let missing = node.report().nodes.iter().any(|node| !node.online);
        if missing {
            match addresses(socket).await {
                Ok(addresses) => {
                    failing = false;
                    node.look_for_members(&addresses).await;
                }
                Err(error) if !std::mem::replace(&mut failing, true) => tracing::warn!(
                    socket = %socket.display(),
                    %error,
                    "Tailscale can't be asked for its devices: is it running, and cluster.tailscaleSocket right?"
                ),
                Err(_) => {}
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(default)]
    peer: Option<BTreeMap<String, Device>>,
}

#[derive(Deserialize)]
struct Device {
    #[serde(rename = "TailscaleIPs", default)]
    addresses: Option<Vec<IpAddr>>,
    #[serde(rename = "Online", default)]
    online: bool,
}

/// Of every device that is online, the first address.
async fn addresses(socket: &Path) -> io::Result<Vec<IpAddr>> {
    let body = tokio::time::timeout(PATIENCE, ask(socket))
        .await
        .map_err(|_| io::Error::other(format!("no answer within {PATIENCE:?}")))??;
    parse(&body)
}

fn parse(body: &[u8]) -> io::Result<Vec<IpAddr>> {
    let status: Status = serde_json::from_slice(body).map_err(io::Error::other)?;
    let devices = status.peer.unwrap_or_default().into_values();
    let online = devices.filter(|device| device.online);
    let addresses = online.filter_map(|device| device.addresses?.first().copied());
    Ok(addresses.take(MAX_ADDRESSES).collect())
}

async fn ask(socket: &Path) -> io::Result<Vec<u8>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = http::Request::get("/localapi/v0/status")
        .header(http::header::HOST, "local-tailscaled.sock")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("it answered {}", response.status())));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(io::Error::other)?.to_bytes().to_vec())
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(io::Error::other)?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    const ANSWER: &str = r#"{"Version": "1.80", "Self": {"TailscaleIPs": ["100.64.0.1"], "Online": true}, "Peer": {
        "nodekey:a": {"HostName": "edge-2", "TailscaleIPs": ["100.64.0.2", "fd7a:115c:a1e0::2"], "Online": true},
        "nodekey:b": {"HostName": "phone", "TailscaleIPs": ["100.64.0.3"], "Online": false},
        "nodekey:c": {"HostName": "new", "TailscaleIPs": null, "Online": true}}}"#;

    #[tokio::test]
    async fn devices_that_are_online_have_an_address_to_try() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tailscaled.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..count]).to_ascii_lowercase();
            assert!(
                request.starts_with("get /localapi/v0/status http/1.1"),
                "{request}"
            );
            assert!(request.contains("host: local-tailscaled.sock"), "{request}");
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}",
                ANSWER.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        });
        let expected: IpAddr = "100.64.0.2".parse().unwrap();
        assert_eq!(addresses(&path).await.unwrap(), [expected]);
        drop(server.await.unwrap());
        assert!(addresses(&folder.path().join("none")).await.is_err());
    }

    #[test]
    fn what_is_no_status_is_refused_and_an_empty_tailnet_is_none() {
        assert!(parse(b"<html>").is_err());
        assert_eq!(parse(b"{}").unwrap(), Vec::<IpAddr>::new());
        assert_eq!(parse(br#"{"Peer": null}"#).unwrap(), Vec::<IpAddr>::new());
    }
}
