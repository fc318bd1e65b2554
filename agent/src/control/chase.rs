//! `/api/v1/chase`: addresses that moved here from another node, told by an operator or a script.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use http::StatusCode;

use super::ControlState;
use super::problem::Problem;
use crate::chase::{Chase, Refused, Report, Wish};

type Body = Result<Json<Wish>, JsonRejection>;
type Answer = Result<Json<Report>, Problem>;

pub(super) async fn show(State(state): State<ControlState>) -> Json<Report> {
    Json(state.chase.report())
}

pub(super) async fn on(State(state): State<ControlState>, body: Body) -> Answer {
    change(&state, body, Chase::begin)
}

pub(super) async fn off(State(state): State<ControlState>, body: Body) -> Answer {
    change(&state, body, Chase::end)
}

/// A few system calls for each address.
fn change(
    state: &ControlState,
    body: Body,
    change: impl FnOnce(&Chase, &Wish) -> Result<Report, Refused>,
) -> Answer {
    let Json(wish) = body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    change(&state.chase, &wish).map(Json).map_err(|refused| {
        let status = match refused {
            Refused::Senseless(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::Unavailable(_) => StatusCode::CONFLICT,
            Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, refused.to_string())
    })
}
