//! `/api/v1/guard`: the guard, its lists, and their changes by an operator.
//!
//! Changes are made on a thread for things that wait: thousands of prefixes take thousands of system calls, and the file
//! is on the disk before the answer.

use std::net::IpAddr;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use constellation_config::XdpMode;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::ControlState;
use super::problem::Problem;
use crate::guard::{Changed, Guard, Lists, Refused, Report, Wish};
use crate::http_server::Caller;

/// Longest body of a call, bytes: both maps full of IPv6.
pub(super) const MAX_BODY: usize = 16 << 20;

type Body<T> = Result<Json<T>, JsonRejection>;
type Answer<T> = Result<Json<T>, Problem>;

/// The body of `/attack`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attack {
    xdp: XdpMode,
}

/// The answer to it.
#[derive(Debug, Serialize)]
pub(super) struct Attacked {
    xdp: &'static str,
    devices: Vec<crate::guard::DeviceReport>,
}

pub(super) async fn show(State(state): State<ControlState>) -> Json<Report> {
    Json(state.guard.report())
}

pub(super) async fn lists(State(state): State<ControlState>) -> Json<Lists> {
    Json(state.guard.lists())
}

pub(super) async fn deny(
    State(state): State<ControlState>,
    caller: Option<Extension<Caller>>,
    body: Body<Wish>,
) -> Answer<Changed> {
    let caller: Option<IpAddr> = caller.map(|Extension(Caller(address))| address.ip());
    change(state, body, move |guard, wish| guard.deny(wish, caller)).await
}

pub(super) async fn undeny(State(state): State<ControlState>, body: Body<Wish>) -> Answer<Changed> {
    change(state, body, Guard::undeny).await
}

pub(super) async fn allow(State(state): State<ControlState>, body: Body<Wish>) -> Answer<Changed> {
    change(state, body, Guard::allow).await
}

pub(super) async fn disallow(State(state): State<ControlState>, body: Body<Wish>) -> Answer<Changed> {
    change(state, body, Guard::disallow).await
}

pub(super) async fn attack(State(state): State<ControlState>, body: Body<Attack>) -> Answer<Attacked> {
    let Json(Attack { xdp }) = body.map_err(unreadable)?;
    apart(move || {
        state.guard.set_xdp(xdp)?;
        let report = state.guard.report();
        Ok(Attacked {
            xdp: report.attack.map_or(xdp.as_str(), |attack| attack.xdp),
            devices: report.devices,
        })
    })
    .await
}

async fn change(
    state: ControlState,
    body: Body<Wish>,
    change: impl FnOnce(&Guard, &Wish) -> Result<Changed, Refused> + Send + 'static,
) -> Answer<Changed> {
    let Json(wish) = body.map_err(unreadable)?;
    apart(move || change(&state.guard, &wish)).await
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(Json(done)),
        Ok(Err(refused)) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            refused.to_string(),
        )),
        Err(error) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the change was broken off: {error}: this is a defect of the node"),
        )),
    }
}

fn unreadable(rejection: JsonRejection) -> Problem {
    Problem::new(
        rejection.status(),
        format!(
            "{}; expected JSON such as {{\"prefixes\": [\"192.0.2.0/24\"], \"for\": \"1h\", \"reason\": \"scans\"}} \
             with Content-Type: application/json",
            rejection.body_text()
        ),
    )
}
