//! One of two back ends fails under load, and comes back.

use std::fmt;
use std::time::Duration;

use super::peer::Proxy;
use super::verdict::{Journals, milliseconds};
use super::{HOST, Phase, Verdict};
use crate::fault::journal::now;
use crate::fault::{Behaviour, FaultBackend, Seen};
use crate::fleet::{Fleet, Kind, Mix, Story};

/// How long after the fault a repeatable request may still wait at the bad end. Far more than it should.
const STUCK: Duration = Duration::from_secs(10);

/// How a back end fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// `kill -9`: connections are reset, the port refuses.
    Kill,
    /// It accepts and reads, and answers nothing.
    Hang,
    /// It reads a request and resets the connection.
    Reset,
    /// It answers 503.
    #[value(name = "503")]
    Unavailable,
    /// It closes its connections, and its listen queue is full.
    FullQueue,
    /// SIGSTOP: the kernel accepts, nobody reads.
    Stop,
    /// It ends in good order and starts again 300 ms later.
    Restart,
    /// It is killed and starts again 300 ms later.
    Crash,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Kill,
        Self::Hang,
        Self::Reset,
        Self::Unavailable,
        Self::FullQueue,
        Self::Stop,
        Self::Restart,
        Self::Crash,
    ];

    /// Lets it happen. Those that pass by themselves have passed when this returns.
    async fn strike(self, backend: &mut FaultBackend) {
        match self {
            Self::Kill => backend.kill().await,
            Self::Hang => backend.set(Behaviour::Hang).await,
            Self::Reset => backend.set(Behaviour::ResetAfterRead).await,
            Self::Unavailable => backend.set(Behaviour::Status { status: 503 }).await,
            Self::FullQueue => backend.set(Behaviour::FullQueue).await,
            Self::Stop => backend.freeze(),
            Self::Restart => backend.leave().await,
            Self::Crash => backend.kill().await,
        }
        if self.passes() {
            // How long a process takes to come up; a part of the fault, not a wait for it.
            tokio::time::sleep(Duration::from_millis(300)).await;
            backend.start_again().await;
        }
    }

    fn passes(self) -> bool {
        matches!(self, Self::Restart | Self::Crash)
    }

    async fn heal(self, backend: &mut FaultBackend) {
        match self {
            Self::Kill => backend.start_again().await,
            Self::Stop => backend.thaw(),
            Self::Restart | Self::Crash => {}
            Self::Hang | Self::Reset | Self::Unavailable | Self::FullQueue => {
                backend.set(Behaviour::OK).await
            }
        }
    }
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The clients.
    pub mix: Mix,
    /// Before the fault.
    pub before: Phase,
    /// With the fault.
    pub during: Phase,
    /// After it is healed.
    pub after: Phase,
}

impl Plan {
    /// For a test: a few clients, no clock.
    pub const SMALL: Self = Self {
        mix: Mix {
            get: 24,
            post: 2,
            keyed: 2,
            pause: Duration::from_millis(4),
        },
        before: Phase::Requests(400),
        during: Phase::Requests(1200),
        after: Phase::Requests(800),
    };
}

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What must not be.
    pub verdict: Verdict,
    /// From the fault to the last new request at the bad end before it was left alone (for half a second at least).
    /// `None`: not seen, since nobody there was able to see it.
    pub excluded: Option<f64>,
    /// Requests at the bad end in that time.
    pub hit: usize,
    /// Requests there afterwards, until it was healed: probes.
    pub probes: usize,
    /// From the heal to its first new request. `None`: not within the run.
    pub used_again: Option<f64>,
    /// 99th percentile of the `GET`s before the fault, milliseconds.
    pub p99_before: f64,
    /// The same from fault to heal.
    pub p99_during: f64,
    /// The slowest `GET` of those.
    pub slowest: f64,
    /// From the fault to the sending of the last `GET` that took longer than 100 ms (0: none did).
    pub last_hurt: f64,
}

/// Runs one fault.
pub async fn run(proxy: Proxy, fault: Fault, plan: &Plan) -> Report {
    let (good, mut bad) = (
        FaultBackend::start("good").await,
        FaultBackend::start("bad").await,
    );
    let front = proxy.start(&[&good, &bad]).await;
    let fleet = Fleet::start(front.web(), HOST, plan.mix);
    plan.before.pass(&fleet).await;
    let struck = now();
    fault.strike(&mut bad).await;
    let passed = now();
    plan.during.pass(&fleet).await;
    let stuck = fleet.all_move(STUCK).await;
    let healed = if fault.passes() { passed } else { now() };
    fault.heal(&mut bad).await;
    plan.after.pass(&fleet).await;
    let stories = fleet.stop().await;
    let journals = Journals::of(&[&good, &bad]);
    let mut report = Report::of(&stories, &journals, struck, healed);
    if !stuck.is_empty() {
        let line = format!("requests of the clients {stuck:?} waited for the bad end until it was healed");
        report.verdict.wrong.push(line);
    }
    report
}

impl Report {
    fn of(stories: &[Story], journals: &Journals, struck: u64, healed: u64) -> Self {
        /// A pause this long means that the endpoint is left alone.
        const ALONE: u64 = 500_000_000;
        let mut verdict = Verdict::of(stories, journals, struck);
        let mut heads = journals
            .backend("bad")
            .iter()
            .filter(|entry| entry.seen == Seen::Head);
        if !heads.clone().any(|entry| entry.at < struck) {
            verdict
                .wrong
                .push("the bad end was not in use before the fault".into());
        }
        let during: Vec<u64> = heads
            .clone()
            .map(|entry| entry.at)
            .filter(|at| (struck..healed).contains(at))
            .collect();
        let (mut hit, mut last) = (0, struck);
        for at in &during {
            if at - last > ALONE {
                break;
            }
            (hit, last) = (hit + 1, *at);
        }
        let used_again = heads.find(|entry| entry.at > healed);
        let gets = |from: u64, to: u64| {
            stories
                .iter()
                .filter(move |story| story.kind == Kind::Get && (from..to).contains(&story.start))
        };
        let hurt = gets(struck, healed).filter(|story| story.took > 100_000_000);
        let last_hurt = hurt.map(|story| story.start - struck).max();
        Self {
            verdict,
            excluded: (hit > 0).then(|| milliseconds(last - struck)),
            hit,
            probes: during.len() - hit,
            used_again: used_again.map(|entry| milliseconds(entry.at - healed)),
            p99_before: percentile(gets(0, struck), 99),
            p99_during: percentile(gets(struck, healed), 99),
            slowest: percentile(gets(struck, healed), 100),
            last_hurt: milliseconds(last_hurt.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: Option<f64>, none: &str| value.map_or(none.into(), |ms| format!("{ms:.0} ms"));
        write!(
            f,
            "excluded after {} ({} requests, then {} probes), used again after {}; GET p99 {:.1} ms before, {:.1} ms \
             during, slowest {:.0} ms, last one over 100 ms sent at {:.0} ms; {}",
            or_none(self.excluded, "(unseen)"),
            self.hit,
            self.probes,
            or_none(self.used_again, "(not in this run)"),
            self.p99_before,
            self.p99_during,
            self.slowest,
            self.last_hurt,
            self.verdict,
        )
    }
}

fn percentile<'s>(stories: impl Iterator<Item = &'s Story>, percent: usize) -> f64 {
    let mut took: Vec<u64> = stories.map(|story| story.took).collect();
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    milliseconds(took.get(at).copied().unwrap_or(0))
}
