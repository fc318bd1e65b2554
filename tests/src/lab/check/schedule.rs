//! What happens in a run, drawn from its seed. Pure.

use std::time::Duration;

use fastrand::Rng;

/// Something that goes wrong, and is right again after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and started again.
    Kill {
        /// Whose.
        node: usize,
        /// That of whoever is let in by then instead, if it has no trouble.
        holder: bool,
        /// Until it is started.
        down: Duration,
    },
    /// A process is frozen.
    Stop {
        /// Whose.
        node: usize,
        /// That of whoever is let in by then instead, if it has no trouble.
        holder: bool,
        /// For how long.
        frozen: Duration,
    },
    /// All processes are frozen, as when a host of virtual machines is suspended.
    StopAll {
        /// For how long.
        frozen: Duration,
    },
    /// Nothing passes between two groups.
    Partition {
        /// One of them.
        side: Vec<usize>,
        /// For how long.
        cut: Duration,
    },
    /// Nothing passes in one direction.
    OneWay {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
        /// For how long.
        cut: Duration,
    },
    /// The wall clock of a process is another one from here on.
    Clock {
        /// Whose.
        node: usize,
        /// By how many seconds it is off.
        off: i32,
    },
    /// A disk takes twenty writes a second.
    SlowDisk {
        /// Whose.
        node: usize,
        /// For how long.
        slow: Duration,
    },
}

/// When what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the start of the run.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// Within what is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many nodes.
    pub nodes: usize,
    /// The last event comes before that, and may last longer.
    pub during: Duration,
    /// The longest time for which a process is frozen.
    pub max_stop: Duration,
}

/// How far a wall clock jumps, in seconds.
const CLOCK: i32 = 600;

/// Draws a run. A node has one trouble with its process at a time, the network one cut at a time.
#[must_use]
pub fn draw(seed: u64, limits: &Limits) -> Vec<Event> {
    let mut random = Rng::with_seed(seed);
    let mut busy = vec![Duration::ZERO; limits.nodes + 1];
    let mut cut_until = Duration::ZERO;
    let mut events = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.u64(100..1200));
        if at >= limits.during {
            return events;
        }
        let node = random.usize(1..=limits.nodes);
        let free = busy[node] <= at;
        let fault = match random.u8(0..16) {
            0..4 if free => {
                let down = between(&mut random, 100, 3000);
                busy[node] = at + down;
                Fault::Kill {
                    node,
                    holder: random.bool(),
                    down,
                }
            }
            4..8 if free => {
                let frozen = stop(&mut random, limits);
                busy[node] = at + frozen;
                Fault::Stop {
                    node,
                    holder: random.bool(),
                    frozen,
                }
            }
            8..10 if busy.iter().all(|until| *until <= at) => {
                let frozen = stop(&mut random, limits);
                busy.fill(at + frozen);
                Fault::StopAll { frozen }
            }
            10..12 if cut_until <= at => {
                let cut = between(&mut random, 300, 4000);
                cut_until = at + cut;
                let mut side = vec![node];
                side.extend((1..=limits.nodes).filter(|other| *other != node && random.u8(0..3) == 0));
                side.truncate(limits.nodes - 1);
                Fault::Partition { side, cut }
            }
            12..14 if cut_until <= at => {
                let cut = between(&mut random, 300, 4000);
                cut_until = at + cut;
                let to = (node - 1 + random.usize(1..limits.nodes)) % limits.nodes + 1;
                Fault::OneWay { from: node, to, cut }
            }
            14 => Fault::Clock {
                node,
                off: random.i32(-CLOCK..=CLOCK),
            },
            15 if free => {
                let slow = between(&mut random, 500, 3000);
                busy[node] = at + slow;
                Fault::SlowDisk { node, slow }
            }
            _ => continue,
        };
        events.push(Event { at, fault });
    }
}

fn between(random: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.u64(least..=most.max(least)))
}

/// Around the life of a lease, where it is decided, as often as long beyond it.
fn stop(random: &mut Rng, limits: &Limits) -> Duration {
    let most = u64::try_from(limits.max_stop.as_millis())
        .unwrap_or(u64::MAX)
        .max(50);
    let most = if random.bool() { most.min(1500) } else { most };
    between(random, 50, most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Fault, Limits, draw};

    const LIMITS: Limits = Limits {
        nodes: 3,
        during: Duration::from_secs(600),
        max_stop: Duration::from_secs(5),
    };

    #[test]
    fn a_seed_is_a_run_and_another_one_another() {
        assert_eq!(draw(7, &LIMITS), draw(7, &LIMITS));
        assert_ne!(draw(7, &LIMITS), draw(8, &LIMITS));
    }

    #[test]
    fn everything_happens_and_never_two_things_to_one_process() {
        let mut kinds = std::collections::BTreeSet::new();
        let mut busy = [Duration::ZERO; 4];
        for event in draw(1, &LIMITS) {
            let text = format!("{:?}", event.fault);
            kinds.insert(text.split(' ').next().unwrap().to_owned());
            let (nodes, long): (Vec<usize>, _) = match event.fault {
                Fault::Kill { node, down, .. } => (vec![node], down),
                Fault::Stop { node, frozen, .. } => (vec![node], frozen),
                Fault::SlowDisk { node, slow } => (vec![node], slow),
                Fault::StopAll { frozen } => (vec![1, 2, 3], frozen),
                Fault::Partition { side, .. } => {
                    assert!((1..3).contains(&side.len()), "{side:?}");
                    continue;
                }
                Fault::OneWay { from, to, .. } => {
                    assert!(from != to && (1..=3).contains(&to));
                    continue;
                }
                Fault::Clock { .. } => continue,
            };
            for node in nodes {
                assert!(busy[node] <= event.at, "{:?}", event.at);
                busy[node] = event.at + long;
            }
        }
        assert_eq!(kinds.len(), 7, "{kinds:?}");
    }
}
