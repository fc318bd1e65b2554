//! What an event says of a container before the engine can be asked: that it leaves, or that it doesn't. Pure.
//!
//! The engine holds a container locked while it takes it down, so an inspection after `die` answers only when network
//! and file systems are gone, 0.1 s later as measured. An endpoint that leaves must not wait for that.

use std::time::{Duration, SystemTime};

use bollard::models::EventMessage;

use super::container::{Container, Health, Leaving};

/// Signals by number: their numbers are the same on every architecture that runs containers.
const TERMINATING: [u8; 3] = [INTERRUPT, KILL, TERMINATE];
const INTERRUPT: u8 = 2;
const KILL: u8 = 9;
const TERMINATE: u8 = 15;

/// What the engine waits between stop signal and `SIGKILL` unless the container says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest such wait that is believed.
const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(600);
/// A container that is still there so long after it should have ended has not left.
const MARGIN: Duration = Duration::from_secs(5);

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A signal was sent to it.
    Signal(u8),
    /// Its process ended.
    Ended {
        /// Exit status.
        code: Option<i64>,
    },
    /// It was frozen.
    Paused,
    /// It goes on after a pause.
    Resumed,
    /// A new run of it began.
    Started,
    /// Its health check has a verdict.
    Health(Health),
}

/// News and when it happened, by the engine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) news: News,
    pub(super) at: Option<SystemTime>,
}

impl Event {
    /// Reads the event of a container; `None` when it takes an inspection to know what it means.
    pub(super) fn of(message: &EventMessage) -> Option<Self> {
        let attributes = message.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
        let attribute = |name| attributes.and_then(|all| all.get(name)).map(String::as_str);
        let news = match message.action.as_deref()? {
            "kill" => News::Signal(signal_number(attribute("signal")?)?),
            "die" => News::Ended {
                code: attribute("exitCode").and_then(|code| code.parse().ok()),
            },
            "pause" => News::Paused,
            "unpause" => News::Resumed,
            "start" => News::Started,
            "health_status: healthy" => News::Health(Health::Healthy),
            "health_status: unhealthy" => News::Health(Health::Unhealthy),
            _ => return None,
        };
        let nanos = message.time_nano.and_then(|nanos| u64::try_from(nanos).ok());
        let at = nanos.map(|nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos));
        Some(Self { news, at })
    }

    /// Whether it happened to an earlier run of the container than the one that is known.
    pub(super) fn is_stale(&self, container: &Container) -> bool {
        let started = humantime::parse_rfc3339(&container.started).ok();
        match (self.at, started) {
            (Some(at), Some(started)) => at < started,
            _ => false,
        }
    }
}

/// Whether a container leaves on this signal, and after which time it hasn't when it still runs.
pub(super) fn leaves_on(container: &Container, signal: u8) -> Option<(Leaving, Duration)> {
    let stop_signal = container.stop_signal.as_deref().and_then(signal_number);
    if signal == KILL {
        return Some((Leaving::Stopping, MARGIN));
    }
    if !TERMINATING.contains(&signal) && stop_signal != Some(signal) {
        return None;
    }
    let patience = match container.stop_timeout.map(u64::try_from) {
        None => STOP_TIMEOUT,
        Some(Ok(seconds)) => Duration::from_secs(seconds).min(MAX_STOP_TIMEOUT),
        // Below zero: for as long as it takes.
        Some(Err(_)) => MAX_STOP_TIMEOUT,
    };
    Some((Leaving::Stopping, patience + MARGIN))
}

/// How long an end or a freeze is believed that inspections contradict.
pub(super) const CONTRADICTED: Duration = MARGIN;

/// `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`.
fn signal_number(text: &str) -> Option<u8> {
    /// As the engine counts: the C library keeps two for itself.
    const FIRST_REAL_TIME: u8 = 34;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN") {
        let above = if above.is_empty() {
            0
        } else {
            above.strip_prefix('+')?.parse().ok()?
        };
        return FIRST_REAL_TIME.checked_add(above);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().ok()?;
    u8::try_from(signal as i32).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, expected) in [
            ("15", Some(15)),
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("SIGWINCH", Some(28)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("RTMIN+250", None),
            ("", None),
            ("SIGNONE", None),
            ("-1", None),
        ] {
            assert_eq!(signal_number(text), expected, "{text}");
        }
    }

    #[test]
    fn only_signals_that_end_a_container_make_it_leave() {
        let container = |stop: Option<&str>, timeout: Option<i64>| Container {
            stop_signal: stop.map(str::to_owned),
            stop_timeout: timeout,
            ..Container::default()
        };
        let plain = container(None, None);
        let graceful = container(Some("SIGWINCH"), Some(60));
        let patient = container(Some("USR1"), Some(-1));
        for (container, signal, expected) in [
            (&plain, 15, Some(15)),
            (&plain, 9, Some(5)),
            (&plain, 2, Some(15)),
            (&plain, 1, None),
            (&plain, 10, None),
            // A thread dump of a Java process.
            (&plain, 3, None),
            (&graceful, 28, Some(65)),
            (&graceful, 15, Some(65)),
            (&graceful, 1, None),
            (&patient, 10, Some(605)),
        ] {
            let leaves = leaves_on(container, signal).map(|(_, limit)| limit.as_secs());
            assert_eq!(leaves, expected, "{signal} {container:?}");
        }
    }

    #[test]
    fn events_say_what_happened() {
        let read = |action: &str, attributes: serde_json::Value| {
            let message = json!({
                "Type": "container", "Action": action, "Actor": {"ID": "a", "Attributes": attributes},
                "timeNano": 1_767_225_600_500_000_000_i64,
            });
            Event::of(&serde_json::from_value(message).unwrap()).map(|event| event.news)
        };
        for (action, attributes, expected) in [
            ("kill", json!({"signal": "15"}), Some(News::Signal(15))),
            ("kill", json!({}), None),
            (
                "die",
                json!({"exitCode": "137"}),
                Some(News::Ended { code: Some(137) }),
            ),
            ("die", json!({}), Some(News::Ended { code: None })),
            ("pause", json!({}), Some(News::Paused)),
            ("unpause", json!({}), Some(News::Resumed)),
            ("start", json!({}), Some(News::Started)),
            (
                "health_status: unhealthy",
                json!({}),
                Some(News::Health(Health::Unhealthy)),
            ),
            (
                "health_status: healthy",
                json!({}),
                Some(News::Health(Health::Healthy)),
            ),
            ("oom", json!({}), None),
            ("rename", json!({}), None),
        ] {
            assert_eq!(read(action, attributes), expected, "{action}");
        }
    }

    #[test]
    fn what_happened_to_an_earlier_run_is_old_news() {
        let event = |nanos: u64| Event {
            news: News::Paused,
            at: Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)),
        };
        let container = Container {
            started: "2026-01-01T00:00:00.5Z".to_owned(),
            ..Container::default()
        };
        assert!(event(1_767_225_600_400_000_000).is_stale(&container));
        assert!(!event(1_767_225_600_600_000_000).is_stale(&container));
        assert!(!event(0).is_stale(&Container::default()));
    }
}
