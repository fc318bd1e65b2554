//! Whatever bytes a proxy begins with: the verdict does not depend on how they were cut, comes within the limit, and what
//! was read is read again from what is written of it.
#![no_main]

use constellation_dataplane::l4::proxy_protocol::{
    MAX_HEADER, Progress, ProxyHeader, Tlvs, Version, begins, encode, parse,
};
use libfuzzer_sys::fuzz_target;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    // The same input as what follows the signature, and as addresses and TLVs of the right length.
    look(&[SIGNATURE, bytes].concat());
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    for family in [0x11, 0x21, 0x31] {
        look(&[SIGNATURE, &[0x21, family], &length, bytes].concat());
    }
});

fn look(bytes: &[u8]) {
    let whole = parse(bytes);
    let early = (0..bytes.len())
        .map(|end| parse(&bytes[..end]))
        .find(|progress| *progress != Progress::More);
    if let Some(early) = early {
        assert_eq!(early, whole);
    }
    match whole {
        Progress::More => assert!(bytes.len() < MAX_HEADER),
        Progress::Absent => assert!(!begins(bytes)),
        Progress::Malformed(_) => assert!(begins(bytes)),
        Progress::Header { header, len } => {
            assert!(begins(bytes) && len <= bytes.len() && len <= MAX_HEADER);
            again(header);
        }
    }
}

fn again(header: ProxyHeader) {
    // Each is made of what its type allows.
    let _ = (
        header.tlvs.authority(),
        header.tlvs.unique_id(),
        header.tlvs.ssl(),
    );
    for version in [Version::V1, Version::V2] {
        let bytes = encode(version, &header);
        let plain = version == Version::V1 || header.addresses.is_none();
        let expected = ProxyHeader {
            addresses: header.addresses,
            tlvs: if plain {
                Tlvs::default()
            } else {
                header.tlvs.clone()
            },
        };
        let Progress::Header { header: read, len } = parse(&bytes) else {
            panic!("not read again: {bytes:?}");
        };
        assert_eq!(len, bytes.len());
        // Addresses that were mapped take more room than those that came.
        let fits = read.tlvs == expected.tlvs
            || read.tlvs.is_empty() && bytes.len() + expected.tlvs.as_bytes().len() > MAX_HEADER;
        assert!(read.addresses == expected.addresses && fits);
    }
}
