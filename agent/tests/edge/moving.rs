//! An address moves as planned: what is open goes on, and nobody who comes meanwhile is refused.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use constellation_tests::busy::{self, Busy, connect};
use constellation_tests::lan::{Lan, NEW, OLD};
use constellation_tests::{PATIENCE, require};

use crate::lessor::Lessor;
use crate::site::{Site, may_make_namespaces, targets};

const LONG: Duration = Duration::from_secs(600);
const BULK: u64 = 1_000_000;
const MOVES: usize = 20;

/// Answers in their order: who, and when.
type Answers = Vec<(char, Instant)>;

fn go_on(connections: Vec<Busy>) -> Vec<Busy> {
    let go_on = |connection: Busy| {
        let by = if connection.what == "ping-pong" { 20 } else { BULK };
        connection.goes_on(by).expect("it goes on")
    };
    connections.into_iter().map(go_on).collect()
}

/// Opens one connection after the other until it is told to stop.
#[derive(Clone, Default)]
struct Visitor {
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
}

impl Visitor {
    fn start(lan: &Lan, target: SocketAddr) -> (Self, mpsc::Receiver<Result<(), String>>) {
        let visitor = Self::default();
        let (says, end) = mpsc::channel();
        let itself = visitor.clone();
        lan.client.run(move || {
            std::thread::spawn(move || says.send(itself.visit(target)).unwrap());
        });
        (visitor, end)
    }

    fn visit(&self, target: SocketAddr) -> Result<(), String> {
        while !self.stop.load(Ordering::Relaxed) {
            let answered = connect(target);
            let mut answers = self.answers.lock().unwrap();
            let (_, name) = answered.map_err(|error| format!("after {}: {error}", answers.len()))?;
            answers.push((name, Instant::now()));
        }
        Ok(())
    }

    /// Waits until it is answered by this one.
    fn meets(&self, name: char) {
        let begun = Instant::now();
        while self.answers.lock().unwrap().last().map(|(last, _)| *last) != Some(name) {
            assert!(begun.elapsed() < PATIENCE, "{name} does not answer");
            std::thread::yield_now();
        }
    }
}

/// The times between the last answer of one and the first of the next.
fn gaps(answers: &[(char, Instant)]) -> Vec<Duration> {
    let pairs = answers.windows(2).filter(|pair| pair[0].0 != pair[1].0);
    pairs.map(|pair| pair[1].1 - pair[0].1).collect()
}

#[test]
fn twenty_moves_in_a_row_refuse_and_reset_nobody() {
    require!(may_make_namespaces());
    let lan = Lan::new(|| {});
    let lessor = Lessor::at(100);
    let sites = [
        Site::start(&lan.old, OLD, 'O', &lessor, LONG),
        Site::start(&lan.new, NEW, 'N', &lessor, LONG),
    ];
    assert_eq!(sites[0].arp(), ["0", "0"]);
    sites[0].gain(None);
    let visitors = targets().map(|target| Visitor::start(&lan, target));
    visitors.iter().for_each(|(visitor, _)| visitor.meets('O'));
    let mut connections: Vec<Busy> = Vec::new();
    let mut calls = Vec::new();
    for number in 0..MOVES {
        let (from, to) = (&sites[number % 2], &sites[(number + 1) % 2]);
        // Connections of both.
        if number < 2 {
            let name = ['O', 'N'][number % 2];
            for target in targets() {
                connections.extend(lan.client.run(move || busy::open(target, name, 2)));
            }
        }
        let begun = Instant::now();
        from.release();
        let released = begun.elapsed();
        to.gain(Some(from));
        calls.push((released, begun.elapsed() - released));
        for target in targets() {
            assert_eq!(to.devices_of(target.ip()), ["edge"], "move {number}");
            assert_eq!(from.devices_of(target.ip()), ["lo"], "move {number}");
        }
        assert_eq!(
            (from.arp(), to.arp()),
            (["1".into(), "2".into()], ["0".into(), "0".into()])
        );
        connections = go_on(connections);
        let name = ['N', 'O'][number % 2];
        visitors.iter().for_each(|(visitor, _)| visitor.meets(name));
    }
    let chased = sites[1].run(|parts, _| {
        let verdicts = parts.chase.report().verdicts;
        verdicts
            .iter()
            .find(|(verdict, _)| verdict.label() == "chased")
            .map(|(_, times)| *times)
    });
    assert!(chased > Some(1000), "{chased:?}");
    let refusals: u64 = sites
        .iter()
        .map(|site| {
            site.run(|parts, _| {
                let verdicts = parts.steering.report().lease.unwrap().verdicts;
                let refusals = verdicts.iter().filter(|(verdict, _)| !verdict.passes());
                refusals.map(|(_, times)| times).sum::<u64>()
            })
        })
        .sum();
    let mut measured = Vec::new();
    for (visitor, end) in visitors {
        visitor.stop.store(true, Ordering::Relaxed);
        end.recv().unwrap().expect("every connection is answered");
        let gaps = gaps(&visitor.answers.lock().unwrap());
        assert_eq!(gaps.len(), MOVES, "each move once, and none back");
        measured.extend(gaps);
    }
    measured.sort_unstable();
    let slow = measured
        .iter()
        .filter(|gap| **gap > Duration::from_millis(500))
        .count();
    eprintln!(
        "between the last answer of one and the first of the next, of {}: half within {:?}, {slow} over 500 ms, all within \
         {:?}; release and gain took {calls:?}; lookups refused: {refusals}",
        measured.len(),
        measured[measured.len() / 2],
        measured[measured.len() - 1]
    );
    for connection in connections {
        connection.end().expect("to the last byte");
    }
    sites
        .iter()
        .for_each(|site| site.run(|parts, _| parts.edge.end()));
    for site in &sites {
        assert!(
            targets()
                .iter()
                .all(|target| site.devices_of(target.ip()).is_empty())
        );
        assert_eq!(site.arp(), ["0", "0"]);
    }
}
