//! Whatever bytes a client sends: the wire checks do not panic, do not depend on how the bytes were cut, and let
//! through only what a common parser reads as the same request to the same byte.
#![no_main]

use constellation_dataplane::http::framing::{Next, RequestStream};
use constellation_dataplane::http::head::{HeadLimits, HeadScanner};
use libfuzzer_sys::fuzz_target;
use tokio::io::ReadBuf;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 4096,
    lines: 32,
    body: Some(1 << 20),
};

fuzz_target!(|bytes: &[u8]| {
    let whole = HeadScanner::default().scan(bytes, &LIMITS);
    let mut scanner = HeadScanner::default();
    let cut = (0..=bytes.len()).find_map(|end| match scanner.scan(&bytes[..end], &LIMITS) {
        Ok(None) => None,
        verdict => Some(verdict),
    });
    assert_eq!(cut.unwrap_or(Ok(None)), whole);
    if let Ok(Some(head)) = whole {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(head.len)));
    }
    // The stream hands on a prefix of what came in, and ends.
    let mut stream = RequestStream::new(LIMITS, bytes.to_vec());
    let mut handed_on = 0;
    loop {
        match stream.advance() {
            Ok(Next::Take) => {
                let mut space = [0; 512];
                let mut to = ReadBuf::new(&mut space);
                stream.take(&mut to);
                assert_eq!(to.filled(), &bytes[handed_on..handed_on + to.filled().len()]);
                handed_on += to.filled().len();
            }
            Ok(Next::Wait) if stream.held() > 0 => stream.next_request(),
            _ => break,
        }
    }
});
