//! The port belongs to the lease: the kernel decides who is answered, whatever the daemon does.
//!
//! Each test has a network namespace and a BPF file system of its own, so ports can be named.

use std::io::ErrorKind;
use std::net::SocketAddr;

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::http::request;
use constellation_tests::node::{Node, NodeBuilder, constellation, route};
use constellation_tests::proof::upgrades::{Plan, run};
use constellation_tests::service_manager::ServiceManager;
use constellation_tests::{eventually, require, sandbox};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const HOST: &str = "app.test";
/// What the unit grants, and what the tests' files need of root.
const SERVICE: &str = "-all,+net_bind_service,+net_admin,+bpf,+perfmon";
/// Nothing that eBPF needs.
const NO_BPF: &str = "-bpf,-perfmon,-net_admin,-sys_admin";

/// A node that steers, with `web` at these places, in front of one back end.
fn builder(backend: &Backend, web: &[&str]) -> NodeBuilder {
    Node::builder()
        .steering()
        .config(json!({ "entryPoints": { "web": { "address": web } } }))
        .dynamic("routes.json", &route(HOST, &[backend.url()]).to_string())
}

async fn status_of(address: &str) -> Result<u16, String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut client = Client::h1(address)
        .await
        .map_err(|error| format!("{:?}", error.kind()))?;
    let answer = client.send(request(Method::GET, HOST, "/")).await;
    answer
        .map(|answer| answer.status.as_u16())
        .map_err(|error| error.to_string())
}

/// Waits until requests at an address are answered.
async fn serves(address: &str) {
    eventually(&format!("{address} serves"), async || {
        match status_of(address).await {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until connections to an address are refused.
async fn refuses(address: &str) {
    eventually(
        &format!("{address} refuses"),
        async || match TcpStream::connect(address).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

async fn lease(node: &Node) -> Value {
    node.status().await["steering"]["lease"].clone()
}

async fn pinned(node: &Node) -> Value {
    node.cli(&["ebpf", "status", "--json"]).await.json()
}

#[test]
fn a_frozen_node_is_refused_by_the_kernel_and_knows_it_when_it_wakes() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        let node = builder(&backend, &["127.0.0.1:8000"])
            .config(json!({ "edge": { "lease": { "ttl": "1s", "renew": "200ms" } } }))
            .start()
            .await;
        serves("127.0.0.1:8000").await;
        let before = lease(&node).await;
        assert_eq!(
            (&before["epoch"], &before["losses"]),
            (&json!(1), &json!(0)),
            "{before}"
        );
        let mut established = Client::h1("127.0.0.1:8000".parse().unwrap()).await.unwrap();
        assert_eq!(established.get(HOST, "/").await.status, 200);

        node.signal(Signal::SIGSTOP);
        refuses("127.0.0.1:8000").await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
        assert!(stat.contains(") T "), "nobody acted: {stat}");

        node.signal(Signal::SIGCONT);
        serves("127.0.0.1:8000").await;
        let after = lease(&node).await;
        assert_eq!(
            (&after["epoch"], &after["losses"]),
            (&json!(2), &json!(1)),
            "{after}"
        );
        assert!(node.log().contains("granted anew"), "{}", node.log());
        assert_eq!(
            established.get(HOST, "/").await.status,
            200,
            "what was open went on"
        );
        let metrics = node.metrics().await;
        assert_eq!(metrics.sum("constellation_steering_losses_total", &[]), 1.0);
        assert_eq!(metrics.sum("constellation_steering_epoch", &[]), 2.0);
        let refused = metrics.sum("constellation_steering_lookups_total", &[("verdict", "no_grant")]);
        assert!(refused >= 1.0, "{refused}");
    }));
}

#[test]
fn after_a_kill_clients_are_refused_and_the_restart_reuses_the_pins() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        let mut node = builder(&backend, &["127.0.0.1:8000", "127.7.0.0/16:8000"])
            .start()
            .await;
        serves("127.7.1.2:8000").await;
        let before = pinned(&node).await;
        assert_eq!(
            (&before["held"], &before["grant"]["epoch"]),
            (&json!(true), &json!(1)),
            "{before}"
        );
        node.signal(Signal::SIGKILL);
        node.exit().await;
        // Whoever comes meanwhile gets nothing: the address is ours.
        let _foreign = TcpListener::bind("127.7.1.2:8000").await.unwrap();
        for address in ["127.0.0.1:8000", "127.7.1.2:8000"] {
            let error = TcpStream::connect(address).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
        }
        let left = pinned(&node).await;
        assert_eq!(left["held"], false, "{left}");
        assert_eq!(left["links"], before["links"]);

        let node = Node::builder().in_place_of(node).start().await;
        serves("127.0.0.1:8000").await;
        serves("127.7.1.2:8000").await;
        assert!(node.log().contains("pins=\"reused\""), "{}", node.log());
        let after = pinned(&node).await;
        assert_eq!(after["links"][0]["id"], before["links"][0]["id"]);
        assert_eq!(after["maps"], before["maps"]);
        assert_eq!(after["grant"]["epoch"], 2);
    }));
}

#[test]
fn what_a_service_manager_keeps_is_steered_to_after_a_crash() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        let directory = tempfile::tempdir().unwrap();
        let mut manager = ServiceManager::listen(directory.path());
        let mut node = builder(&backend, &["127.0.0.1:8000", "127.7.0.0/16:8000"])
            .config(json!({ "edge": { "lease": { "ttl": "1m" } } }))
            .env("NOTIFY_SOCKET", manager.address())
            .start()
            .await;
        // The control listener, the lock, and a listener for each of two workers.
        let kept = manager.take(4).await;
        node.signal(Signal::SIGKILL);
        node.exit().await;
        let mut waiting = Vec::new();
        for address in ["127.0.0.1:8000", "127.7.0.9:8000"] {
            let mut client = Client::h1(address.parse().unwrap()).await.unwrap();
            waiting.push(tokio::spawn(async move {
                client.send(request(Method::GET, HOST, "/")).await
            }));
        }
        assert_eq!(pinned(&node).await["held"], true, "the lock is kept, too");
        let node = Node::builder()
            .in_place_of(node)
            .env("NOTIFY_SOCKET", manager.address())
            .passing(kept)
            .start()
            .await;
        for client in waiting {
            assert_eq!(client.await.unwrap().unwrap().status, 200);
        }
        assert!(node.log().contains("pins=\"reused\""), "{}", node.log());
        node.signal(Signal::SIGTERM);
        eventually("a clean stop detaches", async || {
            // Whoever tells a service manager something waits until that listens.
            manager.lines();
            match pinned(&node).await {
                left if left["links"] == json!([]) => Ok(()),
                left => Err(left),
            }
        })
        .await;
    }));
}

#[test]
fn nobody_else_gets_the_ports() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        let node = builder(&backend, &["127.0.0.1:8000", "127.7.0.0/16:8000"])
            .start()
            .await;
        // A process that listens in the ordinary way.
        let foreign = TcpListener::bind("127.7.0.1:8000").await.unwrap();
        serves("127.7.0.1:8000").await;

        // A second node that insists, and one that doesn't.
        let run = "run --set control.address=127.0.0.1:0 --set entryPoints.web.address=127.0.0.1:8001";
        let mut arguments: Vec<&str> = run.split(' ').collect();
        arguments.extend(["--steering", "ebpf"]);
        let second = constellation(&arguments, &[]).await;
        assert_eq!(second.code, 69, "{second:?}");
        assert!(
            second
                .stderr
                .contains("another node runs in this network namespace"),
            "{second:?}"
        );
        let third = builder(&backend, &["127.0.0.1:8001"])
            .config(json!({ "edge": { "steering": "auto" } }))
            .start()
            .await;
        serves("127.0.0.1:8001").await;
        assert_eq!(third.status().await["steering"]["state"], "busy");
        assert!(third.log().contains("steering is not used"), "{}", third.log());

        let refused = node.cli(&["ebpf", "detach"]).await;
        assert_eq!(refused.code, 69, "{refused:?}");
        serves("127.7.0.1:8000").await;
        let forced = node.cli(&["ebpf", "detach", "--force"]).await;
        assert_eq!(forced.code, 0, "{forced:?}");
        // Now it is anybody's, and what the node has bound is still the node's.
        let (client, server) = tokio::join!(TcpStream::connect("127.7.0.1:8000"), foreign.accept());
        assert!(client.is_ok() && server.is_ok());
        serves("127.0.0.1:8000").await;
    }));
}

#[test]
fn a_thousand_ports_and_a_hundred_addresses_come_and_go_while_it_runs() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        let node = builder(&backend, &["127.0.0.1:8000"]).start().await;
        serves("127.0.0.1:8000").await;
        let mut open = Client::h1("127.0.0.1:8000".parse().unwrap()).await.unwrap();
        assert_eq!(open.get(HOST, "/").await.status, 200);

        let ports = (10_000..11_000).map(|port| format!("127.0.0.1:{port}"));
        let addresses = (1..=100).map(|host| format!("127.0.1.{host}:8000"));
        let added: Vec<String> = ports.chain(addresses).collect();
        let all: Vec<&str> = ["127.0.0.1:8000"]
            .into_iter()
            .chain(added.iter().map(String::as_str))
            .collect();
        readdress(&node, &all, 1101).await;
        for address in &added {
            assert_eq!(status_of(address).await, Ok(200), "{address}");
        }
        assert_eq!(open.get(HOST, "/").await.status, 200, "the same connection");

        readdress(&node, &["127.0.0.1:8000"], 1).await;
        for address in &added {
            let error = TcpStream::connect(address).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
        }
        assert_eq!(open.get(HOST, "/").await.status, 200, "still the same connection");
        assert!(!node.log().contains("need a restart"), "{}", node.log());

        // Also the address that it began with, and what somebody else has stays theirs.
        readdress(&node, &["127.0.0.1:9000"], 2).await;
        refuses("127.0.0.1:8000").await;
        serves("127.0.0.1:9000").await;
        let _foreign = TcpListener::bind("127.0.0.1:9001").await.unwrap();
        write_addresses(&node, &["127.0.0.1:9001"]);
        node.signal(Signal::SIGHUP);
        eventually("the change is refused", async || {
            let log = node.log();
            log.contains("the addresses of entry points stay as they were")
                .then_some(())
                .ok_or(log)
        })
        .await;
        serves("127.0.0.1:9000").await;
    }));
}

fn write_addresses(node: &Node, web: &[&str]) {
    let text = std::fs::read(node.config_file()).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["entryPoints"]["web"]["address"] = json!(web);
    std::fs::write(node.config_file(), config.to_string()).unwrap();
}

async fn readdress(node: &Node, web: &[&str], steered: usize) {
    write_addresses(node, web);
    node.signal(Signal::SIGHUP);
    eventually("the addresses are steered", async || {
        let lease = lease(node).await;
        (lease["steered"] == steered)
            .then_some(())
            .ok_or(format!("{lease}\n{}", node.log()))
    })
    .await;
}

#[test]
fn nobody_is_refused_while_steering_processes_replace_one_another() {
    require!(sandbox::run(&[], async || {
        let plan = Plan {
            steering: true,
            ..Plan::SMALL
        };
        let report = run(&plan).await;
        assert!(report.holds(), "{report}");
        assert!(report.connections >= plan.connections, "{report}");
    }));
}

#[test]
fn a_clean_stop_and_a_successor_without_steering_leave_nothing_behind() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        let mut node = builder(&backend, &["127.0.0.1:8000"]).start().await;
        serves("127.0.0.1:8000").await;
        let mut config: Value = serde_json::from_slice(&std::fs::read(node.config_file()).unwrap()).unwrap();
        config["edge"]["steering"] = json!("off");
        std::fs::write(node.config_file(), config.to_string()).unwrap();
        node.upgrade().await.unwrap();
        node.exit().await;
        serves("127.0.0.1:8000").await;
        assert_eq!(node.status().await["steering"]["state"], "disabled");
        assert_eq!(pinned(&node).await["links"], json!([]));

        let mut node = builder(&backend, &["127.0.0.1:8001"]).start().await;
        serves("127.0.0.1:8001").await;
        assert_eq!(pinned(&node).await["links"].as_array().map(Vec::len), Some(1));
        node.signal(Signal::SIGTERM);
        assert_eq!(node.exit().await.code(), Some(0), "{}", node.log());
        let left = pinned(&node).await;
        assert_eq!((&left["links"], &left["maps"]), (&json!([]), &json!([])));

        // What a crash leaves is cleared away by whoever is told not to steer.
        let mut node = builder(&backend, &["127.0.0.1:8001"]).start().await;
        node.signal(Signal::SIGKILL);
        node.exit().await;
        refuses("127.0.0.1:8001").await;
        let node = Node::builder()
            .in_place_of(node)
            .arguments(&["--steering", "off"])
            .start()
            .await;
        serves("127.0.0.1:8001").await;
        assert_eq!(pinned(&node).await["links"], json!([]));
        node.end().await;

        // So it is by whoever may not steer any more: the pins belong to the same user.
        let mut node = builder(&backend, &["127.0.0.1:8002"]).start().await;
        node.signal(Signal::SIGKILL);
        node.exit().await;
        refuses("127.0.0.1:8002").await;
        let node = Node::builder()
            .in_place_of(node)
            .config(json!({ "edge": { "steering": "auto" } }))
            .capabilities(NO_BPF)
            .start()
            .await;
        serves("127.0.0.1:8002").await;
        assert_eq!(pinned(&node).await["links"], json!([]));
    }));
}

#[test]
fn it_takes_the_services_capabilities_and_runs_without_them() {
    require!(sandbox::run(&[], async || {
        let backend = Backend::start("app").await;
        {
            let node = builder(&backend, &["127.0.0.1:80"])
                .capabilities(SERVICE)
                .start()
                .await;
            serves("127.0.0.1:80").await;
            assert_eq!(node.status().await["steering"]["state"], "active");
            let text = node.cli(&["status"]).await.stdout;
            assert!(
                text.contains("steering     active: 1 addresses, epoch 1"),
                "{text}"
            );
            node.signal(Signal::SIGTERM);
            refuses("127.0.0.1:80").await;
            eventually("it has gone", async || match node.processes().len() {
                0 => Ok(()),
                left => Err(format!("{left}")),
            })
            .await;
        }
        {
            let auto = json!({ "edge": { "steering": "auto" } });
            let node = builder(&backend, &["127.0.0.1:80"])
                .config(auto)
                .capabilities(NO_BPF)
                .start()
                .await;
            serves("127.0.0.1:80").await;
            let steering = node.status().await["steering"].clone();
            assert_eq!(steering["state"], "denied", "{steering}");
            assert_eq!(
                steering["missing"],
                json!(["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"])
            );
            assert!(
                steering["stand_in"]
                    .as_str()
                    .unwrap()
                    .contains("bound in the ordinary way")
            );
            assert!(node.log().contains("steering is not used"), "{}", node.log());
            assert_eq!(node.ask("/health").await.status, 200);
        }
        let run = "run --set control.address=127.0.0.1:0 --set entryPoints.web.address=127.0.0.1:81";
        let (insisting, network) = (
            ["--steering", "ebpf"],
            ["--set", "entryPoints.web.address=127.0.0.1:81,127.9.0.0/16:81"],
        );
        for (more, expected) in [
            (insisting, "edge.steering is ebpf"),
            (network, "holds the network 127.9.0.0/16:81"),
        ] {
            let arguments: Vec<&str> = run.split(' ').chain(more).collect();
            let refused = std::process::Command::new("setpriv")
                .args(["--bounding-set", NO_BPF, "--inh-caps", "-all"])
                .arg(constellation_tests::node::binary())
                .args(arguments)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(77), "{stderr}");
            assert!(
                stderr.contains(expected) && stderr.contains("lacks CAP_BPF"),
                "{stderr}"
            );
        }
    }));
}

#[test]
fn datagrams_are_steered_and_answered_from_where_they_went() {
    require!(sandbox::run(&[], async || {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let routes = json!({ "udp": {
            "routers": { "echo": { "entryPoints": ["echo"], "service": "echo" } },
            "services": { "echo": { "loadBalancer": { "servers": [{ "address": server.local_addr().unwrap().to_string() }] } } },
        } });
        let node = Node::builder()
            .steering()
            .config(json!({ "entryPoints": { "echo": { "address": ["127.0.0.1:53/udp", "127.0.0.2:53/udp", "[::1]:53/udp"] } } }))
            .dynamic("routes.json", &routes.to_string())
            .start()
            .await;
        let echo = async {
            let mut buffer = [0; 64];
            loop {
                let (count, client) = server.recv_from(&mut buffer).await.unwrap();
                server.send_to(&buffer[..count], client).await.unwrap();
            }
        };
        let ask = async {
            for (own, address) in [
                ("127.0.0.9:0", "127.0.0.1:53"),
                ("127.0.0.9:0", "127.0.0.2:53"),
                ("[::1]:0", "[::1]:53"),
            ] {
                let client = UdpSocket::bind(own).await.unwrap();
                // Connected: an answer from another address would not arrive.
                client.connect(address).await.unwrap();
                client.send(address.as_bytes()).await.unwrap();
                let mut buffer = [0; 64];
                let count = client.recv(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..count], address.as_bytes());
            }
        };
        let asked = tokio::time::timeout(constellation_tests::PATIENCE, async {
            tokio::select! { () = ask => {}, () = echo => {} }
        });
        asked.await.unwrap();
        let metrics = node.metrics().await;
        let steered = metrics.sum("constellation_steering_lookups_total", &[("verdict", "steered")]);
        assert!(steered >= 3.0, "{steered}");
    }));
}
