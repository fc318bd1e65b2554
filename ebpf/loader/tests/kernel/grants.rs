//! Who grants: under whose epochs, and as a holder or standing by.

use std::io::ErrorKind;
use std::time::Duration;

use constellation_ebpf_loader::steering::{Issuer, MAX_EPOCH};
use constellation_ebpf_loader::{BootTime, Error, Lock, Namespace, Steering};
use constellation_tests::require;

use crate::sandbox;
use crate::sockets::{Named, ask, dest, for_long, tcp};

const REFUSED: Result<String, ErrorKind> = Err(ErrorKind::ConnectionRefused);

/// All of a start but the grant.
fn attached(lock: &Lock, edge: &Named) -> Steering {
    let mut steering = Steering::open(lock).unwrap();
    steering.set_binds(&[tcp("127.0.0.9/32", 80, 0)]).unwrap();
    steering.insert_listeners(dest(0), &[edge.fd()]).unwrap();
    steering.attach().unwrap();
    steering
}

#[test]
fn epochs_of_another_issuer_begin_anew_and_nothing_of_the_one_before_gets_through() {
    require!(sandbox::run(|| {
        let lock = Lock::take(&Namespace::current().unwrap()).unwrap();
        let edge = Named::at("127.0.0.1:0", "edge");
        let mut steering = attached(&lock, &edge);
        steering.grant(900, for_long()).unwrap();
        let served = || ask("127.0.0.9:80", &[&edge]);
        assert_eq!(served(), Ok("edge".into()));

        // Joined: the local grant is over at once, and smaller tokens count.
        let [one, other] = [[1; 16], [2; 16]].map(|id| Issuer::of_cluster(&id));
        assert!(steering.act_for(one).unwrap());
        assert_eq!(served(), REFUSED, "no grant of that cluster yet");
        steering.grant(12, for_long()).unwrap();
        assert_eq!(served(), Ok("edge".into()));
        assert!(!steering.act_for(one).unwrap(), "the same one");
        assert_eq!(served(), Ok("edge".into()), "what it has granted goes on");

        // A second handle, as of a process that does not know yet, for whom the epochs are still its own.
        let mut late = Steering::open(&lock).unwrap();
        let refused = late.grant(901, for_long()).unwrap_err();
        assert!(matches!(refused, Error::OtherIssuer), "{refused}");
        assert!(matches!(late.stand_by(for_long()), Err(Error::OtherIssuer)));

        assert!(steering.act_for(other).unwrap());
        assert_eq!(served(), REFUSED);
        steering.grant(3, for_long()).unwrap();
        assert_eq!(served(), Ok("edge".into()));
        assert!(steering.act_for(Issuer::LOCAL).unwrap());
        assert_eq!(steering.granted().unwrap().epoch, 0);
        let beyond = steering.grant(MAX_EPOCH + 1, for_long()).unwrap_err();
        assert!(matches!(beyond, Error::EpochTooHigh(_)), "{beyond}");
        assert_eq!(served(), REFUSED);
    }));
}

#[test]
fn who_stands_by_gets_connections_and_is_no_holder() {
    require!(sandbox::run(|| {
        let lock = Lock::take(&Namespace::current().unwrap()).unwrap();
        let edge = Named::at("127.0.0.1:0", "edge");
        let mut steering = attached(&lock, &edge);
        let served = || ask("127.0.0.9:80", &[&edge]);
        steering
            .grant(7, BootTime::now() + Duration::from_secs(60))
            .unwrap();
        let held = steering.granted().unwrap();
        let refused = steering.stand_by(for_long()).unwrap_err();
        assert!(matches!(refused, Error::Held(7)), "{refused}");
        assert_eq!(
            steering.granted().unwrap(),
            held,
            "its time is not longer than the lease's"
        );

        steering.revoke().unwrap();
        assert_eq!(served(), REFUSED);
        steering.stand_by(for_long()).unwrap();
        assert_eq!(served(), Ok("edge".into()));
        let stands_by = steering.granted().unwrap();
        assert!(stands_by.stands_by && stands_by.epoch == 7, "{stands_by:?}");
        // An older lease does not come back by that way either.
        assert!(matches!(
            steering.grant(6, for_long()),
            Err(Error::StaleEpoch { given: 6, held: 7 })
        ));
        steering.grant(8, for_long()).unwrap();
        assert!(!steering.granted().unwrap().stands_by);
    }));
}
