//! A host of the lab: a process that does nothing holds its namespaces, and others are started into them by `nsenter`.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

use super::process;

/// How long a connection within the lab may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A host.
#[derive(Clone, Debug)]
pub struct Place {
    holder: i32,
    base: PathBuf,
    host: String,
}

impl Place {
    pub(super) fn of(holder: i32, base: &Path, host: &str) -> Self {
        Self {
            holder,
            base: base.to_owned(),
            host: host.to_owned(),
        }
    }

    /// Makes a host: network and mounts of its own, with a BPF file system and loopback up.
    pub(super) fn make(base: &Path, host: &str, kept: bool) -> Result<(Self, Child)> {
        let mut command = starting(kept, &["unshare", "--net", "--mount", "sh", "-c"]);
        command
            .arg(
                "mount -t bpf -o mode=700 bpf /sys/fs/bpf && ip link set lo up && echo ready && \
                 exec sleep infinity <&- >&- 2>&-",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        mark(&mut command, base, host, process::HOLDER);
        let mut child = command.spawn().context("cannot run unshare")?;
        let mut said = String::new();
        if let Some(output) = child.stdout.take() {
            // Until it closes it.
            io::Read::read_to_string(&mut io::BufReader::new(output), &mut said)?;
        }
        ensure!(
            said.trim() == "ready",
            "no namespaces for {host}: needs root, and the programs `unshare`, `mount` and `ip`"
        );
        let holder = child.id().cast_signed();
        Ok((Self::of(holder, base, host), child))
    }

    /// By which `ip` finds its network namespace.
    #[must_use]
    pub fn holder(&self) -> i32 {
        self.holder
    }

    /// A command there, with the lab's mark, that `what` says what it is for.
    #[must_use]
    pub fn command(&self, role: &str, program: impl AsRef<std::ffi::OsStr>, kept: bool) -> Command {
        let target = self.holder.to_string();
        let mut command = starting(kept, &["nsenter", "--target", &target, "--net", "--mount", "--"]);
        command.arg(program.as_ref());
        mark(&mut command, &self.base, &self.host, role);
        command
    }

    /// Runs a program there to its end.
    ///
    /// # Errors
    /// When it fails; what it said is part of the message.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .command("tool", program, false)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        ensure!(
            output.status.success(),
            "at {}: {program} {}: {}",
            self.host,
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `ip` commands there.
    ///
    /// # Errors
    /// When `ip` refuses one.
    pub fn ip<C: AsRef<str>>(&self, commands: impl IntoIterator<Item = C>) -> Result<()> {
        for command in commands {
            let words: Vec<&str> = command.as_ref().split(' ').collect();
            self.run("ip", &words)?;
        }
        Ok(())
    }

    /// Does something in its network, and with its mounts, on a thread of its own.
    ///
    /// # Errors
    /// When the host is gone.
    ///
    /// # Panics
    /// When what is done does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let open = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", self.holder));
        let (net, mounts) = (open("net")?, open("mnt")?);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // Mounts belong to a thread only once its folder and root are its own.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&mounts, CloneFlags::CLONE_NEWNS)?;
                setns(&net, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A connection from there.
    ///
    /// # Errors
    /// When it is refused or takes too long.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_in(to, CONNECT)
    }

    /// A connection from there, within some time.
    ///
    /// # Errors
    /// As [`Place::connect`].
    pub(super) fn connect_in(&self, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&to, patience))?
    }
}

/// A command whose process outlives ours, or not.
fn starting(kept: bool, words: &[&str]) -> Command {
    let mut words = words.iter();
    let mut command = if kept {
        Command::new("setsid")
    } else {
        Command::new(words.next().copied().unwrap_or_default())
    };
    command.args(words);
    command
}

fn mark(command: &mut Command, base: &Path, host: &str, role: &str) {
    command
        .env_clear()
        .envs(crate::node::inherited())
        .env(process::LAB, process::value(base))
        .env(process::HOST, host)
        .env(process::ROLE, role);
}
