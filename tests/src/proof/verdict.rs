//! What came of a run: what must not be, told in full, and figures.

use std::collections::HashMap;
use std::fmt;

use crate::fault::journal::heads_by_id;
use crate::fault::{Entry, FaultBackend, Seen};
use crate::fleet::{Kind, Story};

/// Stories are told in full up to this many.
const TOLD: usize = 12;

/// The findings of one run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Requests in all.
    pub requests: usize,
    /// `GET`s (and keyed `POST`s) that failed, told in full.
    pub lost: Vec<String>,
    /// `POST`s without a key that a back end saw more than once, told in full.
    pub repeated: Vec<String>,
    /// `POST`s without a key that failed; honest, so only counted.
    pub refused: usize,
    /// Whatever else must not be.
    pub wrong: Vec<String>,
}

/// What every back end wrote down.
#[derive(Debug)]
pub(crate) struct Journals(pub(crate) Vec<(String, Vec<Entry>)>);

impl Journals {
    pub(crate) fn of(backends: &[&FaultBackend]) -> Self {
        let journals = backends
            .iter()
            .map(|backend| (backend.name().to_owned(), backend.journal()));
        Self(journals.collect())
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().flat_map(|(_, entries)| entries)
    }

    pub(crate) fn backend(&self, name: &str) -> &[Entry] {
        let found = self.0.iter().find(|(backend, _)| backend == name);
        found.map_or(&[], |(_, entries)| entries)
    }

    /// What was seen of a request, with times from its start.
    pub(crate) fn story(&self, id: &str, start: u64) -> String {
        let mut seen: Vec<String> = Vec::new();
        for (backend, entries) in &self.0 {
            for entry in entries.iter().filter(|entry| entry.id == id) {
                let what = match &entry.seen {
                    Seen::Head => "head".to_owned(),
                    Seen::Body { complete, length, .. } => format!(
                        "{} body of {length}",
                        if *complete { "whole" } else { "part of the" }
                    ),
                };
                seen.push(format!(
                    "{backend} saw its {what} after {:.1} ms on connection {}",
                    milliseconds(entry.at.saturating_sub(start)),
                    entry.connection
                ));
            }
        }
        if seen.is_empty() {
            seen.push("no back end saw it".into());
        }
        seen.join("; ")
    }
}

impl Verdict {
    pub(crate) fn of(stories: &[Story], journals: &Journals, since: u64) -> Self {
        let heads = heads_by_id(journals.entries());
        let mut verdict = Self {
            requests: stories.len(),
            ..Self::default()
        };
        for story in stories {
            let times = heads.get(story.id.as_str()).copied().unwrap_or(0);
            verdict.count(story, times, journals, since);
        }
        verdict.wrong.extend(cut_short(&heads, journals));
        verdict
    }

    fn count(&mut self, story: &Story, times: usize, journals: &Journals, since: u64) {
        if story.kind == Kind::Post {
            self.refused += usize::from(story.outcome.is_err());
            if times > 1 {
                self.repeated.push(tell(story, journals, since));
            }
        } else if story.outcome.is_err() {
            self.lost.push(tell(story, journals, since));
        }
    }

    /// Whether everything is as promised.
    pub fn holds(&self) -> bool {
        self.lost.is_empty() && self.repeated.is_empty() && self.wrong.is_empty() && self.requests > 0
    }

    /// # Panics
    /// When something is not as promised.
    pub fn assert_holds(&self, what: &str) {
        assert!(self.holds(), "{what}: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} lost, {} POSTs repeated, {} POSTs refused, {} wrong",
            self.requests,
            self.lost.len(),
            self.repeated.len(),
            self.refused,
            self.wrong.len()
        )?;
        for (title, list) in [
            ("lost", &self.lost),
            ("repeated", &self.repeated),
            ("wrong", &self.wrong),
        ] {
            for line in list.iter().take(TOLD) {
                write!(f, "\n    {title}: {line}")?;
            }
            if list.len() > TOLD {
                write!(f, "\n    {title}: and {} more", list.len() - TOLD)?;
            }
        }
        Ok(())
    }
}

/// Bodies that arrived at a back end as whole ones, and differ between the attempts at the same request.
fn cut_short(heads: &HashMap<&str, usize>, journals: &Journals) -> Vec<String> {
    let mut whole: HashMap<&str, (u64, &str)> = HashMap::new();
    let mut wrong = Vec::new();
    for entry in journals.entries() {
        let Seen::Body {
            complete: true,
            length,
            sha256,
        } = &entry.seen
        else {
            continue;
        };
        let first = whole.entry(&entry.id).or_insert((*length, sha256));
        if *first != (*length, sha256.as_str()) {
            wrong.push(format!(
                "{} ({} attempts) arrived with {} and with {length} bytes",
                entry.id,
                heads[entry.id.as_str()],
                first.0
            ));
        }
    }
    wrong
}

fn tell(story: &Story, journals: &Journals, since: u64) -> String {
    format!(
        "{:?} {} sent at {:+.1} ms, ended after {:.1} ms: {}; {}",
        story.kind,
        story.id,
        (milliseconds(story.start) - milliseconds(since)),
        milliseconds(story.took),
        story
            .outcome
            .as_ref()
            .map_or_else(Clone::clone, |backend| format!("200 from {backend}")),
        journals.story(&story.id, story.start),
    )
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
