//! What a run found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::accepted;
use super::case::{Case, Request, Setting};
use super::compare::{Outcome, Part};

/// Figures of a run, and the differences that nobody meant.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests that both proxies answered or refused.
    pub pairs: usize,
    /// Configurations.
    pub cases: usize,
    /// Pairs that a back end got, by Traefik's doing.
    pub forwarded: usize,
    /// Statuses that Traefik answered.
    pub statuses: BTreeMap<u16, usize>,
    /// Pairs by the accepted difference that they show.
    pub accepted: BTreeMap<&'static str, usize>,
    /// Pairs with a difference that is not accepted.
    pub different: usize,
    /// Those by what their configuration is about and what differs: how many, and the first case.
    pub kinds: BTreeMap<String, (usize, u64)>,
    /// How long it took.
    pub took: Duration,
    /// Arguments that give the same configurations and requests.
    pub(super) again: String,
    pub(super) differences: Vec<Difference>,
    /// Where logs were kept.
    pub(super) kept: Option<PathBuf>,
}

/// A pair that differs.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) setting: Setting,
    pub(super) case: Case,
    pub(super) request: Request,
    pub(super) theirs: Outcome,
    pub(super) ours: Outcome,
    pub(super) parts: Vec<Part>,
}

impl Report {
    /// Whether nothing differs but what is meant to.
    pub fn holds(&self) -> bool {
        self.different == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, difference) in self.differences.iter().enumerate() {
            writeln!(f, "--- difference {} ---", number + 1)?;
            difference.write(f, &self.again)?;
        }
        let Self {
            pairs,
            cases,
            forwarded,
            different,
            again,
            ..
        } = self;
        writeln!(
            f,
            "{again}: {pairs} pairs of {cases} configurations in {:.1} s, {forwarded} of them forwarded",
            self.took.as_secs_f64()
        )?;
        let statuses = self.statuses.iter();
        let statuses: Vec<String> = statuses
            .map(|(status, count)| format!("{status}: {count}"))
            .collect();
        writeln!(f, "statuses: {}", statuses.join(", "))?;
        writeln!(f, "accepted differences, in docs/traefik-compatibility.md:")?;
        for (accepted, count) in
            accepted::all().filter_map(|accepted| Some((accepted, self.accepted.get(accepted.name)?)))
        {
            writeln!(f, "{count:>8}  {}: | {} ...", accepted.name, accepted.line)?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "logs and the last configuration are in {}", kept.display())?;
        }
        for (kind, (count, case)) in &self.kinds {
            writeln!(f, "{count:>8}  case {case}, {kind}")?;
        }
        write!(f, "{different} pairs differ otherwise")
    }
}

impl Difference {
    fn write(&self, f: &mut fmt::Formatter<'_>, again: &str) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        writeln!(f, "they differ in: {}", parts.join(", "))?;
        writeln!(
            f,
            "again: cargo xtask differential {again} --case {}",
            self.case.number
        )?;
        write!(f, "{}{}{}", self.setting, self.case, self.request)?;
        write!(
            f,
            "traefik answered:\n{}constellation answered:\n{}",
            self.theirs, self.ours
        )
    }
}
