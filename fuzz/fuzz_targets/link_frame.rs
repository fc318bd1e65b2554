//! What comes in at the port of the cluster before anybody is believed, and the frames after that.
#![no_main]

use constellation_link::frame::{Expect, HEADER_BYTES, Header};
use constellation_link::{Hello, look};
use libfuzzer_sys::fuzz_target;

const EXPECTED: [Expect; 4] = [
    Expect::Requests,
    Expect::Answers,
    Expect::JoinRequest,
    Expect::JoinAnswer,
];

fuzz_target!(|bytes: &[u8]| {
    // A ClientHello that is whole stays what it is, whatever comes after it.
    let hello = look(bytes);
    if hello != Hello::Part {
        assert_eq!(look(&[bytes, b"more"].concat()), hello);
    }
    // A stream of frames, as long as they are some.
    for expect in EXPECTED {
        let mut rest = bytes;
        while let Some((head, body)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let Ok(header) = Header::decode(*head, expect) else {
                break;
            };
            assert_eq!(header.encode(), *head);
            let length = header.length as usize;
            assert!(length <= header.service.request_limit().max(header.service.answer_limit()));
            rest = body.get(length..).unwrap_or_default();
        }
    }
});
