//! The fields by which one node tells another what a stream is: read or refused, and what was written is read again.
#![no_main]

use constellation_dataplane::mesh::head::{Refusal, StreamHead};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut fields = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(32) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    let _ = Refusal::read(&fields);
    let Ok(head) = StreamHead::read(&fields) else {
        return;
    };
    let mut written = HeaderMap::new();
    head.write(|name, value| {
        written.append(name, value);
    });
    assert_eq!(StreamHead::read(&written), Ok(head));
});
