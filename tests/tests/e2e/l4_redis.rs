//! Real Redis servers behind the edge: plain, TLS through and TLS ended, and what happens when one dies or hangs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use constellation_tests::certificates::Authority;
use constellation_tests::node::{Node, NodeBuilder};
use constellation_tests::server::redis::{Programs, Redis};
use constellation_tests::{PATIENCE, eventually, require};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A node with the entry point `cache` and this dynamic configuration.
async fn node(builder: NodeBuilder, document: &Value) -> Node {
    builder
        .config(json!({ "entryPoints": { "cache": { "address": "127.0.0.1:0" } } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

/// One plain router to these servers, with more options of the load balancer.
async fn balanced(servers: &[&Redis], more: &Value) -> Node {
    let servers: Vec<Value> = servers
        .iter()
        .map(|server| json!({ "address": server.address().to_string() }))
        .collect();
    let mut balancer = json!({ "servers": servers });
    for (key, value) in more.as_object().unwrap() {
        balancer[key] = value.clone();
    }
    let document = json!({ "tcp": {
        "routers": { "cache": { "entryPoints": ["cache"], "rule": "HostSNI(`*`)", "service": "cache" } },
        "services": { "cache": { "loadBalancer": balancer } },
    } });
    node(Node::builder(), &document).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_router_carries_commands_and_large_values() {
    let programs = require!(Programs::find());
    let server = Redis::start(&programs, "one", None).await;
    let node = balanced(&[&server], &json!({})).await;
    for address in [server.address(), node.entry_point("cache")] {
        assert_eq!(server.ask(address, &["GET", "name"]).await.ok(), "one");
        let large = "x".repeat(100_000);
        assert_eq!(server.ask(address, &["SET", "large", &large]).await.ok(), "OK");
        assert_eq!(server.ask(address, &["GET", "large"]).await.ok(), large);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_passes_through_by_name_and_ends_at_the_edge_by_name_on_one_port() {
    let programs = require!(Programs::find());
    let authority = Authority::new("test CA");
    let through = authority.sign(&["through.test"]);
    let again = authority.sign(&["again.test"]);
    let secure = Redis::start(&programs, "secure", Some((&authority, &through))).await;
    let inner = Redis::start(&programs, "inner", Some((&authority, &again))).await;
    let plain = Redis::start(&programs, "plain", None).await;
    let builder = Node::builder();
    let ca = builder.directory().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let (certificate, key) = authority
        .sign(&["edge.test", "both.test"])
        .write(builder.directory(), "edge");
    let router = |name: &str, tls: Value| {
        json!({
            "entryPoints": ["cache"], "rule": format!("HostSNI(`{name}.test`)"), "service": name, "tls": tls,
        })
    };
    let service = |server: &Redis| json!({ "loadBalancer": { "servers": [{ "address": server.address().to_string() }] } });
    let document = json!({
        "tcp": {
            "routers": {
                "through": router("through", json!({ "passthrough": true })),
                "edge": router("edge", json!({})),
                "both": router("both", json!({})),
            },
            "services": {
                "through": service(&secure),
                "edge": service(&plain),
                // TLS to the edge, and TLS of another name from there on, verified.
                "both": { "loadBalancer": {
                    "servers": [{ "address": inner.address().to_string(), "tls": true }],
                    "serversTransport": "inner",
                } },
            },
            "serversTransports": { "inner": { "tls": { "serverName": "again.test", "rootCAs": [ca] } } },
        },
        "tls": { "certificates": [{ "certFile": certificate, "keyFile": key }] },
    });
    let node = node(builder, &document).await;
    let ca = ca.display().to_string();
    let tls = |name: &str| ["--tls", "--sni", name, "--cacert", &ca, "GET", "name"].map(str::to_owned);
    let ask = async |address: SocketAddr, arguments: [String; 7]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        programs.ask(address, &arguments).await
    };
    assert_eq!(ask(secure.address(), tls("through.test")).await.ok(), "secure");
    let edge = node.entry_point("cache");
    for (name, expected) in [
        ("through.test", "secure"),
        ("edge.test", "plain"),
        ("both.test", "inner"),
    ] {
        assert_eq!(ask(edge, tls(name)).await.ok(), expected, "{name}");
    }
    // Who asks in the clear, or for another name, gets to none of them.
    let plain = programs.ask(edge, &["GET", "name"]).await;
    assert!(!plain.stdout.contains("plain"), "{plain:?}");
    let other = ask(edge, tls("other.test")).await;
    assert!(other.code != 0 || other.stdout.trim().is_empty(), "{other:?}");
}

/// Clients that open a connection for every command.
struct Load {
    stop: Arc<AtomicBool>,
    /// Connections answered so far.
    served: Arc<AtomicUsize>,
    clients: JoinSet<Vec<(std::time::Instant, String)>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut set = JoinSet::new();
        for _ in 0..clients {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            set.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let started = std::time::Instant::now();
                    match ping(address).await {
                        Ok(()) => drop(served.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => failures.push((started, error)),
                    }
                }
                failures
            });
        }
        Self {
            stop,
            served,
            clients: set,
        }
    }

    /// Waits until so many more were answered.
    async fn more(&self, count: usize) {
        let from = self.served.load(Ordering::SeqCst);
        eventually("connections go on being answered", async || {
            let now = self.served.load(Ordering::SeqCst) - from;
            if now >= count {
                Ok(())
            } else {
                Err(format!("{now} of {count}"))
            }
        })
        .await;
    }

    /// Ends them: the start and the error of each connection that failed.
    async fn stop(self) -> Vec<(std::time::Instant, String)> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn ping(address: SocketAddr) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(PATIENCE, exchange).await {
        Err(_) => Err("no answer".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) if answer == *b"+PONG\r\n" => Ok(()),
        Ok(Ok(answer)) => Err(format!("{answer:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_new_connection_fails_after_one_of_two_is_killed() {
    let programs = require!(Programs::find());
    let mut one = Redis::start(&programs, "one", None).await;
    let two = Redis::start(&programs, "two", None).await;
    let node = balanced(&[&one, &two], &json!({})).await;
    let load = Load::start(node.entry_point("cache"), 16);
    load.more(200).await;
    one.daemon().kill().await;
    let killed = std::time::Instant::now();
    load.more(1000).await;
    let failures = load.stop().await;
    // A connection that reached the one that died died with it; what began afterwards may not.
    let later: Vec<_> = failures.iter().filter(|(started, _)| *started > killed).collect();
    assert!(later.is_empty(), "{} failed: {later:?}", later.len());
}

/// The names of the servers that answer, over some connections; one that hangs has none.
async fn answering(node: &Node) -> Vec<String> {
    let name = async || {
        let mut stream = TcpStream::connect(node.entry_point("cache")).await?;
        stream.write_all(b"GET name\r\n").await?;
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[4..7]).into_owned())
    };
    let mut names = Vec::new();
    for _ in 0..6 {
        names.extend(
            timeout(Duration::from_secs(2), name())
                .await
                .ok()
                .and_then(Result::ok),
        );
    }
    names.sort();
    names.dedup();
    names
}

/// Redis that hangs keeps accepting: only a check that wants an answer knows.
async fn a_hanging_one_is_taken_out(more: &Value, options: &Value) {
    let programs = require!(Programs::find());
    let mut one = Redis::start(&programs, "one", None).await;
    let two = Redis::start(&programs, "two", None).await;
    let servers: Vec<Value> = [&one, &two]
        .iter()
        .map(|server| json!({ "address": server.address().to_string() }))
        .collect();
    let mut balancer = json!({ "servers": servers });
    for (key, value) in more.as_object().unwrap() {
        balancer[key] = value.clone();
    }
    let document = json!({
        "tcp": {
            "routers": { "cache": { "entryPoints": ["cache"], "rule": "HostSNI(`*`)", "service": "cache" } },
            "services": { "cache": { "loadBalancer": balancer } },
        },
        "constellation": { "tcp": { "services": { "cache": options } } },
    });
    let node = node(Node::builder(), &document).await;
    assert_eq!(answering(&node).await, ["one", "two"]);
    one.daemon().signal(Signal::SIGSTOP);
    eventually("the hanging one is taken out", async || {
        match answering(&node).await {
            names if names == ["two"] => Ok(()),
            names => Err(format!("{names:?}")),
        }
    })
    .await;
    one.daemon().signal(Signal::SIGCONT);
    eventually("it is back", async || match answering(&node).await {
        names if names == ["one", "two"] => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_sends_and_expects_takes_a_hanging_one_out() {
    let check = json!({ "healthCheck": {
        "send": "PING\r\n", "expect": "+PONG", "interval": "200ms", "unhealthyInterval": "200ms", "timeout": "1s",
    } });
    a_hanging_one_is_taken_out(&check, &json!({ "slowStart": "0s" })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_of_redis_takes_a_hanging_one_out() {
    let check = json!({
        "healthCheck": { "mode": "redis", "interval": "200ms", "unhealthyInterval": "200ms", "timeout": "1s" },
        "slowStart": "0s",
    });
    a_hanging_one_is_taken_out(&json!({}), &check).await;
}
