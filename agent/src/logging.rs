//! The process log: `tracing` to standard error, filtered by configuration or by `RUST_LOG`.

use std::io::{self, IsTerminal as _};

use constellation_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use crate::cli::{Exit, Failure};

/// Installs the subscriber. `RUST_LOG` wins over `log.filter`, which wins over `log.level`.
pub fn install(log: &Log) -> Result<(), Failure> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log, std::env::var("RUST_LOG").ok().as_deref())?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let installed = match log.format {
        LogFormat::Common => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Failure::new(Exit::Failure, format!("cannot start the log: {error}")))
}

fn filter(log: &Log, rust_log: Option<&str>) -> Result<EnvFilter, Failure> {
    let (origin, directives) = match (rust_log.filter(|text| !text.is_empty()), &log.filter) {
        (Some(directives), _) => ("RUST_LOG", directives.to_owned()),
        (None, Some(directives)) => ("log.filter", directives.clone()),
        // What libraries say at their info level is not about this node.
        (None, None) => ("log.level", of_level(log.level.as_str())),
    };
    EnvFilter::try_new(&directives).map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("{origin}: {directives:?}: {error}; expected directives such as info,constellation_dataplane=debug"),
        )
    })
}

/// Libraries one step quieter than the project's own crates, unless everything is asked for.
fn of_level(level: &str) -> String {
    match level {
        "trace" => "trace".to_owned(),
        "error" => "error".to_owned(),
        level => {
            let ours = [
                "constellation_agent",
                "constellation_cluster",
                "constellation_config",
                "constellation_dataplane",
                "constellation_gossip",
                "constellation_link",
                "constellation_node",
                "constellation_table",
            ];
            let ours = ours.map(|name| format!("{name}={level}")).join(",");
            let others = if level == "debug" { "info" } else { "warn" };
            // openraft says of a dead member every 50 ms that it is dead; what matters of it is said by our own crates.
            let raft = if level == "debug" { "info" } else { "off" };
            format!("{others},openraft={raft},{ours}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_filter_and_that_over_the_level() {
        let mut log = Log::default();
        let text = |log: &Log, rust_log| filter(log, rust_log).unwrap().to_string();
        assert!(text(&log, None).contains("constellation_dataplane=info"));
        assert!(text(&log, None).contains("openraft=off"));
        log.filter = Some("debug".to_owned());
        assert_eq!(text(&log, None), "debug");
        assert_eq!(text(&log, Some("")), "debug");
        assert_eq!(text(&log, Some("trace")), "trace");
    }

    #[test]
    fn a_bad_directive_is_named_with_its_key() {
        let log = Log {
            filter: Some("a=b=c".to_owned()),
            ..Log::default()
        };
        let failure = filter(&log, None).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.message.contains("log.filter: \"a=b=c\""), "{failure}");
        let failure = filter(&log, Some("x=y")).unwrap_err();
        assert!(failure.message.starts_with("RUST_LOG"), "{failure}");
    }
}
