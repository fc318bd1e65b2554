//! `edge.virtualIps`: what it comes to, and what is refused with its place.

use super::load;

#[test]
fn addresses_come_with_their_networks() {
    let text = "edge: {virtualIps: [192.0.2.10/24, '2001:db8::10/64', 198.51.100.7, 10.0.0.0/31], virtualIpDevice: br0.7}";
    let edge = load("yaml", text, &[], &[])
        .unwrap_or_else(|(errors, _)| panic!("{errors}"))
        .config
        .edge;
    let shown: Vec<String> = edge.virtual_ips.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "192.0.2.10/24",
            "2001:db8::10/64",
            "198.51.100.7/32",
            "10.0.0.0/31"
        ]
    );
    assert_eq!(edge.virtual_ip_device.as_deref(), Some("br0.7"));
    let none = load("yaml", "{}", &[], &[])
        .unwrap_or_else(|(errors, _)| panic!("{errors}"))
        .config
        .edge;
    assert_eq!((none.virtual_ips.len(), none.virtual_ip_device), (0, None));
}

#[test]
fn nonsense_is_refused() {
    let table = [
        ("{virtualIps: [edge-2]}", "edge.virtualIps[0]: is no address"),
        ("{virtualIps: [10.0.0.1/33]}", "edge.virtualIps[0]: is no address"),
        (
            "{virtualIps: [10.0.0.0/24]}",
            "edge.virtualIps[0]: is a network rather than an address",
        ),
        (
            "{virtualIps: [10.0.0.255/24]}",
            "edge.virtualIps[0]: is a network",
        ),
        (
            "{virtualIps: ['2001:db8::/64']}",
            "edge.virtualIps[0]: is a network",
        ),
        (
            "{virtualIps: [10.0.0.1/24, 10.0.0.1]}",
            "edge.virtualIps[1]: is there twice",
        ),
        ("{virtualIps: [127.0.0.1]}", "edge.virtualIps[0]: can't be"),
        ("{virtualIps: ['fe80::1/64']}", "edge.virtualIps[0]: can't be"),
        ("{virtualIps: [224.0.0.1]}", "edge.virtualIps[0]: can't be"),
        ("{virtualIpDevice: 'eth 0'}", "edge.virtualIpDevice: is no name"),
    ];
    for (text, expected) in table {
        let text = format!("edge: {text}");
        let (shown, _) = load("yaml", &text, &[], &[]).expect_err(&text);
        assert!(shown.contains(expected), "of {text}: {shown}");
    }
}
