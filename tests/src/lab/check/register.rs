//! A register over the API: at each node a client cordons, drains and uncordons one member, and reads what is wanted of it, as it
//! is known by a majority at that time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use constellation_history::{Operation, Register};
use fastrand::Rng;
use serde_json::Value;

use super::{Shared, now};
use crate::lab::api::{connect, exchange};
use crate::lab::{LabNode, name};

const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// A node that is frozen answers nobody.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before a node that does not run is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// What can be written, with the figure that stands for it. A member that nobody has touched serves.
const WORDS: [&str; 3] = ["uncordon", "cordon", "drain"];

/// What is wanted of a member, as the API shows it.
fn value(node: &Value) -> Option<u64> {
    match (node["cordoned"].as_bool()?, node["draining"].as_bool()?) {
        (false, _) => Some(0),
        (true, false) => Some(1),
        (true, true) => Some(2),
    }
}

/// Writes and reads at a node until the run is over; `of` is the member that it is about.
pub(super) fn client(node: LabNode<'_>, of: usize, seed: u64, shared: &Shared) -> Vec<Operation<Register>> {
    let mut random = Rng::with_seed(seed ^ (0x7265_6769_7374 + node.number() as u64));
    let path = format!("/api/v1/nodes/{}", name(of));
    let mut all = Vec::new();
    while !shared.stopped() {
        std::thread::sleep(Duration::from_millis(random.u64(20..150)));
        let called = now();
        let Ok(place) = node.place() else { continue };
        // Of what was not sent nothing can come.
        let Ok(stream) = connect(&place, CONTROL, PATIENCE) else {
            std::thread::sleep(AGAIN);
            continue;
        };
        let written = (random.u8(0..3) == 0).then(|| random.usize(0..WORDS.len()));
        let (method, path) = match written {
            Some(word) => ("POST", format!("{path}/{}", WORDS[word])),
            None => ("GET", format!("{path}?consistency=linearizable")),
        };
        let answer = exchange(stream, method, "127.0.0.1", &path, "{}", PATIENCE)
            .and_then(|reply| reply.json())
            .ok();
        let returned = answer.is_some().then(now);
        let what = match (written, &answer) {
            (Some(word), _) => Register::Write(word as u64),
            (None, Some(node)) => match value(node) {
                Some(value) => Register::Read(value),
                None => continue,
            },
            // Nobody heard what was read.
            (None, None) => continue,
        };
        all.push(Operation {
            called,
            returned,
            what,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::value;

    #[test]
    fn what_is_shown_is_what_was_written() {
        let shown = |cordoned, draining| value(&json!({ "cordoned": cordoned, "draining": draining }));
        assert_eq!(shown(false, false), Some(0));
        assert_eq!(shown(true, false), Some(1));
        assert_eq!(shown(true, true), Some(2));
        assert_eq!(value(&json!({})), None);
    }
}
