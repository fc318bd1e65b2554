//! `edge.guard`: what it comes to, and what is refused with its place.

use std::path::Path;
use std::time::Duration;

use constellation_config::{Config, Guard, GuardMode, GuardRate, Protocol, XdpMode};

use super::load;

fn guard(text: &str) -> Guard {
    let loaded = load("yaml", &format!("edge: {{guard: {text}}}"), &[], &[]);
    let loaded = loaded.unwrap_or_else(|(errors, _)| panic!("{text}: {errors}"));
    loaded.config.edge.guard
}

#[test]
fn without_a_word_there_is_no_guard() {
    assert_eq!(guard("{}"), Guard::default());
    assert_eq!(Config::default().edge.guard.mode, GuardMode::Off);
    assert!(Guard::default().devices.of_default_routes);
}

#[test]
fn everything_arrives() {
    let guard = guard(
        "{mode: auto, devices: [AUTO, tailscale0, eth0, eth0], deny: 192.0.2.9/24, allow: ['203.0.113.7', '2001:db8::/32'],
          connections: {perSecond: 50}, flows: {perSecond: 10, burst: 30}, flowIdle: 1m, ports: [443, '53/udp', 0/TCP],
          attack: {xdp: off, raise: 1000, calm: 10, patience: 5m},
          feed: {enabled: true, offences: 5, within: 10s, ban: 1m, longest: 2h}}",
    );
    assert_eq!(guard.mode, GuardMode::Auto);
    assert!(guard.devices.of_default_routes);
    assert_eq!(guard.devices.names, ["tailscale0", "eth0"]);
    assert_eq!(guard.deny, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(guard.allow.len(), 2);
    let rate = |per_second, burst| GuardRate { per_second, burst };
    assert_eq!((guard.connections, guard.flows), (rate(50, 50), rate(10, 30)));
    assert_eq!(
        guard.ports,
        [(Protocol::Tcp, 443), (Protocol::Udp, 53), (Protocol::Tcp, 0)]
    );
    assert_eq!((guard.attack.xdp, guard.attack.raise), (XdpMode::Off, 1000));
    assert_eq!(guard.flow_idle, Duration::from_secs(60));
    assert!(guard.feed.enabled);
    assert_eq!(guard.feed.longest, Duration::from_secs(7200));
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    let table = [
        (
            "{deny: [192.0.2.1, '0.0.0.0/0']}",
            "edge.guard.deny[1]: denies everybody",
        ),
        ("{deny: ['192.0.2.0/33']}", "edge.guard.deny"),
        ("{mode: auto, devices: []}", "edge.guard.devices: is empty"),
        (
            "{devices: [eth0, 'a/b']}",
            "edge.guard.devices[1]: is no name of a network device",
        ),
        ("{devices: [a-name-that-is-too-long]}", "at most 15 characters"),
        (
            "{connections: {burst: 5}}",
            "edge.guard.connections.burst: has no meaning without perSecond",
        ),
        (
            "{connections: {perSecond: 1000001}}",
            "edge.guard.connections.perSecond",
        ),
        ("{ports: [443, 53/sctp]}", "edge.guard.ports[1]: is no port"),
        ("{ports: [65536]}", "edge.guard.ports[0]: is no port"),
        ("{flowIdle: 0s}", "edge.guard.flowIdle: is out of range"),
        (
            "{attack: {raise: 10, calm: 10}}",
            "edge.guard.attack.calm: is not less",
        ),
        (
            "{attack: {patience: 10ms}}",
            "edge.guard.attack.patience: is out of range",
        ),
        (
            "{feed: {ban: 1h, longest: 1m}}",
            "edge.guard.feed.longest: is out of range",
        ),
        ("{feed: {offences: 0}}", "edge.guard.feed.offences"),
        ("{mode: on}", "edge.guard.mode"),
    ];
    for (text, words) in table {
        let (errors, _) = load("yaml", &format!("edge: {{guard: {text}}}"), &[], &[]).unwrap_err();
        let errors = errors.to_string();
        assert!(
            errors.contains(words) && errors.contains("c.yaml:1:"),
            "{text}: {errors}"
        );
    }
    // Everybody but some is a meaning.
    assert_eq!(
        guard("{deny: ['0.0.0.0/0', '::/0'], allow: [10.0.0.0/8]}")
            .deny
            .len(),
        2
    );
}

#[test]
fn the_folder_of_what_is_kept_has_a_variable_of_its_own() {
    let folder = |text: &str, env: &[(&str, &str)]| {
        load("yaml", text, env, &[]).map(|loaded| loaded.config.node.data_dir)
    };
    assert_eq!(folder("", &[]).unwrap(), Path::new("/opt/constellation/data"));
    let variable = [("DATA_DIR", "/srv/data")];
    assert_eq!(
        folder("node: {dataDir: /elsewhere}", &variable).unwrap(),
        Path::new("/srv/data")
    );
    let (errors, _) = folder("node: {dataDir: data}", &[]).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("node.dataDir: is not an absolute path"),
        "{errors}"
    );
}
