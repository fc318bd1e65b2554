//! Requests of clients of one node that another one serves.

use bytes::Bytes;
use constellation_dataplane::table::Policy;
use constellation_dataplane::table::policy::StickyCookie;
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{At, Cluster};
use super::support::{Act, Backend, ok, soon};

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// The lines of a head in an order of their own, but for the ones that tell ports.
fn sorted(head: &str) -> Vec<String> {
    let mut lines: Vec<_> = head
        .lines()
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
            None => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_back_end_sees_what_it_would_see_from_the_edge() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let requests = [
        "GET /path?query=%20 HTTP/1.1\r\nHost: Example.test:8080\r\nX-Custom: 1\r\nX-Forwarded-For: 9.9.9.9\r\n\
         Cookie: a=1; b=2\r\nTE: trailers\r\nAccept: */*\r\n\r\n",
        "POST /path HTTP/1.1\r\nHost: example.test\r\nContent-Length: 4\r\n\r\nbody",
        "POST /path HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: example.test\r\nConstellation-Client: 6.6.6.6:6\r\nConstellation-Tell: 1\r\n\r\n",
    ];
    for request in requests {
        let before = backend.seen().len();
        for node in [&near, &far] {
            let mut client = node.connect().await;
            client.send(request).await;
            let response = client.response().await;
            assert_eq!((response.status, response.text()), (200, "served"), "{request}");
        }
        let seen = backend.seen();
        let [through, straight] = &seen[before..] else {
            panic!("{} requests", seen.len() - before);
        };
        assert_eq!(sorted(&through.head), sorted(&straight.head));
        assert_eq!(through.body, straight.body);
        assert_eq!(through.header("x-real-ip"), ["127.0.0.1"]);
        assert!(!through.head.to_ascii_lowercase().contains("constellation"));
    }
    assert_eq!(
        near.metric("constellation_mesh_streams_total", &["direction=\"out\""]),
        requests.len() as u64
    );
}

#[tokio::test]
async fn the_answer_names_the_node_that_served() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let _far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let response = near.connect().await.get("/").await;
    assert_eq!(response.header("x-constellation-node"), Some("b"));
    assert_eq!(response.header("x-constellation-endpoint"), Some("127.0.0.1"));
    assert_eq!(response.header("x-constellation-service"), Some("app@test"));
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = near.connect().await;
        clients.spawn(async move {
            for _ in 0..10 {
                assert_eq!(client.get("/").await.status, 200);
            }
        });
    }
    clients.join_all().await;
    assert_eq!(backend.seen().len(), 200);
    assert_eq!(
        far.metric("constellation_mesh_connections_total", &["outcome=\"made\""]),
        1
    );
}

#[tokio::test]
async fn more_requests_than_a_connection_carries_open_another_one() {
    const MANY: usize = 205;
    let backend = Backend::start(|_, seen| match seen.head.starts_with("GET /hang") {
        true => Act::Hang,
        false => Act::Send(ok(b"served")),
    })
    .await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let mut hanging = Vec::new();
    for _ in 0..MANY {
        let mut client = near.connect().await;
        client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        hanging.push(client);
    }
    let all = async {
        while backend.seen().len() < MANY {
            tokio::task::yield_now().await;
        }
    };
    soon("all requests", all).await;
    assert_eq!(near.connect().await.get("/").await.text(), "served");
    let made = far.metric("constellation_mesh_connections_total", &["outcome=\"made\""]);
    assert_eq!(made, 2);
}

#[tokio::test]
async fn a_websocket_passes() {
    let backend = Backend::start(|_, _| Act::Echo(SWITCHED.to_vec())).await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let _far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let mut client = near.connect().await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.send(format!("{upgrade}frame0")).await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(client.exact(6).await, b"frame0");
    let long = vec![b'x'; 1 << 20];
    let (mut from, mut to) = client.0.into_split();
    let sending = tokio::spawn(async move {
        to.write_all(&long).await.unwrap();
        to
    });
    let mut back = vec![0; 1 << 20];
    soon("the echo", from.read_exact(&mut back)).await.unwrap();
    assert!(back.iter().all(|byte| *byte == b'x'));
    drop(sending.await.unwrap());
    let seen = backend.seen().remove(0);
    assert_eq!(seen.header("x-forwarded-proto"), ["ws"]);
    assert_eq!(seen.header("upgrade"), ["websocket"]);
}

/// A back end of gRPC: takes the whole body, then sends it back, and trailers.
async fn grpc_back_end() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let te = request.headers().get("te").cloned();
                        let mut body = request.into_body();
                        let answer = http::Response::new(());
                        let mut to = respond.send_response(answer, false).unwrap();
                        while let Some(data) = body.data().await {
                            let data = data.unwrap();
                            body.flow_control().release_capacity(data.len()).unwrap();
                            to.send_data(data, false).unwrap();
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        trailers.insert("te-was", te.unwrap());
                        to.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_grpc_conversation_with_trailers_passes() {
    let address = grpc_back_end().await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[], &[], &[]);
    far.published.publish(super::cluster::h2c(2, address));
    let socket = TcpStream::connect(near.web).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://grpc.test/service/method")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut to) = sender.send_request(request, false).unwrap();
    // A conversation: each message is answered before the next one is sent.
    to.send_data(Bytes::from_static(b"one"), false).unwrap();
    let answer = soon("the answer", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    assert_eq!(soon("one", body.data()).await.unwrap().unwrap(), "one");
    to.send_data(Bytes::from_static(b"two"), true).unwrap();
    assert_eq!(soon("two", body.data()).await.unwrap().unwrap(), "two");
    assert!(soon("the end", body.data()).await.is_none());
    let trailers = soon("trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["te-was"], "trailers");
}

/// A client that does not read holds up the back end, and no other client.
#[tokio::test]
async fn a_slow_reader_holds_up_its_own_back_end_alone() {
    const LONG: usize = 64 << 20;
    let backend = Backend::start(|_, seen| {
        if seen.head.starts_with("GET /long") {
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").into_bytes();
            answer.resize(answer.len() + LONG, b'x');
            return Act::Send(answer);
        }
        Act::Send(ok(b"short"))
    })
    .await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let _far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut client = near.connect().await;
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response_head().await.status, 200);
        slow.push(client);
    }
    let mut quick = near.connect().await;
    for _ in 0..10 {
        assert_eq!(quick.get("/short").await.text(), "short");
    }
    let received = near.metric("constellation_mesh_received_bytes_total", &[]);
    assert!(
        received < (5 * LONG / 2) as u64,
        "{received} bytes are kept for nobody"
    );
    for mut client in slow {
        let body = client.exact(LONG).await;
        assert!(body.iter().all(|byte| *byte == b'x'));
    }
}

#[tokio::test]
async fn the_time_that_is_left_goes_along() {
    let hung = Backend::start(|_, _| Act::Hang).await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let mut policy = Policy::default();
    // Long enough for the way to the other node, also on a busy machine.
    policy.retry.total = Some(std::time::Duration::from_secs(3));
    let near = cluster.start_with("a", policy, &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Here(hung.address)], &[], &[]);
    assert_eq!(near.connect().await.get("/").await.status, 504);
    // The other node, whose service has no limit of its own, has given up as well.
    let gave_up = async {
        while far.metric("constellation_requests_in_flight", &[]) > 0
            || far.metric("constellation_mesh_open_streams", &["direction=\"in\""]) > 0
        {
            tokio::task::yield_now().await;
        }
    };
    soon("the end at the other node", gave_up).await;
}

fn sticky() -> Policy {
    Policy {
        sticky: Some(StickyCookie {
            name: "session".into(),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: 0,
            path: "/".into(),
            domain: None,
        }),
        ..Policy::default()
    }
}

/// The cookie names the instance, not the way to it.
#[tokio::test]
async fn a_client_with_a_cookie_stays_at_its_instance_whichever_node_it_asks() {
    let backends = [
        Backend::fixed("1").await,
        Backend::fixed("2").await,
        Backend::fixed("3").await,
        Backend::fixed("4").await,
    ];
    let [one, two, three, four] = backends.each_ref().map(|backend| backend.address);
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let (at_a, at_b) = (vec![one, two], vec![three, four]);
    let a = cluster.start_with(
        "a",
        sticky(),
        &[At::Here(one), At::Here(two), At::Known("b", at_b.clone())],
        &[],
        &[],
    );
    let b = cluster.start_with(
        "b",
        sticky(),
        &[At::Here(three), At::Here(four), At::Known("a", at_a.clone())],
        &[],
        &[],
    );
    let c = cluster.start_with(
        "c",
        sticky(),
        &[At::Known("a", at_a), At::Known("b", at_b)],
        &[],
        &[],
    );
    for first in [&a, &b, &c] {
        let response = first.connect().await.get("/").await;
        let cookie = response.header("set-cookie").unwrap();
        let cookie = cookie.split(';').next().unwrap();
        for node in [&a, &b, &c, &b, &a] {
            let mut client = node.connect().await;
            client
                .send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"))
                .await;
            let again = client.response().await;
            assert_eq!(again.text(), response.text());
            assert_eq!(again.header("set-cookie"), None);
        }
    }
}

#[tokio::test]
async fn copies_go_to_mirrors_at_other_nodes() {
    let (main, mirror) = (Backend::fixed("main").await, Backend::fixed("copy").await);
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[], &[]);
    let far = cluster.start("b", &[], &[], &[]);
    near.publish_mirrored(&[At::Here(main.address)], &[At::Node("b")]);
    far.publish_mirrored(&[], &[At::Here(mirror.address)]);
    let mut client = near.connect().await;
    client
        .send("POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    assert_eq!(client.response().await.text(), "main");
    let copied = async {
        while mirror.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the copy", copied).await;
    let (seen, copy) = (main.seen().remove(0), mirror.seen().remove(0));
    assert_eq!(sorted(&copy.head), sorted(&seen.head));
    assert_eq!(copy.body, b"body");
}
