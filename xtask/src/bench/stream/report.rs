//! The tables and the JSON.

use std::fmt;
use std::fmt::Write as _;

use serde::Serialize;

use super::cell::{Cell, Median};
use super::relay::Relay;
use super::scenario::Unit;
use crate::bench::report::Machine;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) versions: Vec<(Relay, String)>,
    pub(super) seconds: u32,
    pub(super) rounds: u32,
    pub(super) cells: Vec<Cell>,
}

impl Report {
    /// The tables for people.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "{} · {} samples of {} s",
            self.machine, self.rounds, self.seconds
        )?;
        for (relay, version) in &self.versions {
            writeln!(out, "- {}: {version}", relay.name())?;
        }
        writeln!(
            out,
            "\n| scenario | relay | per CPU-s | ± | CPU | per s | p50 µs | p99 µs | RSS MB |"
        )?;
        writeln!(out, "|---|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for cell in &self.cells {
            write!(out, "| {} | {} |", cell.scenario.name, cell.relay.name())?;
            match &cell.median {
                Some(median) => row(out, cell.scenario.unit(), median)?,
                None => writeln!(out, " invalid | | | | | | |")?,
            }
        }
        self.write_ratios(out, "per CPU-s", |median| median.per_cpu_second)?;
        self.write_ratios(out, "per s", |median| median.per_second)?;
        self.write_ratios(out, "p50", |median| median.p50)?;
        for cell in self.cells.iter().filter(|cell| cell.median.is_none()) {
            let reason = cell
                .faults
                .first()
                .map_or("no sample", String::as_str)
                .replace('\n', " ");
            writeln!(
                out,
                "\ninvalid: {} {}: {reason}",
                cell.scenario.name,
                cell.relay.name()
            )?;
        }
        Ok(())
    }

    /// Ours divided by the peer's.
    fn write_ratios(&self, out: &mut String, what: &str, figure: fn(&Median) -> f64) -> fmt::Result {
        let ours: Vec<&Cell> = self
            .cells
            .iter()
            .filter(|cell| cell.relay == Relay::Constellation)
            .collect();
        let peers: Vec<Relay> = self.versions.iter().map(|(relay, _)| *relay).collect();
        let peers: Vec<Relay> = peers
            .into_iter()
            .filter(|relay| *relay != Relay::Constellation)
            .collect();
        if ours.is_empty() || peers.is_empty() {
            return Ok(());
        }
        write!(out, "\n| ours : peer, {what} |")?;
        for peer in &peers {
            write!(out, " {} |", peer.name())?;
        }
        writeln!(out, "\n|---|{}", "--:|".repeat(peers.len()))?;
        for cell in ours {
            write!(out, "| {} |", cell.scenario.name)?;
            for peer in &peers {
                let same = |other: &&Cell| other.scenario == cell.scenario && other.relay == *peer;
                let theirs = self.cells.iter().find(same).and_then(|cell| cell.median);
                match cell.median.zip(theirs) {
                    Some((ours, theirs)) if figure(&theirs) > 0.0 => {
                        write!(out, " {:.2} |", figure(&ours) / figure(&theirs))?;
                    }
                    _ => write!(out, " - |")?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn row(out: &mut String, unit: Unit, median: &Median) -> fmt::Result {
    let name = unit.name();
    write!(
        out,
        " {:.0} {name} | {:.0} % |",
        median.per_cpu_second,
        median.spread * 100.0
    )?;
    match unit {
        Unit::Megabyte => write!(out, " {:.2} s/GB |", 1000.0 / median.per_cpu_second)?,
        _ => write!(out, " {:.1} µs |", 1e6 / median.per_cpu_second)?,
    }
    write!(out, " {:.0} |", median.per_second)?;
    if median.p50 > 0.0 {
        write!(out, " {:.1} | {:.1} |", median.p50, median.p99)?;
    } else {
        write!(out, " | |")?;
    }
    writeln!(out, " {:.0} |", median.resident / 1e6)
}

#[cfg(test)]
mod tests {
    use super::super::cell::tests::cell;
    use super::super::scenario::Tcp;
    use super::*;

    #[test]
    fn rows_have_units_and_ratios_are_ours_by_theirs() {
        let cells = vec![
            cell(Tcp::Bulk1, Relay::Constellation, &[(4000.0, 1.0)]),
            cell(Tcp::Bulk1, Relay::Haproxy, &[(3000.0, 1.5)]),
            cell(Tcp::Bulk1, Relay::Traefik, &[]),
        ];
        let report = Report {
            machine: Machine::now().unwrap(),
            versions: cells.iter().map(|cell| (cell.relay, "1".to_owned())).collect(),
            seconds: 1,
            rounds: 1,
            cells,
        };
        let text = report.markdown();
        for line in [
            "| bulk-1 | constellation | 4000 MB | 0 % | 0.25 s/GB | 2000 | 40.0 | 90.0 | 0 |\n",
            "| ours : peer, per CPU-s | haproxy | traefik |\n|---|--:|--:|\n| bulk-1 | 2.00 | - |\n",
            "| ours : peer, per s | haproxy | traefik |\n|---|--:|--:|\n| bulk-1 | 1.33 | - |\n",
            "invalid: bulk-1 traefik: no sample\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
