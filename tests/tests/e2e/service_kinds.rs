//! Services built of services, and clients that keep their server.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use constellation_tests::backend::Backend;
use constellation_tests::client::http::{full, request};
use constellation_tests::client::{Answer, Client};
use constellation_tests::eventually;
use constellation_tests::fault::{Behaviour, FaultBackend};
use constellation_tests::node::Node;
use http::{Method, header};
use serde_json::{Value, json};

use super::balancing::{counts, expected};

/// A node whose router leads to `kind`; `servers` are services of one server each.
async fn node(kind: Value, servers: &[(&str, String)]) -> Node {
    let mut services: serde_json::Map<String, Value> = servers
        .iter()
        .map(|(name, url)| {
            let service = json!({ "loadBalancer": { "servers": [{ "url": url }] } });
            ((*name).to_owned(), service)
        })
        .collect();
    services.insert("kind".into(), kind);
    let document = json!({ "http": {
        "routers": { "r": { "rule": "Host(`app.test`)", "service": "kind" } },
        "services": services,
    } });
    Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

async fn send(node: &Node, method: Method, path: &str, body: &'static str) -> Answer {
    let mut client = Client::h1(node.web()).await.unwrap();
    let mut request = request(method, "app.test", path);
    *request.body_mut() = full(body);
    client.send(request).await.unwrap()
}

/// Whether this text is among what came on the back end's connections.
fn has_received(backend: &Backend, text: &str) -> bool {
    let raw = backend.record().raw();
    raw.iter().any(|raw| String::from_utf8_lossy(raw).contains(text))
}

/// Waits until so many requests reached the back end.
async fn received(backend: &Backend, requests: usize) {
    eventually(
        &format!("{requests} requests reach {}", backend.name()),
        async || match backend.record().count() {
            count if count == requests => Ok(()),
            other => Err(other),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weighted_service_shares_exactly_and_leaves_out_what_is_dead() {
    let (three, one) = (Backend::start("three").await, Backend::start("one").await);
    let kind =
        json!({ "weighted": { "services": [{ "name": "a", "weight": 3 }, { "name": "b", "weight": 1 }] } });
    let node = node(kind, &[("a", three.url()), ("b", one.url())]).await;
    assert_eq!(counts(&node, 40).await, expected([("three", 30), ("one", 10)]));
    three.stop().await;
    assert_eq!(counts(&node, 20).await, expected([("one", 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fallback_serves_while_the_main_service_is_dead() {
    let (main, other) = (Backend::start("main").await, Backend::start("other").await);
    let address = main.address();
    let kind = json!({ "failover": { "service": "main", "fallback": "other" } });
    let node = node(kind, &[("main", main.url()), ("other", other.url())]).await;
    assert_eq!(counts(&node, 10).await, expected([("main", 10)]));
    main.stop().await;
    assert_eq!(counts(&node, 20).await, expected([("other", 20)]));
    let _back = Backend::listen("main", address, None).await;
    eventually("the main service has its requests back", async || {
        let counts = counts(&node, 10).await;
        if counts == expected([("main", 10)]) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_named_under_errors_are_left_to_the_fallback() {
    let (main, other) = (Backend::start("main").await, Backend::start("other").await);
    let kind = json!({ "failover": {
        "service": "main", "fallback": "other", "errors": { "status": ["500", "520-529"] },
    } });
    let node = node(kind, &[("main", main.url()), ("other", other.url())]).await;
    for (method, path, server) in [
        (Method::GET, "/", "main"),
        (Method::GET, "/status/500", "other"),
        (Method::GET, "/status/525", "other"),
        (Method::GET, "/status/501", "main"),
        // The main service has acted on it; nobody does so a second time.
        (Method::POST, "/status/500", "main"),
        (Method::PUT, "/status/500", "other"),
    ] {
        let answer = send(&node, method.clone(), path, "this is the body").await;
        assert_eq!(answer.header("x-backend"), server, "{method} {path}");
    }
    assert_eq!((main.record().count(), other.record().count()), (6, 3));
    let last = other.record().last();
    assert_eq!((last.method, last.target.as_str()), (Method::PUT, "/status/500"));
    assert!(has_received(&other, "this is the body"), "replayed whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_get_copies_and_the_client_the_answer_of_the_main_service() {
    let (main, all, half, heads) = (
        Backend::start("main").await,
        Backend::start("all").await,
        Backend::start("half").await,
        Backend::start("heads").await,
    );
    let servers = [
        ("main", main.url()),
        ("all", all.url()),
        ("half", half.url()),
        ("heads", heads.url()),
    ];
    let kind = json!({ "mirroring": {
        "service": "main", "maxBodySize": 20,
        "mirrors": [{ "name": "all", "percent": 100 }, { "name": "half", "percent": 50 }],
    } });
    let node = node(kind, &servers).await;
    for number in 0..10 {
        let answer = send(&node, Method::POST, "/order?n=1", "the whole body").await;
        assert_eq!(answer.echo().backend(), "main", "{number}");
    }
    received(&all, 10).await;
    received(&half, 5).await;
    let copy = all.record().last();
    assert_eq!(
        (copy.method, copy.target.as_str(), copy.authority.as_str()),
        (Method::POST, "/order?n=1", "app.test")
    );
    assert!(copy.headers.contains_key("x-forwarded-for"), "{:?}", copy.headers);
    eventually("the body comes with the copy", async || {
        if has_received(&all, "the whole body") {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
    // What is longer than maxBodySize is not copied; the next one is.
    let answer = send(&node, Method::POST, "/long", "longer than twenty bytes").await;
    assert_eq!(answer.echo().body(), "longer than twenty bytes");
    assert_eq!(send(&node, Method::GET, "/short", "").await.status, 200);
    received(&all, 11).await;
    assert_eq!(all.record().last().target, "/short");

    let kind = json!({ "mirroring": {
        "service": "main", "mirrorBody": false, "mirrors": [{ "name": "heads", "percent": 100 }],
    } });
    let node = self::node(kind, &servers).await;
    send(&node, Method::POST, "/order", "the whole body").await;
    received(&heads, 1).await;
    let copy = heads.record().only();
    assert!(!copy.headers.contains_key(header::TRANSFER_ENCODING), "{copy:?}");
    assert!(!has_received(&heads, "the whole body"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_dead_or_hangs_is_no_matter_to_the_client() {
    let (main, dead) = (Backend::start("main").await, Backend::start("dead").await);
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = [
        ("main", main.url()),
        ("dead", dead.url()),
        ("hung", format!("http://{}", hung.local_addr().unwrap())),
        ("empty", "http://127.0.0.1:1".to_owned()),
    ];
    dead.stop().await;
    let mirrors = ["dead", "hung", "empty"].map(|name| json!({ "name": name, "percent": 100 }));
    let kind = json!({ "mirroring": { "service": "main", "mirrors": mirrors } });
    let node = node(kind, &servers).await;
    // More than there are places for copies.
    let mut client = Client::h1(node.web()).await.unwrap();
    for number in 0..300 {
        let mut put = request(Method::PUT, "app.test", "/order");
        *put.body_mut() = full(format!("order {number}"));
        let answer = client.send(put).await.unwrap();
        assert_eq!(answer.echo().body(), format!("order {number}"));
    }
    assert_eq!(main.record().count(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_a_mirror_does_not_take_keep_no_request_from_being_repeated() {
    const LENGTH: usize = 1_000_000;
    // Such a back end answers when it has read the whole body.
    let (one, two) = (FaultBackend::start("one").await, FaultBackend::start("two").await);
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = |urls: &[String]| {
        let servers: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
        json!({ "loadBalancer": { "servers": servers } })
    };
    let document = json!({ "http": {
        "routers": { "r": { "rule": "Host(`app.test`)", "service": "kind" } },
        "services": {
            "kind": { "mirroring": { "service": "main", "mirrors": [{ "name": "hung", "percent": 100 }] } },
            "main": servers(&[one.url(), two.url()]),
            "hung": servers(&[format!("http://{}", hung.local_addr().unwrap())]),
        },
    } });
    let node = Node::builder()
        .config(json!({ "proxy": { "servedByFor": ["127.0.0.0/8"] } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let mut client = Client::h1(node.web()).await.unwrap();
    let mut put = async || {
        let mut put = request(Method::PUT, "app.test", "/");
        *put.body_mut() = full(vec![b'x'; LENGTH]);
        client.send(put).await.unwrap()
    };
    // More than may be kept of all bodies together.
    for _ in 0..80 {
        assert_eq!(put().await.status, 200);
    }
    for backend in [&one, &two] {
        backend.set(Behaviour::Status { status: 503 }).await;
    }
    let failed = put().await;
    assert_eq!(
        (failed.status.as_u16(), failed.header("x-constellation-attempts")),
        (503, "2")
    );
}

/// A client with an address of its own.
async fn client_from(node: &Node, host: u8) -> Client {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 7, host), 0));
    socket.bind(source).unwrap();
    let stream = socket.connect(node.web()).await.unwrap();
    Client::over(stream, false, "http").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_random_weight_keeps_a_client_at_its_service() {
    let backends = [
        Backend::start("one").await,
        Backend::start("two").await,
        Backend::start("three").await,
    ];
    let [one, two, three] = &backends;
    let servers = [("a", one.url()), ("b", two.url()), ("c", three.url())];
    let services = ["a", "b", "c"].map(|name| json!({ "name": name }));
    let node = node(
        json!({ "highestRandomWeight": { "services": services } }),
        &servers,
    )
    .await;
    let mut places: BTreeMap<u8, String> = BTreeMap::new();
    for round in 0..2 {
        for host in 1..=40 {
            let answer = client_from(&node, host).await.get("app.test", "/").await;
            let place = places
                .entry(host)
                .or_insert_with(|| answer.echo().backend().to_owned());
            assert_eq!(answer.echo().backend(), place, "host {host}, round {round}");
        }
    }
    for backend in &backends {
        assert!(places.values().any(|place| place == backend.name()), "{places:?}");
    }
    let [one, ..] = backends;
    one.stop().await;
    for (host, place) in places {
        let answer = client_from(&node, host).await.get("app.test", "/").await;
        let now = answer.echo().backend().to_owned();
        assert!(
            now != "one" && (place == "one" || now == place),
            "{host}: {place}, {now}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_cookie_keeps_a_client_at_its_server_and_follows_it_when_that_dies() {
    let backends = [Backend::start("one").await, Backend::start("two").await];
    let servers = backends.each_ref().map(|backend| json!({ "url": backend.url() }));
    let document = json!({ "http": {
        "routers": { "r": { "rule": "Host(`app.test`)", "service": "s" } },
        "services": { "s": { "loadBalancer": {
            "servers": servers, "sticky": { "cookie": { "name": "sid", "httpOnly": true } },
        } } },
    } });
    let node = Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let mut client = Client::h1(node.web()).await.unwrap();
    let first = client.get("app.test", "/").await;
    let set = first.header("set-cookie").to_owned();
    assert!(set.starts_with("sid=") && set.contains("HttpOnly"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let mut with_cookie = async |cookie: &str| {
        let mut get = request(Method::GET, "app.test", "/");
        get.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
        client.send(get).await.unwrap()
    };
    for _ in 0..10 {
        let answer = with_cookie(&cookie).await;
        assert_eq!(answer.echo().backend(), first.echo().backend());
        assert_eq!(answer.header("set-cookie"), "", "it has the cookie");
    }
    let (gone, _stays): (Vec<_>, Vec<_>) = backends
        .into_iter()
        .partition(|backend| backend.name() == first.echo().backend());
    for backend in gone {
        backend.stop().await;
    }
    let moved = with_cookie(&cookie).await;
    assert_ne!(moved.echo().backend(), first.echo().backend());
    let new = moved.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(new.starts_with("sid=") && new != cookie, "{new}");
    let stays = with_cookie(&new).await;
    assert_eq!(stays.echo().backend(), moved.echo().backend());
    assert_eq!(stays.header("set-cookie"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weighted_service_keeps_a_client_by_its_cookie_and_explain_shows_the_way() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let kind = json!({ "weighted": {
        "services": [{ "name": "a" }, { "name": "b" }], "sticky": { "cookie": { "name": "part" } },
    } });
    let node = node(kind, &[("a", one.url()), ("b", two.url())]).await;
    let first = node.get("app.test", "/").await;
    let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("part="), "{:?}", first.headers);
    let mut client = Client::h1(node.web()).await.unwrap();
    for _ in 0..5 {
        let mut get = request(Method::GET, "app.test", "/");
        get.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
        let answer = client.send(get).await.unwrap();
        assert_eq!(answer.echo().backend(), first.echo().backend());
        assert_eq!(answer.header("set-cookie"), "");
    }
    let header = format!("Cookie: {cookie}");
    let explained = node
        .cli(&["explain", "http://app.test/", "--header", &header])
        .await
        .stdout;
    assert!(explained.contains("by weighted kind@file"), "{explained}");
    assert!(explained.contains("named by its cookie"), "{explained}");
    assert!(explained.contains("then service"), "{explained}");
}
