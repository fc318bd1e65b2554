//! Whatever files say, the document for a Traefik is one that our reader of Traefik's documents takes, with characters that
//! YAML takes, and the same whatever the order of the providers.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use constellation_agent::provider::{Terms, document};
use constellation_agent::sources::Contribution;
use constellation_config::{Format, dynamic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(read) = dynamic::parse(text, Format::Yaml, Path::new("document")) else {
        return;
    };
    let of = |provider| {
        Arc::new(Contribution {
            provider,
            dynamic: read.clone(),
            ..Contribution::default()
        })
    };
    let terms = Terms {
        failover: Some("127.0.0.1:8082".to_owned()),
        certificates: true,
        ..Terms::default()
    };
    let one = document(&[of("docker"), of("file")], &terms).text();
    let other = document(&[of("file"), of("docker")], &terms).text();
    assert_eq!(one, other);
    let taken_otherwise = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    assert!(!one.contains(taken_otherwise));
    if let Err(errors) = dynamic::parse(&one, Format::Json, Path::new("document.json")) {
        panic!("{errors}\n{one}");
    }
});
