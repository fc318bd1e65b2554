//! Clients that do too little or too much: slow bodies, slow readers, floods of frames. And clients that are only quiet.

use std::num::NonZeroU32;
use std::time::Duration;

use constellation_dataplane::table::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::support::{Act, Backend, Client, Node, Plan, ok, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a.test` without indexing.
const GET: &[u8] = b"\x82\x86\x84\x01\x06a.test";
const POST: &[u8] = b"\x83\x86\x84\x01\x06a.test";

fn strict(backend: &Backend) -> Plan {
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.rate_grace = Duration::from_secs(1);
    plan.limits.min_body_rate = NonZeroU32::new(1000);
    plan.limits.min_send_rate = NonZeroU32::new(1000);
    plan.limits.header_timeout = Duration::from_secs(1);
    plan
}

async fn counted(node: &Node, reason: &str) {
    counted_one_of(node, &[reason]).await;
}

async fn counted_one_of(node: &Node, reasons: &[&str]) {
    let line =
        |reason: &&str| format!(r#"constellation_refused_total{{entry_point="web",reason="{reason}"}} "#);
    let reason = reasons.join(" or ");
    soon(&format!("counting {reason}"), async {
        while !reasons
            .iter()
            .any(|reason| node.metrics().contains(&line(reason)))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A back end that answers with this head and then does what it is told.
async fn streaming<F>(
    then: impl Fn(tokio::net::TcpStream) -> F + Send + Sync + 'static,
) -> std::net::SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            if socket.read(&mut head).await.is_ok() {
                tokio::spawn(then(socket));
            }
        }
    });
    address
}

#[tokio::test]
async fn a_slow_body_is_refused_and_a_steady_one_is_not() {
    let backend = Backend::fixed("hello").await;
    let node = strict(&backend).start();
    let mut slow = node.connect().await;
    slow.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nx")
        .await;
    let answer = slow.response().await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.text(), "the request body came too slowly\n");
    counted(&node, "slow_body").await;
    for framing in ["Content-Length: 60000", "Transfer-Encoding: chunked"] {
        let mut steady = node.connect().await;
        steady
            .send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n"))
            .await;
        for _ in 0..30 {
            let piece = "x".repeat(2000);
            if framing.starts_with('C') {
                steady.send(piece).await;
            } else {
                steady.send(format!("7d0\r\n{piece}\r\n")).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if framing.starts_with('T') {
            steady.send("0\r\n\r\n").await;
        }
        assert_eq!(steady.response().await.status, 200, "{framing}");
    }
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long_is_refused_and_counted() {
    let backend = Backend::fixed("hello").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.read_timeout = Some(Duration::from_millis(200));
    let node = plan.start();
    let mut slow = node.connect().await;
    slow.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nx")
        .await;
    let answer = slow.response().await;
    assert_eq!((answer.status, answer.text()), (408, "Request Timeout"));
    counted(&node, "body_timeout").await;
}

#[tokio::test]
async fn a_conversation_may_pause() {
    let backend = Backend::fixed("hello").await;
    let node = strict(&backend).start();
    let mut client = node.connect().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc\r\nContent-Length: 2\r\n\r\nx",
        )
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.send("y").await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn who_does_not_take_the_response_is_cut_off_and_who_is_only_slow_is_not() {
    let endless = streaming(|mut socket| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n";
        if socket.write_all(head).await.is_ok() {
            while socket.write_all(&[7; 65_536]).await.is_ok() {}
        }
    })
    .await;
    let backend = Backend::fixed("").await;
    let mut plan = strict(&backend);
    // A loaded machine may keep a client from reading for a second.
    plan.limits.rate_grace = Duration::from_secs(2);
    plan.routes = Plan::to(&[(Scheme::Http, endless)]).routes;
    let node = plan.start();
    let mut idle = node.connect().await;
    let mut slow = node.connect().await;
    for client in [&mut idle, &mut slow] {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(client.response_head().await.status, 200);
    }
    // Much more than a kernel keeps, slower than the network; and so much at a time that a full window opens again.
    for _ in 0..50 {
        slow.exact(500_000).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    counted(&node, "slow_reader").await;
    slow.exact(10_000_000).await;
    drop(slow);
    idle.rest().await;
}

#[tokio::test]
async fn a_silent_stream_lives() {
    let quiet = streaming(|mut socket| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
        socket.write_all(head).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        socket.write_all(b"data: 2\n\n").await.unwrap();
    })
    .await;
    let backend = Backend::fixed("").await;
    let mut plan = strict(&backend);
    plan.routes = Plan::to(&[(Scheme::Http, quiet)]).routes;
    let node = plan.start();
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await;
    let mut h2 = H2::open(&node).await;
    h2.frame(HEADERS, 5, 1, GET).await;
    let text = String::from_utf8(client.rest().await).unwrap();
    assert!(text.contains("data: 1") && text.contains("data: 2"), "{text}");
    let mut data = Vec::new();
    while !data.ends_with(b"data: 2\n\n") {
        data.extend(h2.until(DATA).await.2);
    }
}

/// The n-th frame of a flood.
type Make = Box<dyn Fn(u32) -> Vec<u8>>;

/// A client that speaks frames.
struct H2(Client);

impl H2 {
    async fn open(node: &Node) -> Self {
        let mut client = Self(node.connect().await);
        client.0.send(PREFACE).await;
        client.frame(SETTINGS, 0, 0, &[]).await;
        client
    }

    fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(Self::bytes(kind, flags, stream, payload)).await;
    }

    /// The next frame of a type: stream, flags, payload. `None` at the end.
    async fn next_of(&mut self, wanted: u8) -> Option<(u32, u8, Vec<u8>)> {
        soon("a frame", async {
            loop {
                let mut head = [0; 9];
                self.0.0.read_exact(&mut head).await.ok()?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                self.0.0.read_exact(&mut payload).await.ok()?;
                if head[3] == wanted {
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    return Some((stream, head[4], payload));
                }
            }
        })
        .await
    }

    async fn until(&mut self, wanted: u8) -> (u32, u8, Vec<u8>) {
        self.next_of(wanted).await.unwrap()
    }
}

#[tokio::test]
async fn the_first_settings_and_every_header_section_have_a_deadline() {
    let backend = Backend::fixed("hello").await;
    let node = strict(&backend).start();
    let mut silent = node.connect().await;
    silent.send(PREFACE).await;
    silent.rest().await;
    let mut half = H2::open(&node).await;
    half.frame(HEADERS, 0, 1, GET).await;
    half.0.rest().await;
    let mut trickle = H2::open(&node).await;
    trickle.0.send(&H2::bytes(HEADERS, 5, 1, GET)[..12]).await;
    trickle.0.rest().await;
    counted(&node, "header_timeout").await;
    assert_eq!(backend.bytes(), 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_an_http2_connection() {
    let backend = Backend::fixed("hello").await;
    let node = strict(&backend).start();
    let mut client = H2::open(&node).await;
    client.frame(HEADERS, 4, 1, POST).await;
    client.frame(DATA, 0, 1, b"x").await;
    let (_, _, payload) = client.until(GOAWAY).await;
    assert_eq!(payload[4..8], [0, 0, 0, 0xb]);
    counted(&node, "slow_body").await;
}

#[tokio::test]
async fn a_stream_without_a_window_is_reset_and_its_siblings_are_not() {
    let backend = Backend::start(|_, seen| {
        Act::Send(ok(if seen.head.starts_with("GET / ") {
            &[7; 1_000_000]
        } else {
            b"small"
        }))
    })
    .await;
    let node = strict(&backend).start();
    let mut client = H2::open(&node).await;
    // Room on the connection, none beyond the first 65,535 bytes on the stream.
    client
        .frame(WINDOW_UPDATE, 0, 0, &10_000_000_u32.to_be_bytes())
        .await;
    client.frame(HEADERS, 5, 1, GET).await;
    let (stream, _, payload) = client.until(RST_STREAM).await;
    assert_eq!((stream, &payload[..]), (1, &[0, 0, 0, 8][..]));
    // `:path: /s`
    client
        .frame(HEADERS, 5, 3, b"\x82\x86\x04\x02/s\x01\x06a.test")
        .await;
    let (stream, _, payload) = client.until(DATA).await;
    assert_eq!((stream, &payload[..]), (3, &b"small"[..]));
    drop(client);
    counted(&node, "slow_reader").await;
    soon("the back end's connection", async {
        while node
            .metrics()
            .contains("constellation_requests_in_flight{entry_point=\"web\",service=\"app\"} 1")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn requests_with_their_reset_behind_them_reach_no_back_end() {
    let backend = Backend::fixed("hello").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = H2::open(&node).await;
    let mut all = Vec::new();
    for number in 0..50 {
        all.extend(H2::bytes(HEADERS, 5, 2 * number + 1, GET));
        all.extend(H2::bytes(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8]));
    }
    all.extend(H2::bytes(HEADERS, 5, 101, GET));
    client.0.0.write_all(&all).await.unwrap();
    let (stream, _, payload) = client.until(DATA).await;
    assert_eq!((stream, &payload[..]), (101, &b"hello"[..]));
    assert_eq!((backend.seen().len(), backend.connections()), (1, 1));
}

#[tokio::test]
async fn floods_of_frames_end_the_connection() {
    let backend = Backend::fixed("hello").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let reset = |n: u32| {
        let mut both = H2::bytes(HEADERS, 5, 2 * n + 1, GET);
        both.extend(H2::bytes(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
        both
    };
    let cases: [(&str, Make); 7] = [
        ("h2_resets", Box::new(reset)),
        ("h2_pings", Box::new(|_| H2::bytes(6, 0, 0, &[0; 8]))),
        ("h2_settings", Box::new(|_| H2::bytes(SETTINGS, 0, 0, &[]))),
        (
            "h2_priority",
            Box::new(|n| H2::bytes(2, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        ),
        (
            "h2_window_updates",
            Box::new(|_| H2::bytes(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
        ("h2_unknown", Box::new(|_| H2::bytes(0xbe, 0, 0, b"x"))),
        (
            "h2_empty_data",
            Box::new(|n| match n {
                0 => H2::bytes(HEADERS, 4, 1, POST),
                _ => H2::bytes(DATA, 0, 1, &[]),
            }),
        ),
    ];
    for (reason, make) in cases {
        let mut client = H2::open(&node).await;
        let flood: Vec<u8> = (0..20_000).flat_map(&make).collect();
        let (mut from, mut to) = client.0.0.split();
        let writing = async {
            // It is broken off somewhere.
            to.write_all(&flood).await.unwrap_or_default();
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut waste = vec![0; 65_536];
            while from.read(&mut waste).await.is_ok_and(|count| count > 0) {}
        };
        soon(reason, async {
            tokio::select! { () = writing => {}, () = reading => {} }
        })
        .await;
        // `h2` may have been first to see that streams are reset which nobody took yet.
        let reasons = [reason, "h2_error"];
        counted_one_of(
            &node,
            if reason == "h2_resets" {
                &reasons
            } else {
                &reasons[..1]
            },
        )
        .await;
    }
    let mut normal = node.connect().await;
    assert_eq!(normal.get("/").await.status, 200);
    assert_eq!(node.plane.drain().await, 0);
}
