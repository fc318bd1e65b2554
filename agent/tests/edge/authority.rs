//! Who decides that the kernel gives this node connections: the node itself, or a cluster's lease.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use constellation_agent::kernel::Kernel;
use constellation_agent::steering::{self, Authority, GrantError, Steering};
use constellation_cluster::lease::BootTime;
use constellation_config::{Config, EntryPoint, SteeringMode};
use constellation_tests::{require, sandbox};

use crate::lessor::Lessor;

const ADDRESS: &str = "127.0.0.1:8000";
const LONG: Duration = Duration::from_secs(600);

fn config(mode: SteeringMode) -> Config {
    let mut config = Config {
        entry_points: vec![EntryPoint::new("web", vec![ADDRESS.parse().unwrap()])],
        ..Config::default()
    };
    config.edge.steering = mode;
    config
}

/// A process of a node, as far as steering sees it. Its connections wait in the queue.
struct Process {
    steering: Steering,
    _listener: TcpListener,
}

impl Process {
    fn start(authority: Authority) -> Self {
        let listener = TcpListener::bind(ADDRESS).unwrap();
        let config = config(SteeringMode::Ebpf);
        let steering = steering::prepare(&config, &Kernel::new(None), authority).unwrap();
        let socket: OwnedFd = listener.try_clone().unwrap().into();
        steering.engage(&config, &[(Arc::from("web"), socket)]).unwrap();
        Self {
            steering,
            _listener: listener,
        }
    }

    fn lease(&self) -> steering::LeaseReport {
        self.steering.report().lease.unwrap()
    }
}

fn connects() -> Result<(), ErrorKind> {
    TcpStream::connect(ADDRESS)
        .map(drop)
        .map_err(|error| error.kind())
}

const REFUSED: Result<(), ErrorKind> = Err(ErrorKind::ConnectionRefused);

fn soon(time: Duration) -> BootTime {
    BootTime::now() + time
}

#[test]
fn under_a_lease_nobody_is_answered_but_by_its_holder_until_its_deadline() {
    require!(sandbox::run(&[], async || {
        let process = Process::start(Authority::cluster(&[1; 16]));
        assert_eq!(process.steering.report().authority, "lease");
        assert_eq!(connects(), REFUSED, "no grant yet");
        let lessor = Lessor::at(40);
        let mut tenant = lessor.tenant(1, LONG);
        let held = tenant.acquire();
        process.steering.grant(held).unwrap();
        assert_eq!(connects(), Ok(()));
        let lease = process.lease();
        assert_eq!((lease.epoch, lease.stands_by), (41, false));
        assert!(lease.remaining > LONG / 2);
        process.steering.grant(tenant.renew()).unwrap();

        assert!(
            matches!(
                process.steering.stand_by(soon(LONG)),
                Err(GrantError::Holding { token: 41 })
            ),
            "its time is the lease's"
        );
        process.steering.withdraw().unwrap();
        assert_eq!(connects(), REFUSED);
        tenant.release();

        // What was held is of no use once a later lease was.
        let later = lessor.tenant(2, LONG).acquire();
        process.steering.grant(later).unwrap();
        let stale = process.steering.grant(held).unwrap_err();
        assert!(
            matches!(stale, GrantError::Stale { given: 41, seen: 43 }),
            "{stale}"
        );
        assert_eq!(process.lease().refused, 1);
        assert_eq!(connects(), Ok(()));
    }));
}

#[test]
fn a_deadline_ends_it_with_nobodys_help() {
    require!(sandbox::run(&[], async || {
        let process = Process::start(Authority::cluster(&[1; 16]));
        let mut tenant = Lessor::at(0).tenant(1, Duration::from_millis(300));
        let held = tenant.acquire();
        process.steering.grant(held).unwrap();
        assert_eq!(connects(), Ok(()));
        while held.remaining(BootTime::now()).is_some() {
            thread::yield_now();
        }
        assert_eq!(connects(), REFUSED);
        let over = process.steering.grant(held).unwrap_err();
        assert!(matches!(over, GrantError::Over { token: 1 }), "{over}");
        // Nobody else has got it: renewed late, it goes on.
        process.steering.grant(tenant.renew()).unwrap();
        assert_eq!((connects(), process.lease().losses), (Ok(()), 1));
    }));
}

#[test]
fn who_stands_by_gets_connections_and_is_told_apart_from_the_holder() {
    require!(sandbox::run(&[], async || {
        let process = Process::start(Authority::cluster(&[1; 16]));
        process.steering.stand_by(soon(LONG)).unwrap();
        assert_eq!(connects(), Ok(()));
        assert!(process.lease().stands_by);
        let held = Lessor::at(8).tenant(1, LONG).acquire();
        process.steering.grant(held).unwrap();
        assert!(!process.lease().stands_by);
        assert_eq!(connects(), Ok(()));
    }));
}

#[test]
fn in_silence_a_client_waits_for_whoever_answers_next() {
    require!(sandbox::run(&[], async || {
        let process = Process::start(Authority::cluster(&[1; 16]));
        let lessor = Lessor::at(0);
        let mut tenant = lessor.tenant(1, LONG);
        process.steering.grant(tenant.acquire()).unwrap();
        process.steering.fall_silent(soon(LONG)).unwrap();
        tenant.release();
        assert!(process.lease().stands_by, "no holder any more");
        let steered = |process: &Process| {
            let verdicts = process.lease().verdicts;
            let mut steered = verdicts
                .iter()
                .filter(|(verdict, _)| verdict.label() == "steered");
            steered.next().unwrap().1
        };
        let before = steered(&process);
        let client = thread::spawn(connects);
        while steered(&process) == before && !client.is_finished() {
            thread::yield_now();
        }
        assert!(!client.is_finished(), "its first packet came, and got no answer");
        // The next holder is this node again: the same SYN, sent once more, is answered.
        process.steering.grant(tenant.acquire()).unwrap();
        assert_eq!(client.join().unwrap(), Ok(()));

        process.steering.fall_silent(BootTime::now()).unwrap();
        assert_eq!(connects(), REFUSED, "silence has its end, too");
    }));
}

#[test]
fn joining_and_leaving_begins_anew_with_smaller_tokens_and_none_in_between() {
    require!(sandbox::run(&[], async || {
        let process = Process::start(Authority::Local);
        assert_eq!((connects(), process.lease().epoch), (Ok(()), 1));
        let first = Lessor::at(900).tenant(1, LONG).acquire();
        assert!(matches!(
            process.steering.grant(first),
            Err(GrantError::NotUnderLease)
        ));
        process
            .steering
            .set_authority(Authority::cluster(&[1; 16]))
            .unwrap();
        assert_eq!(connects(), REFUSED, "the node's own grant is over");
        process.steering.grant(first).unwrap();
        assert_eq!(connects(), Ok(()));

        process
            .steering
            .set_authority(Authority::cluster(&[2; 16]))
            .unwrap();
        assert_eq!(connects(), REFUSED, "another cluster's lease");
        process
            .steering
            .grant(Lessor::at(3).tenant(1, LONG).acquire())
            .unwrap();
        assert_eq!((connects(), process.lease().epoch), (Ok(()), 4));
        drop(process);

        // A process that is started after the node has left; the pins are those of before.
        let process = Process::start(Authority::Local);
        assert_eq!((connects(), process.lease().epoch), (Ok(()), 1));
        process.steering.set_authority(Authority::Local).unwrap();
        assert_eq!(connects(), Ok(()));
    }));
}

#[test]
fn without_the_kernel_nobody_is_taken_past_the_deadline() {
    let config = config(SteeringMode::Off);
    let steering = steering::prepare(&config, &Kernel::new(None), Authority::cluster(&[1; 16])).unwrap();
    let report = steering.report();
    assert_eq!(report.standing.state, "disabled");
    assert!(report.standing.stand_in.unwrap().contains("reset"), "{report:?}");
    steering.grant(Lessor::at(5).tenant(1, LONG).acquire()).unwrap();
    let lease = steering.report().lease.unwrap();
    assert!(lease.epoch == 6 && !lease.remaining.is_zero());
    steering.withdraw().unwrap();
    assert!(steering.report().lease.unwrap().remaining.is_zero());
}
