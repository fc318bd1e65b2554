//! PostgreSQL, in the clear and with TLS on one port as it always is, and `psql`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, chown};
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory};
use crate::certificates::Identity;
use crate::client::command::{Said, command};
use crate::require;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    psql: PathBuf,
}

/// A server with the database `postgres` and the user `postgres` without a password.
#[derive(Debug)]
pub struct Postgres {
    daemon: Daemon,
    programs: Programs,
}

impl Programs {
    /// Finds server and client; Debian keeps the server's programs out of `PATH`.
    pub fn find() -> Result<Self, String> {
        let server = |name: &str| require::program(name).or_else(|reason| packaged(name).ok_or(reason));
        Ok(Self {
            initdb: server("initdb")?,
            postgres: server("postgres")?,
            psql: require::program("psql")?,
        })
    }

    /// The major version of the client; from 17 on it speaks TLS without asking first (`sslnegotiation=direct`).
    pub async fn client_version(&self) -> u32 {
        let said = command(&self.psql, &["--version"], &[]).await;
        let number = said
            .stdout
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let major = number.and_then(|number| number.split('.').next());
        major
            .and_then(|major| major.parse().ok())
            .unwrap_or_else(|| panic!("{said:?}"))
    }
}

fn packaged(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin").join(name)));
    programs.filter(|program| program.is_file()).max()
}

impl Postgres {
    /// Starts a server with this certificate; without one it speaks no TLS.
    pub async fn start(programs: &Programs, identity: Option<&Identity>) -> Self {
        let directory = directory("postgres");
        let user = unprivileged();
        let own = |path: &Path| {
            if let Some((uid, gid)) = user {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        };
        own(directory.path());
        let data = directory.path().join("data").display().to_string();
        let mut initdb = as_user(&programs.initdb, user);
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--no-sync",
            "--encoding=UTF8",
            "--pgdata",
            &data,
        ]);
        initdb.args(["--no-locale"]).current_dir(directory.path());
        let output = initdb.output().await.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tls = identity.map(|identity| {
            let (certificate, key) = identity.write(directory.path(), "server");
            own(&certificate);
            own(&key);
            let path = |path: PathBuf| path.display().to_string();
            vec![
                "ssl=on".to_owned(),
                format!("ssl_cert_file={}", path(certificate)),
                format!("ssl_key_file={}", path(key)),
            ]
        });
        let recipe = Recipe {
            name: "postgres",
            directory,
            // At once, with its shared memory given back.
            end: Signal::SIGQUIT,
            command: |directory: &Path, port: u16| {
                let mut postgres = as_user(&programs.postgres, user);
                postgres.current_dir(directory);
                postgres.args(["-D", &data, "-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
                postgres.args(["-c", "fsync=off", "-c", "shared_buffers=4MB"]);
                for setting in tls.iter().flatten() {
                    postgres.args(["-c", setting]);
                }
                postgres
            },
        };
        let psql = programs.psql.clone();
        let daemon = recipe
            .start(
                async |address| match query(&psql, address, "sslmode=disable", "SELECT 1").await {
                    said if said.code == 0 => Ok(()),
                    said => Err(said.stderr),
                },
            )
            .await;
        Self {
            daemon,
            programs: programs.clone(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// The server.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Asks at `address` (a proxy's, or its own) with these connection parameters (`host=NAME` sets the name in the
    /// ClientHello), and returns what `psql` printed, values only.
    pub async fn ask(&self, address: SocketAddr, parameters: &str, sql: &str) -> Said {
        query(&self.programs.psql, address, parameters, sql).await
    }
}

async fn query(psql: &Path, address: SocketAddr, parameters: &str, sql: &str) -> Said {
    let connection = format!(
        "hostaddr={} port={} user=postgres dbname=postgres connect_timeout=30 {parameters}",
        address.ip(),
        address.port()
    );
    // Neither settings nor certificates of the user.
    let environment = [("PGSYSCONFDIR", "/nonexistent"), ("HOME", "/nonexistent")];
    command(
        psql,
        &[
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--dbname",
            &connection,
            "--command",
            sql,
        ],
        &environment,
    )
    .await
}

/// Whom to run as: the server refuses to run as root.
fn unprivileged() -> Option<(Uid, Gid)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .expect("there is a user `nobody`");
    Some((user.uid, user.gid))
}

fn as_user(program: &Path, user: Option<(Uid, Gid)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command.env("LC_ALL", "C");
    command
}
