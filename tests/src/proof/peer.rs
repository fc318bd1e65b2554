//! Other proxies in the same place, to see whether a proof measures the proxy or itself.
//!
//! As their documentation sets them up for two servers with kept connections; nothing is tuned for failover.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::fault::FaultBackend;
use crate::node::Node;
use crate::{eventually, require};

/// What stands in front of the back ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Proxy {
    /// The binary under test.
    #[default]
    Constellation,
    /// nginx of this machine.
    Nginx,
    /// HAProxy of this machine.
    Haproxy,
}

/// It, running; stopped when dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    _node: Option<Node>,
    _peer: Option<(Child, TempDir)>,
}

/// The text of a configuration file, and the arguments that come before its path.
type Configure = fn(&TempDir, SocketAddr, &[&FaultBackend]) -> (String, Vec<String>);

impl Proxy {
    /// Starts it.
    ///
    /// # Panics
    /// When a peer is not installed or does not start.
    pub async fn start(self, backends: &[&FaultBackend]) -> Front {
        let (name, configure): (_, Configure) = match self {
            Self::Constellation => {
                let node = super::node(backends).await;
                return Front {
                    address: node.web(),
                    _node: Some(node),
                    _peer: None,
                };
            }
            Self::Nginx => ("nginx", nginx),
            Self::Haproxy => ("haproxy", haproxy),
        };
        let program = require::program(name).unwrap_or_else(|reason| panic!("{reason}"));
        let directory = tempfile::tempdir().unwrap();
        let address = free();
        let (text, arguments) = configure(&directory, address, backends);
        std::fs::write(directory.path().join("config"), text).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .arg(directory.path().join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually(&format!("{name} listens"), async || {
            tokio::net::TcpStream::connect(address).await.map(drop)
        })
        .await;
        Front {
            address,
            _node: None,
            _peer: Some((child, directory)),
        }
    }
}

impl Front {
    /// Where it takes HTTP.
    pub fn web(&self) -> SocketAddr {
        self.address
    }
}

fn nginx(directory: &TempDir, address: SocketAddr, backends: &[&FaultBackend]) -> (String, Vec<String>) {
    let path = directory.path().display();
    let servers: String = backends
        .iter()
        .map(|backend| format!("server {};", backend.address()))
        .collect();
    let user = if nix::unistd::geteuid().is_root() {
        "root"
    } else {
        "nobody"
    };
    // One process, so that killing it leaves no worker behind.
    let text = format!(
        "daemon off; master_process off; worker_processes 1; user {user}; pid {path}/pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;\n\
         uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;\n\
         upstream app {{ {servers} keepalive 64; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://app; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; }} }} }}\n"
    );
    (text, ["-e", "/dev/null", "-c"].map(str::to_owned).into())
}

fn haproxy(_: &TempDir, address: SocketAddr, backends: &[&FaultBackend]) -> (String, Vec<String>) {
    let servers: String = backends
        .iter()
        .map(|backend| format!("  server {} {}\n", backend.name(), backend.address()))
        .collect();
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
         frontend web\n  bind {address}\n  default_backend app\n\
         backend app\n  balance roundrobin\n  option redispatch\n{servers}"
    );
    (text, ["-db", "-q", "-f"].map(str::to_owned).into())
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
