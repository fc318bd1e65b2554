//! Whatever bytes a client begins with: the reader of ClientHellos says the same however they are cut into segments and
//! records, ends within its limit, and sees the name and the protocols that rustls sees.
#![no_main]

use constellation_dataplane::l4::hello::{ClientHello, Fault, HelloReader, MAX_BYTES, Progress};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

fuzz_target!(|bytes: &[u8]| {
    let whole = by_segments(bytes);
    // The same input as a message, in records of another size.
    if let Some((size, message)) = bytes.split_first()
        && !message.is_empty()
    {
        let one = by_segments(&records(message, 1 << 14));
        let many = by_segments(&records(message, usize::from(*size) + 1));
        let limited = many == Progress::Malformed(Fault::TooLong);
        match (&one, &many) {
            (Progress::More(_), Progress::More(_)) => {}
            _ => assert!(one == many || limited, "{one:?}, {many:?}"),
        }
        if let Progress::Hello(hello) = &one {
            as_rustls(hello, &records(message, 1 << 14));
        }
    }
    if let Progress::Hello(hello) = &whole {
        as_rustls(hello, bytes);
    }
});

/// The verdict, reached byte by byte.
fn by_segments(bytes: &[u8]) -> Progress {
    let whole = ClientHello::parse(bytes);
    let mut reader = HelloReader::default();
    for end in 0..=bytes.len() {
        match reader.read(&bytes[..end]) {
            Progress::More(missing) => {
                assert!(missing > 0);
                assert!(end <= MAX_BYTES, "more is wanted behind the limit");
                assert!(!matches!(whole, Progress::Hello(_)) || end + missing <= bytes.len());
            }
            verdict => {
                assert_eq!(verdict, whole, "at {end}");
                return whole;
            }
        }
    }
    assert!(matches!(whole, Progress::More(_)));
    whole
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in message.chunks(size) {
        bytes.extend_from_slice(&[0x16, 3, 1]);
        bytes.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// What chose the way is what is served.
fn as_rustls(hello: &ClientHello, bytes: &[u8]) {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(1..) => {}
            _ => return,
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello();
                let name = theirs.server_name().map(str::to_ascii_lowercase);
                assert_eq!(hello.server_name.as_deref(), name.as_deref());
                let alpn: Vec<_> = theirs.alpn().into_iter().flatten().collect();
                assert_eq!(hello.alpn().as_slice(), alpn);
                return;
            }
            Err(_) => return,
        }
    }
}
