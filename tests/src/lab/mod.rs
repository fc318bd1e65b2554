//! The laboratory: a cluster of real nodes, each in a network namespace of its own, on a bridge that can be cut anywhere.
//!
//! [`Lab::prepare`] makes namespaces, network and files, [`Lab::up`] a cluster in them. The state is a file in the lab's
//! folder, so another process can go on with it ([`Lab::open`]); that is what `cargo xtask lab` does. Everything is
//! synchronous: what talks to a node opens its sockets in that node's namespace and then belongs to whoever asked.
//!
//! Whatever the lab starts carries the lab's folder in its environment ([`process`]), and is ended by its id.

mod api;
mod ask;
pub mod bench;
pub mod check;
pub mod clock;
mod delay;
mod network;
mod node;
mod place;
mod plan;
mod process;
mod until;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use self::api::Reply;
pub use self::delay::forward;
pub use self::network::{CLIENT, Delay, address, address6};
pub use self::node::{Joining, LabNode, Start};
pub use self::place::Place;
pub use self::plan::Plan;
pub use self::until::until;

/// The most nodes there can be.
pub const MOST: usize = 9;
/// The host that routers of the demo back ends answer to.
pub const HOST: &str = "app.test";
/// What changes something at a node's control API.
pub(crate) const TOKEN: &str = "laboratory-control-token-0123456789";

/// What another process needs to go on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    nodes: usize,
    binary: PathBuf,
    /// The process that holds each host's namespaces.
    holders: BTreeMap<String, i32>,
    /// Nodes whose packets come late.
    delays: BTreeMap<usize, Delay>,
}

/// A laboratory. One of a test ends when it is dropped.
#[derive(Debug)]
pub struct Lab {
    base: PathBuf,
    state: Mutex<State>,
    /// What this process started, to be waited for.
    children: Mutex<BTreeMap<String, Child>>,
    /// Whether it outlives this process.
    kept: bool,
    /// Of a test.
    folder: Option<tempfile::TempDir>,
}

impl Lab {
    /// Makes hosts, network and files; no node runs. What a lab in the same folder has left is removed first.
    ///
    /// # Errors
    /// In words, when the machine refuses something.
    pub fn prepare(plan: &Plan) -> Result<Self> {
        ensure!(
            (1..=MOST).contains(&plan.nodes),
            "{} nodes: expected 1 to {MOST}",
            plan.nodes
        );
        let (base, folder) = match &plan.base {
            Some(base) => (base.clone(), None),
            None => {
                let folder = tempfile::Builder::new().prefix("constellation-lab-").tempdir()?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        if base.join(STATE).exists() {
            Self::sweep(&base)?;
        }
        fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
        let lab = Self {
            base: fs::canonicalize(&base)?,
            state: Mutex::new(State {
                nodes: plan.nodes,
                binary: plan.binary.clone(),
                ..State::default()
            }),
            children: Mutex::default(),
            kept: plan.base.is_some(),
            folder,
        };
        // Before anything is started, so that whatever happens the next `up` finds what to remove.
        lab.save()?;
        lab.wire()?;
        for node in lab.nodes() {
            node.prepare(&plan.config)?;
        }
        Ok(lab)
    }

    /// Makes a lab whose first node has founded a cluster that the others have joined, and all of them see all.
    ///
    /// # Errors
    /// In words, when the machine or a node refuses something.
    pub fn up(plan: &Plan) -> Result<Self> {
        let lab = Self::prepare(plan)?;
        lab.form()?;
        Ok(lab)
    }

    /// The rest of [`Lab::up`] after [`Lab::prepare`].
    ///
    /// # Errors
    /// In words, when a node refuses something.
    pub fn form(&self) -> Result<()> {
        let first = self.node(1);
        first.init()?;
        first.start()?;
        for node in self.nodes().skip(1) {
            node.join(&Joining::by(first.token()?))?;
            node.start()?;
        }
        self.formed(1..=self.size())
    }

    /// Waits until each of these nodes hears of all of them and knows a majority.
    ///
    /// # Errors
    /// When that does not happen in time; it says what is missing.
    pub fn formed(&self, nodes: impl IntoIterator<Item = usize>) -> Result<()> {
        let nodes: Vec<usize> = nodes.into_iter().collect();
        let names: Vec<String> = nodes.iter().map(|number| name(*number)).collect();
        for number in nodes {
            until(&format!("{} sees {names:?}", name(number)), || {
                let report = self.node(number).cluster()?;
                ensure!(report["quorum"] == true, "no quorum: {report}");
                let online: Vec<&str> = members(&report)
                    .filter(|node| node["online"] == true)
                    .filter_map(|node| node["name"].as_str())
                    .collect();
                for name in &names {
                    ensure!(online.contains(&name.as_str()), "{name} is not in {online:?}");
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Goes on with a lab that another process has made.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(base: &Path) -> Result<Self> {
        let file = base.join(STATE);
        let text = fs::read(&file)
            .with_context(|| format!("there is no lab in {}: `cargo xtask lab up 3`", base.display()))?;
        let state: State =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?;
        Ok(Self {
            base: fs::canonicalize(base)?,
            state: Mutex::new(state),
            children: Mutex::default(),
            kept: true,
            folder: None,
        })
    }

    /// Ends all of it, and removes its files.
    ///
    /// # Errors
    /// When something does not end.
    pub fn down(self) -> Result<()> {
        self.end()?;
        fs::remove_dir_all(&self.base).with_context(|| format!("cannot remove {}", self.base.display()))
    }

    /// Ends all processes of it; files stay.
    fn end(&self) -> Result<()> {
        process::end_all(&self.base)?;
        for (_, mut child) in
            std::mem::take(&mut *self.children.lock().unwrap_or_else(PoisonError::into_inner))
        {
            child.wait()?;
        }
        Ok(())
    }

    /// Removes what a lab in this folder has left.
    fn sweep(base: &Path) -> Result<()> {
        let base = fs::canonicalize(base)?;
        process::end_all(&base)?;
        fs::remove_dir_all(&base).with_context(|| format!("cannot remove {}", base.display()))
    }

    /// Keeps the files of a test's lab, and says where they are.
    #[must_use]
    pub fn keep_files(&mut self) -> PathBuf {
        if let Some(folder) = self.folder.take() {
            return folder.keep();
        }
        self.base.clone()
    }

    /// Where its files are.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The binary that its nodes run.
    #[must_use]
    pub fn binary(&self) -> PathBuf {
        self.locked().binary.clone()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.locked().nodes
    }

    /// A node, by its number from 1 on.
    ///
    /// # Panics
    /// When there is none of that number.
    #[must_use]
    pub fn node(&self, number: usize) -> LabNode<'_> {
        assert!(
            (1..=self.size()).contains(&number),
            "there is no node {number}: the lab has {}",
            self.size()
        );
        LabNode { lab: self, number }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = LabNode<'_>> {
        (1..=self.size()).map(|number| self.node(number))
    }

    /// Where clients are.
    ///
    /// # Errors
    /// When the lab was not made to its end.
    pub fn client(&self) -> Result<Place> {
        self.place(CLIENT)
    }

    fn place(&self, host: &str) -> Result<Place> {
        match self.locked().holders.get(host) {
            Some(holder) => Ok(Place::of(*holder, &self.base, host)),
            None => bail!("the lab has no host {host}"),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&*self.locked())?;
        let (file, fresh) = (self.base.join(STATE), self.base.join("lab.json.new"));
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    fn adopt(&self, what: String, child: Child) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before it has ended, or ends with the lab by its mark.
        children.insert(what, child);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if std::thread::panicking() {
            for node in self.nodes() {
                eprintln!("--- {} ---\n{}\n---", node.name(), node.log_tail(40));
            }
        }
        if let Err(error) = self.end() {
            eprintln!("the lab does not end: {error:#}");
        }
    }
}

/// The file with the state.
const STATE: &str = "lab.json";

/// Whether this machine can have a lab.
///
/// # Errors
/// What is missing.
pub fn possible() -> Result<(), String> {
    crate::require::root().map_err(|_| "needs root to make namespaces".to_owned())?;
    for program in ["ip", "nft", "unshare", "nsenter", "mount"] {
        crate::require::program(program)?;
    }
    Ok(())
}

/// What a node is called.
#[must_use]
pub fn name(number: usize) -> String {
    format!("n{number}")
}

/// The nodes of a report of the cluster.
pub fn members(report: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    report["nodes"].as_array().into_iter().flatten()
}
