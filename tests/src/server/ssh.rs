//! An OpenSSH server that lets the user in who runs the test, and its clients.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory};
use crate::client::command::{Said, command};
use crate::require;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    sshd: PathBuf,
    ssh: PathBuf,
    scp: PathBuf,
    keygen: PathBuf,
}

impl Programs {
    /// Finds server and clients.
    pub fn find() -> Result<Self, String> {
        Ok(Self {
            sshd: require::program("sshd")?,
            ssh: require::program("ssh")?,
            scp: require::program("scp")?,
            keygen: require::program("ssh-keygen")?,
        })
    }
}

/// A server with a key pair of its own for the client.
#[derive(Debug)]
pub struct Ssh {
    daemon: Daemon,
    programs: Programs,
    user: String,
}

impl Ssh {
    /// Starts it.
    pub async fn start(programs: &Programs) -> Self {
        let directory = directory("ssh");
        let path = |name: &str| directory.path().join(name).display().to_string();
        for key in ["host", "client"] {
            let said = command(
                &programs.keygen,
                &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)],
                &[],
            )
            .await;
            assert_eq!(said.code, 0, "{said:?}");
        }
        let privileged = geteuid().is_root();
        if privileged {
            // The unprivileged half of the server is locked up there; the package's service makes it at its start.
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create("/run/sshd")
                .unwrap();
        }
        let config = format!(
            "HostKey {host}\nAuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n\
             Subsystem sftp internal-sftp\n",
            host = path("host"),
            authorized = path("client.pub"),
        );
        let file = path("sshd_config");
        std::fs::write(&file, config).unwrap();
        let recipe = Recipe {
            name: "sshd",
            directory,
            end: Signal::SIGTERM,
            command: |_: &Path, port: u16| {
                let mut sshd = Command::new(&programs.sshd);
                sshd.args([
                    "-D",
                    "-e",
                    "-f",
                    &file,
                    "-o",
                    &format!("ListenAddress=127.0.0.1:{port}"),
                ]);
                sshd
            },
        };
        let user = User::from_uid(geteuid())
            .unwrap()
            .expect("the user has a name")
            .name;
        let daemon = recipe
            .start(async |address| {
                // Not by a log-in: a server counts those that come to nothing.
                let stream = tokio::net::TcpStream::connect(address).await;
                stream.map(drop).map_err(|error| error.to_string())
            })
            .await;
        Self {
            daemon,
            programs: programs.clone(),
            user,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// A directory that both sides see.
    pub fn directory(&self) -> &Path {
        self.daemon.directory()
    }

    /// Runs a command on the server behind `address` (a proxy's, or its own).
    pub async fn run(&self, address: SocketAddr, remote: &str) -> Said {
        let mut arguments = self.options();
        let (port, target) = (
            address.port().to_string(),
            format!("{}@{}", self.user, address.ip()),
        );
        arguments.extend(["-p".into(), port, target, remote.to_owned()]);
        run(&self.programs.ssh, &arguments).await
    }

    /// Copies a file to the server behind `address`, under another name.
    pub async fn upload(&self, address: SocketAddr, from: &Path, to: &Path) -> Said {
        let mut arguments = self.options();
        arguments.extend([
            "-P".into(),
            address.port().to_string(),
            from.display().to_string(),
        ]);
        arguments.push(format!("{}@{}:{}", self.user, address.ip(), to.display()));
        run(&self.programs.scp, &arguments).await
    }

    /// Copies a file from the server behind `address`.
    pub async fn download(&self, address: SocketAddr, from: &Path, to: &Path) -> Said {
        let mut arguments = self.options();
        arguments.extend(["-P".into(), address.port().to_string()]);
        arguments.push(format!("{}@{}:{}", self.user, address.ip(), from.display()));
        arguments.push(to.display().to_string());
        run(&self.programs.scp, &arguments).await
    }

    /// No settings of the user; the server's key is the one that was made, whatever the address.
    fn options(&self) -> Vec<String> {
        let path = |name: &str| self.directory().join(name).display().to_string();
        let known = path("known_hosts");
        let host = std::fs::read_to_string(path("host.pub")).unwrap();
        std::fs::write(&known, format!("server {host}")).unwrap();
        let options = [
            format!("UserKnownHostsFile={known}"),
            format!("IdentityFile={}", path("client")),
            "HostKeyAlias=server".into(),
            "StrictHostKeyChecking=yes".into(),
            "IdentitiesOnly=yes".into(),
            "BatchMode=yes".into(),
            "ConnectTimeout=30".into(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]);
        ["-F", "/dev/null"]
            .map(str::to_owned)
            .into_iter()
            .chain(options)
            .collect()
    }
}

async fn run(program: &Path, arguments: &[String]) -> Said {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    command(program, &arguments, &[]).await
}
