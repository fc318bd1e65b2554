use proptest::prelude::*;

use super::*;

/// An extension.
fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &*behind_u16(data)].concat()
}

fn behind_u8(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).unwrap()], data].concat()
}

fn behind_u16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

/// A list of names of these types.
fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> = names
        .iter()
        .map(|(kind, name)| [&[*kind], &*behind_u16(name)].concat())
        .collect();
    extension(0, &behind_u16(&entries.concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let entries: Vec<_> = protocols.iter().map(|p| behind_u8(p)).collect();
    extension(16, &behind_u16(&entries.concat()))
}

/// A message from what follows the random.
fn message_of(rest: &[u8]) -> Vec<u8> {
    let body = [&[3, 3], &[7; 32][..], rest].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let suites = [0x0a, 0x0a, 0x13, 0x01];
    let parts = [
        behind_u8(&[9; 32]),
        behind_u16(&suites),
        behind_u8(&[0]),
        behind_u16(extensions),
    ];
    message_of(&parts.concat())
}

/// The message in records of this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .map(|part| [&[0x16, 3, 1], &*behind_u16(part)].concat())
        .collect::<Vec<_>>()
        .concat()
}

fn wire(extensions: &[u8]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

fn hello(progress: Progress) -> ClientHello {
    match progress {
        Progress::Hello(hello) => hello,
        other => panic!("no hello: {other:?}"),
    }
}

/// What a browser sends, in outline: GREASE, a name, protocols, ECH, a post-quantum key share.
fn browser() -> Vec<u8> {
    [
        extension(0x1a1a, &[]),
        names(&[(0, b"Public.Example.")]),
        alpn(&[b"h2", b"http/1.1"]),
        extension(0xfe0d, &[0; 200]),
        extension(51, &[0; 1252]),
        extension(0x3a3a, &[0]),
    ]
    .concat()
}

#[test]
fn a_browsers_hello_is_read_wherever_segments_and_records_are_cut() {
    let message = message(&browser());
    for size in [1, 2, 3, 4, 5, 63, 700, message.len() - 1, message.len()] {
        let bytes = records(&message, size);
        let mut reader = HelloReader::default();
        for end in 0..bytes.len() {
            let progress = reader.read(&bytes[..end]);
            let Progress::More(missing) = progress else {
                panic!("{size} {end}: {progress:?}");
            };
            assert!(
                missing > 0 && end + missing <= bytes.len(),
                "{size} {end} {missing}"
            );
            if end % 97 == 0 {
                assert_eq!(ClientHello::parse(&bytes[..end]), progress, "{size} {end}");
            }
        }
        let found = hello(reader.read(&bytes));
        assert_eq!(found.server_name.as_deref(), Some("public.example"));
        assert_eq!(found.alpn().as_slice(), [&b"h2"[..], b"http/1.1"]);
        assert_eq!(ClientHello::parse(&bytes), Progress::Hello(found));
    }
}

/// What real clients write; OpenSSL, Go and rustls differ in record version and order.
#[test]
fn what_rustls_sends_is_read() {
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    for (name, expected) in [("db.Example.com", Some("db.example.com")), ("192.0.2.1", None)] {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let found = hello(ClientHello::parse(&bytes));
        assert_eq!(found.server_name.as_deref(), expected);
        assert_eq!(found.alpn().as_slice(), [b"postgresql"]);
    }
}

#[test]
fn names_come_as_rules_know_them() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let none: [&[u8]; 4] = [b"192.0.2.1", b"192.0.2.1.", b"2001:db8::1", b"::ffff:192.0.2.1"];
    for name in none {
        assert_eq!(
            hello(ClientHello::parse(&wire(&names(&[(0, name)])))).server_name,
            None,
            "{name:?}"
        );
    }
    let some = [
        ("a.test", "a.test"),
        ("A.TEST.", "a.test"),
        ("_db._tcp.x--y", "_db._tcp.x--y"),
        ("localhost", "localhost"),
        ("1.2.3", "1.2.3"),
        (&long, &long),
        (&format!("{long}."), &long),
    ];
    for (name, expected) in some {
        let found = hello(ClientHello::parse(&wire(&names(&[(0, name.as_bytes())]))));
        assert_eq!(found.server_name.as_deref(), Some(expected));
    }
    let bad: [&[u8]; 12] = [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a.test..",
        b"a b",
        b"a\0.test",
        b"a.test\r\n",
        b"*.test",
        b"b\xc3\xbccher.test",
        b"\xff",
        b"[::1]",
    ];
    for name in bad {
        let progress = ClientHello::parse(&wire(&names(&[(0, name)])));
        assert_eq!(progress, Progress::Malformed(Fault::ServerName), "{name:?}");
    }
    for name in [
        format!("{long}x"),
        "a".repeat(64),
        format!("{}.test", "a".repeat(64)),
    ] {
        let progress = ClientHello::parse(&wire(&names(&[(0, name.as_bytes())])));
        assert_eq!(progress, Progress::Malformed(Fault::ServerName), "{name}");
    }
}

#[test]
fn a_hello_that_could_be_read_in_two_ways_is_refused() {
    let a = names(&[(0, b"a.test")]);
    let cut = |extension: &[u8]| {
        let mut cut = extension.to_vec();
        cut.pop();
        cut[3] -= 1;
        cut
    };
    let protocols: Vec<&[u8]> = vec![b"x"; MAX_PROTOCOLS + 1];
    let table = [
        ([a.clone(), names(&[(0, b"b.test")])].concat(), Fault::Duplicate),
        (
            [alpn(&[b"h2"]), a.clone(), alpn(&[b"h2"])].concat(),
            Fault::Duplicate,
        ),
        (names(&[]), Fault::ServerName),
        (names(&[(0, b"a.test"), (0, b"b.test")]), Fault::ServerName),
        (extension(0, &[]), Fault::Malformed),
        (extension(0, &[0, 0, 0]), Fault::Malformed),
        (cut(&a), Fault::Malformed),
        (cut(&alpn(&[b"h2"])), Fault::Malformed),
        (alpn(&[]), Fault::Alpn),
        (alpn(&[b"h2", b""]), Fault::Alpn),
        (alpn(&protocols), Fault::Alpn),
        (extension(16, &[0, 2, 9, b'h']), Fault::Malformed),
        (vec![0], Fault::Malformed),
        (vec![0xff, 0xff, 0, 1], Fault::Malformed),
    ];
    for (extensions, fault) in table {
        let progress = ClientHello::parse(&wire(&extensions));
        assert_eq!(progress, Progress::Malformed(fault), "{extensions:?}");
    }
}

#[test]
fn names_of_unknown_types_are_passed_over() {
    let found = hello(ClientHello::parse(&wire(&names(&[
        (7, b"\xff\0"),
        (0, b"a.test"),
        (8, b""),
    ]))));
    assert_eq!(found.server_name.as_deref(), Some("a.test"));
    let found = hello(ClientHello::parse(&wire(&names(&[(7, b"a.test")]))));
    assert_eq!(found.server_name, None);
}

#[test]
fn the_fields_before_the_extensions_are_held_to_their_lengths() {
    let without = message_of(&[behind_u8(&[]), behind_u16(&[0, 1]), behind_u8(&[0])].concat());
    assert_eq!(
        hello(ClientHello::parse(&records(&without, 100))),
        ClientHello::default()
    );
    let bad = [
        [behind_u8(&[0; 33]), behind_u16(&[0, 1]), behind_u8(&[0])].concat(),
        [behind_u8(&[]), behind_u16(&[]), behind_u8(&[0])].concat(),
        [behind_u8(&[]), behind_u16(&[1]), behind_u8(&[0])].concat(),
        [behind_u8(&[]), behind_u16(&[0, 1]), behind_u8(&[])].concat(),
        [behind_u8(&[]), behind_u16(&[0, 1]), vec![9, 0]].concat(),
        [
            behind_u8(&[]),
            behind_u16(&[0, 1]),
            behind_u8(&[0]),
            vec![0, 0, 0],
        ]
        .concat(),
        [behind_u8(&[]), behind_u16(&[0, 1]), behind_u8(&[0]), vec![0, 1]].concat(),
        Vec::new(),
    ];
    for rest in bad {
        let progress = ClientHello::parse(&records(&message_of(&rest), 100));
        assert_eq!(progress, Progress::Malformed(Fault::Malformed), "{rest:?}");
    }
}

#[test]
fn first_bytes_tell_what_is_no_hello() {
    let table: [(&[u8], Progress); 16] = [
        (b"GET / HTTP/1.1\r\n", Progress::NotTls),
        (b"\x15\x03\x01\0\x02\x01\0", Progress::NotTls),
        (b"\x16\x02", Progress::NotTls),
        (b"\x16GET", Progress::NotTls),
        (b"\x80", Progress::More(3)),
        (b"\x80\x2e\x01", Progress::More(1)),
        (b"\x80\x2e\x01\0", Progress::More(1)),
        (b"\x80\x2e\x01\0\x02\0", Progress::Malformed(Fault::Ssl2)),
        (b"\x80\x2e\x01\x03\x01", Progress::Malformed(Fault::Ssl2)),
        (b"\x80\x2e\x02", Progress::NotTls),
        (b"\x80\x2e\x01\x01", Progress::NotTls),
        (b"\x16\x03\x01\0\0", Progress::Malformed(Fault::Record)),
        (b"\x16\x03\x01\x40\x01", Progress::Malformed(Fault::Record)),
        (
            b"\x16\x03\x01\0\x04\x02",
            Progress::Malformed(Fault::NotClientHello),
        ),
        (
            b"\x16\x03\x01\0\x01\x01\x14\x03\x01\0\x01\x01",
            Progress::Malformed(Fault::Record),
        ),
        (
            b"\x16\x03\x01\x40\0\x01\0\x7f\xfd",
            Progress::Malformed(Fault::TooLong),
        ),
    ];
    for (bytes, expected) in table {
        let mut reader = HelloReader::default();
        let found = (1..=bytes.len())
            .map(|end| reader.read(&bytes[..end]))
            .find(|progress| !matches!(progress, Progress::More(_)));
        match expected {
            Progress::More(_) => assert_eq!(ClientHello::parse(bytes), expected),
            _ => assert_eq!(found.as_ref(), Some(&expected), "{bytes:?}"),
        }
        assert_eq!(ClientHello::parse(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn the_limits_hold_whatever_the_records_are_like() {
    let fits = MAX_MESSAGE - message(&extension(21, &[])).len();
    let longest = message(&extension(21, &vec![0; fits]));
    assert_eq!(longest.len(), MAX_MESSAGE);
    for size in [5, 1000, 1 << 14] {
        let bytes = records(&longest, size);
        let fine = bytes.len() <= MAX_BYTES;
        assert_eq!(fine, size > 5);
        let mut reader = HelloReader::default();
        let verdict = (0..=bytes.len())
            .map(|end| (end, reader.read(&bytes[..end])))
            .find(|(_, progress)| !matches!(progress, Progress::More(_)));
        let (end, progress) = verdict.unwrap();
        match fine {
            true => assert_eq!(hello(progress), ClientHello::default()),
            false => assert_eq!(progress, Progress::Malformed(Fault::TooLong)),
        }
        assert!(end <= MAX_BYTES, "{end}");
    }
    let too_long = message(&extension(21, &vec![0; fits + 1]));
    assert_eq!(
        ClientHello::parse(&records(&too_long, 1 << 14)[..9]),
        Progress::Malformed(Fault::TooLong)
    );
}

proptest! {
    #[test]
    fn a_cut_changes_no_verdict(
        mut bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            (1usize..60).prop_map(|size| records(&message(&[names(&[(0, b"a.test")]), alpn(&[b"h2"])].concat()), size)),
        ],
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        let whole = ClientHello::parse(&bytes);
        let mut reader = HelloReader::default();
        for end in 0..=bytes.len() {
            let progress = reader.read(&bytes[..end]);
            if !matches!(progress, Progress::More(_)) {
                prop_assert_eq!(&progress, &whole);
                break;
            }
            prop_assert!(end < bytes.len() || progress == whole);
        }
    }
}
