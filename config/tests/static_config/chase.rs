//! `edge.chase`: what it comes to, and what is refused with its place.

use std::time::Duration;

use constellation_config::{Chase, Config};

use super::load;

fn chase(text: &str) -> Chase {
    let loaded = load("yaml", text, &[], &[]).unwrap_or_else(|(errors, _)| panic!("{text}: {errors}"));
    loaded.config.edge.chase
}

fn shown(chase: &Chase) -> Vec<String> {
    chase.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn it_is_off_unless_devices_are_named() {
    assert_eq!(Config::default().edge.chase, Chase::default());
    assert!(Chase::default().devices.is_empty());
    assert_eq!(
        chase("{}"),
        Chase::default(),
        "wildcards are no address that moves"
    );
}

#[test]
fn what_moves_is_named_or_is_what_entry_points_name() {
    let of_entry_points = chase(
        "edge: {chase: {devices: [eth0, br0.7], previous: [10.0.0.7, 'fd00::7'], for: 90s}}
entryPoints:
  a: {address: [':8443', '10.0.0.1:443', '10.1.2.3/16:443', '127.0.0.1:444', '[fd00::1]:443']}
  b: {address: '10.0.0.1:80'}
  c: {address: '10.0.0.2:53/udp'}
",
    );
    assert_eq!(of_entry_points.devices, ["eth0", "br0.7"]);
    assert_eq!(of_entry_points.duration, Duration::from_secs(90));
    assert_eq!(of_entry_points.previous.len(), 2);
    assert_eq!(
        shown(&of_entry_points),
        ["10.0.0.1/32", "10.1.0.0/16", "fd00::1/128"]
    );
    let named = chase(
        "{edge: {chase: {devices: [eth0], addresses: [192.0.2.10, 192.0.2.99/28]}}, entryPoints: {a: {address: '10.0.0.1:80'}}}",
    );
    assert_eq!(shown(&named), ["192.0.2.10/32", "192.0.2.96/28"]);
}

#[test]
fn nonsense_is_refused() {
    let table = [
        (
            "{devices: ['eth 0']}",
            "edge.chase.devices[0]: is no name of a network device",
        ),
        (
            "{devices: [auto:0]}",
            "edge.chase.devices[0]: is no name of a network device",
        ),
        ("{for: 500ms}", "expected: 1s to 24h"),
        ("{for: 25h}", "edge.chase.for: is out of range"),
        ("{addresses: [edge-2]}", "edge.chase.addresses"),
        ("{previous: [edge-2]}", "edge.chase.previous[0]: is no address"),
        (
            "{previous: [10.0.0.1, '::ffff:10.0.0.2']}",
            "edge.chase.previous[1]: is a second address of its family",
        ),
        ("{device: [eth0]}", "edge.chase.device"),
    ];
    for (text, expected) in table {
        let text = format!("edge: {{chase: {text}}}");
        let (shown, _) = load("yaml", &text, &[], &[]).expect_err(&text);
        assert!(shown.contains(expected), "of {text}: {shown}");
    }
}
