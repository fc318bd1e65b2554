//! Under attack: floods of SYN while others are served, the move into the driver and back, and who is banned for what
//! they do to the proxy.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use constellation_tests::backend::Backend;
use constellation_tests::client::wire::Wire;
use constellation_tests::node::Node;
use constellation_tests::packet::{Sender, datagram, syn};
use constellation_tests::peer::{self, EDGE, Peer};
use constellation_tests::{PATIENCE, eventually, require};
use serde_json::{Value, json};

use super::guard::{ALICE, BOB, HOST, builder, comes_in, guard, packets, web};

/// No flood lasts longer, whatever happens.
const LONGEST: Duration = Duration::from_secs(20);

/// Sends so many SYN to the entry point, from so many sources that nobody has; how many were sent.
fn flood(count: u32, sources: u32) -> u32 {
    let sender = Sender::open().unwrap();
    let SocketAddr::V4(to) = web() else { panic!("IPv4") };
    let started = Instant::now();
    let mut sent = 0;
    for number in 0..count {
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number % sources);
        let port = 1024 + u16::try_from(number / sources % 60_000).unwrap();
        sender
            .send(&syn(SocketAddrV4::new(source, port), to, number), *to.ip())
            .unwrap();
        sent += 1;
        if started.elapsed() > LONGEST {
            break;
        }
    }
    sent
}

/// Serves clients for as long as the flood lasts; how many, and what it sent.
async fn serve_through(peer: &Peer, count: u32, sources: u32) -> (u32, u32) {
    let over = Arc::new(AtomicBool::new(false));
    let ends = over.clone();
    let flooding = peer.spawn(move || {
        let sent = flood(count, sources);
        ends.store(true, Ordering::SeqCst);
        sent
    });
    let mut served = 0;
    loop {
        let was_over = over.load(Ordering::SeqCst);
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200), "while others flood");
        served += u32::from(!was_over);
        if was_over {
            break;
        }
    }
    let sent = tokio::task::spawn_blocking(|| flooding.join().unwrap())
        .await
        .unwrap();
    (served, sent)
}

#[test]
fn others_are_served_while_one_source_or_a_hundred_thousand_flood() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let node = builder(&backend)
            .config(json!({ "edge": { "guard": {
                "connections": { "perSecond": 20, "burst": 50 }, "allow": [format!("{BOB}/32")],
            } } }))
            .start()
            .await;
        // How many packets of the flood were admitted, and how many were not. The cable loses some before they are judged.
        let judged = async |sent: u32, before: [u64; 2]| {
            eventually("the flood is judged", async || {
                let admitted = packets(&node, "syn_admitted").await - before[0];
                let limited = packets(&node, "syn_limited").await - before[1];
                (admitted + limited >= u64::from(sent / 10))
                    .then_some([admitted, limited])
                    .ok_or(format!("{admitted} + {limited} of {sent}"))
            })
            .await
        };
        let (served, sent) = serve_through(&peer, 200_000, 1).await;
        assert!(served > 0, "at least one while it went on");
        let [admitted, limited] = judged(sent, [0, 0]).await;
        println!(
            "one source: {sent} sent, {admitted} admitted, {limited} limited, {served} clients served meanwhile"
        );
        // What two buckets hold, the flood's and the served clients', and what runs in meanwhile.
        let most = 2 * (50 + 20 * (LONGEST.as_secs() + 2));
        assert!(
            admitted <= most,
            "{admitted} of {sent} admitted, {limited} limited"
        );

        let (served, sent) = serve_through(&peer, 300_000, 100_000).await;
        assert!(served > 0, "at least one while it went on");
        let [admitted, limited] = judged(sent, [admitted, limited]).await;
        println!(
            "100,000 sources: {sent} sent, {admitted} admitted, {limited} limited, {served} served meanwhile"
        );
        assert!(admitted > limited, "none of them is beyond its limit");
        // Who is allowed runs into the limit as well, and nobody says that their packets were dropped.
        assert!(packets(&node, "allowed").await > 0);
        let events = guard(&node).await["events"].clone();
        assert!(!events.to_string().contains(BOB), "{events}");
        assert_eq!(
            peer.get(ALICE, web(), HOST).await,
            Ok(200),
            "and everybody after it"
        );
        let events = events.as_array().map_or(0, Vec::len);
        assert!((1..=100).contains(&events), "{events}");
    }));
}

#[test]
fn under_attack_the_guard_moves_into_the_driver_and_back() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let attack = json!({ "raise": 200, "calm": 50, "patience": "1s" });
        let node = builder(&backend)
            .config(json!({ "edge": { "guard": { "deny": [format!("{ALICE}/32")], "attack": attack } } }))
            .start()
            .await;
        let hook = async |expected: &str| {
            eventually(&format!("the guard is at {expected}"), async || {
                let guard = guard(&node).await;
                (guard["devices"][0]["hook"] == expected)
                    .then_some(())
                    .ok_or(format!("{guard}\n{}", node.log()))
            })
            .await;
        };
        hook("tcx").await;
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let flooding = peer.spawn(move || {
            let sender = Sender::open().unwrap();
            let (from, to): (SocketAddrV4, SocketAddrV4) = (
                format!("{ALICE}:9").parse().unwrap(),
                format!("{EDGE}:9").parse().unwrap(),
            );
            let packet = datagram(from, to, b"flood");
            let started = Instant::now();
            while !ends.load(Ordering::SeqCst) && started.elapsed() < PATIENCE {
                for _ in 0..200 {
                    sender.send(&packet, *to.ip()).unwrap();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        hook("xdp").await;
        let state = guard(&node).await;
        assert_eq!(state["attack"]["under_attack"], true, "{state}");
        assert_eq!(
            node.metrics().await.sum("constellation_guard_under_attack", &[]),
            1.0
        );
        assert!(!comes_in(&node, &peer, ALICE).await);
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200));
        over.store(true, Ordering::SeqCst);
        tokio::task::spawn_blocking(|| flooding.join().unwrap())
            .await
            .unwrap();
        hook("tcx").await;
        let state = guard(&node).await;
        assert_eq!(
            (&state["attack"]["under_attack"], &state["attack"]["alarms"]),
            (&json!(false), &json!(1))
        );
        assert!(node.log().contains("the attack is over"), "{}", node.log());

        // By hand.
        let attack = async |mode: &str| {
            let said = node.cli(&["guard", "attack", mode]).await;
            assert_eq!(said.code, 0, "{said:?}");
        };
        attack("on").await;
        hook("xdp").await;
        assert!(!comes_in(&node, &peer, ALICE).await);
        attack("off").await;
        hook("tcx").await;
        attack("auto").await;
        hook("tcx").await;
    }));
}

#[test]
fn a_device_without_xdp_in_its_driver_stays_where_it_is_and_says_so_once() {
    require!(peer::run(
        &["tuntap add dev mesh mode tun", "link set mesh up"],
        async |_: Peer| {
            let backend = Backend::start("app").await;
            let node = builder(&backend)
            .config(json!({ "edge": { "guard": { "devices": ["mesh", "edge"], "attack": { "xdp": "on" } } } }))
            .start()
            .await;
            let state = guard(&node).await;
            assert_eq!(state["devices"][0]["hook"], "tcx", "{state}");
            assert!(
                state["devices"][0]["no_xdp"]
                    .as_str()
                    .unwrap()
                    .contains("Ethernet"),
                "{state}"
            );
            assert_eq!(state["devices"][1]["hook"], "xdp", "{state}");
            for mode in ["off", "on", "off", "on"] {
                assert_eq!(node.cli(&["guard", "attack", mode]).await.code, 0);
            }
            assert_eq!(
                node.log().matches("can't move into the driver").count(),
                1,
                "{}",
                node.log()
            );
        }
    ));
}

/// Sends something that is no request, again and again, until connections are not made any more.
async fn offend(node: &Node, peer: &Peer, from: &str) {
    for _ in 0..3 {
        let mut wire = Wire::over(peer.connect(from, web()).await.unwrap());
        wire.send("GET / HTTP/1.1\r\nBad Header: x\r\n\r\n").await;
        let answer = wire.read_to_close(PATIENCE).await;
        assert_eq!(answer.status(), Some(400), "{}", answer.text());
    }
    let count = async || {
        let metrics = node.metrics().await;
        metrics.sum("constellation_guard_offences_total", &[("offence", "malformed")])
    };
    eventually("the offences are counted", async || {
        let count = count().await;
        (count >= 3.0).then_some(()).ok_or(count)
    })
    .await;
}

#[test]
fn who_keeps_offending_is_banned_and_who_is_allowed_or_speaks_for_others_is_not() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let trusted = "10.9.0.4";
        let node = builder(&backend)
            .config(json!({
                "edge": { "guard": {
                    "allow": [format!("{BOB}/32")],
                    "feed": { "enabled": true, "offences": 3, "within": "1m", "ban": "2s", "longest": "1h" },
                } },
                "entryPoints": { "web": { "forwardedHeaders": { "trustedIPs": [trusted] } } },
            }))
            .start()
            .await;
        // Those that are spared first, so that all of theirs are counted by the time somebody is banned.
        offend(&node, &peer, BOB).await;
        offend(&node, &peer, trusted).await;
        offend(&node, &peer, ALICE).await;
        let banned = async |bans: f64| {
            eventually("the offender is banned", async || {
                let metrics = node.metrics().await;
                let count = metrics.sum("constellation_guard_bans_total", &[("source", "proxy")]);
                (count == bans)
                    .then_some(())
                    .ok_or(format!("{count}\n{}", node.log()))
            })
            .await;
        };
        banned(1.0).await;
        let lists: Value = node.cli(&["guard", "list", "--json"]).await.json();
        let denied = &lists["denied"][0];
        assert_eq!(denied["prefix"], format!("{ALICE}/32"));
        assert_eq!(denied["origin"], "proxy");
        assert_eq!(denied["reason"], "malformed: 3 offences within 1m");
        assert_eq!(lists["denied"].as_array().unwrap().len(), 1, "{lists}");
        for spared in [BOB, trusted] {
            assert_eq!(peer.get(spared, web(), HOST).await, Ok(200));
        }
        let free = async || {
            eventually("the ban is over", async || {
                let state = guard(&node).await;
                (state["denied"] == 0).then_some(()).ok_or(state)
            })
            .await;
        };
        free().await;
        assert_eq!(peer.get(ALICE, web(), HOST).await, Ok(200));
        // The next one is longer, and told with its length.
        offend(&node, &peer, ALICE).await;
        banned(2.0).await;
        assert!(node.log().contains("length=4s"), "{}", node.log());
        free().await;
    }));
}
