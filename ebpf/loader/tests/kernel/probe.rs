//! What the probe says where everything works, and where rights are missing.

use caps::Capability as Cap;
use constellation_ebpf_loader::{Availability, Capability, Lock, Namespace, Report, probe, status};
use constellation_tests::require;

use crate::sandbox::{self, SERVICE};

fn report() -> Report {
    let namespace = Namespace::current().unwrap();
    let report = probe(&Lock::take(&namespace).unwrap());
    assert_eq!(
        status(&namespace).unwrap(),
        Default::default(),
        "nothing is left behind"
    );
    report
}

#[test]
fn everything_is_active_under_the_services_capabilities() {
    require!(sandbox::run(|| {
        let active = Availability::Active;
        let expected = Report {
            steering: active.clone(),
            guard: active.clone(),
            guard_xdp: active.clone(),
            chase: active,
        };
        assert_eq!(report(), expected);
    }));
}

#[test]
fn what_is_missing_is_named() {
    let cases: [(&[Cap], &[Capability]); 3] = [
        (&[], &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon]),
        (&[Cap::CAP_BPF], &[Capability::NetAdmin, Capability::Perfmon]),
        (&[Cap::CAP_NET_ADMIN], &[Capability::Bpf, Capability::Perfmon]),
    ];
    for (kept, missing) in cases {
        require!(sandbox::run_with(kept, &[], || {
            assert_eq!(
                report().steering,
                Availability::Denied {
                    missing: missing.to_vec()
                }
            );
        }));
    }
    assert_eq!(SERVICE.len(), Capability::ALL.len());
}

#[test]
fn a_failing_self_test_is_not_called_active() {
    // With the loopback device down, no connection within the machine works.
    require!(sandbox::run_with(SERVICE, &["link set lo down"], || {
        let Report {
            steering,
            guard,
            guard_xdp,
            chase,
        } = report();
        assert!(
            matches!(steering, Availability::Unsupported { .. }),
            "{steering:?}"
        );
        assert!(matches!(guard, Availability::Unsupported { .. }), "{guard:?}");
        assert!(matches!(chase, Availability::Unsupported { .. }), "{chase:?}");
        assert_eq!(guard_xdp, Availability::Active, "that needs no device");
    }));
}
