//! The serving path allocates nothing in the common case.
#![expect(
    unsafe_code,
    reason = "a global allocator that counts can't be written without"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::cell::Cell;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::asked::Asked;
use crate::built::{Row, endpoint, service, snapshot};
use crate::stream_built::{Opened, Stream, datagrams, server, streams};
use constellation_table::{
    AttemptOutcome, ConnectionMeta, EntryPointId, RequestMeta, Scheme, Turn, decide, decide_tcp, decide_udp,
    host, path,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a plain thread-local cell
// that needs neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` through `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn deciding_allocates_nothing() {
    let eight = service(
        "eight",
        (0..8).map(|n| endpoint(&format!("e{n}"), n + 1, None)).collect(),
    );
    let many = service(
        "many",
        (0..100).map(|n| endpoint(&format!("e{n}"), 1, None)).collect(),
    );
    let partly = service(
        "partly",
        (0..4)
            .map(|n| endpoint(&format!("e{n}"), 1, (n > 1).then_some("down")))
            .collect(),
    );
    let none = service("none", vec![endpoint("e", 1, Some("down"))]);
    let troubled = service(
        "troubled",
        (0..8).map(|n| endpoint(&format!("e{n}"), 1, None)).collect(),
    );
    for failing in &troubled.endpoints[..3] {
        troubled.record(failing, AttemptOutcome::ConnectFailed, Instant::now());
    }
    let mut routers: Vec<_> = (0..10_000)
        .map(|n| Row::plain(&format!("r{n}"), &format!("Host(`h{n}.test`)")).forward(&eight))
        .collect();
    for (name, rule, service) in [
        ("many", "Host(`many`)", &many),
        ("partly", "Host(`partly`)", &partly),
        ("troubled", "Host(`troubled`)", &troubled),
        ("none", "Host(`none`)", &none),
        ("wildcard", "Host(`*.w.test`) && !Method(`POST`)", &eight),
        ("header", "Host(`header`) && Header(`X-A`, `b`)", &eight),
        ("query", "Host(`query`) && Query(`q`, `1`)", &eight),
        ("client", "Host(`client`) && ClientIP(`127.0.0.0/8`)", &eight),
        (
            "pattern",
            "HostRegexp(`^p[0-9]+$`) && PathRegexp(`^/[a-z]+$`)",
            &eight,
        ),
        ("prefix", "PathPrefix(`/api`) || Path(`/x`)", &eight),
    ] {
        routers.push(Row::plain(name, rule).forward(service));
    }
    routers.push(Row::plain("redirect", "Host(`redirect`)").redirect());
    let snapshot = snapshot(routers);

    for line in [
        "GET h1234.test /a",
        "GET h9999.test. /",
        "GET many /",
        "GET partly /",
        "GET troubled /",
        "GET none /",
        "GET a.w.test /",
        "POST a.w.test /",
        "GET header / | X-A: a | X-A: b",
        "GET query /?p=2&q=1",
        "GET client /",
        "GET p12 /abc",
        "GET nobody /api/v1",
        "GET nobody /",
        "GET redirect /",
    ] {
        let asked = Asked::parse(line).unwrap();
        let request = RequestMeta {
            turn: Turn::Take,
            ..asked.meta()
        };
        // Regular expressions make their scratch space on first use, once per thread.
        black_box(decide(&snapshot, &request));
        let counted = allocations(|| {
            for _ in 0..100 {
                black_box(decide(&snapshot, &request));
            }
        });
        assert_eq!(counted, 0, "{line}");
    }
}

#[test]
fn deciding_streams_allocates_nothing() {
    let servers = service(
        "tcp/db@file",
        (0..8)
            .map(|n| server(&format!("s{n}"), Scheme::Tcp, (n > 5).then_some("down")))
            .collect(),
    );
    let web = service("web", vec![]);
    let secure = |name: &str, rule: &str| {
        Row {
            tls: true,
            ..Row::plain(name, rule)
        }
        .forward(&web)
    };
    let mut http: Vec<_> = (0..1_000)
        .map(|n| {
            secure(
                &format!("w{n}"),
                &format!("Host(`w{n}.test`) && PathPrefix(`/`) || !Host(`x`) && Path(`/`)"),
            )
        })
        .collect();
    http.push(secure("rest", "PathPrefix(`/`)"));
    let mut tcp: Vec<_> = (0..10_000)
        .map(|n| Stream::tls(&format!("t{n}"), &format!("HostSNI(`t{n}.test`)")).to(servers.clone()))
        .collect();
    for (name, rule) in [
        ("wildcard", "HostSNI(`*.w.test`) && !ALPN(`h2`)"),
        ("pattern", "HostSNIRegexp(`^p[0-9]+$`) || ClientIP(`10.0.0.0/8`)"),
        ("all", "HostSNI(`*`)"),
    ] {
        tcp.push(Stream::tls(name, rule).to(servers.clone()));
    }
    tcp.push(Stream::plain("plain", "HostSNI(`*`)").to(servers.clone()));
    let dns = service("udp/dns@file", vec![server("d", Scheme::Udp, None)]);
    let snapshot = streams(http, tcp, vec![datagrams("udp/dns@file", &[1], &dns)]);

    for line in [
        "tls t1234.test",
        "tls a.w.test http/1.1",
        "tls a.w.test h2",
        "tls p12",
        "tls - @10.0.0.1",
        "tls w77.test",
        "tls nobody.test",
        "tls -",
        "plain",
        "plain #1",
    ] {
        let counted = Opened::parse(line).with(|connection| {
            let connection = ConnectionMeta {
                turn: Turn::Take,
                ..*connection
            };
            // Regular expressions make their scratch space on first use, once per thread.
            black_box(decide_tcp(&snapshot, &connection));
            allocations(|| {
                for _ in 0..100 {
                    black_box(decide_tcp(&snapshot, &connection));
                    black_box(snapshot.server_may_speak_first(connection.entry_point));
                }
            })
        });
        assert_eq!(counted, 0, "{line}");
    }
    let client = IpAddr::from([127, 0, 0, 1]);
    let datagram = || {
        black_box(decide_udp(
            &snapshot,
            EntryPointId(1),
            client,
            Instant::now(),
            Turn::Take,
        ))
    };
    drop(datagram());
    let counted = allocations(|| {
        for _ in 0..100 {
            drop(datagram());
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn recording_a_success_allocates_nothing() {
    let service = service("s", vec![endpoint("a", 1, None), endpoint("b", 1, None)]);
    let good = AttemptOutcome::Answered {
        status: 200,
        latency: Duration::from_millis(1),
    };
    // One endpoint is out; the other one's first answer makes its window.
    service.record(
        &service.endpoints[1],
        AttemptOutcome::ConnectFailed,
        Instant::now(),
    );
    service.record(&service.endpoints[0], good, Instant::now());
    let counted = allocations(|| {
        for _ in 0..100 {
            let running = service.endpoints[0].live.begin();
            black_box(service.record(&service.endpoints[0], good, Instant::now()));
            drop(running);
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn normalising_allocates_only_when_something_changes() {
    let counted = allocations(|| {
        assert!(matches!(
            host::canonical("a.test:8080"),
            Ok(Cow::Borrowed("a.test"))
        ));
        assert!(path::normalise("/a/b.html").is_ok());
        assert!(path::normalise("/.well-known/a%2Fb").is_ok());
    });
    assert_eq!(counted, 0);
    assert_ne!(
        allocations(|| drop(black_box(path::normalise("/%61")))),
        0,
        "the counter counts"
    );
}
