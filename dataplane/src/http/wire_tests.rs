//! The wire checks against every cut of the bytes and against a lenient parser.

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::framing::{Next, RequestStream};
use super::head::{BodyFraming, Head, HeadLimits, HeadScanner};
use super::refusal::Refusal;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 2048,
    lines: 10,
    body: Some(1000),
};

fn verdict(head: &[u8]) -> Result<Option<Head>, Refusal> {
    HeadScanner::default().scan(head, &LIMITS)
}

/// The verdict when the bytes come in these pieces.
fn verdict_in_pieces(head: &[u8], cuts: &[usize]) -> Result<Option<Head>, Refusal> {
    let mut scanner = HeadScanner::default();
    for cut in cuts {
        match scanner.scan(&head[..*cut], &LIMITS) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    scanner.scan(head, &LIMITS)
}

/// What a connection hands on and where it stops, when bytes come in pieces of `step`.
fn handed_on(bytes: &[u8], step: usize) -> (Vec<u8>, Result<Next, Refusal>) {
    let mut stream = RequestStream::new(LIMITS, Vec::new());
    let mut out = Vec::new();
    let mut pieces = bytes.chunks(step);
    loop {
        match stream.advance() {
            Ok(Next::Take) => {
                let mut space = [0; 64];
                let mut to = ReadBuf::new(&mut space);
                stream.take(&mut to);
                out.extend_from_slice(to.filled());
            }
            Ok(Next::Wait) => stream.next_request(),
            stop @ (Ok(_) | Err(_)) => match pieces.next() {
                Some(piece) if stop.is_ok() => stream.push(piece),
                _ => return (out, stop),
            },
        }
    }
}

#[test]
fn a_head_says_where_it_ends_and_what_follows() {
    let cases: [(&[u8], usize, BodyFraming); 5] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", 27, BodyFraming::None),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 29, BodyFraming::None),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
            46,
            BodyFraming::Length(7),
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            46,
            BodyFraming::None,
        ),
        (
            b"PUT / HTTP/1.1\r\nTransfer-Encoding:chunked\r\nHost: a\r\n\r\n",
            54,
            BodyFraming::Chunked,
        ),
    ];
    for (bytes, len, body) in cases {
        assert_eq!(
            verdict(bytes),
            Ok(Some(Head { len, body })),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn limits_hold_at_their_very_edge() {
    let head = |fill: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(fill));
    let fits = 2048 - head(0).len();
    assert!(matches!(verdict(head(fits).as_bytes()), Ok(Some(_))));
    assert_eq!(verdict(head(fits + 3).as_bytes()), Err(Refusal::HeadTooLarge));
    let line = |fill: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(fill));
    assert_eq!(verdict(line(2048).as_bytes()), Err(Refusal::TargetTooLong));
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert!(matches!(verdict(lines(9).as_bytes()), Ok(Some(_))));
    assert_eq!(verdict(lines(10).as_bytes()), Err(Refusal::TooManyHeaders));
}

#[test]
fn requests_are_handed_on_one_by_one() {
    let bytes = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let first = bytes.len() - 28;
    let mut stream = RequestStream::new(LIMITS, bytes.to_vec());
    assert_eq!(stream.advance(), Ok(Next::Take));
    let mut space = [0; 256];
    let mut to = ReadBuf::new(&mut space);
    stream.take(&mut to);
    assert_eq!(to.filled(), &bytes[..first]);
    assert_eq!(
        stream.advance(),
        Ok(Next::Wait),
        "the second request waits for the end of the first"
    );
    assert_eq!(stream.held(), 28);
    stream.next_request();
    assert_eq!(stream.advance(), Ok(Next::Take));
}

/// Pieces that requests are made of, sound and not, so that random ones come close to the edge cases.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"GET",
        b"POST",
        b"OPTIONS",
        b" ",
        b" / ",
        b"/",
        b"*",
        b"http://a",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: a",
        b"Host: b",
        b"host:a",
        b"Content-Length: 3",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"X: y",
        b": ",
        b"\t",
        b"\0",
        b"\x80",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0;x=y\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Expect: 100-continue",
        b"\r\n\r\n",
        b"ff",
        b"#",
        b"%",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn cuts_change_no_verdict(head in fragments(), cuts in proptest::collection::vec(0usize..200, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= head.len()).collect();
        cuts.sort_unstable();
        prop_assert_eq!(verdict_in_pieces(&head, &cuts), verdict(&head));
        let every: Vec<usize> = (0..=head.len()).collect();
        prop_assert_eq!(verdict_in_pieces(&head, &every), verdict(&head));
    }

    /// What we let through, the parser behind us reads as the same request, to the same byte.
    #[test]
    fn what_passes_is_read_the_same_way(head in fragments()) {
        if let Ok(Some(found)) = verdict(&head) {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            prop_assert_eq!(request.parse(&head), Ok(httparse::Status::Complete(found.len)));
            let hosts = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("host")).count();
            prop_assert!(hosts == 1 || (hosts == 0 && request.version == Some(0)));
            let lengths = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("content-length")).count();
            let codings = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("transfer-encoding")).count();
            prop_assert!(lengths + codings <= 1);
            prop_assert_eq!(found.body == BodyFraming::Chunked, codings == 1);
        }
    }

    /// However the bytes come, the same bytes are handed on in the end, up to the first refusal.
    #[test]
    fn the_stream_is_the_same_in_any_pieces(bytes in fragments(), step in 1usize..9) {
        let (whole, end) = handed_on(&bytes, usize::MAX);
        let (pieces, end_of_pieces) = handed_on(&bytes, step);
        prop_assert_eq!(end.is_err(), end_of_pieces.is_err());
        if end.is_ok() {
            prop_assert_eq!(&whole, &pieces);
        } else {
            prop_assert_eq!(end, end_of_pieces);
            // A body that turns out bad may have begun to flow before that was known.
            prop_assert!(pieces.starts_with(&whole));
        }
        prop_assert!(bytes.starts_with(&whole) && bytes.starts_with(&pieces));
    }
}
