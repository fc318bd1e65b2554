//! Clients of the control API: one gives the lease to others, one at each node looks at who has it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{LEASE, Shared, now};
use crate::lab::{Lab, LabNode, name};

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(50);
/// A node that is frozen answers nobody.
const PATIENCE: Duration = Duration::from_secs(2);
const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Who has the lease, as a node has applied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In which life of the node.
    pub life: u64,
    /// Under which token.
    pub token: u64,
    /// Who.
    pub holder: String,
}

/// The lease was to go to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// When it was asked for, in nanoseconds since boot.
    pub called: u64,
    /// When the answer was there; nothing where none was, or it was a refusal: then it may have happened or not.
    pub returned: Option<u64>,
    /// Who was asked.
    pub by: usize,
    /// Who was to get it.
    pub to: usize,
}

fn ask(node: LabNode<'_>, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
    let place = node.place()?;
    crate::lab::api::ask_within(&place, CONTROL, method, "127.0.0.1", path, body, PATIENCE)?.json()
}

/// Looks at a node until the run is over.
pub(super) fn observe(node: LabNode<'_>, shared: &Shared) -> Vec<Seen> {
    let mut all = Vec::new();
    while !shared.stopped() {
        let life = shared.life(node.number());
        let leases = ask(node, "GET", "/api/v1/leases", "");
        // Of which life the answer is can't be told otherwise.
        if let Ok(leases) = leases
            && shared.life(node.number()) == life
        {
            let lease = leases
                .as_array()
                .into_iter()
                .flatten()
                .find(|lease| lease["key"] == LEASE);
            let told = lease.and_then(|lease| Some((lease["token"].as_u64()?, lease["holder"].as_str()?)));
            if let Some((token, holder)) = told {
                let seen = Seen {
                    life,
                    token,
                    holder: holder.to_owned(),
                };
                if all.last() != Some(&seen) {
                    all.push(seen);
                }
            }
        }
        std::thread::sleep(LOOK);
    }
    all
}

/// Gives the lease away now and then until the run is over.
pub(super) fn transfer(lab: &Lab, seed: u64, shared: &Shared) -> Vec<Transfer> {
    let mut random = Rng::with_seed(seed ^ 0x7472_616e_7366_6572);
    let mut all = Vec::new();
    while !shared.stopped() {
        std::thread::sleep(Duration::from_millis(random.u64(100..800)));
        let (by, to) = (random.usize(1..=lab.size()), random.usize(1..=lab.size()));
        let called = now();
        let path = format!("/api/v1/leases/{LEASE}/transfer");
        let done = ask(
            lab.node(by),
            "POST",
            &path,
            &json!({ "to": name(to) }).to_string(),
        );
        all.push(Transfer {
            called,
            returned: done.is_ok().then(now),
            by,
            to,
        });
    }
    all
}
