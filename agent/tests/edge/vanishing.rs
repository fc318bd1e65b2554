//! Virtual addresses go without anybody's help, and those of others are left alone.

use std::thread;
use std::time::{Duration, Instant};

use constellation_agent::vip::VirtualIps;
use constellation_tests::lan::{Lan, NEW, OLD};
use constellation_tests::{PATIENCE, busy, require};

use crate::lessor::Lessor;
use crate::site::{Site, config, may_make_namespaces, targets};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(1);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

#[test]
fn the_addresses_of_a_holder_that_nobody_wakes_vanish_and_another_takes_them() {
    require!(may_make_namespaces());
    let lan = Lan::new(|| {});
    let lessor = Lessor::at(0);
    let frozen = Site::start(&lan.old, OLD, 'O', &lessor, SHORT);
    frozen.gain(None);
    let connects = |name: char| {
        let connect = move || targets().map(|target| busy::connect(target).map(|(_, name)| name).ok());
        lan.client.run(connect) == [Some(name); 2]
    };
    assert!(connects('O'));
    // Nobody renews, as in a process that is stopped.
    until("the kernel removes them", || {
        targets()
            .iter()
            .all(|target| frozen.devices_of(target.ip()).is_empty())
    });
    // Another log, in which the lease has run out.
    let next = Site::start(&lan.new, NEW, 'N', &Lessor::at(50), LONG);
    next.gain(None);
    assert!(connects('N'));
    // It wakes, and does not get past its deadline.
    let woken = frozen.run(|parts, tenant| {
        assert!(tenant.held().is_none());
        parts.edge.lost();
        parts.edge.tend()
    });
    assert!(
        woken.is_some_and(|left| left > SHORT),
        "kept for connections that are open"
    );
    assert!(connects('N'));
}

#[test]
fn what_an_operator_has_configured_is_refused_and_what_a_dead_process_has_left_is_removed() {
    require!(may_make_namespaces());
    let lan = Lan::new(|| {});
    let left = Site::start(&lan.old, OLD, 'O', &Lessor::at(0), LONG);
    left.gain(None);
    left.run(|_, _| {
        // Another process of the node.
        let virtual_ips = VirtualIps::prepare(&config()).unwrap();
        virtual_ips.clear_leftovers().unwrap();
    });
    assert!(
        targets()
            .iter()
            .all(|target| left.devices_of(target.ip()).is_empty())
    );

    lan.new.ip(["addr add 10.7.0.100/32 dev lo"]);
    let refused = lan
        .new
        .run(|| VirtualIps::prepare(&config()).map(drop).unwrap_err());
    let text = refused.to_string();
    assert!(
        text.contains("10.7.0.100 is configured on lo by somebody else")
            && text.contains("ip address del 10.7.0.100/32 dev lo"),
        "{text}"
    );
    lan.new.ip(["addr del 10.7.0.100/32 dev lo"]);
    let refused = lan.new.run(|| {
        let mut config = config();
        config.edge.virtual_ips = vec!["203.0.113.5/24".parse().unwrap()];
        VirtualIps::prepare(&config).map(drop).unwrap_err().to_string()
    });
    assert!(
        refused.contains("name the device in edge.virtualIpDevice"),
        "{refused}"
    );
}
