//! An address moves from one node to another, by hand: connections through the first node's proxy go on, and new ones go
//! to the second.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use constellation_tests::busy::{self, Busy, connect};
use constellation_tests::host::Host;
use constellation_tests::lan::{Lan, OLD, own4, own6};
use constellation_tests::node::{Cli, Node};
use constellation_tests::{eventually, require, sandbox};
use serde_json::{Value, json};

const PORT: u16 = 443;
/// At the bridge's networks, as a virtual address usually is.
const VIPS: [(&str, u8, u8); 2] = [("10.7.0.100", 24, 32), ("fd07::64", 64, 128)];
const BULK: u64 = 50_000_000;
const PINGS: usize = 4;

fn target(vip: &str) -> SocketAddr {
    (vip.parse::<IpAddr>().unwrap(), PORT).into()
}

fn may_make_namespaces() -> Result<(), String> {
    require::root().map_err(|_| "needs root to make namespaces".to_owned())?;
    require::program("ip").map(drop)
}

/// As an operator sets up hosts that share an address: who has it to itself does not answer for it.
fn for_a_shared_address() {
    for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
        let path = format!("/proc/sys/net/ipv4/conf/all/{key}");
        std::fs::write(path, value).unwrap();
    }
}

/// A node in front of a server that says this name.
fn start(host: &Host, name: char, config: Value) -> Arc<Node> {
    let node = host.wait(async move || {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let routes = json!({ "tcp": {
            "routers": { "all": { "entryPoints": ["tcp"], "rule": "HostSNI(`*`)", "service": "all" } },
            "services": { "all": { "loadBalancer": { "servers": [{ "address": server.local_addr().unwrap().to_string() }] } } },
        } });
        busy::serve(server, name);
        let builder = Node::builder()
            .steering()
            .config(json!({ "entryPoints": { "tcp": { "address": format!(":{PORT}") } } }))
            .config(config)
            .dynamic("routes.json", &routes.to_string());
        builder.start().await
    });
    Arc::new(node)
}

fn chase_at_edge() -> Value {
    json!({ "edge": { "chase": {
        "devices": ["edge"],
        "addresses": VIPS.map(|(vip, _, _)| vip),
        "previous": [own4(OLD), own6(OLD)],
    } } })
}

/// The two nodes, the first of which has the address.
fn nodes(lan: &Lan, of_the_new_one: Value) -> (Arc<Node>, Arc<Node>) {
    for (vip, bits, _) in VIPS {
        let nodad = if vip.contains(':') { " nodad" } else { "" };
        lan.old.ip([format!("addr add {vip}/{bits} dev edge{nodad}")]);
    }
    (
        start(&lan.old, 'O', json!({})),
        start(&lan.new, 'N', of_the_new_one),
    )
}

/// The old holder keeps it to itself, the new one takes it, and the client asks the network again.
fn move_address(lan: &Lan) {
    for (vip, bits, whole) in VIPS {
        let nodad = if vip.contains(':') { " nodad" } else { "" };
        lan.old.ip([
            format!("addr add {vip}/{whole} dev lo{nodad}"),
            format!("addr del {vip}/{bits} dev edge"),
        ]);
        lan.new.ip([format!("addr add {vip}/{bits} dev edge{nodad}")]);
        lan.client.ip([format!("neigh flush to {vip} dev edge")]);
    }
}

fn lively(lan: &Lan) -> Vec<Busy> {
    let opened = VIPS.map(|(vip, _, _)| lan.client.run(move || busy::open(target(vip), 'O', PINGS)));
    opened
        .into_iter()
        .flatten()
        .map(|connection| connection.goes_on(10).unwrap())
        .collect()
}

fn answerers(lan: &Lan, count: usize) -> String {
    lan.client.run(move || {
        (0..count)
            .map(|number| match connect(target(VIPS[number % 2].0)) {
                Ok((_, name)) => name,
                Err(error) => panic!("connection {number}: {error}"),
            })
            .collect()
    })
}

fn cli(host: &Host, node: &Arc<Node>, arguments: &'static [&'static str]) -> Cli {
    let node = Arc::clone(node);
    host.wait(async move || node.cli(arguments).await)
}

#[test]
fn connections_through_the_old_holder_go_on_and_new_ones_go_to_the_new_one() {
    require!(may_make_namespaces());
    let lan = Lan::new(for_a_shared_address);
    let (_old, new) = nodes(&lan, chase_at_edge());
    let told = cli(&lan.new, &new, &["chase", "status"]);
    assert!(
        told.stdout.contains("active at edge: nothing has moved here"),
        "{told:?}"
    );
    let connections = lively(&lan);

    let told = cli(&lan.new, &new, &["chase", "on", "--for", "5m"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.stdout
            .contains("moved        10.7.0.100 from 10.7.0.2, for another 300 s"),
        "{told:?}"
    );
    assert!(
        told.stdout.contains("moved        fd07::64 from fd07::2"),
        "{told:?}"
    );
    move_address(&lan);
    assert_eq!(answerers(&lan, 50), "N".repeat(50));
    let connections: Vec<Busy> = connections
        .into_iter()
        .map(|connection| {
            let by = if connection.what == "ping-pong" { 100 } else { BULK };
            connection.goes_on(by).expect("after the move")
        })
        .collect();

    // An upgrade goes on with what has moved.
    let new = {
        let host = &lan.new;
        host.wait(async move || {
            new.upgrade().await.unwrap();
            eventually(
                "the successor has it",
                async || match new.status().await["chase"].clone() {
                    chase if chase["state"] == "active" => Ok(()),
                    chase => Err(chase),
                },
            )
            .await;
            new
        })
    };
    let told = cli(&lan.new, &new, &["chase", "status", "--json"]).json();
    assert_eq!(told["moved"].as_array().map(Vec::len), Some(2), "{told}");
    let connections: Vec<Busy> = connections
        .into_iter()
        .map(|connection| connection.goes_on(100).expect("after the upgrade"))
        .collect();
    let (text, health) = {
        let new = Arc::clone(&new);
        lan.new
            .wait(async move || (new.cli(&["status"]).await.stdout, new.ask("/health").await.status))
    };
    assert!(
        text.contains("connections of 2 addresses stay with the node before"),
        "{text}"
    );
    assert_eq!(health, 200);
    let metrics = {
        let new = Arc::clone(&new);
        lan.new.wait(async move || new.metrics().await)
    };
    let packets = |verdict| metrics.sum("constellation_chase_packets_total", &[("verdict", verdict)]);
    assert!(packets("chased") > 1000.0, "{}", packets("chased"));
    assert!(packets("opening") >= 50.0 && packets("known") > 0.0);
    assert_eq!(packets("hop_limit"), 0.0);
    assert_eq!(metrics.sum("constellation_chase_addresses", &[]), 2.0);

    // Of one address it is over: its connections end here, and those of the other go on.
    let told = cli(&lan.new, &new, &["chase", "off", "--address", "10.7.0.100"]);
    assert_eq!(told.code, 0, "{told:?}");
    let mut connections = connections.into_iter();
    for connection in connections.by_ref().take(PINGS + 2) {
        let end = connection.goes_on(u64::MAX / 2).err().expect("it ends");
        assert!(
            end.contains("reset by peer") || end.contains("Broken pipe"),
            "{end}"
        );
    }
    for connection in connections {
        let connection = connection.goes_on(100).expect("the other one");
        connection.end().expect("to the last byte");
    }
}

#[test]
fn without_it_they_end() {
    require!(may_make_namespaces());
    let lan = Lan::new(for_a_shared_address);
    let (_old, new) = nodes(&lan, json!({}));
    let refused = cli(&lan.new, &new, &["chase", "on", "--previous", "10.7.0.2"]);
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(
        refused.stderr.contains("edge.chase.devices is empty"),
        "{refused:?}"
    );
    let connections = lively(&lan);
    move_address(&lan);
    assert_eq!(answerers(&lan, 4), "NNNN");
    for connection in connections {
        let what = connection.what;
        let end = connection
            .goes_on(u64::MAX / 2)
            .err()
            .unwrap_or_else(|| panic!("{what} lives"));
        assert!(
            end.contains("reset by peer") || end.contains("Broken pipe"),
            "{end}"
        );
    }
}

#[test]
fn who_only_reads_changes_nothing_and_nonsense_is_refused() {
    require!(sandbox::run(
        &[
            "link add edge type veth peer name other",
            "addr add 10.7.0.3/24 dev edge",
            "link set edge up",
        ],
        async || {
            let node = Node::builder()
                .config(json!({
                    "entryPoints": { "web": { "address": ["127.0.0.1:8000", "10.7.0.3:8000"] } },
                    "edge": { "steering": "off", "chase": { "devices": ["edge", "later"], "for": "2m" } },
                }))
                .start()
                .await;
            // No token.
            let url = format!("http://{}/api/v1/chase/on", node.control());
            let refused = tokio::task::spawn_blocking(move || {
                std::process::Command::new("curl")
                    .args([
                        "-s",
                        "-o",
                        "/dev/null",
                        "-w",
                        "%{http_code}",
                        "-X",
                        "POST",
                        "-H",
                        "Content-Type: application/json",
                        "-d",
                        "{}",
                        &url,
                    ])
                    .output()
                    .unwrap()
            });
            assert_eq!(String::from_utf8_lossy(&refused.await.unwrap().stdout), "401");
            for (arguments, code, expected) in [
                (vec!["chase", "on"], 2, "who had 10.7.0.3/32 before is not said"),
                (
                    vec!["chase", "on", "--previous", "10.7.0.3"],
                    2,
                    "this node's own address",
                ),
                (
                    vec!["chase", "on", "--previous", "192.0.2.1"],
                    2,
                    "192.0.2.1 is not in the network of edge",
                ),
                (
                    vec!["chase", "on", "--previous", "10.7.0.2", "--for", "48h"],
                    2,
                    "out of range",
                ),
                (
                    vec!["chase", "on", "--previous", "10.7.0.2", "--address", "fd00::1"],
                    2,
                    "expected an IPv6 address",
                ),
            ] {
                let refused = node.cli(&arguments).await;
                assert_eq!(refused.code, code, "{refused:?}");
                assert!(refused.stderr.contains(expected), "{refused:?}");
                assert_eq!(node.status().await["chase"]["moved"], json!([]));
            }
            // One device is missing: said, and no reason not to serve.
            let health = node.ask("/health").await;
            assert_eq!(health.status, 200);
            let status = node.status().await;
            assert_eq!(status["status"], "degraded");
            let problem = status["chase"]["problems"][0].as_str().unwrap().to_owned();
            assert!(problem.contains("not at later"), "{problem}");
            sandbox::ip("link add later type veth peer name last").unwrap();
            let told = node.cli(&["chase", "on", "--previous", "10.7.0.2"]).await;
            assert!(
                told.stdout.contains("active at edge later")
                    && told.stdout.contains("10.7.0.3 from 10.7.0.2, for another 120 s"),
                "{told:?}"
            );
            let pinned = node.cli(&["ebpf", "status", "--json"]).await.json();
            assert_eq!(
                (&pinned["held"], pinned["links"].as_array().map(Vec::len)),
                (&json!(true), Some(2)),
                "{pinned}"
            );
            assert_eq!(node.cli(&["chase", "off"]).await.code, 0);
            assert_eq!(node.status().await["chase"]["moved"], json!([]));
        }
    ));
}
