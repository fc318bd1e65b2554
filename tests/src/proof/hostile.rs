//! One of two back ends answers what no client should get.

use super::verdict::Journals;
use super::{HOST, Verdict, node};
use crate::fault::journal::now;
use crate::fault::{Behaviour, FaultBackend};
use crate::fleet::{Fleet, Mix};

/// Runs one behaviour. Where the head of an answer was good and its body breaks off, a client has to see it break off;
/// such requests are lost honestly and counted as refused.
pub async fn run(behaviour: Behaviour, mix: Mix) -> Verdict {
    let (good, bad) = (
        FaultBackend::start("good").await,
        FaultBackend::start("bad").await,
    );
    let node = node(&[&good, &bad]).await;
    let fleet = Fleet::start(node.web(), HOST, mix);
    fleet.more(200).await;
    let struck = now();
    bad.set(behaviour).await;
    fleet.more(400).await;
    let mut stories = fleet.stop().await;
    let mut broken = 0;
    if matches!(behaviour, Behaviour::Truncate | Behaviour::ResetAfterHead) {
        let before = stories.len();
        // What hyper says of a connection that ends within a body.
        stories.retain(|story| {
            !story
                .outcome
                .as_ref()
                .is_err_and(|error| error.starts_with("request: "))
        });
        broken = before - stories.len();
    }
    let mut verdict = Verdict::of(&stories, &Journals::of(&[&good, &bad]), struck);
    verdict.refused += broken;
    verdict
}
