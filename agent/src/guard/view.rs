//! The guard as others see it: the lists, and how it fares.

use std::collections::BTreeMap;

use constellation_config::GuardMode;

use super::book::{CONFIGURED, Now, Origin};
use super::report::{AllowedReport, DeniedReport, Lists, Report};
use super::{Guard, Stage, WHAT_STANDS_IN, rfc3339};
use crate::kernel::Standing;

impl Guard {
    /// Both lists.
    pub fn lists(&self) -> Lists {
        let state = self.state();
        let (book, now) = (&state.book, Now::take());
        let fixed = book.configured_denials().map(|net| DeniedReport {
            prefix: net.to_string(),
            origin: Origin::Configuration.as_str(),
            reason: CONFIGURED.to_owned(),
            since: None,
            until: None,
            remaining_seconds: None,
        });
        let asked = book.bans().map(|(net, ban)| DeniedReport {
            prefix: net.to_string(),
            origin: ban.origin.as_str(),
            reason: ban.reason.to_string(),
            since: Some(rfc3339(ban.made)),
            until: ban.until.map(|until| rfc3339(until.wall)),
            remaining_seconds: ban.until.map(|until| {
                let left = until.boot.remaining(now.boot).unwrap_or_default();
                left.as_secs() + u64::from(left.subsec_nanos() > 0)
            }),
        });
        let fixed_allowed = book.configured_allowances().map(|net| AllowedReport {
            prefix: net.to_string(),
            origin: Origin::Configuration.as_str(),
            reason: "edge.guard.allow".to_owned(),
            since: None,
        });
        let asked_allowed = book.asked_allowances().map(|(net, allowance)| AllowedReport {
            prefix: net.to_string(),
            origin: Origin::Operator.as_str(),
            reason: allowance.reason.to_string(),
            since: Some(rfc3339(allowance.made)),
        });
        Lists {
            denied: fixed.chain(asked).collect(),
            allowed: fixed_allowed.chain(asked_allowed).collect(),
        }
    }

    /// The guard as it is now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let (denied, allowed) = state.book.counts();
        let mut report = Report {
            mode: state.config.mode.as_str(),
            standing: Standing::ENDED,
            devices: Vec::new(),
            xdp: None,
            denied,
            allowed,
            attack: None,
            problems: Vec::new(),
            events: state.events.iter().cloned().collect(),
            packets: BTreeMap::new(),
            verdicts: Vec::new(),
            event_counts: state.counts.events.clone(),
            ban_counts: state.counts.bans.clone(),
            offence_counts: state.counts.offences.clone(),
            uncounted_offences: state.offenders.uncounted + self.0.inbox.lost(),
        };
        match &state.stage {
            Stage::Prepared(_) => report.standing = Standing::WAITING,
            Stage::Active(active) => {
                report.standing = Standing::ACTIVE;
                report.devices = active.devices();
                report.attack = Some(active.attack());
                report.xdp = Some(active.xdp());
                report.verdicts = active.verdicts();
                report.packets = report
                    .verdicts
                    .iter()
                    .map(|(verdict, count)| (verdict.label(), *count))
                    .collect();
                report.problems.extend(active.unapplied().map(str::to_owned));
                let unguarded = report.devices.iter().filter(|device| device.hook.is_none());
                let unguarded = unguarded.map(|device| {
                    let problem = device.problem.as_deref().unwrap_or("not attached");
                    format!("{}: {problem}", device.name)
                });
                report.problems.extend(unguarded);
                if report.devices.is_empty() {
                    let text = "there is no default route, so the guard is at no device; name some in edge.guard.devices";
                    report.problems.push(text.to_owned());
                }
            }
            Stage::Ordinary(reason) => {
                let stand_in = (state.config.mode != GuardMode::Off).then_some(WHAT_STANDS_IN);
                report.standing = Standing::without(reason, stand_in);
            }
            Stage::Ended => {}
        }
        if let Some(unkept) = &state.unkept {
            report.problems.push(format!("bans are not kept: {unkept}"));
        }
        report
    }
}
