//! `POST /api/v1/upgrade`: a new process of the node takes over without a refused connection. The program is what now
//! lies where this one was started from; a caller can't name another.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::ControlState;
use super::problem::Problem;
use crate::handover::{ReplaceError, Successor};

/// A wish for a new process, with the place for its outcome.
pub type UpgradeRequest = oneshot::Sender<Result<Successor, ReplaceError>>;

/// Where wishes go. One at a time is heard.
#[derive(Clone, Debug)]
pub struct Upgrades(mpsc::Sender<UpgradeRequest>);

impl Upgrades {
    /// A place for wishes, and what hears them.
    pub fn new() -> (Self, mpsc::Receiver<UpgradeRequest>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }
}

/// The process that serves from now on.
#[derive(Debug, Serialize)]
pub(super) struct Upgraded {
    pid: u32,
    version: String,
}

pub(super) async fn upgrade(State(state): State<ControlState>) -> Result<Json<Upgraded>, Problem> {
    let (request, outcome) = oneshot::channel();
    let busy = |why: &str| Problem::new(StatusCode::CONFLICT, why);
    state
        .upgrades
        .0
        .try_send(request)
        .map_err(|_| busy("the node is being upgraded or stopped already"))?;
    match outcome.await {
        Ok(Ok(Successor { pid, version })) => Ok(Json(Upgraded { pid, version })),
        Ok(Err(error)) => Err(Problem::new(StatusCode::BAD_GATEWAY, error.to_string())),
        Err(_) => Err(busy("the node stops")),
    }
}
