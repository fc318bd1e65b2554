//! The runtime file: how `status`, `routes` and `explain` find a running node, whatever port it got.
//!
//! A node writes `node-PID.json` into the runtime directory once its control address is bound and removes it when it
//! ends. The directory is the first of `$RUNTIME_DIRECTORY` (systemd), `$XDG_RUNTIME_DIR/constellation`,
//! `/run/constellation` for root, and `constellation-UID` in the directory for temporary files. A file whose process
//! is gone is ignored, and removed by the next node that starts.
//!
//! Beside it lies `node-PID.token`, readable by the node's user alone: what a command sends along that changes
//! something, when the configuration has no `control.token`.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use constellation_config::Secret;
use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningNode {
    /// Process id.
    pub pid: i32,
    /// Name of the node.
    pub node: String,
    /// The control address, with its real port.
    pub control: SocketAddr,
    /// The configuration file in its canonical form, if there is one.
    pub config_file: Option<PathBuf>,
    /// Entry point name and address of every listener.
    pub entry_points: Vec<(String, SocketAddr)>,
    /// The file with the token for changes, if the node made one.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// A token made for this run of the node; its file is removed when this is dropped.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    token: Secret,
}

impl TokenFile {
    /// Makes a token and writes it.
    pub fn create() -> io::Result<Self> {
        Self::create_in(&own_directory())
    }

    fn create_in(directory: &Path) -> io::Result<Self> {
        create_private(directory)?;
        let mut random = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token = Secret::new(
            random
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
        );
        let path = directory.join(format!("node-{}.token", std::process::id()));
        // Whatever an earlier process of this id left; never written into, for others may have it open.
        remove(&path);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(token.expose().as_bytes())?;
        Ok(Self { path, token })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token.
    pub fn token(&self) -> &Secret {
        &self.token
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The file of this process; removed when dropped.
#[derive(Debug)]
pub struct RuntimeFile(PathBuf);

impl RuntimeFile {
    /// Writes the file, and removes those of nodes that are gone.
    pub fn write(node: &RunningNode) -> io::Result<Self> {
        Self::write_into(&own_directory(), node)
    }

    fn write_into(directory: &Path, node: &RunningNode) -> io::Result<Self> {
        create_private(directory)?;
        for (path, other) in list(directory) {
            if !is_alive(other.pid) {
                remove(&path);
                remove(&path.with_extension("token"));
            }
        }
        let path = directory.join(format!("node-{}.json", node.pid));
        let unfinished = path.with_extension("json.new");
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&unfinished)?;
        serde_json::to_writer_pretty(&file, node)?;
        file.sync_data()?;
        // A reader sees the whole file or none.
        fs::rename(&unfinished, &path)?;
        Ok(Self(path))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RuntimeFile {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// The nodes that run now: those in this user's directory, else those that systemd started.
pub fn running() -> Vec<RunningNode> {
    [own_directory(), PathBuf::from(SYSTEM_DIRECTORY)]
        .iter()
        .map(|directory| alive_in(directory))
        .find(|nodes| !nodes.is_empty())
        .unwrap_or_default()
}

fn alive_in(directory: &Path) -> Vec<RunningNode> {
    let nodes = list(directory).into_iter().map(|(_, node)| node);
    let mut alive: Vec<RunningNode> = nodes.filter(|node| is_alive(node.pid)).collect();
    alive.sort_by_key(|node| node.pid);
    alive
}

/// `RuntimeDirectory=constellation` of the systemd unit.
const SYSTEM_DIRECTORY: &str = "/run/constellation";

/// The runtime directory of this user, made if it isn't there.
pub fn directory() -> io::Result<PathBuf> {
    let directory = own_directory();
    create_private(&directory)?;
    Ok(directory)
}

fn own_directory() -> PathBuf {
    let uid = nix::unistd::geteuid();
    let variable = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = variable("RUNTIME_DIRECTORY") {
        directory
    } else if let Some(directory) = variable("XDG_RUNTIME_DIR") {
        directory.join("constellation")
    } else if uid.is_root() {
        PathBuf::from(SYSTEM_DIRECTORY)
    } else {
        std::env::temp_dir().join(format!("constellation-{uid}"))
    }
}

/// Creates the directory for this user alone, and refuses one that somebody else prepared.
fn create_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let owner = fs::metadata(directory)?.uid();
    if owner != nix::unistd::geteuid().as_raw() && owner != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to user id {owner}", directory.display()),
        ));
    }
    Ok(())
}

fn list(directory: &Path) -> Vec<(PathBuf, RunningNode)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            if !name.starts_with("node-") || !name.ends_with(".json") {
                return None;
            }
            let node = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some((path, node))
        })
        .collect()
}

fn is_alive(pid: i32) -> bool {
    // EPERM: it lives and belongs to somebody else.
    let there = pid > 0 && matches!(signal::kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM));
    there && !has_ended(pid)
}

/// Whether the process has ended and only its parent does not know yet.
fn has_ended(pid: i32) -> bool {
    let state = procfs::process::Process::new(pid)
        .and_then(|process| process.stat())
        .and_then(|stat| stat.state());
    matches!(
        state,
        Ok(procfs::process::ProcState::Zombie | procfs::process::ProcState::Dead)
    )
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove the runtime file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_waits_for_does_not_run() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ended = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(Pid::from_raw(pid)), ended).unwrap();
        assert!(!is_alive(pid));
        child.wait().unwrap();
    }

    fn node(pid: i32) -> RunningNode {
        RunningNode {
            pid,
            node: "edge-1".to_owned(),
            control: "127.0.0.1:40000".parse().unwrap(),
            config_file: Some("/etc/constellation.yaml".into()),
            entry_points: vec![("web".to_owned(), "127.0.0.1:40001".parse().unwrap())],
            token_file: None,
        }
    }

    #[test]
    fn a_file_lives_as_long_as_its_node() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("constellation");
        let own = node(i32::try_from(std::process::id()).unwrap());
        let file = RuntimeFile::write_into(&directory, &own).unwrap();
        assert_eq!(list(&directory), [(file.path().to_owned(), own.clone())]);
        assert!(is_alive(own.pid));
        drop(file);
        assert!(list(&directory).is_empty());
    }

    #[test]
    fn files_of_dead_nodes_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        // No process has this id: the kernel's limit is 4,194,304.
        let dead = RuntimeFile::write_into(directory.path(), &node(i32::MAX)).unwrap();
        let own = node(i32::try_from(std::process::id()).unwrap());
        let file = RuntimeFile::write_into(directory.path(), &own).unwrap();
        assert_eq!(list(directory.path()).len(), 1);
        assert!(!dead.path().exists() && file.path().exists());
    }

    #[test]
    fn a_token_is_for_its_owner_alone_and_leaves_with_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let first = TokenFile::create_in(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(first.path()).unwrap(), first.token().expose());
        assert_eq!(fs::metadata(first.path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(first.token().expose().len(), 64);
        let path = first.path().to_owned();
        let token = first.token().clone();
        std::mem::forget(first);
        let second = TokenFile::create_in(directory.path()).unwrap();
        assert_ne!(second.token(), &token);
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("node-1.json"), "not json").unwrap();
        fs::write(directory.path().join("other.json"), "{}").unwrap();
        assert!(list(directory.path()).is_empty());
    }
}
