//! A real Traefik that polls a node: whatever happens behind it, its routes are never emptied and never refused.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use constellation_tests::backend::Backend;
use constellation_tests::client::http::request;
use constellation_tests::client::{Client, get};
use constellation_tests::lab::{self, HOST, Lab, Plan, until};
use constellation_tests::load::Load;
use constellation_tests::node::{Node, NodeBuilder, route};
use constellation_tests::server::traefik::{self, Traefik, assert_taken, free_address};
use constellation_tests::{eventually, require};
use http::Method;
use serde_json::{Value, json};

/// The router of [`route`] in the document.
const MAIN: &str = "main-with-failover@http";

/// A node that a Traefik polls at `document`, at fixed ports so that another process finds the same.
fn behind(document: SocketAddr) -> NodeBuilder {
    Node::builder().config(json!({
        "edge": { "mode": "behind-traefik" },
        "traefikProvider": {
            "address": document.to_string(),
            "failover": { "address": free_address().to_string() },
        },
    }))
}

fn url(document: SocketAddr) -> String {
    format!("http://{document}/api/dynamic")
}

#[tokio::test(flavor = "multi_thread")]
async fn its_routes_outlive_restarts_upgrades_and_a_poisoned_neighbour() {
    let program = require!(traefik::program());
    let backend = Backend::start("one").await;
    let document = free_address();
    let node = behind(document)
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let traefik = Traefik::start(&program, &traefik::polling(&url(document))).await;
    traefik
        .until("the route is there", |all| {
            all.get(MAIN).is_some_and(|s| s == "enabled")
        })
        .await;
    let load = Load::start(traefik.web(), "app.test", "/", 4);
    load.more(100).await;

    // What Traefik would refuse all of the document for, and beside it a good route.
    let poison = json!({ "http": {
        "routers": {
            "bad": { "rule": "Host(`bad.test`) || Header(`X`, `\u{7f}`)", "service": "bad", "middlewares": ["empty"] },
            "a@docker": { "rule": "Host(`bad.test`)", "service": "bad" },
            "good": { "rule": "Host(`good.test`)", "service": "bad" },
        },
        "services": { "bad": { "loadBalancer": { "servers": [{ "url": backend.url() }, { "url": "nonsense" }] } } },
        "middlewares": { "empty": { "stripPrefix": {} }, "unknown": { "plugin": { "bogus": {} } } },
    } });
    node.write_dynamic("poison.json", &poison.to_string());
    traefik
        .until("the good route is there", |all| all.contains_key("good@http"))
        .await;
    let status = node.status().await;
    let left_out = status["traefik_provider"]["left_out"].to_string();
    for name in ["bad@file", "a@docker@file", "empty@file", "unknown@file"] {
        assert!(left_out.contains(name), "{name} is not in {left_out}");
    }
    load.more(100).await;

    node.upgrade().await.unwrap();
    load.more(200).await;
    // Whoever has replaced the first process goes without a word, and another one comes.
    let node = end_and_start(node, true).await;
    load.more(200).await;

    load.stop().await.assert_clean();
    let routers = traefik.routers().await;
    assert_eq!(
        routers.get(MAIN).map(String::as_str),
        Some("enabled"),
        "{routers:?}"
    );
    assert_taken(&traefik.log());
    drop(node);
}

/// Another process with what the node remembers, and with its files or without them; the node ends before that.
async fn end_and_start(node: Node, with_files: bool) -> Node {
    let directory = node.directory().join("dynamic");
    let kept: Vec<(String, String)> = std::fs::read_dir(&directory)
        .unwrap()
        .flatten()
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            (name, text)
        })
        .collect();
    let config: Value = serde_json::from_slice(&std::fs::read(node.config_file()).unwrap()).unwrap();
    let is_marked = node.directory().join("data/provider/routers").exists();
    node.end().await;
    let mut builder = Node::builder().config(json!({
        "edge": config["edge"], "traefikProvider": config["traefikProvider"],
    }));
    if is_marked {
        let folder = builder.directory().join("data/provider");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("routers"), "").unwrap();
    }
    for (name, text) in kept.into_iter().filter(|_| with_files) {
        builder = builder.dynamic(&name, &text);
    }
    builder.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_finds_nothing_does_not_make_it_forget() {
    let program = require!(traefik::program());
    let backend = Backend::start("one").await;
    let document = free_address();
    let node = behind(document)
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let traefik = Traefik::start(&program, &traefik::polling(&url(document))).await;
    traefik
        .until("the route is there", |all| all.contains_key(MAIN))
        .await;
    node.remove_dynamic("routes.json");
    // While a node runs that is meant: the file is gone.
    traefik.until("the route is gone", |all| all.is_empty()).await;
    node.write_dynamic("routes.json", &route("app.test", &[backend.url()]).to_string());
    traefik
        .until("it is there again", |all| all.contains_key(MAIN))
        .await;
    eventually("it is remembered", async || {
        let mark = node.directory().join("data/provider/routers");
        mark.exists().then_some(()).ok_or("not yet")
    })
    .await;
    // A folder that is not mounted yet.
    let node = end_and_start(node, false).await;
    eventually("it says what it waits for", async || {
        let answer = get(document, &document.to_string(), "/api/dynamic").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), "5");
        match answer.text() {
            text if text.contains("no routes were found") => Ok(()),
            text => Err(text),
        }
    })
    .await;
    // Polled meanwhile, and told so.
    eventually("Traefik has asked", async || {
        let labels = [("answer", "unavailable")];
        let asked = node
            .metrics()
            .await
            .sum("constellation_traefik_document_answers_total", &labels);
        (asked > 1.0).then_some(()).ok_or(asked)
    })
    .await;
    assert!(traefik.routers().await.contains_key(MAIN));
    assert_eq!(get(traefik.web(), "app.test", "/").await.status, 200);
    assert_taken(&traefik.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_routes_is_a_document_without_routes() {
    let program = require!(traefik::program());
    let document = free_address();
    let node = behind(document).start().await;
    let traefik = Traefik::start(&program, &traefik::polling(&url(document))).await;
    // Until all sources are read there is none.
    let answer = eventually("the document is there", async || {
        let answer = get(document, &document.to_string(), "/").await;
        (answer.status == 200).then_some(answer).ok_or("none yet")
    })
    .await;
    assert_ne!(answer.text(), "{}");
    let backend = Backend::start("one").await;
    node.write_dynamic("routes.json", &route("app.test", &[backend.url()]).to_string());
    traefik
        .until("the first route is there", |all| all.contains_key(MAIN))
        .await;
    assert_taken(&traefik.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_routers_are_there_at_once() {
    let program = require!(traefik::program());
    let backend = Backend::start("one").await;
    let routers: serde_json::Map<String, Value> = (0..5000)
        .map(|number| {
            let router = json!({ "rule": format!("Host(`h{number}.test`)"), "service": "main" });
            (format!("r{number}"), router)
        })
        .collect();
    let servers = json!([{ "url": backend.url() }]);
    let many = json!({ "http": {
        "routers": routers, "services": { "main": { "loadBalancer": { "servers": servers } } },
    } });
    let document = free_address();
    let node = behind(document)
        .dynamic("many.json", &many.to_string())
        .start()
        .await;
    let traefik = Traefik::start(&program, &traefik::polling(&url(document))).await;
    traefik
        .until("all are enabled", |all| {
            all.len() == 5000 && all.values().all(|s| s == "enabled")
        })
        .await;
    assert_eq!(get(traefik.web(), "h4999.test", "/").await.status, 200);
    let status = node.status().await;
    assert_eq!(status["mode"], "behind-traefik");
    assert_eq!(status["traefik_provider"]["routers"], 5000);
    assert_taken(&traefik.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_sent() {
    let program = require!(traefik::program());
    let document = free_address();
    let backend = Backend::start("one").await;
    let node = behind(document)
        .config(json!({ "traefikProvider": { "token": "swordfish" } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    assert_eq!(
        get(document, &document.to_string(), "/api/dynamic").await.status,
        401
    );
    assert_eq!(get(document, "evil.example", "/api/dynamic").await.status, 421);
    let mut arguments = traefik::polling(&url(document));
    arguments.push("--providers.http.headers.Authorization=Bearer swordfish".to_owned());
    let traefik = Traefik::start(&program, &arguments).await;
    traefik
        .until("the route is there", |all| all.contains_key(MAIN))
        .await;
    assert!(!node.log().contains("swordfish") && !node.status().await.to_string().contains("swordfish"));
}

/// A request to the Traefik of the first node, within its namespace.
fn ask(lab: &Lab, host: &str, method: Method) -> anyhow::Result<(u16, String, Option<String>)> {
    ask_at(lab, WEB, host, method)
}

/// The same, at one of its entry points.
fn ask_at(lab: &Lab, at: &str, host: &str, method: Method) -> anyhow::Result<(u16, String, Option<String>)> {
    let place = lab.node(1).place()?;
    let answered = place.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let asking = async {
                let mut client = Client::h1(at.parse()?).await?;
                anyhow::Ok(client.send(request(method, host, "/")).await?)
            };
            let answer = tokio::time::timeout(ANSWER, asking)
                .await
                .context("no answer")??;
            let again = answer
                .headers
                .get("retry-after")
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            anyhow::Ok((answer.status.as_u16(), answer.text(), again))
        })
    });
    answered?
}

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
const WEB: &str = "127.0.0.1:8000";
/// Of TCP.
const RAW: &str = "127.0.0.1:8001";
const API: &str = "127.0.0.1:8090";

#[test]
fn a_node_that_dies_costs_no_request_of_the_traefik_of_another() {
    let program = require!(traefik::program());
    require!(lab::possible());
    let plan = Plan::test(2).config(json!({
        "node": { "domain": "d.test" },
        "entryPoints": { "web": { "address": ":80" }, "raw": { "address": ":8001" } },
        "edge": { "mode": "behind-traefik" },
        "traefikProvider": { "address": "127.0.0.1:8081" },
    }));
    let lab = Lab::up(&plan).unwrap();
    let only = json!({
        "http": {
            "routers": { "only": { "rule": "Host(`only.d.test`)", "service": "only" } },
            "services": { "only": { "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:9000" }] } } },
        },
        "tcp": {
            "routers": { "raw": { "rule": "HostSNI(`*`)", "service": "raw", "entryPoints": ["raw"] } },
            "services": { "raw": { "loadBalancer": { "servers": [{ "address": "127.0.0.1:9000" }] } } },
        },
        // Nothing that is asked of clients is asked of the Traefik that hands a connection over.
        "tls": { "options": { "default": { "sniStrict": true } } },
    });
    // Where it would be refused, if it was asked.
    let strict = json!({ "tls": { "options": { "default": { "sniStrict": true } } } });
    lab.node(1).write_dynamic("strict.json", &strict).unwrap();
    lab.node(2).write_dynamic("only.json", &only).unwrap();
    let place = lab.node(1).place().unwrap();
    let mut polling = traefik::polling("http://127.0.0.1:8081/api/dynamic");
    polling.push(format!("--entryPoints.raw.address={RAW}"));
    let arguments = traefik::arguments(WEB.parse().unwrap(), API.parse().unwrap(), &polling);
    let log = lab.base().join("traefik.log");
    let file = std::fs::File::create(&log).unwrap();
    // It ends with the lab, whose mark it carries.
    let mut running = place
        .command("traefik", &program, false)
        .args(&arguments)
        .env("GOMAXPROCS", "1")
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let by_n2 = |host: &str, method: Method| {
        let (status, text, _) = ask(&lab, host, method)?;
        ensure!(status == 200 && text.contains("n2"), "{status}: {text}");
        Ok(())
    };
    // The other node's instances, through this node; whatever the method.
    until("n2 is reached from n1", || by_n2("only.d.test", Method::GET)).unwrap();
    by_n2("only.d.test", Method::POST).unwrap();
    by_n2("only.n2.d.test", Method::GET).unwrap();
    until("a TCP service of n2 is reached from n1", || {
        let (status, text, _) = ask_at(&lab, RAW, "any.test", Method::GET)?;
        ensure!(status == 200 && text.contains("n2"), "{status}: {text}");
        Ok(())
    })
    .unwrap();

    let load = place.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let load = Load::start(WEB.parse().unwrap(), HOST, "/", 4);
            load.more(100).await;
            tokio::task::spawn_blocking({
                let node = lab.node(2).processes();
                move || {
                    for pid in node {
                        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
                    }
                }
            })
            .await
            .unwrap();
            load.more(1000).await;
            load.stop().await
        })
    });
    load.unwrap().assert_clean();
    // Nobody has it any more: that is said, and for how long.
    until("the route stays", || {
        let (status, text, again) = ask(&lab, "only.d.test", Method::GET)?;
        ensure!(status == 503, "{status}: {text}");
        again.context("no Retry-After").map(drop)
    })
    .unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_taken(&text);
}
