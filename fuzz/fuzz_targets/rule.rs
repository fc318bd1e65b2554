//! A rule is refused with a position inside of it, or it answers any request.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use constellation_table::{EntryPointId, RequestMeta, Rule, Turn};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (text, path, query) = input;
    match Rule::parse_http(text) {
        Err(error) => assert!(text.is_char_boundary(error.offset), "{error}"),
        Ok(rule) => {
            assert_eq!(rule.text(), text);
            assert!(rule.hosts().iter().all(|host| host.is_ascii()));
            rule.matches(&RequestMeta {
                entry_point: EntryPointId(0),
                tls: false,
                method: "GET",
                host: "a.test",
                path,
                query,
                headers: &HeaderMap::new(),
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                repeatable: true,
                now: std::time::Instant::now(),
                turn: Turn::Look,
            });
        }
    }
});
