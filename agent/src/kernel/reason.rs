//! Why a program is not used.

use std::fmt;

use constellation_ebpf_loader::{Availability, Error};

use crate::cli::{Exit, Failure};
use crate::runtime_file;

/// Why a program is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The operator says so, in this way.
    Disabled(&'static str),
    /// Another node has this network namespace; in words.
    Busy(String),
    /// It does not work here; never [`Availability::Active`].
    Unavailable(Availability),
}

impl Reason {
    /// From what went wrong.
    pub fn of(error: Error) -> Self {
        match error {
            Error::Busy(_) => Self::Busy(format!("{error}{}", other_nodes())),
            error => Self::Unavailable(Availability::from_error(error)),
        }
    }

    /// One word for the state.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Disabled(_) | Self::Unavailable(Availability::Disabled) => "disabled",
            Self::Busy(_) => "busy",
            Self::Unavailable(Availability::Denied { .. }) => "denied",
            Self::Unavailable(_) => "unsupported",
        }
    }

    /// The kernel's error number, where there was one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Unavailable(Availability::Unsupported { errno, .. }) => *errno,
            _ => None,
        }
    }

    /// Capabilities that this process lacks.
    pub fn missing(&self) -> Vec<String> {
        match self {
            Self::Unavailable(Availability::Denied { missing }) => {
                missing.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Why the node does not start without `what`, as `who_wants_it` asks.
    pub fn refusal(&self, who_wants_it: &str, what: &str) -> Failure {
        let exit = match self {
            Self::Busy(_) => Exit::Unavailable,
            Self::Unavailable(Availability::Denied { .. }) => Exit::Permission,
            Self::Disabled(_) => Exit::Config,
            Self::Unavailable(_) => Exit::System,
        };
        Failure::new(exit, format!("{who_wants_it}, and {what} can't be used: {self}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled(why) => f.write_str(why),
            Self::Unavailable(Availability::Disabled | Availability::Active) => f.write_str("off"),
            Self::Busy(text) => f.write_str(text),
            Self::Unavailable(Availability::Denied { missing }) => {
                let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
                let names = names.join(", ");
                write!(
                    f,
                    "this process lacks {names}; grant it (AmbientCapabilities= in the unit)"
                )
            }
            Self::Unavailable(Availability::Unsupported { kernel, reason, .. }) => {
                write!(f, "{reason} (Linux {kernel})")
            }
        }
    }
}

/// The nodes that run on this machine, as far as this user sees them.
fn other_nodes() -> String {
    let nodes = runtime_file::running();
    let nodes = nodes
        .iter()
        .filter(|node| node.pid != nix::unistd::getpid().as_raw());
    let names: Vec<String> = nodes
        .map(|node| format!("{} (pid {})", node.node, node.pid))
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(". On this machine run: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use constellation_ebpf_loader::Capability;

    use super::*;

    #[test]
    fn each_reason_has_its_word_its_exit_code_and_a_next_step() {
        let unsupported = Availability::Unsupported {
            errno: Some(22),
            kernel: "5.4.0".to_owned(),
            reason: "loading edge_steer: invalid argument".to_owned(),
        };
        let missing = vec![Capability::Bpf, Capability::Perfmon];
        let table = [
            (
                Reason::Disabled("edge.steering is off"),
                "disabled",
                Exit::Config,
                "edge.steering is off",
            ),
            (
                Reason::Busy("another".to_owned()),
                "busy",
                Exit::Unavailable,
                "another",
            ),
            (
                Reason::Unavailable(Availability::Denied { missing }),
                "denied",
                Exit::Permission,
                "lacks CAP_BPF, CAP_PERFMON; grant it",
            ),
            (
                Reason::Unavailable(unsupported),
                "unsupported",
                Exit::System,
                "invalid argument (Linux 5.4.0)",
            ),
        ];
        for (reason, state, exit, words) in table {
            assert_eq!(reason.state(), state);
            let failure = reason.refusal("edge.steering is ebpf", "steering");
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
    }
}
