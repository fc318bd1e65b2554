use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const IPV4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x10, 0x92, 0x01, 0xbb];

/// A version 2 header of this command and family.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, body].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [
        &[kind],
        &u16::try_from(value.len()).unwrap().to_be_bytes()[..],
        value,
    ]
    .concat()
}

/// A version 2 header over IPv4 with these TLVs.
fn with(tlvs: &[u8]) -> Vec<u8> {
    v2(1, 0x11, &[IPV4, tlvs].concat())
}

/// The same with a checksum TLV whose value is right, but for `wrong`.
fn checked(tlvs: &[u8], behind: &[u8], wrong: u32) -> Vec<u8> {
    let mut bytes = with(&[tlvs, &tlv(kind::CRC32C, &[0; 4]), behind].concat());
    let crc = (crc32c::of([&*bytes]) ^ wrong).to_be_bytes();
    let at = bytes.len() - behind.len() - 4;
    bytes[at..at + 4].copy_from_slice(&crc);
    bytes
}

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses::new(
        source.parse().unwrap(),
        destination.parse().unwrap(),
    ))
}

/// The verdict, which has to be the same for every prefix that has one, and for what follows.
fn verdict(bytes: &[u8]) -> Progress {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        let progress = parse(&bytes[..end]);
        let early = progress != Progress::More;
        if let Progress::Header { len, .. } = progress {
            assert_eq!(len, end.min(len));
        }
        assert!(!early || progress == whole, "{end}: {progress:?}, {whole:?}");
    }
    for behind in [&b"GET / HTTP/1.1\r\n"[..], b"\r\n", b"PROXY UNKNOWN\r\n"] {
        let longer = parse(&[bytes, behind].concat());
        assert!(
            whole == Progress::More || longer == whole,
            "{longer:?}, {whole:?}"
        );
    }
    whole
}

#[test]
fn headers_say_whose_connection_it_is() {
    let v4 = addresses("192.0.2.1:4242", "198.51.100.2:443");
    let v6 = addresses("[2001:db8::1]:0", "[2001:db8::2]:65535");
    let mapped = addresses("192.0.2.1:1", "198.51.100.2:2");
    let ipv6 = |source: &str, destination: &str| {
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&octets(source)[..], &octets(destination), &[0, 1, 0, 2]].concat()
    };
    let table = [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4242 443\r\n".to_vec(), v4),
        (b"PROXY TCP6 2001:db8::1 2001:db8:0::2 0 65535\r\n".to_vec(), v6),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1 2\r\n".to_vec(),
            mapped,
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN 2001:db8::1 whatever\xff  1\r\n".to_vec(), None),
        (v2(1, 0x11, IPV4), v4),
        (v2(1, 0x12, IPV4), v4),
        (v2(1, 0x10, IPV4), v4),
        (
            v2(1, 0x21, &ipv6("2001:db8::1", "2001:db8::2")),
            addresses("[2001:db8::1]:1", "[2001:db8::2]:2"),
        ),
        (
            v2(1, 0x21, &ipv6("::ffff:192.0.2.1", "::ffff:198.51.100.2")),
            mapped,
        ),
        (v2(1, 0x00, b""), None),
        (v2(1, 0x01, b"anything"), None),
        (v2(1, 0x31, &[b'/'; 216]), None),
        (v2(0, 0x00, b""), None),
        (v2(0, 0x11, IPV4), None),
        (v2(0, 0xff, b"to be skipped"), None),
    ];
    for (bytes, addresses) in table {
        let header = ProxyHeader {
            addresses,
            tlvs: Tlvs::default(),
        };
        let len = bytes.len();
        assert_eq!(verdict(&bytes), Progress::Header { header, len }, "{bytes:?}");
    }
}

#[test]
fn whatever_is_no_header_belongs_to_the_connection() {
    let table: [&[u8]; 8] = [
        b"GET / HTTP/1.1",
        b"POST / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"PROXY\tTCP4",
        b"proxy TCP4",
        b"\r\nGET",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\x16\x03\x01",
    ];
    for bytes in table {
        assert_eq!(verdict(bytes), Progress::Absent, "{bytes:?}");
        assert!(!begins(bytes));
    }
    assert_eq!(parse(b""), Progress::More);
    assert!(begins(b"PROXY ") && begins(SIGNATURE));
}

#[test]
fn lines_that_differ_in_a_byte_are_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1 - 16));
    assert_eq!(long.len(), MAX_V1);
    assert!(matches!(
        verdict(long.as_bytes()),
        Progress::Header { len: MAX_V1, .. }
    ));
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1 - 15));
    assert_eq!(verdict(too_long.as_bytes()), Progress::Malformed(Fault::TooLong));
    let lines: [&[u8]; 24] = [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\r\n",
        b"PROXY TCP4 192.0.2.1\t198.51.100.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 -2\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1\xff 198.51.100.2 1 2\r\n",
    ];
    for line in lines {
        let progress = verdict(line);
        assert_eq!(
            progress,
            Progress::Malformed(Fault::Line),
            "{:?}",
            String::from_utf8_lossy(line)
        );
    }
}

#[test]
fn binary_headers_that_are_not_exact_are_refused() {
    let mut version1 = v2(1, 0x11, IPV4);
    version1[12] = 0x11;
    let mut version3 = version1.clone();
    version3[12] = 0x31;
    let ssl = |tlvs: &[u8]| tlv(kind::SSL, &[&[1, 0, 0, 0, 0], tlvs].concat());
    let twice = |kind, value: &[u8]| with(&[tlv(kind, value), tlv(kind, value)].concat());
    let too_long = u16::try_from(MAX_V2 + 1).unwrap().to_be_bytes();
    let table = [
        (version1, Fault::Unknown),
        (version3, Fault::Unknown),
        (v2(2, 0x11, IPV4), Fault::Unknown),
        (v2(1, 0x41, IPV4), Fault::Unknown),
        (v2(1, 0x13, IPV4), Fault::Unknown),
        (v2(1, 0x11, &IPV4[..11]), Fault::TooShort),
        (v2(1, 0x21, &[0; 35]), Fault::TooShort),
        (v2(1, 0x31, &[0; 215]), Fault::TooShort),
        ([SIGNATURE, &[0x21, 0x11], &too_long].concat(), Fault::TooLong),
        ([SIGNATURE, &[0x20, 0x00], &too_long].concat(), Fault::TooLong),
        (with(&[0]), Fault::Tlv),
        (with(&[kind::UNIQUE_ID, 0]), Fault::Tlv),
        (with(&[kind::UNIQUE_ID, 0, 2, 0]), Fault::Tlv),
        (with(&tlv(kind::UNIQUE_ID, &[0; 129])), Fault::Tlv),
        (with(&tlv(kind::AUTHORITY, b"\xff")), Fault::Tlv),
        (with(&tlv(kind::AUTHORITY, b"a\r\nb")), Fault::Tlv),
        (with(&tlv(kind::AUTHORITY, &[b'a'; 256])), Fault::Tlv),
        (with(&tlv(kind::CRC32C, &[0; 3])), Fault::Tlv),
        (with(&tlv(kind::SSL, &[1, 0, 0, 0])), Fault::Tlv),
        (with(&ssl(&[kind::SSL_VERSION, 0, 9])), Fault::Tlv),
        (twice(kind::ALPN, b"h2"), Fault::Tlv),
        (twice(kind::AUTHORITY, b"a.test"), Fault::Tlv),
        (twice(kind::UNIQUE_ID, b"1"), Fault::Tlv),
        (twice(kind::SSL, &[0; 5]), Fault::Tlv),
        (checked(b"", b"", 1), Fault::Checksum),
        (
            checked(&tlv(kind::NOOP, b"xx"), &tlv(kind::ALPN, b"h2"), 0x8000_0000),
            Fault::Checksum,
        ),
    ];
    for (bytes, fault) in table {
        assert_eq!(verdict(&bytes), Progress::Malformed(fault), "{bytes:?}");
    }
}

#[test]
fn tlvs_are_kept_but_for_those_of_the_hop() {
    let version = tlv(kind::SSL_VERSION, b"TLSv1.3");
    let ssl = tlv(
        kind::SSL,
        &[&[5, 0, 0, 0, 0], &*version, &tlv(kind::SSL_CN, b"alice")].concat(),
    );
    let kept = [
        tlv(kind::AUTHORITY, b"a.test"),
        tlv(0xea, b"\x01vpce-1"),
        tlv(kind::UNIQUE_ID, &[7; 128]),
        ssl,
        tlv(0xea, b"again"),
        tlv(kind::ALPN, b"h2"),
    ]
    .concat();
    let ends = [
        tlv(kind::NOOP, &[1, 2, 3]),
        tlv(kind::NETNS, b"blue"),
        tlv(kind::NOOP, b""),
    ]
    .concat();
    for bytes in [
        with(&[kept.clone(), ends.clone()].concat()),
        checked(&kept, &ends, 0),
        checked(&ends, &kept, 0),
    ] {
        let len = bytes.len();
        let Progress::Header { header, len: found } = verdict(&bytes) else {
            panic!("{bytes:?}");
        };
        assert_eq!(found, len);
        let tlvs = header.tlvs;
        assert_eq!(tlvs.as_bytes(), kept);
        assert_eq!(tlvs.authority(), Some("a.test"));
        assert_eq!(tlvs.unique_id(), Some(&[7; 128][..]));
        assert_eq!(tlvs.alpn(), Some(&b"h2"[..]));
        let ssl = Ssl {
            over_tls: true,
            verified: true,
            version: Some("TLSv1.3"),
            common_name: Some("alice"),
            cipher: None,
        };
        assert_eq!(tlvs.ssl(), Some(ssl));
    }
}

#[test]
fn headers_are_written_to_the_byte() {
    let plain = |addresses| ProxyHeader {
        addresses,
        tlvs: Tlvs::default(),
    };
    let ipv6 = |last: u8| [&[0x20, 0x01, 0x0d, 0xb8], &[0; 11][..], &[last]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1]].concat();
    let table = [
        (
            addresses("192.0.2.1:4242", "198.51.100.2:443"),
            "PROXY TCP4 192.0.2.1 198.51.100.2 4242 443\r\n",
            v2(1, 0x11, IPV4),
        ),
        (
            addresses("[::ffff:192.0.2.1]:4242", "198.51.100.2:443"),
            "PROXY TCP4 192.0.2.1 198.51.100.2 4242 443\r\n",
            v2(1, 0x11, IPV4),
        ),
        (
            addresses("[2001:db8::1]:1", "[2001:db8::2]:2"),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
            v2(1, 0x21, &[ipv6(1), ipv6(2), vec![0, 1, 0, 2]].concat()),
        ),
        (
            addresses("192.0.2.1:1", "[2001:db8::2]:2"),
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
            v2(1, 0x21, &[mapped, ipv6(2), vec![0, 1, 0, 2]].concat()),
        ),
        (None, "PROXY UNKNOWN\r\n", v2(0, 0, b"")),
    ];
    for (addresses, line, binary) in table {
        let header = plain(addresses);
        assert_eq!(encode(Version::V1, &header), line.as_bytes());
        assert_eq!(encode(Version::V2, &header), binary);
    }
}

#[test]
fn what_we_add_is_written_behind_what_came() {
    let mut tlvs = Tlvs::default();
    tlvs.set(0xea, b"x");
    tlvs.set(kind::AUTHORITY, b"old.test");
    tlvs.set(kind::AUTHORITY, b"a.test");
    tlvs.set(kind::AUTHORITY, b"not\nallowed");
    tlvs.set(kind::UNIQUE_ID, &[0; 129]);
    tlvs.set(kind::NETNS, b"blue");
    tlvs.set(0xeb, &vec![0; MAX_V2]);
    let ssl = Ssl {
        over_tls: true,
        version: Some("TLSv1.3"),
        cipher: Some("TLS_AES_128_GCM_SHA256"),
        ..Ssl::default()
    };
    tlvs.set_ssl(ssl);
    assert_eq!(tlvs.ssl(), Some(ssl));
    let within = [
        &[1, 0, 0, 0, 1],
        &*tlv(kind::SSL_VERSION, b"TLSv1.3"),
        &tlv(kind::SSL_CIPHER, b"TLS_AES_128_GCM_SHA256"),
    ];
    let expected = [
        tlv(0xea, b"x"),
        tlv(kind::AUTHORITY, b"a.test"),
        tlv(kind::SSL, &within.concat()),
    ]
    .concat();
    assert_eq!(tlvs.as_bytes(), expected);
    let header = ProxyHeader {
        addresses: addresses("192.0.2.1:4242", "198.51.100.2:443"),
        tlvs,
    };
    assert_eq!(encode(Version::V2, &header), with(&expected));
}

#[test]
fn tlvs_that_leave_no_room_for_the_addresses_stay_behind() {
    let mut tlvs = Tlvs::default();
    tlvs.set(0xea, &vec![0; MAX_V2 - 3]);
    assert_eq!(tlvs.as_bytes().len(), MAX_V2);
    let header = ProxyHeader {
        addresses: addresses("192.0.2.1:4242", "198.51.100.2:443"),
        tlvs,
    };
    assert_eq!(encode(Version::V2, &header), v2(1, 0x11, IPV4));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits))),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        source in address(),
        destination in address(),
        values in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
        rest in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut header = ProxyHeader { addresses: Some(Addresses::new(source, destination)), ..ProxyHeader::default() };
        for (kind, value) in values {
            header.tlvs.set(kind, &value);
        }
        for version in [Version::V1, Version::V2] {
            let bytes = encode(version, &header);
            let len = bytes.len();
            let mut expected = header.clone();
            if version == Version::V1 {
                prop_assert!(len <= MAX_V1);
                expected.tlvs = Tlvs::default();
            }
            prop_assert_eq!(parse(&[bytes, rest.clone()].concat()), Progress::Header { header: expected, len });
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_changes_no_end(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = checked(&tlv(kind::AUTHORITY, b"a.test"), b"", 0);
        let Progress::Header { header: whole, .. } = parse(&bytes) else {
            panic!("the header is good as it is");
        };
        let checksum = bytes.len() - 7;
        let at = at.index(bytes.len());
        let same = bytes[at] == to;
        bytes[at] = to;
        match verdict(&bytes) {
            // The command became `LOCAL`, or the family one without addresses. Else the checksum became another TLV, or
            // the header ends before it: it can't vouch for its own presence.
            Progress::Header { header, len } => {
                prop_assert!(len <= bytes.len());
                let unchecked = at == checksum || at == LENGTH && len <= checksum;
                prop_assert!(
                    header == ProxyHeader::default() || (same || unchecked) && header.addresses == whole.addresses
                );
            }
            // More is awaited than there is.
            Progress::More => prop_assert!(at == LENGTH - 1 || at == LENGTH),
            Progress::Absent => prop_assert!(at < SIGNATURE.len()),
            Progress::Malformed(_) => {}
        }
    }
}

/// The low byte of the length of a header of version 2.
const LENGTH: usize = 15;

#[test]
fn a_header_that_ends_before_its_checksum_is_one_without() {
    let bytes = checked(&tlv(kind::AUTHORITY, b"a.test"), b"", 0);
    let read = |length: u8| {
        let mut bytes = bytes.clone();
        bytes[LENGTH] = length;
        match parse(&bytes) {
            Progress::Header { header, len } => Some((header.tlvs.authority().map(str::to_owned), len)),
            _ => None,
        }
    };
    assert_eq!(read(12), Some((None, 28)));
    assert_eq!(read(12 + 9), Some((Some("a.test".to_owned()), 37)));
    for within in (0..12).chain(13..21).chain(22..28) {
        assert_eq!(read(within), None, "{within}");
    }
}
