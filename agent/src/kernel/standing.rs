//! Whether a program is in force and why not, as status and health tell it of each.

use serde::Serialize;

use super::Reason;

/// How a program stands.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// `active`; `waiting` for the process before this one to let go; `disabled`, `denied`, `unsupported` or `busy`;
    /// `ended` once a successor has it or the node stops.
    pub state: &'static str,
    /// Why it is not active, and what to do.
    pub reason: Option<String>,
    /// What stands in where it is not active.
    pub stand_in: Option<&'static str>,
    /// The kernel's error number, where there was one.
    pub errno: Option<i32>,
    /// Capabilities that this process lacks.
    pub missing: Vec<String>,
}

impl Standing {
    /// In force.
    pub const ACTIVE: Self = Self::plain("active");
    /// The process before this one has it yet.
    pub const WAITING: Self = Self::plain("waiting");
    /// A successor has it, or the node stops.
    pub const ENDED: Self = Self::plain("ended");

    const fn plain(state: &'static str) -> Self {
        Self {
            state,
            reason: None,
            stand_in: None,
            errno: None,
            missing: Vec::new(),
        }
    }

    /// Not used, for this reason.
    pub fn without(reason: &Reason, stand_in: Option<&'static str>) -> Self {
        Self {
            state: reason.state(),
            reason: Some(reason.to_string()),
            stand_in,
            errno: reason.errno(),
            missing: reason.missing(),
        }
    }
}
