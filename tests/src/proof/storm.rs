//! All back ends fail: retries must not multiply the load, and when they are back, requests succeed at once.

use std::fmt;
use std::time::Duration;

use super::verdict::{Journals, milliseconds};
use super::{HOST, Phase, node};
use crate::fault::journal::now;
use crate::fault::{Behaviour, FaultBackend, Seen};
use crate::fleet::{Fleet, Mix, Story};

/// A second with fewer requests of clients than this is not judged by itself: a few retries on the wrong side of its
/// border would decide.
const TELLING: usize = 1000;

/// How they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Storm {
    /// All answer 503.
    #[value(name = "503")]
    Unavailable,
    /// All reset what they have read.
    Reset,
    /// One answers 503, one resets, one answers 502.
    Mixed,
}

impl Storm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unavailable, Self::Reset, Self::Mixed];

    fn behaviours(self) -> [Behaviour; 3] {
        let (unavailable, reset) = (Behaviour::Status { status: 503 }, Behaviour::ResetAfterRead);
        match self {
            Self::Unavailable => [unavailable; 3],
            Self::Reset => [reset; 3],
            Self::Mixed => [unavailable, reset, Behaviour::Status { status: 502 }],
        }
    }
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The clients.
    pub mix: Mix,
    /// Before they fail.
    pub before: Phase,
    /// While they fail.
    pub during: Phase,
    /// After they are healed.
    pub after: Phase,
}

impl Plan {
    /// For a test: a few clients, no clock.
    pub const SMALL: Self = Self {
        mix: Mix {
            get: 24,
            post: 0,
            keyed: 0,
            pause: Duration::from_millis(4),
        },
        before: Phase::Requests(300),
        during: Phase::Requests(2000),
        after: Phase::Requests(500),
    };
}

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests of clients while all failed.
    pub clients: usize,
    /// Requests at back ends meanwhile.
    pub backends: usize,
    /// The second divided by the first, for each whole second but the first, with the number of the first.
    pub windows: Vec<(f64, usize)>,
    /// Requests sent after the heal that failed.
    pub failed_after: Vec<String>,
    /// From the heal to the end of the first success.
    pub first_success: Option<f64>,
    /// Answers while all failed that were successes: there must be none, or the storm was no storm.
    pub odd: usize,
}

/// Runs one storm.
pub async fn run(storm: Storm, plan: &Plan) -> Report {
    let backends = [
        FaultBackend::start("one").await,
        FaultBackend::start("two").await,
        FaultBackend::start("three").await,
    ];
    let all: Vec<&FaultBackend> = backends.iter().collect();
    let node = node(&all).await;
    let fleet = Fleet::start(node.web(), HOST, plan.mix);
    plan.before.pass(&fleet).await;
    for (backend, behaviour) in backends.iter().zip(storm.behaviours()) {
        backend.set(behaviour).await;
    }
    let struck = now();
    plan.during.pass(&fleet).await;
    let ending = now();
    for backend in &backends {
        backend.set(Behaviour::OK).await;
    }
    let healed = now();
    plan.after.pass(&fleet).await;
    let stories = fleet.stop().await;
    Report::of(&stories, &Journals::of(&all), [struck, ending, healed])
}

impl Report {
    fn of(stories: &[Story], journals: &Journals, [struck, ending, healed]: [u64; 3]) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let within = |from: u64, to: u64| {
            let clients = stories.iter().filter(|story| (from..to).contains(&story.start));
            let backends = journals
                .entries()
                .filter(|entry| entry.seen == Seen::Head && (from..to).contains(&entry.at));
            (clients.count(), backends.count())
        };
        let (clients, backends) = within(struck, ending);
        let seconds = (ending - struck) / SECOND;
        let windows = (1..seconds).map(|second| {
            let (clients, backends) = within(struck + second * SECOND, struck + (second + 1) * SECOND);
            (ratio(backends, clients), clients)
        });
        let after = || stories.iter().filter(move |story| story.start >= healed);
        let failed = after().filter_map(|story| {
            let error = story.outcome.as_ref().err()?;
            let sent = milliseconds(story.start - healed);
            let seen = journals.story(&story.id, story.start);
            Some(format!("{} sent at {sent:+.1} ms: {error}; {seen}", story.id))
        });
        let succeeded = after().filter(|story| story.outcome.is_ok());
        let first = succeeded.map(|story| story.start + story.took - healed).min();
        let odd = stories.iter().filter(|story| {
            story.start >= struck && story.start + story.took < ending && story.outcome.is_ok()
        });
        Self {
            clients,
            backends,
            windows: windows.collect(),
            failed_after: failed.collect(),
            first_success: first.map(milliseconds),
            odd: odd.count(),
        }
    }

    /// Requests at back ends for each of a client.
    pub fn ratio(&self) -> f64 {
        ratio(self.backends, self.clients)
    }

    /// Whether everything is as promised.
    pub fn holds(&self) -> bool {
        self.clients > 0
            && self.odd == 0
            && self.ratio() < 1.2
            && self
                .windows
                .iter()
                .all(|(ratio, clients)| *clients < TELLING || *ratio < 1.2)
            && self.failed_after.is_empty()
            && self.first_success.is_some()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows: Vec<String> = self
            .windows
            .iter()
            .map(|(ratio, _)| format!("{ratio:.3}"))
            .collect();
        write!(
            f,
            "{} requests became {} at back ends: {:.3} (by second from the second one: {}); after the heal {} failed, \
             first success after {}",
            self.clients,
            self.backends,
            self.ratio(),
            if windows.is_empty() {
                "-".into()
            } else {
                windows.join(" ")
            },
            self.failed_after.len(),
            self.first_success
                .map_or("(never)".into(), |ms| format!("{ms:.1} ms")),
        )?;
        if self.odd > 0 {
            write!(f, "; {} successes while all failed", self.odd)?;
        }
        for line in self.failed_after.iter().take(8) {
            write!(f, "\n    failed: {line}")?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn ratio(backends: usize, clients: usize) -> f64 {
    backends as f64 / clients.max(1) as f64
}
