//! Exit codes, after sysexits.h, so that scripts and systemd can tell what happened.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok,
    /// Something failed that has no code of its own.
    Failure,
    /// The command line is wrong (clap's own code).
    Usage,
    /// What was imported differs in something.
    Differs,
    /// Something of what was imported has no counterpart.
    Refused,
    /// No node answers, or an address is taken (EX_UNAVAILABLE).
    Unavailable,
    /// The operating system refused something (EX_OSERR).
    System,
    /// Reading or writing failed (EX_IOERR).
    Io,
    /// A permission is missing (EX_NOPERM).
    Permission,
    /// The configuration is wrong (EX_CONFIG).
    Config,
}

impl Exit {
    /// The table in `--help`.
    pub const HELP: &str = "\
Exit codes:
  0   done; for `run`: stopped by SIGTERM or SIGINT after draining
  1   failed, or a second signal cut the drain short
  2   the command line is wrong
  3   `import`: something differs from what was imported
  4   `import`: something of it has no counterpart here
  69  no node answers, or an address is taken
  71  the operating system refused something
  74  reading or writing failed
  77  a permission is missing, for instance for a port below 1024
  78  the configuration is wrong: the errors say where and what was expected";

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Differs => 3,
            Self::Refused => 4,
            Self::Unavailable => 69,
            Self::System => 71,
            Self::Io => 74,
            Self::Permission => 77,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed: what the user reads and what a script sees.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// A failure that ends the process with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help() {
        for exit in [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::Differs,
            Exit::Refused,
            Exit::Unavailable,
            Exit::System,
            Exit::Io,
            Exit::Permission,
            Exit::Config,
        ] {
            let start = format!("  {:<3}", exit.code());
            assert!(
                Exit::HELP.lines().any(|line| line.starts_with(&start)),
                "{exit:?}"
            );
        }
    }
}
