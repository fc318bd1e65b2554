//! What operators change while the node runs.

use std::net::IpAddr;

use constellation_config::XdpMode;
use constellation_ebpf_loader::BootTime;
use ipnet::IpNet;

use super::book::{Allowance, Ban, CONFIGURED, Now, Origin};
use super::report::Changed;
use super::wish::{Refused, Wish};
use super::{Guard, Stage, State, raise, routes};

impl Guard {
    /// Denies prefixes. `caller` is where the call comes from.
    ///
    /// # Errors
    /// In words, when something speaks against it.
    pub fn deny(&self, wish: &Wish, caller: Option<IpAddr>) -> Result<Changed, Refused> {
        let (nets, length, reason) = (wish.prefixes()?, wish.length()?, wish.reason()?);
        let now = Now::take();
        self.change(|state| {
            let notes = wish.check_denial(&nets, &state.book, caller, &routes::own_addresses())?;
            let ban = Ban {
                origin: Origin::Operator,
                reason: if reason.is_empty() {
                    "no reason given"
                } else {
                    reason
                }
                .into(),
                made: now.wall,
                until: length.map(|length| now.after(length)),
            };
            let (fixed, nets): (Vec<_>, Vec<_>) =
                nets.into_iter().partition(|net| state.book.is_configured(net));
            let bans: Vec<_> = nets.iter().map(|net| (*net, ban.clone())).collect();
            state.book.deny(&bans).map_err(|full| Refused(full.to_string()))?;
            raise(
                &mut state.counts.bans,
                Origin::Operator.as_str(),
                nets.len() as u64,
            );
            tracing::info!(
                prefixes = nets.len(),
                first = nets.first().map(ToString::to_string),
                length = ?length,
                reason = %ban.reason,
                "denied by an operator"
            );
            let unchanged = fixed.iter().map(|net| format!("{net} is in {CONFIGURED}"));
            Ok((nets, unchanged.collect(), notes))
        })
    }

    /// Lifts bans that were added while the node ran.
    ///
    /// # Errors
    /// In words.
    pub fn undeny(&self, wish: &Wish) -> Result<Changed, Refused> {
        let nets = wish.prefixes()?;
        self.change(|state| {
            let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
            for net in nets {
                let fixed = state.book.is_configured(&net);
                if state.book.undeny(net) {
                    changed.push(net);
                }
                if fixed {
                    unchanged.push(format!("{net} is in {CONFIGURED}: remove it there, then SIGHUP"));
                } else if changed.last() != Some(&net) {
                    unchanged.push(format!("{net} is not on the deny list as such"));
                }
            }
            tracing::info!(prefixes = changed.len(), "bans lifted by an operator");
            Ok((changed, unchanged, Vec::new()))
        })
    }

    /// Allows prefixes.
    ///
    /// # Errors
    /// In words.
    pub fn allow(&self, wish: &Wish) -> Result<Changed, Refused> {
        let (nets, reason) = (wish.prefixes()?, wish.reason()?);
        if wish.duration.is_some() {
            return Err(Refused("an allowance has no end: leave \"for\" out".to_owned()));
        }
        let allowance = Allowance {
            reason: reason.into(),
            made: Now::take().wall,
        };
        self.change(|state| {
            let book = &state.book;
            let (fixed, nets): (Vec<_>, Vec<_>) = nets
                .into_iter()
                .partition(|net| book.is_configured_allowance(net));
            let all: Vec<_> = nets.iter().map(|net| (*net, allowance.clone())).collect();
            state.book.allow(&all).map_err(|full| Refused(full.to_string()))?;
            tracing::info!(
                prefixes = nets.len(),
                first = nets.first().map(ToString::to_string),
                "allowed by an operator"
            );
            let unchanged = fixed.iter().map(|net| format!("{net} is in edge.guard.allow"));
            Ok((nets, unchanged.collect(), Vec::new()))
        })
    }

    /// Takes back allowances that were added while the node ran.
    ///
    /// # Errors
    /// In words.
    pub fn disallow(&self, wish: &Wish) -> Result<Changed, Refused> {
        let nets = wish.prefixes()?;
        self.change(|state| {
            let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
            for net in nets {
                if state.book.disallow(net) {
                    changed.push(net);
                } else if state.book.is_configured_allowance(&net) {
                    unchanged.push(format!(
                        "{net} is in edge.guard.allow: remove it there, then SIGHUP"
                    ));
                } else {
                    unchanged.push(format!("{net} is not on the allow list as such"));
                }
            }
            tracing::info!(prefixes = changed.len(), "allowances taken back by an operator");
            Ok((changed, unchanged, Vec::new()))
        })
    }

    /// Sends the guard into the drivers, back, or leaves it to the thresholds.
    ///
    /// # Errors
    /// In words, where there is no guard in the kernel.
    pub fn set_xdp(&self, mode: XdpMode) -> Result<(), Refused> {
        let mut state = self.state();
        state.may_change()?;
        let Stage::Active(active) = &mut state.stage else {
            return Err(Refused(format!(
                "the guard is not in the kernel, so that it can't move into drivers: {}",
                state.why()
            )));
        };
        tracing::info!(xdp = mode.as_str(), "said by an operator");
        active.set_xdp(mode, BootTime::now());
        Ok(())
    }

    /// Changes the book, and everything that follows from it.
    fn change(
        &self,
        edit: impl FnOnce(&mut State) -> Result<(Vec<IpNet>, Vec<String>, Vec<String>), Refused>,
    ) -> Result<Changed, Refused> {
        let mut state = self.state();
        state.may_change()?;
        let (changed, unchanged, mut notes) = edit(&mut state)?;
        state.apply(&self.0.gate);
        state.unwritten |= !changed.is_empty();
        drop(state);
        self.0.keep();
        let state = self.state();
        if let Some(unkept) = &state.unkept {
            notes.push(format!("it is in force, but lost when the node ends: {unkept}"));
        }
        let enforced_by = match &state.stage {
            Stage::Active(active) => {
                notes.extend(active.unapplied().map(str::to_owned));
                "kernel"
            }
            _ => "node",
        };
        let kept = state.unkept.is_none();
        drop(state);
        // Its end may be the next one.
        self.0.inbox.wake();
        Ok(Changed {
            changed: changed.iter().map(ToString::to_string).collect(),
            unchanged,
            notes,
            enforced_by,
            kept,
        })
    }
}
