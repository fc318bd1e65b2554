//! The guard at a set of devices that come and go, and one program taken away beside the other.

use std::process::Command;

use constellation_ebpf_loader::guard::{Change, Hook, Reattached};
use constellation_ebpf_loader::{
    Feature, Guard, Lock, Namespace, Steering, detach_without_lock, has_pins, status,
};
use constellation_tests::require;

use crate::sandbox::{self, SERVICE};

const CABLES: &[&str] = &[
    "link add one type veth peer name other-one",
    "link add two type veth peer name other-two",
];

fn ip(arguments: &str) {
    let ip = require::program("ip").unwrap();
    let output = Command::new(ip).args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn links() -> Vec<String> {
    let links = status(&Namespace::current().unwrap()).unwrap().links;
    let name = |pin: &std::path::Path| pin.file_name().unwrap().to_string_lossy().into_owned();
    links.iter().map(|link| name(&link.pin)).collect()
}

/// What changed, in words.
fn told(changes: &[Reattached]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Attached(hook) => format!("{hook:?}"),
        Change::Detached => "detached".to_owned(),
        Change::Gone => "gone".to_owned(),
        Change::TakenAway => "taken away".to_owned(),
        Change::Failed(error) => error.to_string(),
    };
    let line = |changed: &Reattached| format!("{}: {}", changed.device, word(&changed.change));
    changes.iter().map(line).collect()
}

#[test]
fn devices_are_followed_by_name() {
    require!(sandbox::run_with(SERVICE, CABLES, || {
        let lock = Lock::take(&Namespace::current().unwrap()).unwrap();
        let mut guard = Guard::open(&lock).unwrap();
        let mut set = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            told(&guard.set_devices(&names, &[]).unwrap())
        };
        assert_eq!(set(&["one", "later"]), ["one: Tcx"]);
        assert_eq!(set(&["one", "later"]), [""; 0], "nothing new");
        assert_eq!(set(&["two"]), ["one: detached", "two: Tcx"]);
        assert_eq!(links().len(), 1);

        // The same name, and then also the same number: another device.
        ip("link del two");
        assert_eq!(set(&["two"]), ["two: gone"]);
        assert_eq!(links().len(), 0, "its pin is gone, too");
        ip("link add two type veth peer name other-two");
        assert_eq!(set(&["two"]), ["two: Tcx"]);
        let index = nix::net::if_::if_nametoindex("two").unwrap();
        ip("link del two");
        ip(&format!(
            "link add two index {index} type veth peer name other-two"
        ));
        assert_eq!(set(&["two"]), ["two: gone", "two: Tcx"]);

        detach_without_lock(lock.namespace()).unwrap();
        assert_eq!(set(&["two"]), ["two: taken away"]);
    }));
}

#[test]
fn what_an_earlier_process_attached_elsewhere_is_taken_off() {
    require!(sandbox::run_with(SERVICE, CABLES, || {
        let lock = Lock::take(&Namespace::current().unwrap()).unwrap();
        let mut before = Guard::open(&lock).unwrap();
        before.attach("one").unwrap();
        assert_eq!(before.attach_clsact("two").unwrap(), Hook::Clsact);
        drop(before);
        let filters = |device: &str| {
            let tc = require::program("tc").unwrap();
            let output = Command::new(tc)
                .args(["filter", "show", "dev", device, "ingress"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).contains("edge_guard_l2")
        };
        assert!(filters("two"));
        let mut after = Guard::open(&lock).unwrap();
        after.attach("lo").unwrap();
        after.detach_others().unwrap();
        assert_eq!(links().len(), 1, "that of lo: {:?}", links());
        assert!(!filters("two"));

        after.attach_clsact("two").unwrap();
        drop(after);
        assert!(Feature::Guard.detach(&lock).unwrap());
        assert_eq!(
            (links().len(), filters("two")),
            (0, false),
            "also where nothing is pinned"
        );
    }));
}

#[test]
fn one_program_goes_and_the_other_stays() {
    require!(sandbox::run_with(SERVICE, CABLES, || {
        let lock = Lock::take(&Namespace::current().unwrap()).unwrap();
        let namespace = lock.namespace();
        let engage = || {
            let mut guard = Guard::open(&lock).unwrap();
            guard.attach("one").unwrap();
            Steering::open(&lock).unwrap().attach().unwrap();
            assert_eq!(links().len(), 2);
        };
        let features = [Feature::Guard, Feature::Steering];
        for (goes, stays) in [(features[0], features[1]), (features[1], features[0])] {
            engage();
            assert!(goes.detach(&lock).unwrap());
            assert!(!goes.detach(&lock).unwrap(), "nothing is left of it");
            assert!(!goes.has_pins(namespace).unwrap() && stays.has_pins(namespace).unwrap());
            let left = links();
            assert_eq!(left.len(), 1, "{left:?}");
            assert!(left[0].starts_with(stays.name()), "{left:?}");
        }
        assert!(Feature::Guard.detach(&lock).unwrap());
        assert!(!has_pins(namespace).unwrap());
        assert_eq!(
            std::fs::read_dir(namespace.folder()).unwrap().count(),
            0,
            "no empty folders"
        );
    }));
}
