//! What the static configuration says of TCP and UDP: entry points by protocol, whose PROXY headers count, transports.

use std::time::Duration;

use constellation_config::{Config, EntryPoint, Loaded, Protocol, SteeringMode};

use super::load;

fn loaded(text: &str) -> Loaded {
    load("yaml", text, &[], &[]).unwrap_or_else(|(errors, _)| panic!("{text}: {errors}"))
}

fn entry_point(config: &Config, name: &str) -> EntryPoint {
    let mut all = config.entry_points.iter();
    all.find(|entry_point| entry_point.name == name).unwrap().clone()
}

#[test]
fn one_port_may_be_an_entry_point_of_each_protocol() {
    let config = loaded(
        "entryPoints:
  dns: {address: [':53/udp', '127.0.0.1:54/UDP']}
  dns-tcp: {address: ':53/tcp'}
  web: {address: ':80'}
",
    )
    .config;
    let found: Vec<(&str, Protocol, usize, bool)> = config
        .entry_points
        .iter()
        .map(|e| (e.name.as_str(), e.protocol, e.addresses.len(), e.as_default))
        .collect();
    assert_eq!(
        found,
        [
            ("dns", Protocol::Udp, 2, false),
            ("dns-tcp", Protocol::Tcp, 1, true),
            ("web", Protocol::Tcp, 1, true),
        ]
    );
}

#[test]
fn an_entry_point_for_datagrams_is_no_default_one_whatever_it_says() {
    let read = loaded(
        "entryPoints: {dns: {address: ':53/udp', asDefault: true, http: {tls: {}}}, web: {address: ':80'}}",
    );
    assert!(!entry_point(&read.config, "dns").as_default);
    assert!(entry_point(&read.config, "web").as_default);
    for option in ["asDefault", "http"] {
        let expected = format!(
            "entryPoints.dns.{option} has no effect: the entry point takes datagrams (/udp); remove it"
        );
        assert!(read.warnings.contains(&expected), "{:?}", read.warnings);
    }
}

#[test]
fn options_of_streams_arrive() {
    let config = loaded(
        "entryPoints:
  a:
    address: ':1'
    proxyProtocol: {trustedIPs: [10.0.0.0/8, '::1']}
    limits: {tcpIdleTimeout: 1h}
  b:
    address: ':1/udp'
    udp: {timeout: 10}
    limits: {udpMaxSessions: 7, udpMaxSessionsPerSource: 0}
  c: {address: ':2', proxyProtocol: {insecure: true}}
tcpServersTransport:
  dialTimeout: 3s
  dialKeepAlive: 0
  terminationDelay: -1ms
  tls: {rootCAs: /ca.pem}
",
    )
    .config;
    let (a, b, c) = (
        entry_point(&config, "a"),
        entry_point(&config, "b"),
        entry_point(&config, "c"),
    );
    assert_eq!(a.timeouts.tcp_idle, Some(Duration::from_secs(3600)));
    assert!(!a.proxy_protocol.insecure && c.proxy_protocol.insecure);
    let networks: Vec<String> = a
        .proxy_protocol
        .trusted_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(b.udp.timeout, Duration::from_secs(10));
    assert_eq!((b.udp.max_sessions, b.udp.max_sessions_per_source), (7, None));
    let transport = config.tcp_servers_transport;
    assert_eq!(transport.dial_timeout, Duration::from_secs(3));
    assert_eq!(
        (transport.dial_keep_alive, transport.termination_delay),
        (None, None)
    );
    assert_eq!(transport.root_cas, [std::path::PathBuf::from("/ca.pem")]);
}

#[test]
fn a_delay_of_nothing_is_not_the_absence_of_a_limit() {
    for (written, expected) in [
        ("0", Some(Duration::ZERO)),
        ("100ms", Some(Duration::from_millis(100))),
        ("5", Some(Duration::from_secs(5))),
        ("-1", None),
    ] {
        let config = loaded(&format!("tcpServersTransport: {{terminationDelay: {written}}}")).config;
        assert_eq!(
            config.tcp_servers_transport.termination_delay, expected,
            "{written}"
        );
    }
}

#[test]
fn networks_stand_beside_addresses() {
    let config = loaded(
        "edge: {steering: EBPF, lease: {ttl: 2s, renew: 500ms}}
entryPoints:
  a: {address: [':443', '10.1.2.3/16:443', '[fd00::1]/64:443']}
  b: {address: ['127.0.0.1:0', '10.1.2.0/24:443/tcp']}
",
    )
    .config;
    assert_eq!(config.edge.steering, SteeringMode::Ebpf);
    assert_eq!(config.edge.lease.ttl, Duration::from_secs(2));
    let prefixes = |name| {
        let prefixes = entry_point(&config, name).prefixes;
        prefixes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(prefixes("a"), ["10.1.0.0/16:443", "[fd00::]/64:443"]);
    assert_eq!(prefixes("b"), ["10.1.2.0/24:443"]);
}

#[test]
fn what_steering_does_not_allow_is_refused() {
    let table = [
        ("edge: {lease: {ttl: 100ms}}", "edge.lease.ttl: is out of range"),
        (
            "edge: {lease: {ttl: 1s, renew: 600ms}}",
            "expected: 50ms to 500ms",
        ),
        (
            "{edge: {steering: off}, entryPoints: {a: {address: [':1', '10.0.0.0/8:1']}}}",
            "needs steering, and edge.steering is off",
        ),
        (
            "entryPoints: {a: {address: ['127.0.0.1:8080/udp', '10.0.0.0/8:1/udp']}}",
            "those are for TCP only",
        ),
        (
            "entryPoints: {a: {address: [':1', '10.0.0.0/8:1']}, b: {address: [':2', '10.0.0.0/8:1']}}",
            "which is taken by entryPoints.a.address",
        ),
        (
            "entryPoints: {a: {address: [':1', '127.0.0.0/8:8080']}}",
            "which contains control.address (127.0.0.1:8080)",
        ),
    ];
    for (text, expected) in table {
        let (shown, _) = load("yaml", text, &[], &[]).expect_err(text);
        assert!(shown.contains(expected), "of {text}: {shown}");
    }
}

#[test]
fn refusals() {
    let table = [
        (
            "entryPoints: {a: {address: ':1/udp', udp: {timeout: 0}}}",
            "c.yaml:1:53: entryPoints.a.udp.timeout: must be more than 0\n    value: 0\n    expected: a duration such as 10s",
        ),
        (
            "entryPoints: {a: {address: ':1/udp'}, b: {address: '127.0.0.1:1/udp'}}",
            "c.yaml:1:52: entryPoints.b.address: is taken by entryPoints.a.address ([::]:1)\n    value: \"127.0.0.1:1/udp\"\n    hint: give one of them another port or another IP address",
        ),
        (
            "entryPoints: {a: {address: ':1', http: {redirections: {entryPoint: {to: b}}}}, b: {address: ':2/udp'}}",
            "c.yaml:1:73: entryPoints.a.http.redirections.entryPoint.to: the entry point takes datagrams\n    value: \"b\"\n    hint: name one that takes connections",
        ),
        (
            "entryPoints: {a: {address: ':1/quic'}}",
            "c.yaml:1:28: entryPoints.a.address: names an unknown protocol\n    value: \":1/quic\"\n    expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one\n    hint: write /tcp or /udp, or nothing for TCP",
        ),
        (
            "entryPoints: {a: {address: ':1', proxyProtocol: {trustedIPs: x}}}",
            "c.yaml:1:62: entryPoints.a.proxyProtocol.trustedIPs[0]: is not an address or network\n    value: \"x\"\n    expected: an IP address or a network such as 10.0.0.0/8",
        ),
        (
            "entryPoints: {a: {address: ['10.0.0.0/8:1', '[::1]:1']}}",
            "c.yaml:1:28: entryPoints.a.address: holds the network 10.0.0.0/8:1, and no IPv4 address beside it to listen on\n    value: a list of 2\n    hint: add one, such as 127.0.0.1:0",
        ),
        (
            "tcpServersTransport: {terminationDelay: soon, dialTimeout: 0}",
            "c.yaml:1:41: tcpServersTransport.terminationDelay: is not a duration\n    value: \"soon\"\n    expected: a duration such as 500ms, 10s, 1m30s or -1ms, or a whole number of seconds\nc.yaml:1:60: tcpServersTransport.dialTimeout: must be more than 0\n    value: 0\n    expected: a duration such as 10s",
        ),
        (
            "control: {address: ':1/udp'}",
            "c.yaml:1:20: control.address: must be for TCP\n    value: \":1/udp\"\n    expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one\n    hint: remove /udp",
        ),
    ];
    for (text, expected) in table {
        let (shown, _) = load("yaml", text, &[], &[]).expect_err(text);
        assert_eq!(shown, expected, "of {text}");
    }
}
