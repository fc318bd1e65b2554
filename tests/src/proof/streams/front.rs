//! What stands between the two ends: the node, a peer in its place, or nothing, to see what a proof measures.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::node::Node;
use crate::{eventually, require};

/// What is put to the proof; all but the first calibrate it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Proxy {
    /// The binary under test.
    #[default]
    Constellation,
    /// nginx of this machine, its module for streams.
    Nginx,
    /// HAProxy of this machine.
    Haproxy,
    /// Nothing: clients connect to the back end.
    Direct,
}

/// It, running; stopped when dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    node: Option<Node>,
    peer: Option<(Child, TempDir)>,
}

impl Proxy {
    /// Starts it in front of this back end.
    ///
    /// # Panics
    /// When a peer is not installed or does not start.
    pub async fn start(self, backend: SocketAddr) -> Front {
        let (program, text, arguments) = match self {
            Self::Constellation => return node(backend).await,
            Self::Direct => {
                return Front {
                    address: backend,
                    node: None,
                    peer: None,
                };
            }
            Self::Nginx => (
                "nginx",
                nginx as fn(&str, SocketAddr, SocketAddr) -> String,
                &["-e", "/dev/null", "-c"][..],
            ),
            Self::Haproxy => ("haproxy", haproxy as _, &["-db", "-q", "-f"][..]),
        };
        let program = require::program(program).unwrap_or_else(|reason| panic!("{reason}"));
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let config = directory.path().join("config");
        std::fs::write(
            &config,
            text(&directory.path().display().to_string(), address, backend),
        )
        .unwrap();
        let child = Command::new(program)
            .args(arguments)
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the peer listens", async || {
            tokio::net::TcpStream::connect(address).await.map(drop)
        })
        .await;
        Front {
            address,
            node: None,
            peer: Some((child, directory)),
        }
    }
}

impl Front {
    /// Where it takes connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Open descriptors of its process; 0 when there is none.
    pub fn descriptors(&self) -> usize {
        let pid = match (&self.node, &self.peer) {
            (Some(node), _) => Some(node.pid().as_raw().unsigned_abs()),
            (None, Some((child, _))) => child.id(),
            (None, None) => None,
        };
        pid.map_or(0, descriptors)
    }
}

/// Open descriptors of a process.
pub(super) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

async fn node(backend: SocketAddr) -> Front {
    let document = json!({ "tcp": {
        "routers": { "stream": { "rule": "HostSNI(`*`)", "service": "stream", "entryPoints": ["tcp"] } },
        "services": { "stream": { "loadBalancer": { "servers": [{ "address": backend.to_string() }] } } },
    } });
    // The number of workers is the machine's, as by default.
    let node = Node::builder()
        .config(json!({ "proxy": null, "entryPoints": { "tcp": { "address": "127.0.0.1:0" } } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    Front {
        address: node.entry_point("tcp"),
        node: Some(node),
        peer: None,
    }
}

fn nginx(directory: &str, address: SocketAddr, backend: SocketAddr) -> String {
    let user = if nix::unistd::geteuid().is_root() {
        "root"
    } else {
        "nobody"
    };
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if std::path::Path::new(module).is_file() {
        format!("load_module {module};")
    } else {
        String::new()
    };
    // One process, so that its descriptors are those of one.
    format!(
        "{load} daemon off; master_process off; worker_processes 1; user {user}; pid {directory}/pid;\n\
         error_log /dev/null; events {{ worker_connections 8192; }}\n\
         stream {{ server {{ listen {address} backlog=8192; proxy_pass {backend}; proxy_half_close on; }} }}\n"
    )
}

fn haproxy(_: &str, address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "global\n  maxconn 4000\n  nbthread 2\n\
         defaults\n  mode tcp\n  timeout connect 30s\n  timeout client 300s\n  timeout server 300s\n\
         listen stream\n  bind {address} backlog 8192\n  server back {backend}\n"
    )
}
