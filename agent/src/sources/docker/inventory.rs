//! Every container that is known, including those that are gone but whose routes still stand. Pure: time is passed in.
//!
//! `observe`, `remove` and `reconcile` take what the engine says; `expire` forgets what outlived its grace period;
//! `contribution` says what that means for routes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use constellation_config::DockerProvider;
use constellation_table::Condition;

use super::container::{Container, Leaving, State};
use super::definition::{Verdict, define};
use super::event::{CONTRADICTED, Event, News, leaves_on};
use super::merge::{Part, merge};
use super::name::compose_place;
use super::policy::Policy;
use crate::sources::{Contribution, Problem};

/// Removed containers that are remembered at most; the oldest go first. A host that starts and removes jobs all day
/// must not fill the memory within one grace period.
const MAX_REMOVED: usize = 1000;

/// One moment, by both clocks: grace periods run on the monotonic one, texts show the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// How long routes outlive their containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// After removal.
    pub(super) removed: Duration,
    /// After the container stopped; `None`: as long as it exists.
    pub(super) stopped: Option<Duration>,
}

impl From<&DockerProvider> for Grace {
    fn from(provider: &DockerProvider) -> Self {
        Self {
            removed: provider.removed_grace_period,
            stopped: provider.stopped_grace_period.filter(|period| !period.is_zero()),
        }
    }
}

#[derive(Debug)]
struct Entry {
    container: Container,
    /// When it was seen to be gone.
    removed: Option<Instant>,
    /// When it was first seen not running, pushed back by what the engine says of the time.
    stopped: Option<Instant>,
    /// Until when an event that said it leaves is believed against inspections that say it runs.
    leaves_until: Option<Instant>,
}

/// All known containers, by id.
#[derive(Debug)]
pub(super) struct Inventory {
    entries: BTreeMap<String, Entry>,
    /// Containers that couldn't be read, and why.
    unreadable: BTreeMap<String, String>,
    grace: Grace,
}

impl Inventory {
    pub(super) fn new(grace: Grace) -> Self {
        Self {
            entries: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            grace,
        }
    }

    /// Takes a reading of one container.
    pub(super) fn observe(&mut self, mut container: Container, now: Now) {
        self.unreadable.remove(&container.id);
        let known = self.entries.get(&container.id);
        if let Some(known) = known {
            container.remember(&known.container);
        }
        let stopped = match &container.state {
            State::Running | State::Paused | State::Restarting => None,
            State::Exited { at, .. } => Some(
                known
                    .and_then(|known| known.stopped)
                    .unwrap_or_else(|| moment(at.as_deref(), now)),
            ),
            _ => Some(known.and_then(|known| known.stopped).unwrap_or(now.instant)),
        };
        let leaving = known.and_then(|known| known.still_leaving(&container, now));
        container.leaving = leaving.map(|(leaving, _)| leaving);
        self.supersede(&container);
        let entry = Entry {
            stopped,
            removed: None,
            leaves_until: leaving.map(|(_, until)| until),
            container,
        };
        self.entries.insert(entry.container.id.clone(), entry);
    }

    /// Takes what an event says of a container that is known. True when it leaves by that, or gets unhealthy: nobody
    /// may wait for an inspection then.
    pub(super) fn hear(&mut self, id: &str, event: &Event, now: Now) -> bool {
        let known = self.entries.get_mut(id).filter(|entry| entry.removed.is_none());
        let Some(entry) = known.filter(|entry| !event.is_stale(&entry.container)) else {
            return false;
        };
        let before = entry.container.condition();
        let leaves = match event.news {
            News::Signal(signal) => leaves_on(&entry.container, signal),
            News::Ended { code } => Some((Leaving::Ended { code }, CONTRADICTED)),
            News::Paused => Some((Leaving::Paused, CONTRADICTED)),
            News::Resumed => {
                entry.stay();
                None
            }
            News::Started => {
                // An inspection tells the new run from the old one, and its address, unless the engine doesn't say
                // when a run began.
                if entry.container.started.is_empty() {
                    entry.stay();
                }
                None
            }
            News::Health(health) => {
                entry.container.health = health;
                None
            }
        };
        if let Some((leaving, limit)) = leaves {
            // A second signal does not undo what is known by then.
            if !matches!(entry.container.leaving, Some(Leaving::Ended { .. })) {
                entry.container.leaving = Some(leaving);
            }
            entry.leaves_until = now.instant.checked_add(limit);
        }
        before == Condition::Ready && entry.container.condition() != Condition::Ready
    }

    /// The containers that should have ended by now: the engine is to be asked, and then believed.
    pub(super) fn overdue(&mut self, now: Now) -> Vec<String> {
        let mut overdue = Vec::new();
        for (id, entry) in &mut self.entries {
            if entry
                .leaves_until
                .take_if(|until| *until <= now.instant)
                .is_some()
            {
                overdue.push(id.clone());
            }
        }
        overdue
    }

    /// Notes that a container can't be read; its last reading stands.
    pub(super) fn observe_unreadable(&mut self, id: &str, reason: String) {
        self.unreadable.insert(id.to_owned(), reason);
    }

    /// Takes note that the engine doesn't know the container any more. Its routes stay for the grace period, unless
    /// another container has taken its place.
    pub(super) fn remove(&mut self, id: &str, policy: &Policy, now: Now) {
        self.unreadable.remove(id);
        let Some(entry) = self.entries.get(id) else { return };
        if entry.removed.is_some() {
            return;
        }
        let replaced = self.entries.values().any(|other| {
            other.container.id != id
                && other.removed.is_none()
                && same_place(&other.container, &entry.container)
        });
        let verdict = define(&entry.container, policy, &self.neighbours());
        if replaced || self.outlived(entry, now) || !matches!(verdict, Verdict::Defined(_)) {
            self.entries.remove(id);
            return;
        }
        if let Some(entry) = self.entries.get_mut(id) {
            entry.removed = Some(now.instant);
            entry.stay();
            entry.container.state = State::Removed {
                at: humantime::format_rfc3339_seconds(now.wall).to_string(),
            };
        }
        self.bound_removed();
    }

    /// Removes all that are not in `listed`.
    pub(super) fn reconcile(&mut self, listed: &BTreeSet<String>, policy: &Policy, now: Now) {
        let gone: Vec<String> = self
            .entries
            .keys()
            .filter(|id| !listed.contains(*id))
            .cloned()
            .collect();
        for id in gone {
            self.remove(&id, policy, now);
        }
        self.unreadable.retain(|id, _| listed.contains(id));
    }

    /// Forgets what outlived its grace period. True if anything was.
    pub(super) fn expire(&mut self, now: Now) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| match entry.removed {
            Some(removed) => now.instant.saturating_duration_since(removed) < self.grace.removed,
            None => true,
        });
        before != self.entries.len()
    }

    /// The reading of a container that the engine still has.
    pub(super) fn get(&self, id: &str) -> Option<&Container> {
        let entry = self.entries.get(id).filter(|entry| entry.removed.is_none())?;
        Some(&entry.container)
    }

    /// Ids that the engine is believed to have and that are not in `listed`.
    pub(super) fn absent_from(&self, listed: &BTreeSet<String>) -> Vec<String> {
        let present = self.entries.iter().filter(|(_, entry)| entry.removed.is_none());
        let known = present.map(|(id, _)| id).chain(self.unreadable.keys());
        known.filter(|id| !listed.contains(*id)).cloned().collect()
    }

    /// What all of them together define.
    pub(super) fn contribution(&self, policy: &Policy, now: Now) -> Contribution {
        let neighbours = self.neighbours();
        let mut problems = Vec::new();
        let mut parts = Vec::new();
        for entry in self.entries.values().filter(|entry| !self.outlived(entry, now)) {
            let container = &entry.container;
            match define(container, policy, &neighbours) {
                Verdict::Hidden => {}
                Verdict::Refused(message) => problems.push(Problem {
                    subject: format!("container {}", container.name),
                    message,
                }),
                Verdict::Defined(definition) => parts.push(Part {
                    container,
                    definition: *definition,
                }),
            }
        }
        for (id, reason) in &self.unreadable {
            let name = self
                .entries
                .get(id)
                .map_or(id.as_str(), |entry| &entry.container.name);
            problems.push(Problem {
                subject: format!("container {name}"),
                message: format!("it can't be read: {reason}; what was known of it stands"),
            });
        }
        merge(parts, problems)
    }

    /// When time alone changes the contribution next.
    pub(super) fn next_change(&self, now: Now) -> Option<Instant> {
        let ends = self.entries.values().filter(|entry| !self.outlived(entry, now));
        let ends = ends.filter_map(|entry| match (entry.removed, entry.stopped, self.grace.stopped) {
            (Some(removed), ..) => removed.checked_add(self.grace.removed),
            (None, Some(stopped), Some(grace)) => stopped.checked_add(grace),
            _ => None,
        });
        let overdue = self.entries.values().filter_map(|entry| entry.leaves_until);
        ends.chain(overdue).min()
    }

    fn outlived(&self, entry: &Entry, now: Now) -> bool {
        match (entry.removed, entry.stopped, self.grace.stopped) {
            (None, Some(stopped), Some(grace)) => now.instant.saturating_duration_since(stopped) >= grace,
            _ => false,
        }
    }

    fn neighbours(&self) -> BTreeMap<&str, &Container> {
        let mut neighbours = BTreeMap::new();
        for entry in self.entries.values().filter(|entry| entry.removed.is_none()) {
            neighbours.insert(entry.container.name.as_str(), &entry.container);
            neighbours.insert(entry.container.id.as_str(), &entry.container);
        }
        neighbours
    }

    /// Forgets removed containers whose place `container` fills now.
    fn supersede(&mut self, container: &Container) {
        self.entries
            .retain(|_, entry| entry.removed.is_none() || !same_place(&entry.container, container));
    }

    fn bound_removed(&mut self) {
        let removed = self
            .entries
            .iter()
            .filter_map(|(id, entry)| Some((entry.removed?, id)));
        let oldest = removed.clone().min().map(|(_, id)| id.clone());
        if removed.count() > MAX_REMOVED
            && let Some(id) = oldest
        {
            self.entries.remove(&id);
        }
    }
}

impl Entry {
    /// It has not left, whatever an event said.
    fn stay(&mut self) {
        self.container.leaving = None;
        self.leaves_until = None;
    }

    /// What an event said of its leave, if an inspection that says it runs may be older than that.
    fn still_leaving(&self, inspected: &Container, now: Now) -> Option<(Leaving, Instant)> {
        let until = self.leaves_until.filter(|until| *until > now.instant)?;
        let same_run = inspected.state == State::Running && inspected.started == self.container.started;
        Some((self.container.leaving.filter(|_| same_run)?, until))
    }
}

/// Whether one container replaces the other: the same name, or the same place in a Compose service.
fn same_place(a: &Container, b: &Container) -> bool {
    let place = compose_place(&a.labels);
    a.name == b.name || (place.is_some() && place == compose_place(&b.labels))
}

/// The engine's time on the monotonic clock; now, when it doesn't say or lies in the future.
fn moment(at: Option<&str>, now: Now) -> Instant {
    let ago = at
        .and_then(|at| humantime::parse_rfc3339(at).ok())
        .and_then(|at| now.wall.duration_since(at).ok());
    ago.and_then(|ago| now.instant.checked_sub(ago))
        .unwrap_or(now.instant)
}
