//! TCP checks that say and hear something.

use constellation_table::policy::{CheckMode, TcpExchange};
use constellation_table::{ProxyProtocolVersion, StreamTransport};

use super::*;
use crate::metrics::CheckOutcome;

/// What a server does once it has heard so many bytes: sends these pieces, and stays or leaves.
#[derive(Clone, Copy)]
struct Script {
    hears: usize,
    says: &'static [&'static [u8]],
    leaves: bool,
}

/// A server, and all that each connection to it has heard.
async fn server(script: Script) -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            let mut heard = Vec::new();
            while heard.len() < script.hears && socket.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
            }
            for piece in script.says {
                // The checker may have heard enough.
                socket.write_all(piece).await.unwrap_or_default();
                tokio::task::yield_now().await;
            }
            while !script.leaves && socket.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {}
            let _ = tell.send(heard);
        }
    });
    (address, told, tasks)
}

fn check(send: &[u8], expect: &[u8]) -> HealthCheck {
    HealthCheck {
        mode: CheckMode::Tcp,
        exchange: TcpExchange {
            send: send.into(),
            expect: expect.into(),
        },
        timeout: Duration::from_millis(500),
        ..once()
    }
}

#[tokio::test]
async fn an_answer_must_begin_with_what_is_expected() {
    let stays = |hears, says| Script {
        hears,
        says,
        leaves: false,
    };
    let leaves = |hears, says| Script {
        leaves: true,
        ..stays(hears, says)
    };
    let ended = "the connection ended before the answer was complete";
    type Case<'a> = (Script, &'a [u8], &'a [u8], Result<(), (CheckOutcome, &'a str)>);
    let table: [Case<'_>; 12] = [
        (stays(6, &[b"+PONG\r\n"]), b"PING\r\n", b"+PONG", Ok(())),
        (
            stays(6, &[b"+", b"PO", b"NG", b"\r\n"]),
            b"PING\r\n",
            b"+PONG",
            Ok(()),
        ),
        (leaves(6, &[b"+PONG and more"]), b"PING\r\n", b"+PONG", Ok(())),
        (stays(0, &[b"220 mail.test ESMTP\r\n"]), b"", b"220 ", Ok(())),
        (leaves(4, &[]), b"QUIT", b"", Ok(())),
        (leaves(0, &[]), b"", b"", Ok(())),
        (
            stays(6, &[b"-NOAUTH Authentication required.\r\n"]),
            b"PING\r\n",
            b"+PONG",
            Err((
                CheckOutcome::Status,
                r#"the answer begins with "-NOAUTH Authentication required.??", not "+PONG""#,
            )),
        ),
        (
            stays(0, &[b"+PIN"]),
            b"",
            b"+PONG",
            Err((
                CheckOutcome::Status,
                r#"the answer begins with "+PIN", not "+PONG""#,
            )),
        ),
        (
            stays(0, &[b"\xff\0\x1b"]),
            b"",
            b"2",
            Err((
                CheckOutcome::Status,
                "the answer begins with \"\u{fffd}??\", not \"2\"",
            )),
        ),
        (
            leaves(6, &[]),
            b"PING\r\n",
            b"+PONG",
            Err((CheckOutcome::Closed, ended)),
        ),
        (
            leaves(6, &[b"+PON"]),
            b"PING\r\n",
            b"+PONG",
            Err((CheckOutcome::Closed, ended)),
        ),
        (
            stays(6, &[b"+PON"]),
            b"PING\r\n",
            b"+PONG",
            Err((CheckOutcome::Timeout, "no answer within 500ms")),
        ),
    ];
    for (number, (script, send, expect, expected)) in table.into_iter().enumerate() {
        let (address, mut heard, _server) = server(script).await;
        let mut watched = Watched::one(check(send, expect), endpoint(Scheme::Tcp, address));
        let (_, result) = watched.next().await;
        let expected = expected.map_err(|(outcome, reason)| Failure::new(outcome, reason));
        assert_eq!(result, expected, "{number}");
        assert_eq!(soon("the end", heard.recv()).await.unwrap(), send, "{number}");
    }
}

#[tokio::test]
async fn a_flood_is_not_read_beyond_what_was_expected() {
    let backend = Backend::start(|_, _| Act::Flood(vec![b'x'; 4096])).await;
    let reason = reason_of(check(b"\r\n\r\n", &[b'x'; 8000]), backend.address).await;
    assert_eq!(reason, "");
    let reason = reason_of(check(b"\r\n\r\n", b"y"), backend.address).await;
    assert!(
        reason.starts_with("the answer begins with \"xxx") && reason.len() < 120,
        "{reason}"
    );
}

/// What wants PROXY headers would take the check's words for a broken one.
#[tokio::test]
async fn a_back_end_that_wants_proxy_headers_hears_that_the_connection_is_ours() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".as_slice();
    for (version, header) in [
        (ProxyProtocolVersion::V1, b"PROXY UNKNOWN\r\n".as_slice()),
        (ProxyProtocolVersion::V2, local),
    ] {
        let script = Script {
            hears: header.len() + 6,
            says: &[b"+PONG\r\n"],
            leaves: false,
        };
        let (address, mut heard, _server) = server(script).await;
        let transport = Transport {
            stream: StreamTransport {
                proxy_protocol: Some(version),
                ..StreamTransport::default()
            },
            ..Transport::default()
        };
        let endpoints = vec![endpoint(Scheme::Tcp, address)];
        let mut watched = Watched::start(vec![service(check(b"PING\r\n", b"+PONG"), endpoints, transport)]);
        assert_eq!(watched.reason().await, "");
        assert_eq!(
            soon("the end", heard.recv()).await.unwrap(),
            [header, b"PING\r\n"].concat()
        );
    }
}

#[tokio::test]
async fn what_speaks_udp_is_asked_at_a_port_of_tcp_or_not_at_all() {
    let script = Script {
        hears: 0,
        says: &[],
        leaves: false,
    };
    let (address, _heard, _server) = server(script).await;
    let udp = endpoint(Scheme::Udp, "127.0.0.1:9".parse().unwrap());
    let tcp = endpoint(Scheme::Tcp, address);
    let with_port = HealthCheck {
        port: Some(address.port()),
        ..check(b"", b"")
    };
    let mut watched = Watched::one(with_port, udp.clone());
    assert_eq!(watched.reason().await, "");
    let often = HealthCheck {
        mode: CheckMode::Tcp,
        ..quick()
    };
    let web = HealthCheck {
        port: Some(address.port()),
        ..quick()
    };
    for without in [often.clone(), web] {
        let services = [(without, udp.clone()), (often.clone(), tcp.clone())]
            .map(|(check, endpoint)| service(check, vec![endpoint], Transport::default()));
        let mut watched = Watched::start(services.into());
        for _ in 0..10 {
            let (subject, result) = watched.next().await;
            assert_eq!((subject.endpoint.scheme, result), (Scheme::Tcp, Ok(())));
        }
    }
}
