//! Whatever `Cookie` headers say: a value that is found is clean, came from them, and is found again alone.
#![no_main]

use constellation_table::balance::cookie::value;
use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: Vec<Vec<u8>>| {
    let mut headers = HeaderMap::new();
    for line in lines.iter().take(64) {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append(header::COOKIE, line);
        }
    }
    for name in ["n", "_171db", "session"] {
        let Some(found) = value(&headers, name) else {
            continue;
        };
        assert!(
            found
                .iter()
                .all(|byte| matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b';' | b'\\'))
        );
        assert!(
            lines
                .iter()
                .any(|line| { found.is_empty() || line.windows(found.len()).any(|part| part == found) })
        );
        let quoted = [name.as_bytes(), b"=\"", found, b"\""].concat();
        let mut again = HeaderMap::new();
        again.append(header::COOKIE, HeaderValue::from_bytes(&quoted).expect("clean"));
        assert_eq!(value(&again, name), Some(found));
    }
});
