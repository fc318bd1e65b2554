//! How long it takes until what is defined at one node is served by another one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Figure;
use crate::lab::{Lab, address, api, until};
use crate::node::route;

/// A route appears at the first node, and is served by the last one.
pub(super) fn measure(lab: &Lab, times: usize, tell: &mut impl FnMut(Figure)) -> Result<()> {
    let (first, last) = (lab.node(1), lab.node(lab.size()));
    let to = SocketAddr::new(address(last.number()), 80);
    let client = lab.client()?;
    let mut all = Vec::new();
    for number in 0..times {
        let host = format!("new{number}.test");
        let document = route(&host, &["http://127.0.0.1:9000".to_owned()]).to_string();
        let document = document.replace("\"main\"", &format!("\"new{number}\""));
        let began = Instant::now();
        first.write_dynamic(&format!("new{number}.json"), &serde_json::from_str(&document)?)?;
        all.push(until("the other node serves it", || {
            let reply = api::ask(&client, to, "GET", &host, "/", "")?;
            ensure!(reply.status == 200, "{reply:?}");
            reply.by(&first.name())?;
            Ok(began.elapsed())
        })?);
        // Each begins at another moment of the rounds of gossip.
        std::thread::sleep(Duration::from_millis(137 + 61 * (number as u64 % 7)));
    }
    tell(Figure::of(
        "a file changes at one node: another one of five serves it (every-node)",
        all,
    ));
    Ok(())
}
